"""Key hashes and public keys in bytes: the same for both networks, the curve in front."""

import json
from pathlib import Path

import pytest

from signers.errors import MalformedBytes
from signers.formats.hashes import blake2b_20
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.tagged_keys import (
    curve_of_hash,
    hash_text,
    network_of_hash,
    public_key_text,
    tagged_hash,
    tagged_public_key,
)
from signers.keyring.curve import Curve

ROWS = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text())["keys"]
TAGS = {"ED25519": 0, "SECP256K1": 1, "P256": 2, "BLS": 3}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["tezos_pkh"])
def test_each_text_has_one_form_in_bytes(row: dict[str, str]) -> None:
    tag, raw = bytes([TAGS[row["curve"]]]), bytes.fromhex(row["public_hex"])
    assert tagged_public_key(row["public"]) == tag + raw
    assert public_key_text(tag + raw) == row["public"]
    for network, text in ((TEZOS, row["tezos_pkh"]), (MAVRYK, row["mavryk_pkh"])):
        assert tagged_hash(text) == tag + blake2b_20(raw)
        assert hash_text(tag + blake2b_20(raw), network) == text
        assert network_of_hash(text) is network
        assert curve_of_hash(text) is Curve[row["curve"]]


@pytest.mark.parametrize("tagged", [b"", b"\0", bytes(20), bytes(22), b"\4" + bytes(20)])
def test_other_bytes_are_no_key_hash(tagged: bytes) -> None:
    with pytest.raises(MalformedBytes):
        hash_text(tagged, MAVRYK)


@pytest.mark.parametrize("tagged", [b"", b"\0", b"\1" + bytes(32), b"\5" + bytes(32)])
def test_other_bytes_are_no_public_key(tagged: bytes) -> None:
    with pytest.raises(MalformedBytes):
        public_key_text(tagged)
