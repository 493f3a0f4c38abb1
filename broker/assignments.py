"""Which worker processes which application: one at a time, and each under an epoch of its own.

    UNOWNED ──► OWNED ──► HANDING OVER ──► OWNED by the next, under a higher epoch
                  │            │ its last owner has let go of it: held no more, or its process ended
                  └────────────┴──► its lease is over: OWNED by the next at once, which waits with
                                    submissions as long as one of the lost owner may be on its way

The ring over the workers that process applications says who should own what, so only what must
move moves. A worker is given nothing before it has told what it holds; what it holds from before
our start it keeps, under the epoch that it has, if the ring agrees.

What holds at every moment (checked by `validate`, which tests call after each step): an application
is in the list of one worker, its owner. It is given away only when no other worker with a lease is
known to have it, and under an epoch that is higher than all before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from enum import StrEnum
from math import inf
from typing import NamedTuple

from msgspec import Struct

from broker.applications import ApplicationInPool, ApplicationShare
from broker.membership import LEASE_S, Worker, WorkerState
from broker.messages import PROTOCOL_VERSION, Applications, ApplicationsHeld
from broker.ring import Ring
from broker.watch_list import Entry, WatchList

# Once the workers that the start waits for have said hello, each tells within a moment what it
# holds. One that does not by then must not keep the others waiting.
TELL_S = 2.0


class ApplicationState(StrEnum):
    """Where an application stands."""

    OWNED = "owned"
    HANDING_OVER = "handing_over"  # until those that have it let go of it
    UNOWNED = "unowned"  # no worker processes applications


class Owned(Struct):
    """Who has been given an application, and under which epoch."""

    worker: Worker
    epoch: int
    before: int = 0  # the last epoch that somebody else had; 0: not known


class Lost(NamedTuple):
    """An owner that was lost, whose outcome may be on its way."""

    until: float
    epoch: int  # under which it had the application; 0: not known


class Holdings(Struct):
    """What one worker has of ours, as far as we know."""

    told: bool = False  # what it holds, since it has joined
    changed: bool = False  # its list must be sent
    listed: dict[str, list[str] | None] = {}  # what it has been given: key -> operators
    # What it may still have besides: key -> the number of the first list without it; 0: none yet.
    letting_go: dict[str, int] = {}
    claims: dict[str, int] = {}  # of these, what it told us and was never told to let go of: epoch


class Assignments:
    """Owners, holdings and lists; see the module's text."""

    def __init__(
        self,
        broker_epoch: str,
        watch_list: WatchList,
        now: float,
        *,
        submit_limit_s: float,
        settled: bool,
    ) -> None:
        """Args: settled: no worker had any application when the last broker ended."""
        self._broker_epoch = broker_epoch
        self._watch_list = watch_list
        self._submit_limit_s = submit_limit_s
        self._holdings: dict[Worker, Holdings] = {}
        self.owned: dict[str, Owned] = {}
        # Until when outcomes of lost owners may be on their way; None: of some from before us.
        self._on_their_way: dict[str, dict[Worker | None, Lost]] = {}
        if not settled:
            somebody = Lost(now + submit_limit_s, 0)
            self._on_their_way = {key: {None: somebody} for key in watch_list.entries}
        self._known_epochs: dict[str, int] = {}  # the highest that a claim has told us of
        self._lists = 0
        self._ring = Ring(())
        self._on_ring: dict[str, Worker] = {}  # by name
        self._states: dict[str, tuple[ApplicationState, float]] = {}  # and since when
        self._tell_until = inf  # of the start, when its hellos are there; 0: it is over
        # What the next step must look at.
        self._unsettled: set[str] = set()
        self._all_unsettled = self._ring_unsettled = True
        self._lists_changed = False

    # -- workers ----------------------------------------------------------------------------------

    def joined(self, worker: Worker) -> None:
        """A worker has said hello, perhaps on a new connection: then it may lack the last list."""
        if worker.hello.runs_tasks and worker.hello.version == PROTOCOL_VERSION:
            has = self._holdings.setdefault(worker, Holdings())
            self._ring_unsettled = True
            if has.told:
                self._must_hear(has)

    def leaves(self) -> None:
        """A worker is given nothing more, and lets go of what it has."""
        self._ring_unsettled = True

    def told(self, worker: Worker, message: ApplicationsHeld) -> None:
        """A worker says what it still has."""
        has = self._holdings.get(worker)
        if has is None:
            return
        if not has.told:
            has.told = self._ring_unsettled = True
        number = message.number if message.epoch == self._broker_epoch else 0
        held = {each.key: each.epoch for each in message.held}
        for key, first in list(has.letting_go.items()):
            if key not in held and (key in has.claims or 0 < first <= number):
                del has.letting_go[key]
                has.claims.pop(key, None)
                self._unsettled.add(key)
        for key, epoch in held.items():
            self._known_epochs[key] = max(epoch, self._known_epochs.get(key, 0))
            if key not in has.listed and key not in has.letting_go:
                has.letting_go[key], has.claims[key] = 0, epoch
                self._must_hear(has)
                self._unsettled.add(key)
        for fenced in message.fenced:
            owned = self.owned.get(fenced.key)
            if owned is not None and owned.worker is worker and owned.epoch <= fenced.epoch:
                # Our file is not the one that has counted its journal's epochs.
                known = self._known_epochs.get(fenced.key, 0)
                self._known_epochs[fenced.key] = max(known, fenced.epoch)
                self._take_away(fenced.key)
        self._nothing_on_its_way(worker, held)

    def lost(self, worker: Worker) -> None:
        """Its lease is over: it may still run, and what it submits may still arrive."""
        has = self._holdings.pop(worker, None)
        if has is None:
            return
        until = worker.last_seen + LEASE_S + self._submit_limit_s
        for key in [*has.listed, *has.letting_go]:
            epoch = self._watch_list.given.get(key, 0)  # nobody was given it since
            self._on_their_way.setdefault(key, {})[worker] = Lost(until, epoch)
        self._disown(has)

    def ended(self, worker: Worker) -> None:
        """Its process is gone: nothing of it runs any more."""
        has = self._holdings.pop(worker, None)
        if has is not None:
            self._disown(has)
        self._nothing_on_its_way(worker, {})

    def _disown(self, has: Holdings) -> None:
        for key in has.listed:
            del self.owned[key]
        self._unsettled.update(has.listed, has.letting_go)
        self._ring_unsettled = True

    def _nothing_on_its_way(self, worker: Worker, held: Mapping[str, int]) -> None:
        """What it had when its lease ended is settled: others need not wait for it any more.

        Args: held: what it still has, and under which epochs; of that an outcome may be on its way.
        """
        settled = [
            key
            for key, lost in self._on_their_way.items()
            if worker in lost and held.get(key) != lost[worker].epoch
        ]
        for key in settled:
            del self._on_their_way[key][worker]
            if not self._on_their_way[key]:
                del self._on_their_way[key]
            if (owned := self.owned.get(key)) is not None:
                self._must_hear(self._holdings[owned.worker])

    # -- owners -----------------------------------------------------------------------------------

    def watched_changed(self) -> None:
        """The entries of the watch list, or the epochs that may be given out, are others now."""
        self._all_unsettled = True

    def step(
        self, now: float, duties_ring: Ring, *, draining: bool
    ) -> list[tuple[Worker, Applications]]:
        """Give applications to whom they belong, and return the lists that have changed.

        Args:
            duties_ring: that of the workers that sign; most often the same workers.
            draining: everybody lets go of everything.
        """
        if self._tell_until:
            self._tell_until = min(self._tell_until, now + TELL_S)
            if now < self._tell_until and not all(h.told for h in self._holdings.values()):
                return []
            self._tell_until = 0.0
        if draining and self.owned:
            self._all_unsettled = True
        if self._ring_unsettled:
            self._rebuild_ring(duties_ring)
        elif not (self._unsettled or self._all_unsettled or self._lists_changed):
            return []  # nearly every turn
        entries = {} if draining else self._watch_list.entries
        if unsettled := self._to_settle(entries):
            awaited = self._let_go_by()
            given: dict[str, int] = {}
            for key in unsettled:
                self._settle(key, entries.get(key), awaited.get(key, ()), given)
            if given:
                self._watch_list.note_given(given)
            self._note_states(unsettled, now)
        self._lists_changed = False
        return [(w, self._list_of(has, now)) for w, has in self._holdings.items() if has.changed]

    def _to_settle(self, entries: Mapping[str, Entry]) -> set[str]:
        """The applications whose owner may have to change, each once."""
        keys, self._unsettled = self._unsettled, set()
        if self._all_unsettled:
            keys = {*keys, *entries, *self.owned, *self._states}
        self._all_unsettled = False
        return keys

    def _rebuild_ring(self, duties_ring: Ring) -> None:
        self._ring_unsettled = False
        self._on_ring = {
            worker.name: worker
            for worker, has in self._holdings.items()
            if has.told and worker.state is WorkerState.READY
        }
        names = frozenset(self._on_ring)
        if names != self._ring.workers:
            # A ring of many workers has many points: there is one most of the time.
            self._ring = duties_ring if names == duties_ring.workers else Ring(names)
            self._all_unsettled = True

    def _let_go_by(self) -> dict[str, list[Worker]]:
        """By application, who must still let go of it."""
        awaited: dict[str, list[Worker]] = {}
        for worker, has in self._holdings.items():
            for key in has.letting_go:
                awaited.setdefault(key, []).append(worker)
        return awaited

    def _settle(
        self, key: str, entry: Entry | None, awaited: Iterable[Worker], given: dict[str, int]
    ) -> None:
        """Give one application to whom it belongs, or begin to take it away from another."""
        owner = self._on_ring.get(self._ring.owner(key) or "") if entry is not None else None
        owned = self.owned.get(key)
        if owned is not None and owned.worker is not owner:
            self._take_away(key)
        elif owner is None or entry is None or any(worker is not owner for worker in awaited):
            return
        elif owned is None:
            if (epoch := self._give(key, owner, entry)) is not None:
                given[key] = epoch
        elif (has := self._holdings[owner]).listed[key] != entry.operators:
            has.listed[key] = entry.operators
            self._must_hear(has)

    def _give(self, key: str, owner: Worker, entry: Entry) -> int | None:
        """Give an application to its owner; its epoch, or None: not before more are reserved."""
        has = self._holdings[owner]
        known = max(self._known_epochs.get(key, 0), self._watch_list.given.get(key, 0))
        self._watch_list.begin_above(known)
        if has.claims.get(key) == known != 0:
            epoch: int | None = known  # it has it from before our start, and goes on
        else:
            epoch = self._watch_list.next_epoch()
        if epoch is None:
            return None  # `watched_changed` follows
        self._known_epochs.pop(key, None)
        has.letting_go.pop(key, None)
        has.claims.pop(key, None)
        self.owned[key] = Owned(owner, epoch, known if epoch != known else 0)
        has.listed[key] = entry.operators
        self._must_hear(has)
        return epoch

    def _take_away(self, key: str) -> None:
        has = self._holdings[self.owned.pop(key).worker]
        del has.listed[key]
        has.letting_go[key] = 0
        self._must_hear(has)
        self._unsettled.add(key)

    def _must_hear(self, has: Holdings) -> None:
        has.changed = self._lists_changed = True

    def _list_of(self, has: Holdings, now: float) -> Applications:
        self._lists += 1
        has.changed = False
        for key in [k for k, first in has.letting_go.items() if not first]:
            has.letting_go[key] = self._lists
        has.claims.clear()
        shares = [
            ApplicationShare(
                key, owned.epoch, self.wait_ms(key, now), operators, self._before(key, owned)
            )
            for key, operators in has.listed.items()
            if (owned := self.owned[key])
        ]
        return Applications(self._broker_epoch, self._lists, shares)

    def _before(self, key: str, owned: Owned) -> int:
        """The last owner's epoch; 0 when it does not help to know that this one has ended."""
        lost = self._on_their_way.get(key, {}).values()
        return owned.before if all(each.epoch in (owned.before, 0) for each in lost) else 0

    def wait_ms(self, key: str, now: float) -> int:
        """So long from now an outcome of a lost owner may be on its way."""
        lost = self._on_their_way.get(key)
        if lost is None:
            return 0
        if (until := max(each.until for each in lost.values())) <= now:
            del self._on_their_way[key]
            return 0
        return int((until - now) * 1000) + 1

    # -- looking ----------------------------------------------------------------------------------

    def in_hand(self) -> bool:
        """Whether a worker with a lease has, or may have, any application."""
        return any(has.listed or has.letting_go for has in self._holdings.values())

    def deadline(self) -> float:
        return self._tell_until or inf

    def counts(self) -> Mapping[str, int]:
        """How many applications are in which state."""
        counts = {state.value: 0 for state in ApplicationState}
        for state, _ in self._states.values():
            counts[state.value] += 1
        return counts

    def owned_by(self, worker: Worker) -> Set[str]:
        has = self._holdings.get(worker)
        return has.listed.keys() if has is not None else frozenset()

    def look(self, now: float, most: int | None = None) -> list[ApplicationInPool]:
        """How the watched applications are, by key: all, or the first."""
        awaited = self._let_go_by()
        entries = self._watch_list.entries
        return [
            self._look_at(key, entries[key], awaited.get(key, ()), now)
            for key in sorted(entries)[:most]
        ]

    def _look_at(
        self, key: str, entry: Entry, awaited: Iterable[Worker], now: float
    ) -> ApplicationInPool:
        state, since = self._states.get(key, (ApplicationState.UNOWNED, now))
        owned = self.owned.get(key)
        return ApplicationInPool(
            key,
            state,
            entry.operators,
            owned.worker.name if owned else "",
            owned.epoch if owned else 0,
            int((now - since) * 1000),
            self.wait_ms(key, now),
            entry.named_by,
            sorted(worker.name for worker in awaited),
        )

    def _note_states(self, keys: Iterable[str], now: float) -> None:
        awaited = self._let_go_by()
        for key in keys:
            if key in self.owned:
                state = ApplicationState.OWNED
            elif key in awaited:
                state = ApplicationState.HANDING_OVER
            else:
                state = ApplicationState.UNOWNED
            before = self._states.get(key)
            if key not in self._watch_list.entries:
                self._states.pop(key, None)
            elif before is None or before[0] is not state:
                self._states[key] = (state, now)

    def validate(self) -> None:
        """Assert what must hold between any two steps; for tests and the simulation."""
        listed = {key: w for w, has in self._holdings.items() for key in has.listed}
        assert listed == {key: owned.worker for key, owned in self.owned.items()}
        assert len(listed) == sum(len(has.listed) for has in self._holdings.values())
        for has in self._holdings.values():
            assert not has.listed.keys() & has.letting_go.keys()
            assert has.claims.keys() <= has.letting_go.keys()
