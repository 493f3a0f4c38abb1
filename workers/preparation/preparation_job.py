"""What a worker and its block preparer say to each other, in frames (`workers/frames.py`).

The first frame to the preparer is its setup; then come jobs and cancellations. Back comes exactly
one `PreparedBlock` or `PreparationFailed` for each job, in any order; none for a job that was
cancelled before.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from workers.frames import BrokenFrame, frame_of

REQUEST_BYTES_MAX = 6 * 1024 * 1024  # what the broker lets through


class PreparerSetup(Struct, tag="setup", frozen=True):
    """Where the nodes are, and which network they belong to."""

    network: str  # "mavryk", "tezos"
    nodes: dict[str, str]  # name to URL; the first is the default


class PreparationJob(Struct, tag="job", omit_defaults=True, frozen=True):
    """A block to prepare."""

    job: int  # chosen by the worker, never used twice
    request: bytes  # payload of forge_and_sign_block, see block_request.ForgeBlock
    delegate: str  # hash of the key that will sign
    ttl_ms: int  # from submission; the preparation fails when it is over
    # 32 bytes to commit to where the level asks for it; absent: the preparer draws them.
    seed_nonce: bytes | None = None


class CancelJob(Struct, tag="cancel", frozen=True):
    """Nobody waits for this job any more."""

    job: int


class PreparedBlock(Struct, tag="prepared", omit_defaults=True, frozen=True):
    """An unsigned block with its proof of work, ready for the watermark and the signature."""

    job: int
    chain_id: bytes  # 4 bytes
    unsigned_header: bytes  # shell ‖ contents
    operations: list[list[bytes]]  # four passes of signed operations
    predecessor: bytes  # 32 bytes
    level: int
    round: int
    seed_nonce: bytes | None = None  # what the header commits to


class PreparationFailed(Struct, tag="failed", frozen=True):
    """Why there is no block: a code of `preparation_errors.py` and one sentence."""

    job: int
    code: str
    text: str


Order = PreparerSetup | PreparationJob | CancelJob
Outcome = PreparedBlock | PreparationFailed

_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()
_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_outcomes: msgspec.msgpack.Decoder[Outcome] = msgspec.msgpack.Decoder(Outcome)


def encode_frame(message: Order | Outcome) -> bytes:
    """The frame of a message. Raises BrokenFrame when it is longer than the bound."""
    return frame_of(_encoder.encode(message))


def decode_order(body: bytes) -> Order:
    """Read what a worker sent. Raises BrokenFrame."""
    return _decode(_orders, body)


def decode_outcome(body: bytes) -> Outcome:
    """Read what a preparer sent. Raises BrokenFrame."""
    return _decode(_outcomes, body)


def _decode(decoder: msgspec.msgpack.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenFrame(str(error)) from None
