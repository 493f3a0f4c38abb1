"""Key texts, hashes and Ed25519 signatures, against the vectors of both networks."""

import copy
import json
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS
from signers.keyring.keys import (
    Curve,
    PublicKey,
    SecretKey,
    UnsupportedCurve,
    read_key_hash,
    read_signature,
    verify,
    write_signature,
)

VECTORS = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text())
ED25519 = [row for row in VECTORS["keys"] if row["curve"] == "ED25519"]
OTHERS = [row for row in VECTORS["keys"] if row["curve"] != "ED25519"]
FIRST = ED25519[0]


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


@pytest.mark.parametrize(
    "vector", VECTORS["signatures"], ids=["preattestation", "attestation", "block"]
)
def test_signatures_are_those_of_other_implementations(vector: dict[str, str]) -> None:
    key, message = SecretKey.read(FIRST["secret"]), bytes.fromhex(vector["message"])
    signature = key.sign(message, blake2b_32(message))
    assert signature.hex() == vector["signature_hex"]
    assert write_signature(signature, Curve.ED25519) == vector["signature"]
    assert read_signature(vector["signature"]) == signature
    assert read_signature(write_signature(signature)) == signature
    assert write_signature(signature).startswith("sig")
    assert verify(key.public_key, message, signature)


def test_a_vendors_signature() -> None:
    vendor = VECTORS["vendor"]
    key, message = SecretKey.read(vendor["secret"]), bytes.fromhex(vendor["message"])
    assert key.public_key.text() == vendor["public"]
    assert key.public_key.hash(TEZOS) == vendor["tezos_pkh"]
    assert (
        write_signature(key.sign(message, blake2b_32(message)), Curve.ED25519)
        == vendor["signature"]
    )


def test_what_is_no_signature_of_the_key_does_not_verify() -> None:
    key, other = SecretKey.read(FIRST["secret"]), SecretKey.generate()
    signature = key.sign(b"message", blake2b_32(b"message"))
    assert verify(key.public_key, b"message", signature)
    assert not verify(key.public_key, b"another", signature)
    assert not verify(other.public_key, b"message", signature)
    assert not verify(key.public_key, b"message", signature[:-1])
    assert not verify(key.public_key, b"message", bytes(64))


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row["tezos_pkh"])
def test_other_curves_say_that_they_cannot_sign_or_verify_yet(row: dict[str, str]) -> None:
    with pytest.raises(UnsupportedCurve):
        SecretKey.read(row["secret"])
    with pytest.raises(UnsupportedCurve):
        verify(PublicKey.read(row["public"]), b"message", bytes(64))


def test_seed_nonces_follow_from_key_and_level() -> None:
    nonce = SecretKey.read(FIRST["secret"]).deterministic_nonce(20878)
    assert nonce.hex() == "b3ec3e2c6bc491f12a0d412dc1835d7ffa03c7f837939a5e44d00760163e05dd"
    commitment = base58.encode(base58.NONCE_HASH, blake2b_32(nonce))
    assert commitment == "nceVLghQFJDR2oiJpFzcPhfsnavqLiuRuUBefgBGsnZc2LjQaxNgP"


def test_generated_keys_differ() -> None:
    assert SecretKey.generate().secret_text() != SecretKey.generate().secret_text()


def test_a_long_secret_key_of_two_keys_is_refused() -> None:
    halves = bytes.fromhex(FIRST["seed_hex"]) + PublicKey.read(ED25519[1]["public"]).raw
    with pytest.raises(MalformedBytes):
        SecretKey.read(base58.encode(base58.ED25519_LONG_SECRET, halves))


# -- secrets stay where they are ------------------------------------------------------------------


def test_a_secret_key_shows_itself_to_nobody() -> None:
    key = SecretKey.read(FIRST["secret"])
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key})):
        assert FIRST["secret"] not in shown
        assert FIRST["seed_hex"] not in shown
        assert FIRST["public"] in shown
    assert not hasattr(key, "__dict__")


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_key_is_not_pickled_or_copied(attempt: Any) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        attempt(SecretKey.generate())


@pytest.mark.parametrize(
    "text",
    [
        FIRST["secret"][:-1],
        FIRST["secret"][:-1] + "1",
        FIRST["secret"] + "x",
        "edsk" + "0" * 50,
        FIRST["public"],
        OTHERS[0]["secret"],
    ],
)
def test_no_error_quotes_what_was_to_be_read(text: str) -> None:
    with pytest.raises((MalformedBytes, UnsupportedCurve)) as caught:
        SecretKey.read(text)
    story = "".join(traceback.format_exception(caught.value))
    assert text not in story
    assert text[4:20] not in story
