"""Key texts, hashes and signatures of every curve, against the vectors of both networks."""

import copy
import json
import pickle
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from signers.curves import bls
from signers.curves.signing import NotASecret
from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.hashes import blake2b_32
from signers.formats.networks import BLS_SCHEME_OF_VERSION, MAVRYK, TEZOS, BlsScheme
from signers.formats.operation import signature_suffix
from signers.formats.signable import WATERMARK_BYTES
from signers.keyring.curve import CURVES_BY_NAME, Curve
from signers.keyring.keys import (
    NoBlsScheme,
    PublicKey,
    SecretKey,
    UnsupportedCurve,
    read_key_hash,
    read_signature,
    write_signature,
)

_VECTORS = Path(__file__).parent / "vectors"
VECTORS = json.loads((_VECTORS / "keys.json").read_text())
SIGNED = json.loads((_VECTORS / "signatures.json").read_text())
CURVES = tuple(CURVES_BY_NAME.values())
ED25519 = [row for row in VECTORS["keys"] if row["curve"] == "ED25519"]
OTHERS = [row for row in VECTORS["keys"] if row["curve"] != "ED25519"]
FIRST = ED25519[0]
FIRST_KEY = PublicKey.read(FIRST["public"])


@pytest.mark.parametrize("row", VECTORS["keys"], ids=lambda row: row["tezos_pkh"])
def test_public_keys_and_their_hashes_on_both_networks(row: dict[str, str]) -> None:
    key = PublicKey.read(row["public"])
    assert key.curve is Curve[row["curve"]]
    assert key.text() == row["public"]
    assert key.hash(TEZOS) == row["tezos_pkh"]
    assert key.hash(MAVRYK) == row["mavryk_pkh"]
    assert read_key_hash(row["tezos_pkh"], TEZOS) == read_key_hash(row["mavryk_pkh"], MAVRYK)


def test_a_hash_of_another_network_is_not_a_key_hash_of_this_one() -> None:
    with pytest.raises(MalformedBytes):
        read_key_hash(FIRST["tezos_pkh"], MAVRYK)


def test_mavryk_has_no_ml_dsa_keys() -> None:
    key = PublicKey(Curve.MLDSA, bytes(1312))
    assert key.hash(TEZOS).startswith("tz5")
    with pytest.raises(UnsupportedCurve):
        key.hash(MAVRYK)


@pytest.mark.parametrize("row", VECTORS["keys"], ids=lambda row: row["tezos_pkh"])
def test_secret_keys_and_their_seeds(row: dict[str, str]) -> None:
    key = SecretKey.read(row["secret"])
    assert key.public_key.text() == row["public"]
    assert key.secret_text() == row["secret"]
    seed = bytes.fromhex(row["seed_hex"])
    assert SecretKey.from_seed(seed, Curve[row["curve"]]).secret_text() == row["secret"]


@pytest.mark.parametrize("row", VECTORS["keys"], ids=lambda row: row["tezos_pkh"])
def test_a_public_key_behind_its_tag(row: dict[str, str]) -> None:
    key = PublicKey.read(row["public"])
    tagged = bytes([key.curve.value.tag]) + key.raw
    assert PublicKey.from_tagged(tagged) == key
    for wrong in (b"", tagged[:-1], tagged + b"\0", b"\x09" + key.raw):
        with pytest.raises(MalformedBytes):
            PublicKey.from_tagged(wrong)


@pytest.mark.parametrize("row", ED25519, ids=lambda row: row["tezos_pkh"])
def test_secret_keys_of_both_lengths(row: dict[str, str]) -> None:
    seed = bytes.fromhex(row["seed_hex"])
    long_text = base58.encode(base58.ED25519_LONG_SECRET, seed + PublicKey.read(row["public"]).raw)
    assert len(row["secret"]) == 54
    assert len(long_text) == 98
    for text in (row["secret"], long_text):
        key = SecretKey.read(text)
        assert key.public_key.text() == row["public"]
        assert key.secret_text() == row["secret"]


def secret_of(curve: str, scheme: str | None = None) -> SecretKey:
    """The first key of a curve in the vectors."""
    row = next(row for row in VECTORS["keys"] if row["curve"] == curve)
    return SecretKey.read(row["secret"], BlsScheme[scheme] if scheme else None)


@pytest.mark.parametrize(
    "vector",
    SIGNED["signatures"],
    ids=lambda vector: f"{vector['curve']}-{vector['scheme']}-{vector['message']}",
)
def test_signatures_are_those_of_other_implementations(vector: dict[str, str]) -> None:
    key = secret_of(vector["curve"], vector["scheme"])
    message = bytes.fromhex(SIGNED["messages"][vector["message"]])
    scheme = BlsScheme[vector["scheme"]] if vector["scheme"] else None
    signature = key.sign(message, blake2b_32(message))
    assert signature.hex() == vector["signature_hex"]
    assert write_signature(signature, key.public_key.curve) == vector["signature"]
    assert read_signature(vector["signature"]) == signature
    assert key.public_key.verify(message, signature, scheme)


@pytest.mark.parametrize("vector", SIGNED["signatures"], ids=lambda vector: vector["hash"])
def test_signed_blocks_and_votes_have_the_hashes_of_the_vectors(vector: dict[str, str]) -> None:
    unsigned = bytes.fromhex(SIGNED["messages"][vector["wire"]])[WATERMARK_BYTES:]
    signature = bytes.fromhex(vector["signature_hex"])
    is_block = vector["wire"] == "block"
    whole = unsigned + (signature if is_block else signature_suffix(signature))
    prefix = base58.BLOCK_HASH if is_block else base58.OPERATION_HASH
    assert base58.encode(prefix, blake2b_32(whole)) == vector["hash"]


@pytest.mark.parametrize("vector", SIGNED["vendor"], ids=lambda vector: vector["signature"][:12])
def test_a_vendors_signatures(vector: dict[str, Any]) -> None:
    public_key = PublicKey.read(vector["public"])
    message = bytes.fromhex(vector["message"])
    signature = read_signature(vector["signature"])
    assert public_key.verify(message, signature, BlsScheme.AUGMENTED) is vector["valid"]
    if vector["secret"] is not None:
        key = SecretKey.read(vector["secret"], BlsScheme.AUGMENTED)
        assert key.public_key == public_key
        ours = key.sign(message, blake2b_32(message))
        # The vendor's nonce on P-256 is another; what is ours is made by RFC 6979.
        assert (ours == signature) is (public_key.curve is not Curve.P256)
        assert public_key.verify(message, ours, BlsScheme.AUGMENTED)


def test_a_signature_without_a_curve_is_the_same_in_other_clothes() -> None:
    for vector in SIGNED["signatures"]:
        signature = bytes.fromhex(vector["signature_hex"])
        if len(signature) == 64:
            assert write_signature(signature).startswith("sig")
            assert read_signature(write_signature(signature)) == signature


def test_the_other_signature_of_p256_is_valid_too_and_never_ours() -> None:
    vector = SIGNED["high_s"]
    key, message = secret_of("P256"), bytes.fromhex(SIGNED["messages"][vector["message"]])
    high = bytes.fromhex(vector["signature_hex"])
    assert key.public_key.verify(message, high)
    assert key.sign(message, blake2b_32(message)) != high


def test_the_other_signature_of_secp256k1_is_refused() -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    key = secret_of("SECP256K1")
    signature = key.sign(b"message", blake2b_32(b"message"))
    high = signature[:32] + (order - int.from_bytes(signature[32:])).to_bytes(32)
    assert key.public_key.verify(b"message", signature)
    assert not key.public_key.verify(b"message", high)


# -- every curve, any message ---------------------------------------------------------------------


@pytest.mark.parametrize("scheme", BlsScheme)
@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.value.name)
@settings(max_examples=10, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300), data=st.data())
def test_a_key_signs_what_it_verifies_and_nothing_else_does(
    curve: Curve, scheme: BlsScheme, seed: bytes, message: bytes, data: st.DataObject
) -> None:
    try:
        key = SecretKey.from_seed(seed, curve, scheme)
    except NotASecret:
        assume(False)
    signature = key.sign(message, blake2b_32(message))
    public_key = key.public_key
    assert signature == key.sign(message, blake2b_32(message))
    assert public_key.verify(message, signature, scheme)
    assert SecretKey.read(key.secret_text()).public_key == public_key
    assert PublicKey.read(public_key.text()) == public_key
    assert read_signature(write_signature(signature, curve)) == signature

    bit = data.draw(st.integers(0, len(signature) * 8 - 1))
    assert not public_key.verify(message, flip(signature, bit), scheme)
    bit = data.draw(st.integers(0, len(public_key.raw) * 8 - 1))
    assert not PublicKey(curve, flip(public_key.raw, bit)).verify(message, signature, scheme)
    assert not public_key.verify(message + b"\0", signature, scheme)
    if message:
        bit = data.draw(st.integers(0, len(message) * 8 - 1))
        assert not public_key.verify(flip(message, bit), signature, scheme)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.value.name)
def test_every_flipped_bit_of_a_signature_is_noticed(curve: Curve) -> None:
    key = SecretKey.from_seed(bytes(range(1, 33)), curve, BlsScheme.POSSESSION)
    signature = key.sign(b"message", blake2b_32(b"message"))
    for bit in range(len(signature) * 8):
        assert not key.public_key.verify(b"message", flip(signature, bit), BlsScheme.POSSESSION)


def flip(data: bytes, bit: int) -> bytes:
    """Change one bit."""
    return (int.from_bytes(data) ^ (1 << bit)).to_bytes(len(data))


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.value.name)
@pytest.mark.parametrize("byte", [0x00, 0xFF, 0xC0, 0x80])
def test_what_is_no_key_and_no_signature_verifies_nothing(curve: Curve, byte: int) -> None:
    texts = curve.value
    key = SecretKey.from_seed(bytes(range(1, 33)), curve, BlsScheme.POSSESSION)
    odd = bytes([byte]) + bytes(texts.signature.payload_bytes - 1)
    for wrong in (b"", odd, odd[:-1], odd + b"\0", bytes([byte]) * 64, bytes([byte]) * 96):
        assert not key.public_key.verify(b"message", wrong, BlsScheme.POSSESSION)
    signature = key.sign(b"message", blake2b_32(b"message"))
    length = texts.public_key.payload_bytes
    for raw in (bytes([byte]) * length, bytes([byte]) + bytes(length - 1)):
        assert not PublicKey(curve, raw).verify(b"message", signature, BlsScheme.POSSESSION)


def test_signatures_of_one_curve_are_none_of_another() -> None:
    keys = [
        SecretKey.from_seed(bytes(range(1, 33)), curve, BlsScheme.POSSESSION) for curve in CURVES
    ]
    for one in keys:
        signature = one.sign(b"message", blake2b_32(b"message"))
        for other in keys:
            verdict = other.public_key.verify(b"message", signature, BlsScheme.POSSESSION)
            assert verdict is (one is other)


def test_ml_dsa_keys_are_known_and_neither_sign_nor_verify() -> None:
    with pytest.raises(UnsupportedCurve):
        PublicKey(Curve.MLDSA, bytes(1312)).verify(b"message", bytes(2420))
    with pytest.raises(UnsupportedCurve):
        SecretKey.generate(Curve.MLDSA)


@pytest.mark.parametrize("curve", [Curve.SECP256K1, Curve.P256, Curve.BLS])
@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, b"\1" * 31])
def test_a_number_outside_the_group_is_no_secret(curve: Curve, secret: bytes) -> None:
    with pytest.raises(NotASecret):
        SecretKey(secret, curve)


# -- BLS: two schemes, proofs of possession, sums -------------------------------------------------


def test_the_scheme_of_a_bls_key_is_never_guessed() -> None:
    key = secret_of("BLS")
    with pytest.raises(NoBlsScheme):
        key.sign(b"message", blake2b_32(b"message"))
    with pytest.raises(NoBlsScheme):
        key.public_key.verify(b"message", bytes(96))


def test_a_bls_key_signs_by_either_scheme() -> None:
    key = secret_of("BLS")
    signatures = {
        scheme: key.with_scheme(scheme).sign(b"message", blake2b_32(b"message"))
        for scheme in BlsScheme
    }
    for made, signature in signatures.items():
        for checked in BlsScheme:
            assert key.public_key.verify(b"message", signature, checked) is (made is checked)
    ed25519 = secret_of("ED25519")
    assert ed25519.with_scheme(BlsScheme.AUGMENTED) is ed25519


def test_networks_and_signature_versions_name_the_scheme() -> None:
    assert MAVRYK.bls_scheme is BlsScheme.AUGMENTED
    assert TEZOS.bls_scheme is BlsScheme.POSSESSION
    assert BLS_SCHEME_OF_VERSION == {
        1: BlsScheme.AUGMENTED,
        2: BlsScheme.POSSESSION,
        3: BlsScheme.POSSESSION,
    }


def test_a_proof_of_possession_is_that_of_other_implementations() -> None:
    key, vector = secret_of("BLS"), SIGNED["possession"]
    proof = key.prove_possession()
    assert proof.hex() == vector["proof_hex"]
    assert write_signature(proof, Curve.BLS) == vector["proof"]
    assert key.public_key.verify_possession(proof)
    assert not key.public_key.verify(key.public_key.raw, proof, BlsScheme.POSSESSION)


@pytest.mark.parametrize("vector", SIGNED["proofs"], ids=lambda vector: vector["public"][:12])
def test_real_proofs_of_possession(vector: dict[str, str]) -> None:
    proof, other = read_signature(vector["proof"]), secret_of("BLS").public_key
    assert PublicKey.read(vector["public"]).verify_possession(proof)
    assert not other.verify_possession(proof)


def test_a_proof_of_possession_over_another_key() -> None:
    key, other = secret_of("BLS"), SecretKey.generate(Curve.BLS).public_key
    proof = key.prove_possession(other)
    assert key.public_key.verify_possession(proof, other)
    assert not key.public_key.verify_possession(proof)
    for attempt in (secret_of("P256").prove_possession, partial(key.prove_possession, FIRST_KEY)):
        with pytest.raises(UnsupportedCurve):
            attempt()


def test_signatures_over_the_same_bytes_add_up() -> None:
    keys = [SecretKey.generate(Curve.BLS, BlsScheme.POSSESSION) for _ in range(3)]
    signatures = [key.sign(b"vote", blake2b_32(b"vote")) for key in keys]
    together = PublicKey(Curve.BLS, bls.add_public_keys(key.public_key.raw for key in keys))
    assert together.verify(b"vote", bls.add_signatures(signatures), BlsScheme.POSSESSION)
    assert not together.verify(b"vote", bls.add_signatures(signatures[1:]), BlsScheme.POSSESSION)
    with pytest.raises(MalformedBytes):
        bls.add_signatures([signatures[0], bytes(96)])
    with pytest.raises(MalformedBytes):
        bls.add_public_keys([bytes(48)])


def test_a_weighed_signature_is_one_of_the_weighed_key() -> None:
    key = SecretKey.generate(Curve.BLS, BlsScheme.POSSESSION)
    signature = bls.weigh_signature(key.sign(b"vote", blake2b_32(b"vote")), 2**255 + 7)
    weighed = PublicKey(Curve.BLS, bls.weigh_public_key(key.public_key.raw, 2**255 + 7))
    assert weighed.verify(b"vote", signature, BlsScheme.POSSESSION)
    assert not key.public_key.verify(b"vote", signature, BlsScheme.POSSESSION)


def test_the_zero_key_of_bls_has_signed_nothing() -> None:
    zero = PublicKey(Curve.BLS, bytes([0xC0]) + bytes(47))
    assert not zero.verify(b"message", bytes([0xC0]) + bytes(95), BlsScheme.POSSESSION)


@pytest.mark.parametrize("vector", SIGNED["nonces"], ids=lambda vector: vector["curve"])
def test_seed_nonces_follow_from_key_and_level(vector: dict[str, Any]) -> None:
    level = vector["level"].to_bytes(4)
    nonce = secret_of(vector["curve"]).deterministic_nonce(level)
    assert nonce.hex() == vector["nonce_hex"]
    assert base58.encode(base58.NONCE_HASH, blake2b_32(nonce)) == vector["hash"]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.value.name)
def test_generated_keys_differ(curve: Curve) -> None:
    one, other = SecretKey.generate(curve), SecretKey.generate(curve)
    assert one.public_key.curve is curve
    assert one.secret_text() != other.secret_text()


def test_a_long_secret_key_of_two_keys_is_refused() -> None:
    halves = bytes.fromhex(FIRST["seed_hex"]) + PublicKey.read(ED25519[1]["public"]).raw
    with pytest.raises(MalformedBytes):
        SecretKey.read(base58.encode(base58.ED25519_LONG_SECRET, halves))


# -- secrets stay where they are ------------------------------------------------------------------


@pytest.mark.parametrize("row", VECTORS["keys"], ids=lambda row: row["tezos_pkh"])
def test_a_secret_key_shows_itself_to_nobody(row: dict[str, str]) -> None:
    key = SecretKey.read(row["secret"], BlsScheme.POSSESSION)
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key}), repr(key.sign)):
        assert row["secret"] not in shown
        assert row["seed_hex"] not in shown
    assert row["public"] in repr(key)
    assert not hasattr(key, "__dict__")


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.value.name)
def test_a_secret_key_is_not_pickled_or_copied(attempt: Any, curve: Curve) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        attempt(SecretKey.generate(curve))


@pytest.mark.parametrize(
    "text",
    [
        FIRST["secret"][:-1],
        FIRST["secret"][:-1] + "1",
        FIRST["secret"] + "x",
        "edsk" + "0" * 50,
        FIRST["public"],
        *(row["secret"][:-1] for row in OTHERS),
        base58.encode(base58.SECP256K1_SECRET, bytes(32)),
        base58.encode(base58.P256_SECRET, b"\xff" * 32),
        base58.encode(base58.BLS_SECRET, b"\xff" * 32),
    ],
)
def test_no_error_quotes_what_was_to_be_read(text: str) -> None:
    with pytest.raises(MalformedBytes) as caught:
        SecretKey.read(text)
    story = "".join(traceback.format_exception(caught.value))
    assert text not in story
    assert text[4:20] not in story
