"""The first frame to a verifier: how it is to work. Then it hears the broker's `CheckSlices` alone.

It answers with the broker's own message, `SlicesChecked`, so the worker passes both on unchanged.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from workers.frames import BrokenFrame, frame_of


class VerifierSetup(Struct, frozen=True):
    """What a verifier must know of its worker."""

    worker: str  # whose it is, for the log
    network: str  # "mavryk", "tezos"
    node: str = ""  # URL; empty: there is none, and what only a node knows is not known


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(VerifierSetup)


def setup_frame(setup: VerifierSetup) -> bytes:
    return frame_of(_encode(setup))


def decode_setup(body: bytes) -> VerifierSetup:
    """Read the first frame. Raises BrokenFrame."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise BrokenFrame(f"the first frame must be the setup: {e}") from None
