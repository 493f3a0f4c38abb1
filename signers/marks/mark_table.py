"""Keys and high watermarks in memory: what a whole batch is judged against, without I/O.

A table is filled from what the store holds (`store_tables`), judges batches, and writes down
what it admitted as journal entries. Another process replays these on its own table, so that
every worker of a host judges against the same marks.

A worker replays the entries of all others under the store's lock, but judges for few of their
keys. So replaying is one `dict.update` of undecoded bytes, 0.1 µs a vote, and a mark is decoded
when it is first judged against. It need not compare: an entry was admitted against everything
before it in the journal, so of one holder and kind the later is the higher.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from struct import Struct
from typing import NamedTuple

from signers.formats.signable import Kind, Signable
from signers.marks.watermark import (
    ADVANCE,
    EVERYONE,
    KEY_DISABLED,
    MARKED_KINDS,
    NO_MARK,
    REPEAT,
    UNMARKED,
    Ceiling,
    Refusal,
    Verdict,
    judge,
    judge_ceiling,
)

# A journal entry: whose mark (number of the holder, kind) and where it stands then (level,
# round, digest).
_ENTRY = Struct(">5s40s")
_WHOSE = Struct(">IB")
_MARK = Struct(">ii32s")
_pack_mark = _MARK.pack
_GENERIC, _AUTHENTICATION = Kind.GENERIC, Kind.AUTHENTICATION

Whose = bytes


class BoundKey(NamedTuple):
    """A signing key, the delegate that it signs for, and whose marks bind it, by kind.

    `number` is the key's in the store. `delegate_marks` is None when the key is the delegate's
    own: then `marks` are both.
    """

    number: int
    key: str
    delegate: str
    enabled: bool
    marks: Sequence[Whose]
    delegate_marks: Sequence[Whose] | None


class MarkTable:
    """The marks of every holder of one chain, and which delegate each key belongs to."""

    def __init__(self, chain_id: bytes) -> None:
        self._chain_id = chain_id
        self._marks: dict[Whose, Signable | bytes] = {}  # bytes: replayed, not yet decoded
        self._holders: dict[str, int] = {}
        self._keys: dict[str, BoundKey] = {}
        self._enabled: dict[str, BoundKey] = {}
        self._ceilings: dict[str, int] = {}

    def number(self, holder: str, number: int) -> None:
        """Enter a key or delegate under its number in the store."""
        self._holders[holder] = number

    def bind(self, key: str, delegate: str, *, enabled: bool) -> None:
        """Say for which delegate a key signs; both have numbers."""
        above = None if delegate == key else self._whose(delegate)
        bound = BoundKey(self._holders[key], key, delegate, enabled, self._whose(key), above)
        self._keys[key] = bound
        if enabled:
            self._enabled[key] = bound

    def set_mark(self, holder: str, mark: Signable) -> None:
        """Enter the mark of a holder, which has a number."""
        self._marks[self._whose(holder)[mark.kind]] = mark

    def set_ceiling(self, holder: str, level: int) -> None:
        """Enter the level above which a key, a delegate or `EVERYONE` signs nothing."""
        self._ceilings[holder] = level

    def judge(
        self, requests: Iterable[tuple[str, Signable]], entries: list[bytes]
    ) -> list[Verdict]:
        """Judge requests in order, each against what was admitted before it.

        What advances is a mark from then on; its journal entries are appended to `entries`.
        """
        find_key, marks, ceilings = self._enabled.get, self._marks, self._ceilings
        verdicts: list[Verdict] = []
        for key, asked in requests:
            bound = find_key(key)
            if bound is None:
                verdicts.append(self._not_enabled(key))
                continue
            kind, _, level, round_, digest = asked
            if kind is _GENERIC or kind is _AUTHENTICATION:
                verdicts.append(UNMARKED)
                continue
            whose, above = bound.marks[kind], None
            verdict = judge(self._mark(whose), asked, key)
            if bound.delegate_marks is not None and (verdict is ADVANCE or verdict is REPEAT):
                above = bound.delegate_marks[kind]
                of_delegate = judge(self._mark(above), asked, bound.delegate)
                if of_delegate is not REPEAT:
                    verdict = of_delegate
            if ceilings and (verdict is ADVANCE or verdict is REPEAT):
                verdict = judge_ceiling(self._lowest_ceiling(bound), asked, verdict)
            if verdict is ADVANCE:
                mark = _pack_mark(level, round_, digest)
                entries.append(whose + mark)
                marks[whose] = asked
                if above is not None:
                    entries.append(above + mark)
                    marks[above] = asked
            verdicts.append(verdict)
        return verdicts

    def replay(self, entries: bytes) -> None:
        """Take over what another process admitted. Raises struct.error for half an entry."""
        self._marks.update(_ENTRY.iter_unpack(entries))

    def find(self, key: str) -> BoundKey | None:
        """Return a key that the store knows, enabled or not."""
        return self._keys.get(key)

    def bound_keys(self) -> Sequence[BoundKey]:
        """Return every key that the store knows, in the order in which it came to know them."""
        return sorted(self._keys.values())

    def holders(self) -> Sequence[str]:
        """Return every key and delegate that the store knows."""
        return sorted(self._holders)

    def ceilings(self) -> Mapping[str, int]:
        """Return the ceilings by their holders, `EVERYONE` among them."""
        return self._ceilings

    def mark(self, holder: str, kind: Kind) -> Signable | None:
        """Return the mark of a holder; None when it has none."""
        return self._mark(self._whose(holder)[kind]) if holder in self._holders else None

    def _mark(self, whose: Whose) -> Signable | None:
        mark = self._marks.get(whose)
        if isinstance(mark, bytes):
            kind = MARKED_KINDS[whose[-1]]
            mark = self._marks[whose] = Signable(kind, self._chain_id, *_MARK.unpack(mark))
        return mark

    def _lowest_ceiling(self, bound: BoundKey) -> Ceiling | None:
        find = self._ceilings.get
        holders = (bound.key, bound.delegate, EVERYONE)
        levels = ((find(holder), holder) for holder in holders)
        return min((Ceiling(level, h) for level, h in levels if level is not None), default=None)

    def _whose(self, holder: str) -> Sequence[Whose]:
        number = self._holders[holder]
        return tuple(_WHOSE.pack(number, kind) for kind in MARKED_KINDS)

    def _not_enabled(self, key: str) -> Refusal:
        if key not in self._holders:
            return Refusal(NO_MARK, f"{key[:40]} has no mark in this store: see `keys enable`")
        return Refusal(KEY_DISABLED, f"{key} is not enabled in this store: see `keys enable`")


def last_marks(journal: Iterable[bytes]) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Yield number of the holder, kind, level, round and digest of each mark that moved.

    Given the entries of commits in their order. Raises struct.error for half an entry.
    """
    last: dict[Whose, bytes] = {}
    for entries in journal:
        last.update(_ENTRY.iter_unpack(entries))
    for whose, mark in last.items():
        yield *_WHOSE.unpack(whose), *_MARK.unpack(mark)
