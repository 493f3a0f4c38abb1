"""Which applications the pool processes, who has named them, and which epochs are used up.

    settings and flags ──┐
    watch_applications ──┼──► entries ──► `assignments.py`
    controller (chain) ──┘

What is not in the settings is kept on the disk, and so is the highest epoch that may have been
given out: epochs must grow over restarts, since workers' journals go by the highest. Epochs are
reserved in blocks, so that an application whose worker has died waits for no disk.

Pure: `to_keep` says what is to be written; nothing of it counts before `kept` is called. Only the
epoch that each application has is written afterwards: a restarted broker knows by it that a worker
which was silent for long claims what has been another's since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from broker.applications import (
    APPLICATIONS_MAX,
    WATCH_LIST_LETTERS_MAX,
    ApplicationKey,
    Epoch,
    Operators,
    Watched,
)

LAYOUT = 1
EPOCHS_RESERVED = 1000  # at a time; a change of one worker moves that many of 4,096 applications
# Epochs that are remembered, also of applications that are not watched any more: 140 bytes each.
GIVEN_MAX = 2 * APPLICATIONS_MAX
RETRY_S = 1.0  # after a disk that could not be written

Peer = Any  # whom to answer: opaque here

BY_SETTINGS = "settings"
BY_OPERATOR = "operator"
BY_CONTROLLER = "controller"


class KeptList(Struct, frozen=True, forbid_unknown_fields=True):
    """What is on the disk."""

    layout: Annotated[int, Meta(ge=LAYOUT, le=LAYOUT)] = LAYOUT
    epochs: Epoch = 0  # none above it has been given out
    settled: bool = True  # when this was written, no worker had any application
    watched: dict[ApplicationKey, Operators | None] = {}  # named by operators of the pool
    controller: ApplicationKey | None = None
    found: dict[ApplicationKey, Operators | None] = {}  # named by that controller
    given: dict[ApplicationKey, Epoch] = {}  # the last ones, as far as they were written


class Entry(Struct, frozen=True):
    """An application that is to be processed."""

    operators: list[str] | None  # which it may use; None: every one
    named_by: list[str]


class WatchList:
    """The entries; see the module's text."""

    def __init__(self, kept: KeptList, configured: Iterable[Watched], controller: str) -> None:
        """Args: controller: key of the application that is believed; empty: none is."""
        self._configured = {each.key: each.operators for each in configured}
        self._controller = controller or None
        self._kept = self._wanted = kept  # the same object when nothing is to be written
        self._writing: KeptList | None = None
        self._not_before = 0.0  # of the next try to write
        self._waiting: list[Peer] = []  # who wants to hear that what is wanted is kept
        self._waiting_for_write: list[Peer] = []  # the same of what is being written
        self._next_epoch = kept.epochs + 1
        self.given = dict(kept.given)  # the last epoch of each application
        self._given_changed = False
        self.answers: list[tuple[Peer, str]] = []  # for the caller to take; "": done
        self.entries: dict[str, Entry] = {}
        self._rebuild()

    def _rebuild(self) -> None:
        # Another controller's word, from before a change of the settings, is worth nothing.
        found = self._kept.found if self._kept.controller == self._controller else {}
        sources = {
            BY_SETTINGS: self._configured,
            BY_OPERATOR: self._kept.watched,
            BY_CONTROLLER: found,
        }
        keys = dict.fromkeys(key for named in sources.values() for key in named)
        self.entries = {}
        for key in keys:
            named_by = [source for source, named in sources.items() if key in named]
            self.entries[key] = Entry(sources[named_by[0]][key], named_by)

    # -- changes ----------------------------------------------------------------------------------

    def watch(self, peer: Peer, named: Iterable[Watched], *, replace: bool) -> str:
        """Process these too, or of those that were named so only these; a problem, or empty."""
        before = {} if replace else self._wanted.watched
        return self._change(peer, watched=before | {each.key: each.operators for each in named})

    def unwatch(self, peer: Peer, keys: Iterable[str]) -> None:
        gone = set(keys)
        watched = {key: each for key, each in self._wanted.watched.items() if key not in gone}
        self._change(peer, watched=watched)

    def named_by_settings(self, keys: Iterable[str]) -> Iterator[str]:
        """Those of the keys that only a change of the settings removes."""
        return (key for key in keys if key in self._configured)

    def found(self, named: Iterable[Watched]) -> str:
        """What our controller has given to us, all of it; a problem, or empty."""
        found = {each.key: each.operators for each in named}
        return self._change(None, controller=self._controller, found=found)

    def _change(self, peer: Peer | None, **changes: object) -> str:
        changed = msgspec.structs.replace(self._wanted, **changes)
        named = (self._configured, changed.watched, changed.found)
        if len({key for each in named for key in each}) > APPLICATIONS_MAX:
            return f"more than {APPLICATIONS_MAX} applications"
        letters = sum(
            len(key) + sum(map(len, operators or ()))
            for each in named
            for key, operators in each.items()
        )
        if letters > WATCH_LIST_LETTERS_MAX:
            return f"{letters} letters, more than {WATCH_LIST_LETTERS_MAX}, in keys and operators"
        self._wanted = changed if changed != self._kept else self._kept
        if peer is not None:
            self._waiting.append(peer)
            self._answer_what_is_kept()
        return ""

    # -- epochs -----------------------------------------------------------------------------------

    def next_epoch(self) -> int | None:
        """An epoch that was never given out; None: not before more are reserved."""
        if self._next_epoch > self._kept.epochs:
            return None
        self._next_epoch += 1
        return self._next_epoch - 1

    def note_given(self, epochs: Mapping[str, int]) -> None:
        """These applications have these epochs now."""
        self.given |= epochs
        self._given_changed = True
        forgotten = (key for key in list(self.given) if key not in self.entries)
        for key, _ in zip(forgotten, range(len(self.given) - GIVEN_MAX), strict=False):
            del self.given[key]

    def begin_above(self, epoch: int) -> None:
        """Somebody knows this one: the next to be given out is higher."""
        self._next_epoch = max(self._next_epoch, epoch + 1)

    def reserve_epochs(self) -> None:
        """Have the next epochs reserved before they are needed, if they ever are."""
        if not self.entries and not self._wanted.watched:
            return
        if self._wanted.epochs - self._next_epoch < EPOCHS_RESERVED // 2:
            epochs = self._next_epoch + EPOCHS_RESERVED - 1
            self._wanted = msgspec.structs.replace(self._wanted, epochs=epochs, settled=False)

    def settle(self) -> None:
        """No worker has any application, and none will be given one."""
        if not self._wanted.settled:
            self._wanted = msgspec.structs.replace(self._wanted, settled=True)

    # -- the disk ---------------------------------------------------------------------------------

    def to_keep(self, now: float) -> KeptList | None:
        """What is to be written now; answered by `kept` or `not_kept`."""
        if self._writing is not None or now < self._not_before:
            return None
        if self._given_changed:
            self._wanted = msgspec.structs.replace(self._wanted, given=dict(self.given))
            self._given_changed = False
        if self._wanted is self._kept:
            return None
        self._writing = self._wanted
        self._waiting_for_write, self._waiting = self._waiting, []
        return self._writing

    def kept(self) -> None:
        """What was to be written is on the disk."""
        assert self._writing is not None, "nothing is being written"
        self._kept, self._writing = self._writing, None
        if self._wanted == self._kept:
            self._wanted = self._kept
        self._not_before = 0.0
        self.answers += [(peer, "") for peer in self._waiting_for_write]
        self._waiting_for_write = []
        self._answer_what_is_kept()
        self._rebuild()

    def not_kept(self, why: str, now: float) -> None:
        """It could not be written: what was wanted is refused, and what is on the disk counts."""
        self._writing, self._wanted = None, self._kept
        self._given_changed = self._kept.given != self.given
        self._not_before = now + RETRY_S
        self.answers += [(peer, why) for peer in self._waiting_for_write + self._waiting]
        self._waiting_for_write, self._waiting = [], []

    def _answer_what_is_kept(self) -> None:
        if self._writing is None and self._wanted is self._kept:
            self.answers += [(peer, "") for peer in self._waiting]
            self._waiting = []

    @property
    def is_writing(self) -> bool:
        return self._writing is not None

    def deadline(self) -> float:
        """When to ask `to_keep` again by the clock."""
        waits = self._writing is None and (self._wanted is not self._kept or self._given_changed)
        return self._not_before if waits else inf
