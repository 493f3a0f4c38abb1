"""What operators ask the quarantine on its admin socket, and what they are told, as values."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from broker.errors import MalformedMessage
from broker.messages import Done, Problem, Shutdown, Status, StatusWanted
from broker.quarantine.held_item import HeldItem
from broker.quarantine.records import ClearedBlock, ClearedVote
from broker.verification import LEVEL_MAX

_Message = TypeVar("_Message")
_Level = Annotated[int, Meta(ge=0, le=LEVEL_MAX)]
_Place = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # in the order of clearing; 0: before the first

ANSWER_ITEMS_MAX = 1_000  # in one answer; `more` says that there are others


class HeldWanted(Struct, tag="held", tag_field="type"):
    """Ask what is held, oldest first."""


class ClearedWanted(Struct, tag="cleared", tag_field="type", omit_defaults=True):
    """Ask what was cleared: a hash, a level, or (neither given) the newest."""

    hash: bytes | None = None
    level: _Level | None = None


class ClearedSinceWanted(Struct, tag="cleared_since", tag_field="type", frozen=True):
    """Ask what was cleared behind two places, and not below two levels."""

    blocks_from: _Level
    votes_from: _Level
    blocks_after: _Place = 0
    votes_after: _Place = 0


class Drop(Struct, tag="drop", tag_field="type"):
    """End what is held under a hash as `shed`."""

    hash: bytes


class Release(Struct, tag="release", tag_field="type"):
    """Have what is held under a hash checked again now."""

    hash: bytes


class HeldItems(Struct, tag="held_items", tag_field="type"):
    items: list[HeldItem]
    more: bool


class ClearedItems(Struct, tag="cleared_items", tag_field="type"):
    blocks: list[ClearedBlock]
    votes: list[ClearedVote]
    more: bool


class ClearedSince(Struct, tag="cleared_since_items", tag_field="type"):
    """What there is, in the order of clearing, as far as it fits."""

    epoch: str  # places are good in one epoch of the quarantine
    blocks: list[ClearedBlock]
    votes: list[ClearedVote]  # none as long as blocks are left
    blocks_upto: int  # the places to ask on from
    votes_upto: int
    more: bool


class Changed(Struct, tag="changed", tag_field="type"):
    """How many items a Drop or a Release was about."""

    count: int


Question = (
    HeldWanted | ClearedWanted | ClearedSinceWanted | Drop | Release | StatusWanted | Shutdown
)
Answer = HeldItems | ClearedItems | ClearedSince | Changed | Status | Done | Problem

_question: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answer: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def decode_question(data: bytes) -> Question:
    """Raises MalformedMessage."""
    return _decode(_question, data)


def decode_answer(data: bytes) -> Answer:
    """Raises MalformedMessage."""
    return _decode(_answer, data)


def _decode(decoder: msgspec.msgpack.Decoder[_Message], data: bytes) -> _Message:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise MalformedMessage(str(e)) from None
