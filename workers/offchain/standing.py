"""How an application stands, for people and for the broker."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from broker.applications import TROUBLE_LETTERS_MAX, TROUBLES_MAX
from workers.offchain.application import Application


class Standing(Struct, frozen=True):
    application: Application
    epoch: int
    phase: str  # taking, watched, leaving
    running: int
    waiting: int  # for whatever: a place, a gate, their turn, the end of a submission
    dead: int
    oldest_s: float  # how long the oldest open task has been known; 0: there is none
    trouble: str = ""  # why nothing of it goes on; empty: it does


def troubles(standings: Sequence[Standing]) -> dict[str, str]:
    """Why applications do not go on, by key; of many the first."""
    stopped = [each for each in standings if each.trouble][:TROUBLES_MAX]
    return {each.application.key: each.trouble[:TROUBLE_LETTERS_MAX] for each in stopped}


def trouble(standings: Sequence[Standing]) -> str:
    """Which applications do not go on, and why, in a sentence; empty: all do."""
    stopped = [each for each in standings if each.trouble]
    if not stopped:
        return ""
    first = stopped[0]
    name = first.application.application_id[:12]
    return f"{len(stopped)} of {len(standings)}; {name}: {first.trouble}"
