"""What a worker and its task processor say to each other, in frames (`workers/frames.py`).

The processor speaks the broker's own messages; the worker passes them on, both ways, and reads what
it must know itself: the list of applications, to say it again to a processor that was started anew.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from broker.config import TaskSettings
from workers.frames import BrokenFrame, frame_of


class ProcessorSetup(Struct, tag="setup", frozen=True):
    """How the processor is to work."""

    worker: str  # whose it is, for the log
    state_dir: str
    settings: TaskSettings


class FromBroker(Struct, tag="from_broker", frozen=True):
    """A message of the broker's for the processor."""

    body: bytes


class Welcomed(Struct, tag="welcomed", frozen=True):
    """The broker may have missed what was on its way: say again what you hold and what it lacks."""


class Ping(Struct, tag="ping", frozen=True):
    """Answered by Pong, so that a processor that stands still is noticed."""


class Finish(Struct, tag="finish", frozen=True):
    """Begin nothing, let go of everything as if it were taken away, then end yourself."""


class ToBroker(Struct, tag="to_broker", frozen=True):
    """A message for the broker."""

    body: bytes


class Pong(Struct, tag="pong", frozen=True):
    """The loop goes round."""


class Condition(Struct, tag="condition", frozen=True):
    """Whether tasks go on. A processor that cannot work waits, or ends and is started anew."""

    code: str = ""  # empty: they do
    text: str = ""


class Finished(Struct, tag="finished", frozen=True):
    """Nothing of ours runs any more, and we end."""


Order = ProcessorSetup | FromBroker | Welcomed | Ping | Finish
Word = ToBroker | Pong | Condition | Finished

_encode = msgspec.msgpack.Encoder().encode
_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_words: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Word)


def encode_frame(message: Order | Word) -> bytes:
    return frame_of(_encode(message))


def decode_order(body: bytes) -> Order:
    """Read what a worker sent. Raises BrokenFrame."""
    try:
        return _orders.decode(body)
    except msgspec.DecodeError as e:
        raise BrokenFrame(str(e)) from None


def decode_word(body: bytes) -> Word:
    """Read what a processor sent. Raises BrokenFrame."""
    try:
        return _words.decode(body)
    except msgspec.DecodeError as e:
        raise BrokenFrame(str(e)) from None
