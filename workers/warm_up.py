"""Which encrypted keys a worker opens before they are needed, and how far it is with them.

Workers that have the same keys divide them as the broker's ring does: each opens those that it
owns, so that no password is stretched in every worker for every key. When the ring changes, a
worker goes on with what is its own then; a key that it needs and does not own is opened when it is
needed.

Pure: keys, neighbours and the time go in; what to open, log lines and the progress come out.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import islice

from broker.messages import EncryptedKeys
from broker.ring import Ring

# A line of progress after so many keys or seconds, whichever comes first.
NEWS_KEYS = 500
NEWS_S = 5.0
# One password may be missing for ten thousand keys: the log names so many, the status so many.
FAILED_LOGGED_MAX = 20
FAILED_TOLD_MAX = 5


class WarmUp:
    """One worker's share of the encrypted keys; see the module's text."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._ring = Ring(())
        self._encrypted: Set[str] = frozenset()
        self._share: list[str] = []
        self._waiting: dict[str, None] = {}  # of the share, in its order
        self._failed: dict[str, str] = {}  # of the share: why
        self._began = self._news_at = 0.0
        self._news_count = 0
        self.notes: list[str] = []  # for the log; taken and cleared by the caller
        self.alarms: list[str] = []

    def take_keys(self, encrypted: Set[str], locked: Set[str], now: float) -> None:
        """There is a new list of encrypted keys, or of passwords; `locked` are not open yet."""
        self._encrypted = encrypted
        self._failed = {}  # another password, or another file, may open them
        self._settle(locked, now)

    def take_sharers(self, workers: Sequence[str], locked: Set[str], now: float) -> None:
        """Other workers than before have the same keys; without any name we sign nothing."""
        self._ring = Ring(workers)
        self._settle(locked, now)

    def opened(self, key_hash: str, now: float) -> None:
        """A key is open, ahead or for a job."""
        if key_hash in self._waiting or key_hash in self._failed:
            self._waiting.pop(key_hash, None)
            self._failed.pop(key_hash, None)
            self._tell(now)

    def failed(self, key_hash: str, code: str, why: str, now: float) -> None:
        """A key cannot be opened, whoever tried."""
        if key_hash not in self._waiting:
            return
        del self._waiting[key_hash]
        self._failed[key_hash] = f"{code}: {why}"
        if len(self._failed) <= FAILED_LOGGED_MAX:
            self.alarms.append(f"key_not_opened key={key_hash} code={code} why={why!r}")
        self._tell(now)

    @property
    def waiting(self) -> list[str]:
        """The keys that are to be opened, the first one first."""
        return list(self._waiting)

    @property
    def sharers(self) -> int:
        """How many workers divide the keys, this one included."""
        return len(self._ring.workers)

    @property
    def progress(self) -> EncryptedKeys | None:
        """How far it is, for the status; None without an encrypted key of ours."""
        if not self._share:
            return None
        told = list(islice(self._failed.values(), FAILED_TOLD_MAX))
        return EncryptedKeys(len(self._share), self._opened, len(self._failed), told)

    @property
    def _opened(self) -> int:
        return len(self._share) - len(self._waiting) - len(self._failed)

    def _settle(self, locked: Set[str], now: float) -> None:
        owner, was_waiting = self._ring.owner, bool(self._waiting)
        # 3 µs a key, on the worker's loop: whenever a worker comes or goes, and at a reload.
        self._share = [key for key in sorted(self._encrypted) if owner(key) == self._worker]
        of_share = [key for key in self._share if key in locked]
        self._failed = {key: self._failed[key] for key in of_share if key in self._failed}
        self._waiting = dict.fromkeys(key for key in of_share if key not in self._failed)
        if self._waiting:
            self._began = self._began if was_waiting else now
            self._say("keys_opening", now)

    def _tell(self, now: float) -> None:
        if not self._waiting:
            self._say("keys_opened", now, f" seconds={now - self._began:.1f}")
        elif now >= self._news_at or self._news_count >= NEWS_KEYS:
            self._say("keys_opening", now)
        else:
            self._news_count += 1

    def _say(self, what: str, now: float, more: str = "") -> None:
        self._news_at, self._news_count = now + NEWS_S, 0
        self.notes.append(
            f"{what} opened={self._opened} total={len(self._share)} "
            f"failed={len(self._failed)}{more}"
        )
