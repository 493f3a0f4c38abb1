"""Public keys as tokens write them: CKA_EC_PARAMS says the curve, CKA_EC_POINT the point.

The point should be a DER OCTET STRING; some modules give it bare, or as a BIT STRING. A bare
point of 65 bytes begins like an OCTET STRING (``04``), so the length decides.

Source: PKCS#11 v3.0 current mechanisms §2.3, SEC 1 §2.3.3; lengths as modules in use give them.
"""

from typing import Final

from coincurve import PublicKey as Secp256k1Point
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signers.errors import MalformedBytes
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey

# Object identifiers, and the names that PKCS#11 v3.0 takes for Edwards curves.
CURVES: Final = {
    bytes.fromhex("06052b8104000a"): Curve.SECP256K1,
    bytes.fromhex("06082a8648ce3d030107"): Curve.P256,
    bytes.fromhex("06032b6570"): Curve.ED25519,
    b"\x13\x0cedwards25519": Curve.ED25519,
    b"\x13\x07Ed25519": Curve.ED25519,
}
# What stands before a point, by the length of all.
_ED25519_HEADERS: Final = {32: b"", 34: b"\x04\x20", 35: b"\x03\x21\x00"}
_EC_HEADERS: Final = {
    33: b"",
    65: b"",
    35: b"\x04\x21",
    67: b"\x04\x41",
    36: b"\x03\x22\x00",
    68: b"\x03\x42\x00",
}


def curve_of(ec_params: bytes) -> Curve:
    """Return the curve that CKA_EC_PARAMS names. Raises MalformedBytes for any other."""
    try:
        return CURVES[ec_params]
    except KeyError:
        raise MalformedBytes(
            f"keys of the curve {ec_params[:16].hex()} have no counterpart on the chain"
        ) from None


def public_key(curve: Curve, ec_point: bytes) -> PublicKey:
    """Read CKA_EC_POINT in any of its forms; the point is on the curve. Raises MalformedBytes."""
    headers = _ED25519_HEADERS if curve is Curve.ED25519 else _EC_HEADERS
    header = headers.get(len(ec_point))
    if header is None or not ec_point.startswith(header):
        raise MalformedBytes(f"{len(ec_point)} bytes are no point of {curve.value.name}")
    point = ec_point[len(header) :]
    try:
        return PublicKey(curve, _compressed(curve, point))
    except ValueError:
        raise MalformedBytes(f"the point is not on {curve.value.name}") from None


def _compressed(curve: Curve, point: bytes) -> bytes:
    if curve is Curve.ED25519:
        return point
    if curve is Curve.SECP256K1:
        return Secp256k1Point(point).format()
    read = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    return read.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
