"""Answers in the bytes of the socket protocol, and read back as a client reads them."""

from __future__ import annotations

from signers.backends.error_trace import ErrorTrace
from signers.backends.socket_protocol import (
    a_nonce,
    a_public_key,
    a_signature,
    authorized_keys,
    decode_answer,
    known_keys,
    supports_nonces,
)
from signers.formats.tagged_keys import tagged_hash, tagged_public_key
from signers.keyring.curve import Curve
from workers.gateway.answers import (
    AuthorizedKeys,
    Denial,
    KnownKeys,
    Nonce,
    NonceSupport,
    PossessionProof,
    PublicKeyText,
    Signature,
)
from workers.gateway.socket_answers import write_answer

SEED_NONCE = bytes(range(32))
TZ1 = "tz1SodoUsWVe1Yey9eMFbqRUtNpBWfir5NRr"
EDPK = "edpkufnz668CdgnVC4X5KRvJoXCMgicr29Tjmr5vxGzvMdipwkTZmM"


def test_answers_are_those_of_octez() -> None:
    signature = bytes(range(64))
    assert write_answer(Signature(signature, Curve.ED25519)) == b"\0" + signature
    assert write_answer(PossessionProof(bytes(96))) == bytes(97)
    assert write_answer(AuthorizedKeys(None)) == b"\0\0"
    assert write_answer(AuthorizedKeys(())) == bytes.fromhex("000100000000")
    assert write_answer(KnownKeys((TZ1,))) == b"\0" + bytes([0, 0, 0, 21]) + tagged_hash(TZ1)
    assert write_answer(NonceSupport(False)) == b"\0\0"
    assert write_answer(NonceSupport(True)) == b"\0\xff"
    assert write_answer(Nonce(bytes(32))) == bytes.fromhex("00" + "00000020") + bytes(32)


def test_a_client_reads_what_was_meant() -> None:
    signed = write_answer(Signature(bytes(64), Curve.P256))
    assert decode_answer(signed, a_signature) == bytes(64)
    assert decode_answer(write_answer(PublicKeyText(EDPK)), a_public_key) == tagged_public_key(EDPK)
    listed = write_answer(AuthorizedKeys((TZ1,)))
    assert decode_answer(listed, authorized_keys) == [tagged_hash(TZ1)]
    assert decode_answer(write_answer(KnownKeys(())), known_keys) == []
    assert decode_answer(write_answer(NonceSupport(True)), supports_nonces) is True
    assert decode_answer(write_answer(Nonce(SEED_NONCE)), a_nonce) == SEED_NONCE


def test_a_denial_is_a_trace_in_bson() -> None:
    trace = decode_answer(write_answer(Denial(409, "watermark_below", "no")), a_signature)
    assert isinstance(trace, ErrorTrace)
    [error] = trace.errors
    assert error == {"kind": "temporary", "id": "failure", "msg": "watermark_below: no"}
