"""Services that are ours from a height of their chain on, and how far those chains are.

A chain's height comes from its blocks, and is asked for when a chain is new here, when its
notifications have begun anew, and now and again. So a service is due also when its chain had
reached the height before we knew of it and stands still since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import NamedTuple

from workers.offchain.commands import Note, UnwatchChain, WatchChain
from workers.offchain.controller.attempts import Attempts
from workers.offchain.controller.controller_words import AskTip, ControllerCommand


class Start(NamedTuple):
    """From when on a service is ours."""

    chain_id: str
    height: int


class _Chain:
    def __init__(self, chance: Callable[[], float]) -> None:
        self.height = -1  # of its last block, as far as we know
        self.is_asked = False
        self.is_wanted = True  # to be asked how far it is
        self.attempts = Attempts(chance)


class PendingServices:
    """Services by id, and their chains."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._starts: dict[str, Start] = {}
        self._attempts: dict[str, Attempts] = {}  # at taking a service over
        self._chains: dict[str, _Chain] = {}

    def follow(self, starts: Mapping[str, Start]) -> list[ControllerCommand]:
        """These and no others are pending now."""
        self._attempts = {
            service_id: self._attempts.get(service_id) or Attempts(self._chance)
            for service_id in starts
        }
        self._starts = dict(starts)
        wanted = {start.chain_id for start in starts.values()}
        gone, new = sorted(set(self._chains) - wanted), sorted(wanted - set(self._chains))
        for chain_id in gone:
            del self._chains[chain_id]
        for chain_id in new:
            self._chains[chain_id] = _Chain(self._chance)
        return [*map(UnwatchChain, gone), *map(WatchChain, new)]

    def attempts(self, service_id: str) -> Attempts | None:
        """The attempts at taking a service over; None: it is not pending any more."""
        return self._attempts.get(service_id)

    def block_made(self, chain_id: str, height: int | None) -> None:
        """A chain has a new block; without its height the chain is asked for it."""
        chain = self._chains.get(chain_id)
        if chain is None:
            return
        if height is None:
            chain.is_wanted = True
        else:
            chain.height = max(chain.height, height)

    def ask_again(self, chain_id: str | None = None) -> None:
        """Blocks of a chain, or of any, may have been missed."""
        for each in self._chains if chain_id is None else [chain_id]:
            if each in self._chains:
                self._chains[each].is_wanted = True

    def tip_known(self, chain_id: str, next_height: int) -> None:
        """A chain has told how far it is."""
        chain = self._chains.get(chain_id)
        if chain is not None:
            chain.is_asked = False
            chain.attempts.succeeded()
            chain.height = max(chain.height, next_height - 1)

    def tip_unknown(self, chain_id: str, text: str, now: float) -> list[ControllerCommand]:
        """A chain has not told how far it is."""
        chain = self._chains.get(chain_id)
        if chain is None:
            return []
        chain.is_asked, chain.is_wanted = False, True
        if not chain.attempts.failed(now, text):
            return []
        return [Note("warning", f"chain_tip_unknown chain={chain_id} reason={text}")]

    def questions(self, now: float) -> list[ControllerCommand]:
        """The chains that are to be asked now."""
        due = [
            chain_id
            for chain_id, chain in self._chains.items()
            if chain.is_wanted and not chain.is_asked and now >= chain.attempts.due_at
        ]
        for chain_id in due:
            self._chains[chain_id].is_wanted, self._chains[chain_id].is_asked = False, True
        return [*map(AskTip, due)]

    def due(self, now: float) -> str | None:
        """A service to be taken over now; None: there is none."""
        for service_id in self._ready():
            if now >= self._attempts[service_id].due_at:
                return service_id
        return None

    def next_question_at(self) -> float:
        """When a chain is to be asked, in the time of `now`."""
        return min(
            (
                chain.attempts.due_at
                for chain in self._chains.values()
                if chain.is_wanted and not chain.is_asked
            ),
            default=inf,
        )

    def next_due_at(self) -> float:
        """When a service is to be taken over, likewise."""
        return min((self._attempts[each].due_at for each in self._ready()), default=inf)

    def _ready(self) -> list[str]:
        """The services whose chain has reached their height."""
        return [
            service_id
            for service_id, start in self._starts.items()
            if self._chains[start.chain_id].height >= start.height
        ]
