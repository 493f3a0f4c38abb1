"""The key ring over a real key directory: what it claims, what it notices, what it signs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signers.errors import SignersError
from signers.formats.networks import MAVRYK, TEZOS
from signers.keyring.curve import Curve
from signers.keyring.encrypted_key import EncryptedKey
from signers.keyring.keys import SecretKey
from signers.keyring.keystore import Keystore
from signers.keyring.passwords import Passwords
from workers.key_ring import KeyRing

ALICE, BOB, CAROL = (SecretKey(bytes([i]) * 32) for i in (1, 2, 3))
A, B, C = (key.public_key.hash(MAVRYK) for key in (ALICE, BOB, CAROL))


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    Keystore(tmp_path / "keys").add({"alice": ALICE, "bob": BOB}, MAVRYK)
    return tmp_path / "keys"


def test_the_keys_of_the_directory_are_known_after_the_first_look(base_dir: Path) -> None:
    ring = KeyRing(base_dir)
    assert not ring.holds(A)
    assert ring.look()
    assert ring.hashes == sorted([A, B])
    assert ring.holds(A)
    assert not ring.holds(C)
    assert ring.problem == ""


def test_a_look_at_what_has_not_changed_is_no_news(base_dir: Path) -> None:
    ring = KeyRing(base_dir)
    ring.look()
    assert not ring.look()


def test_a_key_that_is_added_while_it_runs_is_noticed(base_dir: Path) -> None:
    ring = KeyRing(base_dir)
    ring.look()
    Keystore(base_dir).add({"carol": CAROL}, MAVRYK)
    assert ring.look()
    assert ring.holds(C)
    assert not ring.look()
    assert ring.signer(C)(b"", bytes(32)) == CAROL.sign(b"", bytes(32))


def test_a_key_that_is_removed_while_it_runs_is_noticed(base_dir: Path) -> None:
    ring = KeyRing(base_dir)
    ring.look()
    hashes = json.loads((base_dir / "public_key_hashs").read_text())
    (base_dir / "public_key_hashs").write_text(json.dumps(hashes[:1]))
    assert ring.look()
    assert ring.hashes == [A]


def test_a_change_that_touches_no_key_is_no_news(base_dir: Path) -> None:
    ring = KeyRing(base_dir)
    ring.look()
    path = base_dir / "secret_keys"
    path.write_text(path.read_text() + "\n")
    assert not ring.look()


def test_a_key_signs_as_itself(base_dir: Path) -> None:
    ring = KeyRing(base_dir)
    digest = b"d" * 32
    for key_hash, key in ((A, ALICE), (B, BOB), (A, ALICE)):
        assert ring.signer(key_hash)(b"", digest) == key.sign(b"", digest)


def test_who_signs_is_loaded_once(base_dir: Path) -> None:
    ring = KeyRing(base_dir)
    signer = ring.signer(A)
    (base_dir / "secret_keys").write_text("[]")
    assert ring.signer(A) is signer
    with pytest.raises(SignersError):
        ring.signer(B)


@pytest.mark.parametrize("locator", ["ledger://a-b-c-d/ed25519/0h", None])
def test_a_key_that_cannot_be_loaded_is_not_claimed(base_dir: Path, locator: str | None) -> None:
    secrets = [] if locator is None else [{"name": "alice", "value": locator}]
    (base_dir / "secret_keys").write_text(json.dumps(secrets))
    ring = KeyRing(base_dir)
    ring.look()
    assert not ring.holds(A)
    with pytest.raises(SignersError):
        ring.signer(A)


def test_an_absent_directory_holds_no_key_and_is_no_problem(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "later")
    assert not ring.look()
    assert (ring.hashes, ring.problem) == ([], "")
    Keystore(tmp_path / "later").add({"alice": ALICE}, MAVRYK)
    assert ring.look()
    assert ring.hashes == [A]


def test_a_file_in_the_making_is_told_and_takes_no_key_away(base_dir: Path) -> None:
    ring = KeyRing(base_dir)
    ring.look()
    path = base_dir / "secret_keys"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    assert not ring.look()
    assert "secret_keys" in ring.problem
    assert ring.hashes == sorted([A, B])
    path.write_text(whole)
    assert not ring.look(), "the keys are the same"
    assert ring.problem == ""


def test_a_directory_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ring = KeyRing(tmp_path / "file")
    assert not ring.look()
    assert "file" in ring.problem
    assert ring.hashes == []


def test_an_encrypted_key_is_held_and_locked_until_it_is_used(base_dir: Path) -> None:
    Keystore(base_dir).add({"carol": CAROL}, MAVRYK, {"carol": EncryptedKey.seal(CAROL, b"pass")})
    ring = KeyRing(base_dir, Passwords([b"pass"]))
    ring.look()
    assert ring.holds(C)
    assert ring.locked == {C}
    assert not ring.is_open(C)
    ring.open(C)
    assert ring.is_open(C)
    assert ring.signer(C)(b"", bytes(32)) == CAROL.sign(b"", bytes(32))
    assert ring.locked == set()


def test_a_bls_key_proves_its_possession_and_no_other_key_does(tmp_path: Path) -> None:
    bls, other = (SecretKey.from_seed(bytes([n]) * 32, Curve.BLS) for n in (1, 2))
    Keystore(tmp_path).add({"bls": bls, "alice": ALICE}, TEZOS)
    ring = KeyRing(tmp_path)
    ring.look()
    key_hash = bls.public_key.hash(TEZOS)
    assert bls.public_key.verify_possession(ring.prove_possession(key_hash, b""))
    proof = ring.prove_possession(key_hash, other.public_key.raw)
    assert bls.public_key.verify_possession(proof, other.public_key)
    for wrong in (ALICE.public_key.hash(TEZOS), B):
        with pytest.raises(SignersError):
            ring.prove_possession(wrong, b"")
    with pytest.raises(SignersError):
        ring.prove_possession(key_hash, b"short")
