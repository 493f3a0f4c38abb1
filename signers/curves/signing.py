"""What every curve signs with, and how a secret that is none is refused."""

from collections.abc import Callable
from typing import TypeAlias

from signers.errors import MalformedBytes

# Takes a message (watermark included) and its BLAKE2b-32 digest, gives the signature. A curve
# signs the one or the other; whoever asks has both at hand, so that none hashes twice.
Signer: TypeAlias = Callable[[bytes, bytes], bytes]

SECRET_BYTES = 32
# Public keys that were taken apart once are kept, as long as there are no more of them: more
# than any network has bakers, and under 8 MiB of points.
PUBLIC_KEYS_KEPT = 16_384


class NotASecret(MalformedBytes):
    """The bytes are no secret key of this curve: zero, or not below the order of the group."""
