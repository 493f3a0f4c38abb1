"""The frames of octez-signer, byte by byte, and any other bytes.

The keys are the first of each curve in ``vectors/keys.json``; the message is that of Signatory's
``pkg/signatory/request/request_test.go`` (preattestation, slot 96, level 2, round 4), in the form
that a tz4 key signs where the key is one.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.backends.error_trace import ErrorTrace
from signers.backends.socket_protocol import (
    MESSAGE_BYTES_MAX,
    AskAuthorizedKeys,
    AskKnownKeys,
    AskNonce,
    AskNonceHash,
    AskPossessionProof,
    AskPublicKey,
    AskSupportsNonces,
    Dialect,
    FrameReader,
    Request,
    Sign,
    a_nonce,
    a_possession_proof,
    a_public_key,
    a_signature,
    authentication_bytes,
    authorized_keys,
    authorized_keys_answer,
    decode_answer,
    decode_request,
    encode_request,
    error_answer,
    frame,
    known_keys,
    known_keys_answer,
    nonce_answer,
    possession_authentication_bytes,
    public_key_answer,
    signature_answer,
    supports_nonces,
    supports_nonces_answer,
)
from signers.errors import MalformedBytes
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.tagged_keys import tagged_hash

PLAIN, VERSIONED = Dialect
ED = tagged_hash("tz1SodoUsWVe1Yey9eMFbqRUtNpBWfir5NRr")
SECP = tagged_hash("tz2SSuN7FRcAurZPSAQS1swNWE8xxf71MTjt")
BLS = tagged_hash("tz4TFJdv9Jd44FtBMAxi3KQT7AtazhVyaPa6")
PRE = bytes.fromhex(
    "12ed9d217c2f50673bab6b20dfb0a88ca93b4a0c72a34c807af5dffbece2cba3d2b509835f14006000000002000000"
    "041f1ebb39759cc957216f88fb4d005abc206fb00a53f8d57ac01be00c084cba97"
)
PRE_BLS = bytes.fromhex(
    "12ed9d217c2f50673bab6b20dfb0a88ca93b4a0c72a34c807af5dffbece2cba3d2b509835f2800000002000000041f"
    "1ebb39759cc957216f88fb4d005abc206fb00a53f8d57ac01be00c084cba97"
)
SIGNATURE, BLS_SIGNATURE = b"s" * 64, b"t" * 96


def hex_of_request(request: Request, dialect: Dialect = VERSIONED) -> str:
    return frame(encode_request(request, dialect)).hex()


# -- the frames of the source ---------------------------------------------------------------------


def test_the_frames_of_octez_signer() -> None:
    assert hex_of_request(AskAuthorizedKeys()) == "000102"
    assert frame(authorized_keys_answer(None)).hex() == "00020000"
    assert hex_of_request(Sign(ED, PRE)) == (
        "006a00004e99eea7224c93d2f1e614bf86d74025b3e26a640000005012ed9d217c2f50673bab6b20dfb0a88ca9"
        "3b4a0c72a34c807af5dffbece2cba3d2b509835f14006000000002000000041f1ebb39759cc957216f88fb4d00"
        "5abc206fb00a53f8d57ac01be00c084cba97"
    )
    assert hex_of_request(Sign(BLS, PRE_BLS, version=3)) == (
        "006a000303c81aa2b490da41a577d4fc138b03c0dcb6308608030000004e12ed9d217c2f50673bab6b20dfb0a8"
        "8ca93b4a0c72a34c807af5dffbece2cba3d2b509835f2800000002000000041f1ebb39759cc957216f88fb4d00"
        "5abc206fb00a53f8d57ac01be00c084cba97"
    )


def test_a_plain_request_names_a_bls_key_once() -> None:
    assert hex_of_request(Sign(BLS, b"\x03", version=1), PLAIN) == (
        "001b" + "00" + BLS.hex() + "00000001" + "03"
    )
    assert decode_request(b"\0" + BLS + b"\0\0\0\1\3", PLAIN) == Sign(BLS, b"\3")


def test_each_network_speaks_its_dialect() -> None:
    assert (Dialect.of(MAVRYK), Dialect.of(TEZOS)) == (PLAIN, VERSIONED)


def test_the_other_requests_byte_by_byte() -> None:
    assert hex_of_request(AskPublicKey(SECP)) == "0016" + "01" + SECP.hex()
    assert hex_of_request(AskNonce(ED, b"\1\2")) == "001c03" + ED.hex() + "000000020102"
    assert hex_of_request(AskNonceHash(ED, b"", SIGNATURE)) == (
        "005a04" + ED.hex() + "00000000" + SIGNATURE.hex()
    )
    assert hex_of_request(AskSupportsNonces(ED)) == "001605" + ED.hex()
    assert hex_of_request(AskKnownKeys()) == "000106"
    assert hex_of_request(AskPossessionProof(BLS)) == "001707" + BLS.hex() + "00"
    assert hex_of_request(AskPossessionProof(BLS, b"p" * 48)) == (
        "004707" + BLS.hex() + "ff" + "70" * 48
    )


def test_a_proof_may_be_asked_for_as_newer_clients_do() -> None:
    """Octez of 2026 writes 01 where a key is there, and may authenticate."""
    over, signature = b"p" * 48, b"s" * 64
    newer = b"\x07" + BLS + b"\x01" + over
    assert decode_request(newer, VERSIONED) == AskPossessionProof(BLS, over)
    authenticated = AskPossessionProof(BLS, over, signature)
    assert decode_request(newer + signature, VERSIONED) == authenticated
    assert possession_authentication_bytes(BLS, over) == b"\x04\x04" + BLS + over
    assert possession_authentication_bytes(BLS, None) == b"\x04\x04" + BLS
    with pytest.raises(MalformedBytes):
        decode_request(b"\x07" + BLS + b"\x02" + over, VERSIONED)


def test_what_a_client_signs_to_show_who_it_is() -> None:
    assert authentication_bytes(ED, PRE).hex() == (
        "0401004e99eea7224c93d2f1e614bf86d74025b3e26a64" + PRE.hex()
    )


# -- there and back -------------------------------------------------------------------------------

hashes = st.tuples(st.integers(0, 3), st.binary(min_size=20, max_size=20)).map(
    lambda parts: bytes([parts[0]]) + parts[1]
)
signatures = st.none() | st.sampled_from([SIGNATURE, BLS_SIGNATURE, b"m" * 2420])
data = st.binary(max_size=300)


@st.composite
def requests_to_sign(draw: Callable[[Any], Any]) -> Sign:
    key_hash = draw(hashes)
    version = draw(st.integers(0, 3)) if key_hash[0] == 3 else None
    return Sign(key_hash, draw(data), draw(signatures), version)


requests = (
    requests_to_sign()
    | st.builds(AskPublicKey, hashes)
    | st.just(AskAuthorizedKeys())
    | st.builds(AskNonce, hashes, data, signatures)
    | st.builds(AskNonceHash, hashes, data, signatures)
    | st.builds(AskSupportsNonces, hashes)
    | st.just(AskKnownKeys())
    | st.builds(
        AskPossessionProof,
        hashes,
        st.none() | st.binary(min_size=48, max_size=48),
        st.none() | st.binary(min_size=64, max_size=64),
    )
)


@given(requests)
def test_what_is_asked_is_understood(request: Request) -> None:
    assert decode_request(encode_request(request, VERSIONED), VERSIONED) == request


@given(requests, st.data())
def test_a_request_that_is_cut_is_malformed_or_another(request: Request, draw: Any) -> None:
    message = encode_request(request, VERSIONED)
    cut = message[: draw.draw(st.integers(0, len(message) - 1))]
    with suppress(MalformedBytes):
        assert decode_request(cut, VERSIONED) != request


@given(st.binary(max_size=200), st.sampled_from(Dialect))
def test_any_bytes_are_a_request_or_malformed(message: bytes, dialect: Dialect) -> None:
    try:
        request = decode_request(message, dialect)
    except MalformedBytes:
        return
    assert encode_request(request, dialect) == message


READERS = (
    a_signature, a_possession_proof, a_public_key, authorized_keys, known_keys, a_nonce,
    supports_nonces,
)  # fmt: skip


@given(st.binary(max_size=120), st.sampled_from(READERS))
def test_any_bytes_are_an_answer_or_malformed(message: bytes, read: Callable[..., Any]) -> None:
    with suppress(MalformedBytes):
        decode_answer(message, read)


@pytest.mark.parametrize(
    ("message", "read", "value"),
    [
        (signature_answer(SIGNATURE), a_signature, SIGNATURE),
        (signature_answer(BLS_SIGNATURE), a_signature, BLS_SIGNATURE),
        (signature_answer(BLS_SIGNATURE), a_possession_proof, BLS_SIGNATURE),
        (public_key_answer(b"\0" + bytes(32)), a_public_key, b"\0" + bytes(32)),
        (public_key_answer(b"\3" + bytes(48)), a_public_key, b"\3" + bytes(48)),
        (authorized_keys_answer(None), authorized_keys, None),
        (authorized_keys_answer([]), authorized_keys, []),
        (authorized_keys_answer([ED, SECP]), authorized_keys, [ED, SECP]),
        (known_keys_answer([ED, SECP]), known_keys, [ED, SECP]),
        (nonce_answer(bytes(32)), a_nonce, bytes(32)),
        (supports_nonces_answer(True), supports_nonces, True),
        (supports_nonces_answer(False), supports_nonces, False),
    ],
)
def test_what_is_answered_is_understood(
    message: bytes, read: Callable[..., Any], value: object
) -> None:
    assert decode_answer(message, read) == value
    for end in range(len(message)):
        with suppress(MalformedBytes):  # a BLS signature that is cut may be one of another curve
            assert decode_answer(message[:end], read) != value
    with pytest.raises(MalformedBytes):
        decode_answer(message + b"\0", read)


def test_answers_byte_by_byte() -> None:
    assert authorized_keys_answer([ED]).hex() == "0001" + "00000015" + ED.hex()
    assert known_keys_answer([ED]).hex() == "00" + "00000015" + ED.hex()
    assert supports_nonces_answer(True).hex() == "00ff"
    assert nonce_answer(b"\7" * 32).hex() == "00" + "00000020" + "07" * 32


# -- errors ---------------------------------------------------------------------------------------


def test_an_error_answer_is_a_trace_in_bson() -> None:
    message = error_answer(ErrorTrace(({"id": "failure"},)))
    # {"id": "failure"}: length, 02 "id" 0, length 8 and "failure" 0, end.
    document = "15000000" + "02" + "696400" + "08000000" + "6661696c75726500" + "00"
    assert message.hex() == "01" + "00000019" + "00000015" + document
    assert decode_answer(message, a_signature) == ErrorTrace(({"id": "failure"},))


def test_every_kind_of_answer_may_be_an_error() -> None:
    trace = ErrorTrace.failure("magic byte 0x03 not allowed")
    for read in READERS:
        assert decode_answer(error_answer(trace), read) == trace


def test_a_trace_that_is_too_long_for_a_frame_loses_its_end() -> None:
    errors = tuple({"msg": str(number) * 20_000} for number in range(5))
    message = error_answer(ErrorTrace(errors))
    assert len(frame(message)) <= MESSAGE_BYTES_MAX + 2
    assert decode_answer(message, a_signature) == ErrorTrace(errors[:3])


# -- frames ---------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(1, 9), max_size=40))
def test_messages_are_found_however_the_connection_cuts_them(
    messages: list[bytes], cuts: list[int]
) -> None:
    stream, reader, found = b"".join(frame(m) for m in messages), FrameReader(), []
    for length in [*cuts, len(stream)]:
        found += reader.feed(stream[:length])
        stream = stream[length:]
    assert found == messages
    assert not reader.is_within_frame


def test_a_connection_that_ends_within_a_message_is_noticed() -> None:
    reader = FrameReader()
    assert reader.feed(frame(b"abc")[:-1]) == []
    assert reader.is_within_frame


def test_a_message_too_long_for_its_length_is_refused() -> None:
    assert len(frame(bytes(MESSAGE_BYTES_MAX))) == MESSAGE_BYTES_MAX + 2
    with pytest.raises(MalformedBytes, match="65536"):
        frame(bytes(MESSAGE_BYTES_MAX + 1))
