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

ANSWER_ITEMS_MAX = 1_000  # in one answer; `more` says that there are others


class HeldWanted(Struct, tag="held", tag_field="type"):
    """Ask what is held, oldest first."""


class ClearedWanted(Struct, tag="cleared", tag_field="type", omit_defaults=True):
    """Ask what was cleared: a hash, a level, or (neither given) the newest."""

    hash: bytes | None = None
    level: Annotated[int, Meta(ge=0, le=LEVEL_MAX)] | None = None


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


class Changed(Struct, tag="changed", tag_field="type"):
    """How many items a Drop or a Release was about."""

    count: int


Question = HeldWanted | ClearedWanted | Drop | Release | StatusWanted | Shutdown
Answer = HeldItems | ClearedItems | Changed | Status | Done | Problem

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
