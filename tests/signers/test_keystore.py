"""The client directory: what Octez and Mavryk write is read, what is written they can read."""

import json
import multiprocessing
from pathlib import Path

import pytest

from signers.errors import MalformedBytes
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS
from signers.keyring.keys import SecretKey
from signers.keyring.keystore import Keystore, NameTaken, UnknownKey, UnsupportedKey
from signers.keyring.wallet_file import BrokenWalletFile, WalletFile

VECTORS = json.loads((Path(__file__).parent / "vectors" / "keys.json").read_text())
ALICE, BOB, _ = (row for row in VECTORS["keys"] if row["curve"] == "ED25519")
LEDGER = "ledger://major-squirrel-thick-hedgehog/ed25519/0h/1h"


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    """A directory as Mavryk's client leaves it, with its spacing and both locator forms."""
    (tmp_path / "public_key_hashs").write_text(
        f'[ {{ "name": "bob", "value": "{BOB["mavryk_pkh"]}" }},\n'
        f'  {{ "name": "alice é", "value": "{ALICE["mavryk_pkh"]}" }},\n'
        f'  {{ "name": "device", "value": "mv1Device" }} ]\n'
    )
    (tmp_path / "public_keys").write_text(
        json.dumps(
            [
                {"name": "bob", "value": f"unencrypted:{BOB['public']}"},
                {
                    "name": "alice é",
                    "value": {"locator": LEDGER, "key": ALICE["public"]},
                },
            ]
        )
    )
    (tmp_path / "secret_keys").write_text(
        f'[ {{ "name": "device", "value": "{LEDGER}" }},\n'
        f'  {{ "name": "alice é", "value": "unencrypted:{ALICE["secret"]}" }},\n'
        f'  {{ "name": "bob", "value": "encrypted:edesk1abc" }} ]\n'
    )
    return tmp_path


def test_a_key_is_found_by_its_hash(base_dir: Path) -> None:
    key = Keystore(base_dir).secret_key(ALICE["mavryk_pkh"])
    assert key.public_key.text() == ALICE["public"]


def test_a_key_that_was_loaded_stays_loaded(base_dir: Path) -> None:
    keystore = Keystore(base_dir)
    assert keystore.secret_key(ALICE["mavryk_pkh"]) is keystore.secret_key(ALICE["mavryk_pkh"])


def test_all_keys_are_listed_with_how_they_are_kept(base_dir: Path) -> None:
    assert [tuple(entry) for entry in Keystore(base_dir).entries()] == [
        ("bob", BOB["mavryk_pkh"], BOB["public"], "encrypted"),
        ("alice é", ALICE["mavryk_pkh"], ALICE["public"], "unencrypted"),
        ("device", "mv1Device", None, "ledger"),
    ]


def test_another_scheme_is_named_when_it_is_not_supported(base_dir: Path) -> None:
    with pytest.raises(UnsupportedKey, match="ledger"):
        Keystore(base_dir).secret_key("mv1Device")


def test_an_encrypted_key_that_was_cut_is_not_read(base_dir: Path) -> None:
    with pytest.raises(MalformedBytes):
        Keystore(base_dir).secret_key(BOB["mavryk_pkh"])


@pytest.mark.parametrize("row", VECTORS["keys"], ids=lambda row: row["tezos_pkh"])
def test_keys_of_every_curve_sign_as_their_network_does(tmp_path: Path, row: dict) -> None:
    key = SecretKey.read(row["secret"])
    for network, key_hash in ((TEZOS, row["tezos_pkh"]), (MAVRYK, row["mavryk_pkh"])):
        Keystore(tmp_path / network.name).add({"key": key}, network)
        loaded = Keystore(tmp_path / network.name).secret_key(key_hash)
        signature = loaded.sign(b"message", blake2b_32(b"message"))
        assert key.public_key.verify(b"message", signature, network.bls_scheme)


def test_where_a_key_is_and_what_it_is_are_told_without_loading_it(base_dir: Path) -> None:
    keystore = Keystore(base_dir)
    assert keystore.locators("mv1Device") == [LEDGER]
    assert keystore.locators("mv1Nobody") == []
    for row in (ALICE, BOB):
        key = keystore.public_key(row["mavryk_pkh"])
        assert key is not None
        assert key.text() == row["public"]
    assert keystore.public_key("mv1Device") is None


def test_a_public_key_under_a_wrong_name_is_nobodys(base_dir: Path) -> None:
    text = (base_dir / "public_keys").read_text()
    (base_dir / "public_keys").write_text(text.replace(ALICE["public"], BOB["public"]))
    with pytest.raises(BrokenWalletFile, match="another key's"):
        Keystore(base_dir).public_key(ALICE["mavryk_pkh"])


def test_a_key_that_is_not_there_is_unknown(base_dir: Path, tmp_path: Path) -> None:
    for keystore in (Keystore(base_dir), Keystore(tmp_path / "nowhere")):
        with pytest.raises(UnknownKey):
            keystore.secret_key("mv1Nobody")
    assert list(Keystore(tmp_path / "nowhere").entries()) == []


def test_a_second_name_of_a_key_without_its_secret_does_not_hide_it(base_dir: Path) -> None:
    hashes = json.loads((base_dir / "public_key_hashs").read_text())
    hashes.insert(0, {"name": "watched", "value": ALICE["mavryk_pkh"]})
    (base_dir / "public_key_hashs").write_text(json.dumps(hashes))
    assert Keystore(base_dir).secret_key(ALICE["mavryk_pkh"])


def test_a_secret_under_a_wrong_name_signs_nothing(base_dir: Path) -> None:
    text = (base_dir / "secret_keys").read_text()
    (base_dir / "secret_keys").write_text(text.replace(ALICE["secret"], BOB["secret"]))
    with pytest.raises(BrokenWalletFile, match="another key's") as caught:
        Keystore(base_dir).secret_key(ALICE["mavryk_pkh"])
    assert BOB["secret"] not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '[{"name": "bob"}]',
        "[1]",
        '[{"name": "b',
        "[\xff]",
        '[{"name": "\xff", "value": 1}]',
    ],
)
def test_a_broken_file_says_which_and_quotes_nothing(base_dir: Path, content: str) -> None:
    (base_dir / "secret_keys").write_bytes(content.encode("latin-1"))
    with pytest.raises(BrokenWalletFile, match="secret_keys"):
        Keystore(base_dir).secret_key(ALICE["mavryk_pkh"])


# -- writing --------------------------------------------------------------------------------------


def test_what_is_added_is_found_listed_and_for_the_owner_alone(tmp_path: Path) -> None:
    base_dir, key = tmp_path / "keys", SecretKey.generate()
    Keystore(base_dir).add({"carol": key}, TEZOS)
    key_hash = key.public_key.hash(TEZOS)
    keystore = Keystore(base_dir)
    assert keystore.secret_key(key_hash).secret_text() == key.secret_text()
    assert keystore.key_hash("carol") == key_hash
    assert [tuple(entry) for entry in keystore.entries()] == [
        ("carol", key_hash, key.public_key.text(), "unencrypted")
    ]
    assert base_dir.stat().st_mode & 0o777 == 0o700
    for name in ("secret_keys", "public_keys", "public_key_hashs"):
        assert (base_dir / name).stat().st_mode & 0o777 == 0o600
    # As the clients of both networks write it.
    assert json.loads((base_dir / "secret_keys").read_text()) == [
        {"name": "carol", "value": f"unencrypted:{key.secret_text()}"}
    ]
    assert json.loads((base_dir / "public_keys").read_text()) == [
        {
            "name": "carol",
            "value": {
                "locator": f"unencrypted:{key.public_key.text()}",
                "key": key.public_key.text(),
            },
        }
    ]


def test_adding_leaves_what_others_wrote_as_it_was(base_dir: Path) -> None:
    before = {
        name: json.loads((base_dir / name).read_text()) for name in ("secret_keys", "public_keys")
    }
    Keystore(base_dir).add({"carol": SecretKey.generate()}, MAVRYK)
    for name, elements in before.items():
        assert json.loads((base_dir / name).read_text())[: len(elements)] == elements
    assert not list(base_dir.glob("*.new-*"))


def test_a_key_added_by_another_process_is_found(base_dir: Path) -> None:
    reader, key = Keystore(base_dir), SecretKey.generate()
    reader.secret_key(ALICE["mavryk_pkh"])
    Keystore(base_dir).add({"carol": key}, MAVRYK)
    assert reader.secret_key(key.public_key.hash(MAVRYK)).secret_text() == key.secret_text()


@pytest.mark.parametrize("name", ["device", "bob"])
def test_a_name_is_given_once(base_dir: Path, name: str) -> None:
    with pytest.raises(NameTaken):
        Keystore(base_dir).add({"new": SecretKey.generate(), name: SecretKey.generate()}, MAVRYK)
    assert Keystore(base_dir).key_hash("new") is None


def add_ten(base_dir: str, name: str) -> None:
    for number in range(10):
        Keystore(Path(base_dir)).add({f"{name}-{number}": SecretKey.generate()}, MAVRYK)


@pytest.mark.process
def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=add_ten, args=(str(tmp_path), name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(list(Keystore(tmp_path).entries())) == 30


def test_of_ten_thousand_keys_each_is_loaded_without_reading_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {f"key-{number}": SecretKey(number.to_bytes(32)) for number in range(10_000)}
    Keystore(tmp_path).add(keys, MAVRYK)
    read_whole, times = WalletFile._content, 0

    def count(file: WalletFile) -> bytes:
        nonlocal times
        times += 1
        return read_whole(file)

    monkeypatch.setattr(WalletFile, "_content", count)
    keystore = Keystore(tmp_path)
    hashes = [entry.key_hash for entry in keystore.entries()]
    for key_hash in hashes:
        keystore.secret_key(key_hash)
    assert len(hashes) == 10_000
    assert times < 10, "three files, listed once and indexed once"


def test_one_element_is_read_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('[{"name":"a","value":"a"} ,\n\n {"value": {"b": [1]}, "name": "é\\"b"}]')
    file = WalletFile(path)
    assert file.value("a") == "a"
    assert file.value('é"b') == {"b": [1]}
    assert file.value("c") is None
