"""How a worker and a child process of its own talk: MessagePack behind a length.

A frame is a 32-bit big-endian length and that many bytes. Both ends are ours, so whoever gets
something else ends the conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

# The largest frame is a whole block: passes of 4 MiB, 32 KiB, 132 KiB and 512 KiB.
FRAME_BYTES_MAX = 8 * 1024 * 1024
LENGTH_BYTES = 4


class BrokenFrame(Exception):
    """Bytes between a worker and its child that are no frame of theirs: one of them is broken."""


def frame_of(body: bytes) -> bytes:
    """The frame around a message. Raises BrokenFrame when it is longer than the bound."""
    if len(body) > FRAME_BYTES_MAX:
        raise BrokenFrame(f"a frame of {len(body)} bytes, at most {FRAME_BYTES_MAX} are allowed")
    return len(body).to_bytes(LENGTH_BYTES) + body


def take_frames(buffer: bytearray) -> Iterator[bytes]:
    """Read and remove every whole frame at the start of `buffer`. Raises BrokenFrame."""
    while len(buffer) >= LENGTH_BYTES:
        end = LENGTH_BYTES + _length(buffer[:LENGTH_BYTES])
        if len(buffer) < end:
            return
        body = bytes(buffer[LENGTH_BYTES:end])
        del buffer[:end]
        yield body


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next message; None when the other end is closed. Raises BrokenFrame."""
    try:
        prefix = await reader.readexactly(LENGTH_BYTES)
        return await reader.readexactly(_length(prefix))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _length(prefix: bytes | bytearray) -> int:
    length = int.from_bytes(prefix)
    if length > FRAME_BYTES_MAX:
        raise BrokenFrame(f"a frame of {length} bytes is announced")
    return length
