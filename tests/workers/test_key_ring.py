"""The key ring over a real key directory: what it claims, what it notices, what it signs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signers.backends.key_uri import HttpKey, LedgerKey, Pkcs11Key, TcpKey, UnixKey, read_key_uri
from signers.errors import BadRequest, SignersError
from signers.formats.networks import MAVRYK, TEZOS
from signers.keyring.curve import Curve
from signers.keyring.encrypted_key import EncryptedKey
from signers.keyring.keys import SecretKey
from signers.keyring.keystore import Keystore, UnknownKey
from signers.keyring.passwords import Passwords, WrongPassword
from workers.key_ring import KeyRing
from workers.key_source import (
    BackEndSigner,
    DelayedKey,
    DeviceKey,
    LocalSigner,
    delays_from_environment,
)

ALICE, BOB, CAROL = (SecretKey(bytes([i]) * 32) for i in (1, 2, 3))
A, B, C = (key.public_key.hash(MAVRYK) for key in (ALICE, BOB, CAROL))


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    Keystore(tmp_path / "keys").add({"alice": ALICE, "bob": BOB}, MAVRYK)
    return tmp_path / "keys"


def test_the_keys_of_the_directory_are_known_after_the_first_look(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {})
    assert not ring.holds(A)
    assert ring.look()
    assert ring.hashes == sorted([A, B])
    assert ring.holds(A)
    assert not ring.holds(C)
    assert ring.problem == ""


def test_a_look_at_what_has_not_changed_is_no_news(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {})
    ring.look()
    assert not ring.look()


def test_a_key_that_is_added_while_it_runs_is_noticed(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {})
    ring.look()
    Keystore(base_dir).add({"carol": CAROL}, MAVRYK)
    assert ring.look()
    assert ring.holds(C)
    assert not ring.look()
    assert signs(ring, C, CAROL)


def test_a_key_that_is_removed_while_it_runs_is_noticed(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {})
    ring.look()
    hashes = json.loads((base_dir / "public_key_hashs").read_text())
    (base_dir / "public_key_hashs").write_text(json.dumps(hashes[:1]))
    assert ring.look()
    assert ring.hashes == [A]


def test_a_change_that_touches_no_key_is_no_news(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {})
    ring.look()
    path = base_dir / "secret_keys"
    path.write_text(path.read_text() + "\n")
    assert not ring.look()


def signs(ring: KeyRing, key_hash: str, key: SecretKey) -> bool:
    """Whether the ring signs here with the key."""
    signer = ring.signer(key_hash)
    assert isinstance(signer, LocalSigner)
    assert signer.is_local
    return signer.sign(b"message", bytes(32)) == key.sign(b"message", bytes(32))


def test_a_key_signs_as_itself(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {})
    for key_hash, key in ((A, ALICE), (B, BOB), (A, ALICE)):
        assert signs(ring, key_hash, key)


def test_who_signs_is_loaded_once(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {})
    signer = ring.signer(A)
    (base_dir / "secret_keys").write_text("[]")
    assert ring.signer(A) is signer
    with pytest.raises(SignersError):
        ring.signer(B)


@pytest.mark.parametrize("locator", ["carrier-pigeon://a-b-c-d/0h", None])
def test_a_key_that_cannot_be_loaded_is_not_claimed(base_dir: Path, locator: str | None) -> None:
    secrets = [] if locator is None else [{"name": "alice", "value": locator}]
    (base_dir / "secret_keys").write_text(json.dumps(secrets))
    ring = KeyRing(base_dir, {})
    ring.look()
    assert not ring.holds(A)
    with pytest.raises(SignersError):
        ring.signer(A)


def test_an_absent_directory_holds_no_key_and_is_no_problem(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "later", {})
    assert not ring.look()
    assert (ring.hashes, ring.problem) == ([], "")
    Keystore(tmp_path / "later").add({"alice": ALICE}, MAVRYK)
    assert ring.look()
    assert ring.hashes == [A]


def test_a_file_in_the_making_is_told_and_takes_no_key_away(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {})
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
    ring = KeyRing(tmp_path / "file", {})
    assert not ring.look()
    assert "file" in ring.problem
    assert ring.hashes == []


# -- keys that are elsewhere ----------------------------------------------------------------------


def write(base_dir: Path, *secrets: tuple[str, str], public: bool = True) -> None:
    """A directory where Alice has these names and values."""
    base_dir.mkdir(exist_ok=True)
    key = {"locator": "http://h/x", "key": ALICE.public_key.text()}
    for file, values in (
        ("public_key_hashs", [(name, A) for name, _ in secrets]),
        ("public_keys", [(name, key) for name, _ in secrets] if public else []),
        ("secret_keys", secrets),
    ):
        content = [{"name": name, "value": value} for name, value in values]
        (base_dir / file).write_text(json.dumps(content))


def elsewhere(ring: KeyRing) -> BackEndSigner:
    signer = ring.signer(A)
    assert isinstance(signer, BackEndSigner)
    assert not signer.is_local
    return signer


def test_a_key_with_a_remote_signer_is_claimed_with_what_is_known_of_it(tmp_path: Path) -> None:
    write(tmp_path, ("alice", f"http://h:6732/{A}"))
    ring = KeyRing(tmp_path, {})
    assert ring.look()
    assert ring.hashes == [A]
    source = HttpKey("http://h:6732", A)
    assert elsewhere(ring) == BackEndSigner(A, (source,), ALICE.public_key)


def test_a_public_key_that_the_directory_does_not_have_is_left_open(tmp_path: Path) -> None:
    write(tmp_path, ("alice", f"unix:/run/signer?pkh={A}"), public=False)
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert elsewhere(ring) == BackEndSigner(A, (UnixKey("/run/signer", A),), None)


def test_several_names_of_a_key_are_its_sources_in_their_order(tmp_path: Path) -> None:
    of_tezos = ALICE.public_key.hash(TEZOS)
    uris = [f"tcp://b:1/{A}", f"remote:{of_tezos}", f"tcp://b:1/{A}"]
    write(tmp_path, *((f"alice-{n}", uri) for n, uri in enumerate(uris)))
    ring = KeyRing(tmp_path, {"TEZOS_SIGNER_HTTPS_HOST": "a"})
    ring.look()
    assert elsewhere(ring).sources == (TcpKey("b", 1, A), HttpKey("https://a:443", of_tezos))


def test_a_secret_that_is_here_is_used_whatever_other_names_say(tmp_path: Path) -> None:
    plain = f"unencrypted:{ALICE.secret_text()}"
    write(tmp_path, ("remote", f"tcp://b:1/{A}"), ("alice", plain))
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert signs(ring, A, ALICE)


def test_a_change_of_the_files_changes_who_is_asked(tmp_path: Path) -> None:
    write(tmp_path, ("alice", f"tcp://b:1/{A}"))
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert elsewhere(ring).sources == (TcpKey("b", 1, A),)
    write(tmp_path, ("alice", f"tcp://other:1/{A}"))
    assert not ring.look(), "the keys are the same"
    assert elsewhere(ring).sources == (TcpKey("other", 1, A),)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (f"tcp://h/{A}", "needs a port"),
        (f"tcp://h:1/{B}", "another one"),
        (f"remote:{A}", "TEZOS_SIGNER_UNIX_PATH"),
    ],
)
def test_a_key_that_nobody_can_be_asked_for_is_not_claimed(
    tmp_path: Path, uri: str, why: str
) -> None:
    write(tmp_path, ("alice", uri))
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert ring.hashes == []
    assert why in ring.unusable[A]


def test_a_device_called_by_words_that_nobody_knows_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, ("alice", "ledger://crouching-tiger-hidden-dragon/ed25519/0h/0h"))
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert ring.hashes == []
    assert "word lists" in ring.unusable[A]
    ring = KeyRing(tmp_path, {"FORGEPOOL_LEDGER_WORDS": "somewhere"})
    ring.look()
    assert ring.hashes == [A]


def test_a_key_on_a_device_is_found_by_its_hash(tmp_path: Path) -> None:
    uri = "ledger://f2ed2bbe/ed25519/0h/1h"
    write(tmp_path, ("alice", uri))
    ring = KeyRing(tmp_path, {})
    ring.look()
    place = read_key_uri(uri, {})
    assert isinstance(place, LedgerKey)
    [source] = elsewhere(ring).sources
    assert source == ring.device_key(A, "ledger://f2ed2bbe") == DeviceKey(A, place)
    assert ring.device_key(A, "ledger://another") is None
    assert ring.device_key(B, "ledger://f2ed2bbe") is None
    assert (ring.sources(A), ring.sources(B)) == ((source,), ())


def test_a_key_in_a_token_is_found_by_its_hash(tmp_path: Path) -> None:
    uri = "pkcs11:token=pool;object=alice?module-path=/m.so"
    write(tmp_path, ("alice", uri))
    ring = KeyRing(tmp_path, {})
    ring.look()
    place = read_key_uri(uri, {})
    assert isinstance(place, Pkcs11Key)
    [source] = elsewhere(ring).sources
    assert source == ring.device_key(A, "pkcs11:token=pool?module-path=/m.so")
    assert source == DeviceKey(A, place)


def test_a_pin_that_others_can_read_makes_its_key_unusable(tmp_path: Path) -> None:
    write(tmp_path, ("alice", "pkcs11:token=pool;object=alice?pin-value=1234"))
    secrets = tmp_path / "secret_keys"
    secrets.chmod(0o644)
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert ring.hashes == []
    assert "chmod 600" in ring.unusable[A]
    assert "1234" not in ring.unusable[A]
    secrets.chmod(0o600)
    again = KeyRing(tmp_path, {})
    again.look()
    assert again.holds(A)


def test_a_chosen_key_plays_a_slow_device(base_dir: Path) -> None:
    ring = KeyRing(base_dir, {}, {A: 50})
    assert elsewhere(ring).public_key == ALICE.public_key
    [source] = elsewhere(ring).sources
    assert isinstance(source, DelayedKey)
    assert (source.key_hash, source.delay_ms) == (A, 50)
    assert source.secret.public_key == ring.secret_key("alice").public_key
    assert signs(ring, B, BOB)


def test_delays_are_read_from_text() -> None:
    assert delays_from_environment("") == {}
    assert delays_from_environment(f"{A}=50, {B}=1000,") == {A: 50, B: 1000}


@pytest.mark.parametrize("text", [A, f"{A}=", f"{A}=soon"])
def test_a_delay_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="int"):
        delays_from_environment(text)


def test_an_encrypted_key_is_held_and_locked_until_it_is_used(base_dir: Path) -> None:
    Keystore(base_dir).add({"carol": CAROL}, MAVRYK, {"carol": EncryptedKey.seal(CAROL, b"pass")})
    ring = KeyRing(base_dir, {}, passwords=Passwords([b"pass"]))
    ring.look()
    assert ring.holds(C)
    assert ring.locked == ring.encrypted == {C}
    opened = ring.open(C)
    assert ring.locked == {C}, "the thread that opens it changes nothing"
    ring.opened(C, opened)
    assert ring.locked == set()
    assert signs(ring, C, CAROL)


def test_a_key_that_was_removed_while_a_thread_opened_it_does_not_come_back(
    base_dir: Path,
) -> None:
    whole = (base_dir / "public_key_hashs").read_text()
    Keystore(base_dir).add({"carol": CAROL}, MAVRYK, {"carol": EncryptedKey.seal(CAROL, b"pass")})
    ring = KeyRing(base_dir, {}, passwords=Passwords([b"pass"]))
    ring.look()
    late = ring.open(C)
    (base_dir / "public_key_hashs").write_text(whole)
    assert ring.look()
    ring.opened(C, late)
    assert not ring.holds(C)
    with pytest.raises(UnknownKey):
        ring.signer(C)


def test_an_opened_key_that_nobody_has_used_is_forgotten_when_it_is_removed(
    base_dir: Path,
) -> None:
    whole = (base_dir / "public_key_hashs").read_text()
    Keystore(base_dir).add({"carol": CAROL}, MAVRYK, {"carol": EncryptedKey.seal(CAROL, b"pass")})
    ring = KeyRing(base_dir, {}, passwords=Passwords([b"pass"]))
    ring.look()
    ring.opened(C, ring.open(C))
    (base_dir / "public_key_hashs").write_text(whole)
    ring.look()
    with pytest.raises(UnknownKey):
        ring.prove_possession(C, b"")


def test_a_password_that_is_added_to_the_file_is_taken_with_the_next_look(
    base_dir: Path, tmp_path: Path
) -> None:
    Keystore(base_dir).add({"carol": CAROL}, MAVRYK, {"carol": EncryptedKey.seal(CAROL, b"pass")})
    file = tmp_path / "passwords"
    file.write_text("wrong\n")
    ring = KeyRing(base_dir, {}, passwords=Passwords.from_surroundings(file))
    ring.look()
    with pytest.raises(WrongPassword, match=rf"carol \({C}\).*{file}"):
        ring.open(C)
    readings = ring.readings
    file.write_text("wrong\npass\n")
    assert not ring.look(), "the keys are the same"
    assert ring.readings == readings + 1
    assert ring.open(C).public_key == CAROL.public_key
    file.unlink()
    assert not ring.look()
    assert "passwords" in ring.problem
    assert ring.open(C).public_key == CAROL.public_key, "what is known stays known"


def test_a_bls_key_proves_its_possession_and_no_other_key_does(tmp_path: Path) -> None:
    bls, other = (SecretKey.from_seed(bytes([n]) * 32, Curve.BLS) for n in (1, 2))
    Keystore(tmp_path).add({"bls": bls, "alice": ALICE}, TEZOS)
    ring = KeyRing(tmp_path, {})
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


def test_a_nonce_is_derived_by_keys_of_the_directory_alone(tmp_path: Path) -> None:
    write(tmp_path, ("alice", f"tcp://h:1/{A}"))
    Keystore(tmp_path).add({"bob": BOB}, MAVRYK)
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert ring.derive_nonce(B, b"level") == BOB.deterministic_nonce(b"level")
    with pytest.raises(BadRequest) as caught:
        ring.derive_nonce(A, b"level")
    assert caught.value.code == "unsupported_key"


def test_a_wrong_public_key_is_the_trouble_of_its_own_key_alone(tmp_path: Path) -> None:
    write(tmp_path, ("alice", f"tcp://h:1/{A}"))
    Keystore(tmp_path).add({"bob": BOB}, MAVRYK)
    keys = json.loads((tmp_path / "public_keys").read_text())
    keys[0]["value"]["key"] = CAROL.public_key.text()
    (tmp_path / "public_keys").write_text(json.dumps(keys))
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert ring.hashes == [B]
    assert "another key's" in ring.unusable[A]
    assert ring.problem == ""


def test_a_bls_key_is_asked_of_a_signer_of_its_own_network(tmp_path: Path) -> None:
    bls = SecretKey.from_seed(bytes([1]) * 32, Curve.BLS).public_key
    here, there = bls.hash(MAVRYK), bls.hash(TEZOS)
    for file, value in (("public_key_hashs", here), ("secret_keys", f"tcp://h:1/{there}")):
        (tmp_path / file).write_text(json.dumps([{"name": "bls", "value": value}]))
    ring = KeyRing(tmp_path, {})
    ring.look()
    assert "another network" in ring.unusable[here]
