"""How an application stands, for people and for the broker."""

from __future__ import annotations

from msgspec import Struct

from workers.offchain.application import Application


class Standing(Struct, frozen=True):
    application: Application
    epoch: int
    phase: str  # taking, watched, leaving
    running: int
    waiting: int  # for whatever: a place, a gate, their turn, the end of a submission
    dead: int
    oldest_s: float  # how long the oldest open task has been known; 0: there is none
