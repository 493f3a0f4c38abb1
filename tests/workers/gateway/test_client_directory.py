"""The public files of a client directory, while they change under us."""

from __future__ import annotations

import json
from pathlib import Path

from signers.formats.networks import MAVRYK, TEZOS
from signers.keyring.keys import SecretKey
from signers.keyring.keystore import Keystore
from workers.gateway.client_directory import ClientDirectory

ALICE, BOB = (SecretKey(bytes([n]) * 32) for n in (1, 2))


def authorize(base_dir: Path, *texts: str) -> None:
    """Write the file as octez-signer does, with another number of letters each time."""
    elements = [{"name": f"client {n}", "value": text} for n, text in enumerate(texts)]
    (base_dir / "authorized_keys").write_text(json.dumps(elements))


def test_an_absent_directory_has_nothing(tmp_path: Path) -> None:
    listing = ClientDirectory(tmp_path / "none").listing()
    assert (dict(listing.public_keys), listing.network, list(listing.authorized)) == ({}, TEZOS, [])


def test_keys_that_are_added_are_noticed(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path, look_s=0)
    assert not directory.listing().public_keys
    Keystore(tmp_path).add({"alice": ALICE}, MAVRYK)
    alice = ALICE.public_key.hash(MAVRYK)
    assert directory.listing().public_keys == {alice: ALICE.public_key.text()}
    assert directory.listing().network is MAVRYK
    Keystore(tmp_path).add({"bob": BOB}, MAVRYK)
    assert len(directory.listing().public_keys) == 2
    assert directory.listing() is directory.listing()  # nothing is read twice


def test_broken_key_files_leave_the_keys_of_before(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path, look_s=0)
    Keystore(tmp_path).add({"alice": ALICE}, TEZOS)
    before = dict(directory.listing().public_keys)
    (tmp_path / "public_key_hashs").write_text('[{"name": "alice", "val')
    assert directory.listing().public_keys == before
    (tmp_path / "public_key_hashs").write_text('[{"name": "x", "value": "no hash"}]')
    assert directory.listing().public_keys == before


def test_a_hash_without_public_key_is_listed(tmp_path: Path) -> None:
    key_hash = ALICE.public_key.hash(TEZOS)
    content = [{"name": "alice", "value": key_hash}]
    (tmp_path / "public_key_hashs").write_text(json.dumps(content))
    assert ClientDirectory(tmp_path, look_s=0).listing().public_keys == {key_hash: None}


def test_authorized_keys_come_and_go_and_a_broken_file_authorizes_nobody(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path, look_s=0)
    texts = [key.public_key.text() for key in (ALICE, BOB)]
    authorize(tmp_path, *texts)
    assert directory.listing().authorized == [ALICE.public_key, BOB.public_key]
    authorize(tmp_path, texts[1])
    assert directory.listing().authorized == [BOB.public_key]
    authorize(tmp_path, texts[1], "edpk")
    assert directory.listing().authorized == []
    authorize(tmp_path, *texts)
    assert len(directory.listing().authorized) == 2
    (tmp_path / "authorized_keys").unlink()
    assert directory.listing().authorized == []
