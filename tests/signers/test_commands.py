"""`forgepool init`, `keys` and `watermarks`, as they are typed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from signer_server import SignerServer
from watermark_cases import asked, code, sign

from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind, Signable
from signers.keyring.encrypted_key import EncryptedKey
from signers.keyring.keys import SecretKey
from signers.keyring.keys_command import keys
from signers.keyring.keystore import Keystore
from signers.keyring.passwords import Passwords
from signers.marks.init_command import init
from signers.marks.watermark_store import WatermarkStore
from signers.marks.watermarks_command import watermarks

CHAIN_TEXT = "NetXdQprcVkpaWU"
CHAIN = bytes.fromhex("7a06a770")
SECRET = SecretKey(bytes(range(32)))
SECRET_HASH = SECRET.public_key.hash(MAVRYK)

Command = Callable[..., Result]


def run(command: Any, *words: str, ends: int = 0, **options: Any) -> Result:
    result = CliRunner().invoke(command, list(words), **options)
    assert result.exit_code == ends, result.output + repr(result.exception)
    return result


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORGEPOOL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("FORGEPOOL_BASE_DIR", raising=False)
    return tmp_path / "state"


@pytest.fixture
def pool(state_dir: Path) -> Path:
    """A store, not yet with keys; its path."""
    run(init, "--network", "mavryk", "--chain-id", CHAIN_TEXT)
    return state_dir / "watermarks.db"


def verdicts(store_path: Path, key: str, *signables: Signable) -> list[str]:
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        return [code(verdict) for verdict in sign(store, key, *signables)]


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


# -- init -----------------------------------------------------------------------------------------


def test_init_makes_a_private_directory_with_a_store(state_dir: Path) -> None:
    made = as_json(run(init, "--network", "mavryk", "--chain-id", CHAIN_TEXT, "--json"))
    assert made["chain_id"] == CHAIN_TEXT
    assert state_dir.stat().st_mode & 0o777 == 0o700
    with WatermarkStore.open(state_dir / "watermarks.db", wal_bytes=0) as store:
        assert (store.network, store.chain_id) == ("mavryk", CHAIN)


def test_init_knows_the_names_of_chains(state_dir: Path) -> None:
    made = as_json(run(init, "--network", "tezos", "--chain-id", "mainnet", "--json"))
    assert made["chain_id"] == CHAIN_TEXT


def test_a_chain_that_is_not_known_is_told_with_those_that_are(state_dir: Path) -> None:
    failed = run(init, "--network", "mavryk", "--chain-id", "mainnet", ends=1).stderr
    for said in ("'mainnet'", "basenet", "/chains/main/chain_id"):
        assert said in failed
    assert not state_dir.exists()


def test_init_replaces_nothing(pool: Path) -> None:
    content = pool.read_bytes()
    again = run(init, "--network", "mavryk", "--chain-id", CHAIN_TEXT, ends=1)
    assert "never replaced" in again.stderr
    assert pool.read_bytes() == content


def test_a_wrong_command_line_ends_with_2(state_dir: Path) -> None:
    run(init, "--network", "bitcoin", "--chain-id", CHAIN_TEXT, ends=2)
    run(init, ends=2)
    assert not state_dir.exists()


def test_an_error_is_a_sentence_or_a_json_object(state_dir: Path) -> None:
    assert "forgepool: " in run(init, "--network", "mavryk", "--chain-id", "x", ends=1).stderr
    failed = run(init, "--network", "mavryk", "--chain-id", "x", "--json", ends=1)
    assert as_json(failed)["code"] == "malformed"


# -- keys -----------------------------------------------------------------------------------------


def test_a_generated_key_may_sign_at_once(pool: Path) -> None:
    (made,) = as_json(run(keys, "generate", "alice", "--json"))
    assert made["key_hash"].startswith("mv1")
    assert made["enabled"]
    assert verdicts(pool, made["key_hash"], asked(1), asked(1, 0, "b")) == [
        "advance",
        "watermark_conflict",
    ]


def test_many_keys_are_generated_and_listed(pool: Path) -> None:
    run(keys, "generate", "bulk", "--count", "30")
    listed = as_json(run(keys, "list", "--json"))
    assert [key["name"] for key in listed] == [f"bulk-{number}" for number in range(1, 31)]
    assert all(key["enabled"] and key["scheme"] == "unencrypted" for key in listed)
    assert run(keys, "list").stdout.count("enabled") == 30


def test_consensus_keys_need_a_delegate_that_the_store_knows(pool: Path) -> None:
    stranger = SecretKey.generate().public_key.hash(MAVRYK)
    refused = run(keys, "generate", "new", "--delegate", stranger, ends=1)
    assert f"forgepool keys enable {stranger} --floor LEVEL" in refused.stderr
    assert as_json(run(keys, "list", "--json")) == []

    (delegate,) = as_json(run(keys, "generate", "delegate", "--json"))
    assert verdicts(pool, delegate["key_hash"], asked(7)) == ["advance"]
    (made,) = as_json(run(keys, "generate", "new", "--delegate", "delegate", "--json"))
    assert verdicts(pool, made["key_hash"], asked(7, 0, "b"), asked(8)) == [
        "watermark_conflict",
        "advance",
    ]
    assert f"for {delegate['key_hash']}" in run(keys, "list").stdout

    run(keys, "enable", stranger, "--fresh", "--yes")
    run(keys, "generate", "theirs", "--delegate", stranger)


def test_without_a_store_there_is_no_delegate_to_sign_for(state_dir: Path) -> None:
    words = ("--delegate", SECRET_HASH, "--network", "mavryk")
    assert "forgepool init" in run(keys, "generate", "new", *words, ends=1).stderr


def test_the_keys_are_where_the_settings_say(pool: Path, tmp_path: Path) -> None:
    settings = pool.parent / "forgepool.toml"
    settings.write_text(f'workers = 4\nbase_dir = "{tmp_path}/client"\n')
    run(keys, "generate", "alice")
    assert (tmp_path / "client" / "secret_keys").exists()
    run(watermarks, "show", "alice")
    for wrong in ("base_dir = 7", "base_dir = "):
        settings.write_text(wrong)
        assert str(settings) in run(keys, "list", ends=1).stderr


def test_a_directory_made_for_keys_alone_is_private_too(state_dir: Path) -> None:
    run(keys, "generate", "early", "--network", "mavryk")
    assert state_dir.stat().st_mode & 0o777 == 0o700


def test_keys_before_there_is_a_store_are_not_enabled(state_dir: Path) -> None:
    run(keys, "generate", "alice", ends=1)
    assert "Not enabled" in run(keys, "generate", "alice", "--network", "tezos").stdout
    (listed,) = as_json(run(keys, "list", "--json"))
    assert listed["key_hash"].startswith("tz1")
    assert listed["enabled"] is None


def test_a_network_that_is_not_the_stores_is_refused(pool: Path) -> None:
    assert "mavryk" in run(keys, "generate", "a", "--network", "tezos", ends=1).stderr


def test_a_name_is_given_once(pool: Path) -> None:
    run(keys, "generate", "alice")
    assert as_json(run(keys, "generate", "alice", "--json", ends=1))["code"] == "name_taken"


def test_an_imported_key_must_say_where_it_stands(pool: Path) -> None:
    secret = f"unencrypted:{SECRET.secret_text()}\n"
    refused = run(keys, "import", "old", input=secret, ends=1)
    assert "--floor" in refused.stderr
    assert "--fresh" in refused.stderr
    assert as_json(run(keys, "list", "--json")) == []
    run(keys, "import", "old", "--floor", "500", input=secret)
    assert verdicts(pool, SECRET_HASH, asked(500), asked(501)) == ["watermark_below", "advance"]


def test_a_secret_can_be_an_argument_and_is_shown_nowhere(pool: Path) -> None:
    result = run(keys, "import", "old", SECRET.secret_text(), "--fresh", "--yes")
    listed = run(keys, "list", "--json")
    for output in (result.output, listed.output, run(watermarks, "show").output):
        assert SECRET.secret_text() not in output
    assert verdicts(pool, SECRET_HASH, asked(1)) == ["advance"]


def test_a_bad_secret_is_not_quoted(pool: Path) -> None:
    bad = f"unencrypted:{SECRET.secret_text()[:-2]}xx"
    refused = run(keys, "import", "old", "--floor", "5", input=bad, ends=1)
    assert SECRET.secret_text()[4:20] not in refused.output


def test_fresh_is_asked_for_and_a_piped_secret_is_no_answer(pool: Path) -> None:
    refused = run(keys, "import", "old", "--fresh", input=SECRET.secret_text(), ends=2)
    assert "--yes" in refused.stderr
    assert SECRET.secret_text() not in refused.output
    run(keys, "import", "old", "--fresh", "--floor", "5", input=SECRET.secret_text(), ends=2)


@pytest.mark.parametrize("locator", ["aws:tz1abc", "carrier-pigeon://a/tz1abc"])
def test_other_schemes_are_named(pool: Path, locator: str) -> None:
    refused = run(keys, "import", "old", locator, "--floor", "5", "--json", ends=1)
    assert as_json(refused)["code"] == "unsupported_key"
    assert locator.partition(":")[0] in as_json(refused)["error"]


@pytest.mark.parametrize(
    ("curve", "prefix"),
    [("ed25519", "mv1"), ("secp256k1", "mv2"), ("p256", "mv3"), ("bls", "mv4")],
)
def test_keys_of_every_curve_are_made_listed_and_imported(
    pool: Path, tmp_path: Path, curve: str, prefix: str
) -> None:
    (made,) = as_json(run(keys, "generate", "new", "--curve", curve, "--json"))
    (listed,) = as_json(run(keys, "list", "--json"))
    assert made["key_hash"].startswith(prefix)
    assert (listed["curve"], listed["scheme"]) == (curve, "unencrypted")
    assert curve in run(keys, "list").stdout
    secret = Keystore(pool.parent / "keys").secret_key(made["key_hash"]).secret_text()
    elsewhere = ("--base-dir", str(tmp_path / "elsewhere"))
    run(keys, "import", "same", "--floor", "5", *elsewhere, input=secret)
    (again,) = as_json(run(keys, "list", *elsewhere, "--json"))
    assert (again["key_hash"], again["curve"]) == (made["key_hash"], curve)


@pytest.fixture
def password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("FORGEPOOL_PASSWORD", raising=False)
    path = tmp_path / "passwords"
    path.write_text("first\nsecond\n")
    return str(path)


def test_keys_are_made_under_a_password(pool: Path, password_file: str) -> None:
    options = ("--encrypted", "--password-filename", password_file)
    made = as_json(run(keys, "generate", "new", "--count", "3", *options, "--json"))
    assert {each["scheme"] for each in as_json(run(keys, "list", "--json"))} == {"encrypted"}
    assert "unencrypted:ed" not in (pool.parent / "keys" / "secret_keys").read_text()
    keystore = Keystore(pool.parent / "keys", Passwords([b"first"]))
    for each in made:
        key = keystore.secret_key(each["key_hash"])
        assert key.public_key.text() == each["public_key"]
        assert verdicts(pool, each["key_hash"], asked(1)) == ["advance"]


def test_nobody_is_there_to_give_a_password(pool: Path, password_file: str) -> None:
    refused = run(keys, "generate", "new", "--encrypted", ends=2)
    assert "--password-filename" in refused.stderr
    assert as_json(run(keys, "list", "--json")) == []


def test_an_encrypted_key_is_imported_as_it_is(pool: Path, password_file: str) -> None:
    text = EncryptedKey.seal(SECRET, b"second").text()
    options = ("--floor", "5", "--password-filename", password_file)
    run(keys, "import", "old", *options, input=f"encrypted:{text}\n")
    (listed,) = as_json(run(keys, "list", "--json"))
    assert (listed["key_hash"], listed["scheme"]) == (SECRET_HASH, "encrypted")
    assert text in (pool.parent / "keys" / "secret_keys").read_text()


def test_an_encrypted_key_needs_its_password(pool: Path, password_file: str) -> None:
    text = EncryptedKey.seal(SECRET, b"third").text()
    for options, expected in (
        (("--password-filename", password_file), "wrong_password"),
        ((), "no_password"),
        (("--password-filename", password_file + ".absent"), "bad_password_file"),
    ):
        words = ("import", "old", text, "--floor", "5", *options, "--json")
        assert as_json(run(keys, *words, ends=1))["code"] == expected
    assert as_json(run(keys, "list", "--json")) == []


def test_a_plain_key_is_put_under_a_password(pool: Path, password_file: str) -> None:
    options = ("--floor", "5", "--encrypted", "--password-filename", password_file)
    run(keys, "import", "old", *options, input=SECRET.secret_text())
    assert SECRET.secret_text() not in (pool.parent / "keys" / "secret_keys").read_text()
    keystore = Keystore(pool.parent / "keys", Passwords([b"first"]))
    assert keystore.secret_key(SECRET_HASH).public_key == SECRET.public_key


def test_a_key_directory_of_an_octez_client_is_enabled_where_it_is(
    pool: Path, tmp_path: Path
) -> None:
    run(keys, "generate", "octez", "--base-dir", str(tmp_path / "client"), "--json")
    base = ("--base-dir", str(tmp_path / "client"))
    (made,) = as_json(run(keys, "list", *base, "--json"))
    run(keys, "disable", "octez", *base)
    assert verdicts(pool, made["key_hash"], asked(1)) == ["key_disabled"]
    run(keys, "enable", made["key_hash"], *base)
    assert verdicts(pool, made["key_hash"], asked(1)) == ["advance"]


def test_enabling_an_unknown_key_needs_a_floor(pool: Path) -> None:
    assert as_json(run(keys, "enable", SECRET_HASH, "--json", ends=1))["code"] == "no_mark"
    run(keys, "enable", SECRET_HASH, "--floor", "9")
    assert verdicts(pool, SECRET_HASH, asked(9), asked(10)) == ["watermark_below", "advance"]
    (listed,) = as_json(run(keys, "list", "--json"))
    assert (listed["name"], listed["key_hash"]) == (None, SECRET_HASH)


def test_what_is_neither_a_name_nor_a_hash_is_unknown(pool: Path) -> None:
    for key in ("nobody", SECRET.public_key.hash(TEZOS)):
        failed = run(keys, "enable", key, "--floor", "1", "--json", ends=1)
        assert as_json(failed)["code"] == "unknown_key"


# -- watermarks -----------------------------------------------------------------------------------


def test_marks_are_shown_while_the_pool_has_the_store_open(pool: Path) -> None:
    (made,) = as_json(run(keys, "generate", "alice", "--json"))
    with WatermarkStore.open(pool, wal_bytes=0) as store:
        sign(store, made["key_hash"], asked(5, 2))
        shown = as_json(run(watermarks, "show", "alice", "--json"))
        assert "level 5 round 2" in run(watermarks, "show").stdout
        assert shown["store"]["uuid"] == store.uuid
        assert shown["store"]["commit"] == store.statistics().seq
    marks = {mark["kind"]: mark for mark in shown["marks"]}
    assert marks["attestation"] == {
        "holder": made["key_hash"],
        "kind": "attestation",
        "level": 5,
        "round": 2,
        "digest": asked(5, 2).digest.hex(),
    }
    assert marks["block"]["level"] is None


def test_a_floor_is_set_while_the_pool_runs(pool: Path) -> None:
    (alice, bob) = as_json(run(keys, "generate", "k", "--count", "2", "--json"))
    with WatermarkStore.open(pool, wal_bytes=0) as store:
        run(watermarks, "set-floor", "50", "--key", "k-1", "--yes")
        for key, expected in ((alice, "watermark_below"), (bob, "advance")):
            (verdict,) = sign(store, key["key_hash"], asked(50))
            assert code(verdict) == expected
        run(watermarks, "set-floor", "60", "--all", "--yes")
        (verdict,) = sign(store, bob["key_hash"], asked(60))
        assert code(verdict) == "watermark_below"


def test_a_floor_lowers_nothing(pool: Path) -> None:
    (made,) = as_json(run(keys, "generate", "alice", "--json"))
    assert verdicts(pool, made["key_hash"], asked(100)) == ["advance"]
    run(watermarks, "set-floor", "50", "--all", "--yes")
    assert verdicts(pool, made["key_hash"], asked(60)) == ["watermark_below"]


def test_a_floor_reaches_the_delegate_of_a_key(pool: Path) -> None:
    (delegate,) = as_json(run(keys, "generate", "delegate", "--json"))
    run(keys, "generate", "consensus", "--delegate", delegate["key_hash"])
    run(watermarks, "set-floor", "50", "--key", "consensus", "--yes")
    assert verdicts(pool, delegate["key_hash"], asked(50)) == ["watermark_below"]


def test_a_floor_is_for_someone_and_is_asked_for(pool: Path) -> None:
    run(watermarks, "set-floor", "5", "--yes", ends=2)
    run(watermarks, "set-floor", "5", "--all", "--key", "a", "--yes", ends=2)
    run(watermarks, "set-floor", "5", "--all", ends=2)
    run(watermarks, "set-floor", "-5", "--all", "--yes", ends=2)


def test_a_pool_moves_by_backup_and_restore(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = as_json(run(keys, "generate", "alice", "--json"))
    assert verdicts(pool, made["key_hash"], asked(5)) == ["advance"]
    backup = str(tmp_path / "backup")
    run(watermarks, "backup", backup)
    run(watermarks, "backup", backup, ends=1)
    run(watermarks, "restore", backup, "--floor", "5", "--yes", ends=1)  # a store is there
    monkeypatch.setenv("FORGEPOOL_STATE_DIR", str(tmp_path / "moved"))
    run(watermarks, "restore", backup, ends=2)  # no floor
    run(watermarks, "restore", backup, "--floor", "8", ends=2)  # not confirmed
    assert not (tmp_path / "moved").exists()
    run(watermarks, "restore", backup, "--floor", "8", "--yes")
    moved = tmp_path / "moved" / "watermarks.db"
    assert verdicts(moved, made["key_hash"], asked(8, 0, "b"), asked(9)) == [
        "watermark_below",
        "advance",
    ]


def test_a_missing_store_is_said_to_be_missing(state_dir: Path) -> None:
    for words in (("show",), ("backup", "file"), ("set-floor", "5", "--all", "--yes")):
        failed = run(watermarks, *words, "--json", ends=1)
        assert as_json(failed)["code"] == "store_missing"


def test_a_directory_that_cannot_be_written_is_said_so(state_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"  # root may write into every directory, but into no file
    file.write_text("")
    where = ("--base-dir", str(file / "keys"))
    failed = run(keys, "generate", "alice", "--network", "tezos", *where, ends=1)
    assert str(file) in failed.output


def test_each_kind_has_its_line(pool: Path) -> None:
    run(keys, "generate", "alice")
    shown = run(watermarks, "show").stdout
    for kind in list(Kind)[:4]:
        assert kind.name.lower().replace("_", " ") in shown


def test_a_ceiling_is_set_shown_and_lifted_while_the_pool_runs(pool: Path) -> None:
    (alice, _) = as_json(run(keys, "generate", "k", "--count", "2", "--json"))
    key = alice["key_hash"]
    with WatermarkStore.open(pool, wal_bytes=0) as store:
        run(watermarks, "sign-until", "50", "--all", "--yes")
        run(watermarks, "sign-until", "40", "--key", "k-1", "--yes")
        shown = as_json(run(watermarks, "show", "k-1", "--json"))
        assert shown["ceilings"] == [
            {"holder": None, "level": 50},
            {"holder": key, "level": 40},
        ]
        assert f"{key}  signs until level 40" in run(watermarks, "show").stdout
        assert code(sign(store, key, asked(41))[0]) == "sign_until"
        run(watermarks, "sign-until", "--clear", "--key", "k-1", "--yes")
        assert [code(v) for v in sign(store, key, asked(41), asked(51))] == [
            "advance",
            "sign_until",
        ]
        cleared = as_json(run(watermarks, "sign-until", "--clear", "--all", "--yes", "--json"))
        assert cleared == {"sign_until": None, "holders": [None]}
        assert code(sign(store, key, asked(51))[0]) == "advance"
    assert (
        "There was no ceiling" in run(watermarks, "sign-until", "--clear", "--all", "--yes").stdout
    )


def test_a_ceiling_is_for_someone_and_is_asked_for(pool: Path) -> None:
    for words in (("5",), ("5", "--all", "--key", "a"), ("--all",), ("5", "--clear", "--all")):
        run(watermarks, "sign-until", *words, "--yes", ends=2)
    run(watermarks, "sign-until", "5", "--all", ends=2)
    run(watermarks, "sign-until", "--clear", "--all", ends=2)
    assert as_json(run(watermarks, "show", "--json"))["ceilings"] == []


def test_a_restored_store_keeps_its_ceilings_and_says_so(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(watermarks, "sign-until", "50", "--all", "--yes")
    run(watermarks, "backup", str(tmp_path / "backup"))
    monkeypatch.setenv("FORGEPOOL_STATE_DIR", str(tmp_path / "moved"))
    restored = run(watermarks, "restore", str(tmp_path / "backup"), "--floor", "8", "--yes")
    assert "ceilings of the backup hold here too" in restored.stdout
    assert as_json(run(watermarks, "show", "--json"))["ceilings"] == [{"holder": None, "level": 50}]


def test_what_was_changed_by_hand_is_logged(pool: Path) -> None:
    assert "nothing was changed" in run(watermarks, "log").stdout
    (alice,) = as_json(run(keys, "generate", "alice", "--json"))
    key = alice["key_hash"]
    run(watermarks, "set-floor", "5", "--all", "--yes")
    run(watermarks, "sign-until", "9", "--key", "alice", "--yes")
    run(keys, "disable", "alice")
    assert [(e["command"], e["changes"]) for e in as_json(run(watermarks, "log", "--json"))] == [
        ("keys generate", [f"{key}: declared to have signed nothing"]),
        ("keys generate", [f"{key}: enabled for {key}"]),
        ("watermarks set-floor", [f"{key}: floor 5"]),
        ("watermarks sign-until", [f"{key}: ceiling 9"]),
        ("keys disable", [f"{key}: disabled for {key}"]),
    ]
    shown = run(watermarks, "log").stdout
    assert "watermarks set-floor" in shown
    assert f"    {key}: floor 5" in shown


# -- keys that are elsewhere ----------------------------------------------------------------------


SOMEBODY = SecretKey(bytes([77]) * 32).public_key
THEIR_HASH = SOMEBODY.hash(MAVRYK)


def test_a_key_elsewhere_is_written_down_and_enabled(pool: Path, state_dir: Path) -> None:
    """Nobody listens at these ports, which is told and is no reason to refuse."""
    uri = f"http://127.0.0.1:1/{SOMEBODY.hash(TEZOS)}"
    imported = run(keys, "import", "far", uri, "--floor", "9", "--yes", "--json")
    [made] = as_json(imported)
    assert "http://127.0.0.1:1 could not be asked" in made.pop("note")
    assert made == {"name": "far", "key_hash": THEIR_HASH, "public_key": None, "enabled": True}
    spare = f"tcp://127.0.0.1:1/{THEIR_HASH}"
    imported = run(
        keys, "import", "spare", spare, "--public-key", SOMEBODY.text(), "--floor", "9", "--yes"
    )
    assert "warning: tcp://127.0.0.1:1 could not be asked" in imported.stderr
    assert "not checked: whether a signer is there" in imported.stderr
    keystore = Keystore(state_dir / "keys")
    assert keystore.locators(THEIR_HASH) == [uri, spare]
    assert keystore.public_key(THEIR_HASH) == SOMEBODY
    level_10, level_9 = (asked(level, chain=CHAIN) for level in (10, 9))
    assert verdicts(pool, THEIR_HASH, level_9, level_10) == ["watermark_below", "advance"]


def test_a_signer_that_answers_tells_the_public_key(pool: Path, state_dir: Path) -> None:
    with SignerServer([SecretKey(bytes([77]) * 32)]) as server:
        for name, address in (("far", server.http), ("spare", server.tcp)):
            imported = run(keys, "import", name, f"{address}/{THEIR_HASH}", "--fresh", "--yes")
            assert f"{address} has this key" in imported.stderr
            assert SOMEBODY.text() in imported.stdout
        assert Keystore(state_dir / "keys").public_key(THEIR_HASH) == SOMEBODY
        other = f"{server.http}/{SECRET_HASH}"
        refused = run(keys, "import", "other", other, "--fresh", "--yes", "--json", ends=1)
    assert as_json(refused)["code"] == "signer_unknown_key"
    assert "Nothing was written down" in as_json(refused)["error"]
    assert Keystore(state_dir / "keys").key_hash("other") is None


def test_of_a_device_is_said_that_it_was_not_asked(pool: Path) -> None:
    uri = "ledger://f2ed2bbe/ed25519/0h/0h"
    words = ("--public-key", SOMEBODY.text(), "--fresh", "--yes")
    assert "was not asked" in run(keys, "import", "device", uri, *words).stderr


@pytest.mark.parametrize(
    ("uri", "public_key", "code"),
    [
        ("ledger://f2ed2bbe/0h/0h", None, "key_unclear"),
        (f"http://h:1/{THEIR_HASH}", SECRET.public_key.text(), "key_unclear"),
        ("tcp://h/nobody", None, "malformed_key_uri"),
        (f"remote:{THEIR_HASH}", None, "remote_signer_unclear"),
    ],
)
def test_who_has_a_key_must_be_clear(
    pool: Path, state_dir: Path, uri: str, public_key: str | None, code: str
) -> None:
    options = [] if public_key is None else ["--public-key", public_key]
    said = run(keys, "import", "far", uri, *options, "--fresh", "--yes", "--json", ends=1)
    assert as_json(said)["code"] == code
    assert not list(Keystore(state_dir / "keys").entries())


def test_a_key_of_the_other_network_is_not_enabled_by_its_name(pool: Path, state_dir: Path) -> None:
    keystore = Keystore(state_dir / "keys")
    keystore.add({"here": SECRET}, MAVRYK)
    keystore.add({"there": SECRET}, TEZOS)
    run(keys, "enable", "here", "--fresh", "--yes")
    refused = run(keys, "enable", "there", "--fresh", "--yes", "--json", ends=1)
    assert as_json(refused)["code"] == "unknown_key", "one key must not have two marks"
