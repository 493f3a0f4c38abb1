"""Points and curves as tokens write them.

The keys are of the scalar 0x1234567890abcdef four times over and of the seed 00…1f, for tests
alone; SoftHSM 2.6.1 gave these points for them.
"""

from __future__ import annotations

import pytest

from signers.errors import MalformedBytes
from signers.formats.networks import TEZOS
from signers.keyring.curve import Curve
from signers.pkcs11 import ec_point

SECP256K1 = bytes.fromhex(
    "04bb50e2d89a4ed70663d080659fe0ad4b9bc3e06c17a227433966cb59ceee020d"
    "ecddbf6e00192011648d13b1c00af770c0c1bb609d4d3a5c98a43772e0e18ef4"
)
P256 = bytes.fromhex(
    "04471c3e758c4904285bba7e53118ed0f524adeb0757d25bd2f8e7b0d76dfa714c"
    "dd520f7aca8a8b917acc37f51de8f0c9bbe3ad858382e702dc25a12d09f7a858"
)
ED25519 = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
HASHES = {
    Curve.SECP256K1: "tz2G6gTDcHAkaGbUfHG4SyzsNT34SJ1NkQov",
    Curve.P256: "tz3jTHe2juPNwYE2b4apA5hjgdbvfFcTHkFb",
    Curve.ED25519: "tz1haTDx9MiA53qTAkchH9sUWoKfFABN6ggh",
}


def compressed(point: bytes) -> bytes:
    return bytes([2 + point[-1] % 2]) + point[1:33]


@pytest.mark.parametrize(
    ("curve", "point"),
    [
        *(
            (curve, header + point)
            for curve, point in ((Curve.SECP256K1, SECP256K1), (Curve.P256, P256))
            for header in (b"", b"\x04\x41", b"\x03\x42\x00")
        ),
        *(
            (curve, header + compressed(point))
            for curve, point in ((Curve.SECP256K1, SECP256K1), (Curve.P256, P256))
            for header in (b"", b"\x04\x21", b"\x03\x22\x00")
        ),
        *((Curve.ED25519, header + ED25519) for header in (b"", b"\x04\x20", b"\x03\x21\x00")),
    ],
)
def test_every_form_of_a_point_is_the_same_key(curve: Curve, point: bytes) -> None:
    assert ec_point.public_key(curve, point).hash(TEZOS) == HASHES[curve]


@pytest.mark.parametrize(
    ("curve", "point"),
    [
        (Curve.P256, b""),
        (Curve.P256, P256[:-1]),
        (Curve.P256, b"\x05\x41" + P256),
        (Curve.P256, SECP256K1),
        (Curve.SECP256K1, P256),
        (Curve.SECP256K1, P256[:-1] + b"\x00"),
        (Curve.ED25519, P256),
    ],
)
def test_what_is_no_point_of_the_curve_is_refused(curve: Curve, point: bytes) -> None:
    with pytest.raises(MalformedBytes):
        ec_point.public_key(curve, point)


def test_curves_are_known_by_number_and_by_name() -> None:
    named = {
        "06052b8104000a": Curve.SECP256K1,
        "06082a8648ce3d030107": Curve.P256,
        "06032b6570": Curve.ED25519,
        "130c656477617264733235353139": Curve.ED25519,
    }
    for params, curve in named.items():
        assert ec_point.curve_of(bytes.fromhex(params)) is curve
    with pytest.raises(MalformedBytes, match="06052b81040022"):
        ec_point.curve_of(bytes.fromhex("06052b81040022"))  # P-384
