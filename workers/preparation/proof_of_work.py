"""The proof of work of a block header, searched in slices so that the process stays responsive.

The stamp is BLAKE2b-256 over the unsigned header followed by 64 zero bytes in place of the
signature, whatever the curve of the baker. Its first eight bytes, read as an unsigned number,
must not exceed the threshold. Of the eight nonce bytes the first four name the baker's software
and the last four are a little-endian counter from zero.

Source: Octez `lib_delegate/baking_pow.ml`, `lib_protocol/block_header_repr.ml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from workers.preparation.preparation_errors import ProofOfWorkExhausted

NONCE_BYTES = 8
COUNTERS = 1 << 32
# The nonce stands behind the payload hash (32) and the payload round (4) of the contents; behind
# it come the optional seed nonce hash and the votes.
NONCE_OFFSET_IN_CONTENTS = 32 + 4
_ZERO_SIGNATURE = bytes(64)
# A try takes about 1 µs: a slice blocks the other jobs of the process for about 2 ms.
TRIES_PER_SLICE = 2_000


def threshold_of(constant: int) -> int:
    """The threshold as the unsigned number that it is compared as; the constant is a signed i64.

    -1, which test networks use, is thus the largest threshold: every stamp meets it.
    """
    return constant % (1 << 64)


def slices(
    unsigned_header: bytes,
    shell_bytes: int,
    prefix: bytes,
    threshold: int,
    *,
    counters: int = COUNTERS,
) -> Iterator[bytes | None]:
    """Search; yield None after each slice of tries and, last, the header with the nonce found.

    `unsigned_header` is shell ‖ contents with any nonce in it, `shell_bytes` long the shell.
    Raises ProofOfWorkExhausted when none of the `counters` is good enough.
    """
    start = shell_bytes + NONCE_OFFSET_IN_CONTENTS
    head = unsigned_header[:start] + prefix
    tail = unsigned_header[start + NONCE_BYTES :]
    hashed = blake2b(head, digest_size=32)
    rest = tail + _ZERO_SIGNATURE
    # Compared as bytes: the order of equally long big-endian numbers is that of their bytes.
    limit = threshold.to_bytes(8)
    for first in range(0, counters, TRIES_PER_SLICE):
        for counter in range(first, min(first + TRIES_PER_SLICE, counters)):
            attempt = hashed.copy()
            attempt.update(counter.to_bytes(4, "little") + rest)
            if attempt.digest()[:8] <= limit:
                yield head + counter.to_bytes(4, "little") + tail
                return
        yield None
    raise ProofOfWorkExhausted(f"no nonce among {counters} meets the threshold {threshold}")
