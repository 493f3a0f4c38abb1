"""Keys under a password: the vectors of both networks, and how passwords are found and tried."""

import json
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from signers.errors import MalformedBytes
from signers.formats.networks import TEZOS, BlsScheme
from signers.keyring.curve import CURVES_BY_NAME, Curve
from signers.keyring.encrypted_key import EncryptedKey
from signers.keyring.keys import SecretKey
from signers.keyring.keystore import Keystore
from signers.keyring.passwords import (
    PASSWORD_ENV,
    PASSWORDS_MAX,
    BadPasswordFile,
    NoPassword,
    Passwords,
    WrongPassword,
)

VECTORS = json.loads((Path(__file__).parent / "vectors" / "encrypted_keys.json").read_text())
ROWS = VECTORS["keys"]
ED25519, BLS = ROWS[0], ROWS[3]
RIGHT, WRONG = ED25519["password"].encode(), b"ahThie5h"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["encrypted"][:8])
def test_keys_that_others_encrypted_are_opened(row: dict[str, str]) -> None:
    key = EncryptedKey.read(row["encrypted"])
    assert key.text() == row["encrypted"]
    opened = key.open(row["password"].encode(), TEZOS.bls_scheme)
    assert opened is not None
    assert opened.secret_text() == row["secret"]
    assert key.open(WRONG, TEZOS.bls_scheme) is None


@pytest.mark.parametrize("curve", CURVES_BY_NAME.values(), ids=lambda curve: curve.value.name)
def test_what_is_encrypted_here_opens_with_its_password_alone(curve: Curve) -> None:
    secret = SecretKey.generate(curve)
    sealed = EncryptedKey.seal(secret, "pässword ".encode())
    again = EncryptedKey.read(sealed.text())
    assert sealed.text()[2:5] == "esk"
    assert again.open(b"password", None) is None
    opened = again.open("pässword ".encode(), BlsScheme.POSSESSION)
    assert opened is not None
    assert opened.secret_text() == secret.secret_text()
    assert EncryptedKey.seal(secret, b"").payload != EncryptedKey.seal(secret, b"").payload


def test_a_damaged_key_opens_with_no_password() -> None:
    key = EncryptedKey.read(ED25519["encrypted"])
    for place in (0, 8, 24, 55):
        payload = bytearray(key.payload)
        payload[place] ^= 1
        assert EncryptedKey(key.curve, bytes(payload)).open(RIGHT, None) is None
    with pytest.raises(MalformedBytes):
        EncryptedKey.read(ED25519["encrypted"][:-1])
    with pytest.raises(MalformedBytes):
        EncryptedKey.read(ED25519["secret"])


# -- which passwords are tried --------------------------------------------------------------------


def answers(*given: bytes | None) -> Callable[[str], bytes | None]:
    left = iter(given)
    return lambda name: next(left)


def open_with(passwords: Passwords, row: dict[str, str] = ED25519) -> str:
    key = EncryptedKey.read(row["encrypted"])
    return passwords.open(key, "alice", BlsScheme.POSSESSION).secret_text()


def test_the_passwords_of_a_file_are_tried_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_bytes(WRONG + b"\n\n" + BLS["password"].encode() + b"\r\n" + b" spaces count \n")
    passwords = Passwords.from_surroundings(file)
    assert passwords.first == WRONG
    assert open_with(passwords) == ED25519["secret"]
    assert passwords.first == RIGHT  # the next key has the same, most often
    assert open_with(passwords, ROWS[1]) == ROWS[1]["secret"]


def test_the_environment_holds_a_password_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, ED25519["password"])
    assert open_with(Passwords.from_surroundings(None)) == ED25519["secret"]


def test_who_is_there_is_asked_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_ENV, raising=False)
    passwords = Passwords.from_surroundings(None, answers(WRONG, WRONG, RIGHT))
    assert open_with(passwords) == ED25519["secret"]
    assert open_with(passwords, ROWS[2]) == ROWS[2]["secret"]


def test_the_third_wrong_answer_is_the_last() -> None:
    with pytest.raises(WrongPassword, match="3 wrong passwords for the encrypted key alice"):
        open_with(Passwords([], answers(WRONG, WRONG, WRONG)))


def test_no_password_and_a_wrong_one_are_told_apart() -> None:
    with pytest.raises(NoPassword, match="--password-filename"):
        open_with(Passwords())
    with pytest.raises(NoPassword):
        open_with(Passwords([], answers(None)))
    with pytest.raises(WrongPassword, match="none of the 2 known passwords"):
        open_with(Passwords([WRONG, b""]))


def test_a_password_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadPasswordFile, match="No such file"):
        Passwords.from_surroundings(tmp_path / "absent")
    long = tmp_path / "long"
    long.write_bytes(b"x\n" * (PASSWORDS_MAX + 1))
    with pytest.raises(BadPasswordFile, match="more than"):
        Passwords.from_surroundings(long)


def test_passwords_and_keys_show_no_secret() -> None:
    passwords = Passwords([WRONG, b"hunter2"])
    assert "hunter2" not in repr(passwords)
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        pickle.dumps(passwords)
    with pytest.raises(WrongPassword) as caught:
        open_with(passwords)
    story = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in story
    assert WRONG.decode() not in story


# -- in a client directory ------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["encrypted", "aggregate_encrypted"])
def test_a_directory_with_encrypted_keys(tmp_path: Path, scheme: str) -> None:
    secret = SecretKey.read(BLS["secret"], TEZOS.bls_scheme)
    key_hash = secret.public_key.hash(TEZOS)
    element = {"name": "bls", "value": f"{scheme}:{BLS['encrypted']}"}
    (tmp_path / "secret_keys").write_text(json.dumps([element]))
    element = {"name": "bls", "value": key_hash}
    (tmp_path / "public_key_hashs").write_text(json.dumps([element]))

    keystore = Keystore(tmp_path, Passwords([RIGHT]))
    assert keystore.load(key_hash).public_key
    assert not keystore.loaded, "it was only looked at"
    key = keystore.secret_key(key_hash)
    assert keystore.loaded == {key_hash}
    message, digest = b"\3vote", bytes(32)
    assert secret.public_key.verify(message, key.sign(message, digest), TEZOS.bls_scheme)
    with pytest.raises(WrongPassword, match=key_hash):
        Keystore(tmp_path, Passwords([WRONG])).secret_key(key_hash)


def test_a_key_that_is_there_twice_is_read_where_it_needs_no_password(tmp_path: Path) -> None:
    keystore, key = Keystore(tmp_path), SecretKey.generate()
    keystore.add({"a": key}, TEZOS, {"a": EncryptedKey.seal(key, RIGHT)})
    keystore.add({"b": key}, TEZOS)
    assert keystore.secret_key(key.public_key.hash(TEZOS)).public_key == key.public_key
