"""How much a companion key's signature weighs in an attestation with DAL content of a tz4 key.

A tz4 key signs an attestation without its DAL content, so that signatures of a committee add up.
What binds the content is the signature of a second key, the companion, over the same bytes: the
operation carries signature of the consensus key + weight × signature of the companion key, and
the weight is a hash over the content. It verifies under consensus key + weight × companion key.

Source: Octez protocol ``dal_attestations_repr.ml`` (``Dal_dependent_signing``).
"""

from signers.formats.hashes import blake2b_32

_LIMB_BYTES = 8


def companion_weight(consensus_hash: bytes, companion_hash: bytes, vote: bytes, dal: int) -> int:
    """Return the weight of a companion's signature.

    The hashes are the 20 bytes of the two public key hashes, `vote` what is signed without its
    watermark (BLS mode: 73 bytes), `dal` the set of attested slots.
    """
    message = consensus_hash + companion_hash + vote + zarith_bits(dal)
    return int.from_bytes(blake2b_32(message), "little")


def zarith_bits(number: int) -> bytes:
    """Write a natural number as OCaml's ``Z.to_bits`` does on a 64-bit machine.

    Little-endian, filled with zeros to whole words of 8 bytes; nothing at all for zero. Source:
    Zarith ``caml_z.c`` (``ml_z_to_bits``). Not compared with upstream's output: no vector of an
    upstream signature with DAL content is public.
    """
    words = (number.bit_length() + 8 * _LIMB_BYTES - 1) // (8 * _LIMB_BYTES)
    return number.to_bytes(words * _LIMB_BYTES, "little")
