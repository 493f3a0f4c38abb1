"""A real pool whose keys are with remote signers, which are well, dead, hang, flap and lie.

What must hold with each: the votes of other keys go on, events and the log say which signer it
is, and when it is well again nobody has to do anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from pool_process import Key, PoolProcess, until, wait_for_all

from broker.client import Client
from broker.messages import ATTESTATION_READY, EVENT_REFUSED, FAILED, Event
from signers.keyring.keys import SecretKey
from tests.signers.signer_server import Mode, SignerServer

pytestmark = pytest.mark.process

SETTINGS = "[signers]\ntime_limit_s = 0.3\nopen_s_max = 0.5\n"


@pytest.fixture
def servers(pool: PoolProcess) -> Iterator[list[SignerServer]]:
    """Two remote signers that have all keys of the pool."""
    keys = [SecretKey.read(each["value"].partition(":")[2]) for each in wallet(pool)]
    with SignerServer(keys) as one, SignerServer(keys) as two:
        yield [one, two]


def wallet(pool: PoolProcess) -> list[dict[str, str]]:
    content: list[dict[str, str]] = json.loads((pool.state_dir / "keys/secret_keys").read_text())
    return content


def move(pool: PoolProcess, key: Key, *uris: str) -> None:
    """Take a key out of the client directory and say who has it; `{}` is its hash."""
    directory = pool.state_dir / "keys"
    hashes = json.loads((directory / "public_key_hashs").read_text())
    [name] = [each["name"] for each in hashes if each["value"] == key.key_hash]
    secrets = [each for each in wallet(pool) if each["name"] != name]
    for number, uri in enumerate(uris):
        alias = f"{name}-{number}" if number else name
        secrets.append({"name": alias, "value": uri.format(key.key_hash)})
        if number:
            hashes.append({"name": alias, "value": key.key_hash})
    (directory / "secret_keys").write_text(json.dumps(secrets))
    (directory / "public_key_hashs").write_text(json.dumps(hashes))


def attest(pool: PoolProcess, client: Client) -> dict[str, Event]:
    """Have all delegates attest a new level; the events by delegate."""
    id = pool.attest(client, pool.next_level())
    return {e.delegate: e for e in wait_for_all(client, id) if isinstance(e, Event)}


def is_good(key: Key, event: Event) -> bool:
    return event.event == ATTESTATION_READY and key.has_signed(0x13, event.body)


def all_good(pool: PoolProcess, client: Client, keys: list[Key]) -> bool:
    """Whether all of these keys attest a new level."""
    events = attest(pool, client)
    return all(is_good(key, events[key.key_hash]) for key in keys)


def note(pool: PoolProcess) -> str:
    [worker] = pool.workers()
    text: str = worker["note"]
    return text


def test_keys_with_remote_signers_of_each_kind_sign(
    pool: PoolProcess, servers: list[SignerServer]
) -> None:
    one = servers[0]
    for key, uri in zip(
        pool.keys, (f"{one.http}/{{}}", f"{one.tcp}/{{}}", f"unix:{one.unix_path}?pkh={{}}"),
        strict=False,
    ):  # fmt: skip
        move(pool, key, uri)
    pool.serve(1)
    with pool.client() as client:
        for _ in range(3):
            events = attest(pool, client)
            assert all(is_good(key, events[key.key_hash]) for key in pool.keys)
    assert one.asked == 9
    assert note(pool) == ""


def dead(server: SignerServer) -> None:
    server.stop()


def in_mode(mode: Mode) -> Callable[[SignerServer], None]:
    def misbehave(server: SignerServer) -> None:
        server.mode = mode

    return misbehave


@pytest.mark.parametrize(
    ("misbehave", "codes"),
    [
        pytest.param(dead, {"signer_unavailable", "signer_lost"}, id="dead"),
        pytest.param(in_mode(Mode.HANGS), {"signer_timeout"}, id="hanging"),
        pytest.param(in_mode(Mode.DRIPS), {"signer_timeout"}, id="dripping"),
        pytest.param(in_mode(Mode.LIES), {"signer_wrong_signature"}, id="lying"),
        pytest.param(in_mode(Mode.OTHER_KEY), {"signer_wrong_signature"}, id="another-key"),
        pytest.param(in_mode(Mode.TRUNCATES), {"signer_lost"}, id="truncating"),
    ],
)
def test_a_signer_in_trouble_is_its_own_keys_trouble_alone(
    pool: PoolProcess,
    servers: list[SignerServer],
    misbehave: Callable[[SignerServer], None],
    codes: set[str],
) -> None:
    """A key is reached over HTTP and another over TCP: two back-ends, in the same trouble."""
    sick, well = servers
    addresses = (sick.http, sick.tcp)
    mine, others = pool.keys[:2], pool.keys[2:]
    for key, uri in zip(pool.keys, (*addresses, well.http, well.tcp), strict=False):
        move(pool, key, f"{uri}/{{}}")
    pool.configure(SETTINGS)
    pool.serve(1)
    with pool.client() as client:
        assert all_good(pool, client, mine)
        misbehave(sick)
        found: list[list[Event]] = []
        for _ in range(4):
            events = attest(pool, client)
            found.append([events[key.key_hash] for key in mine])
            assert all(is_good(key, events[key.key_hash]) for key in others)
        for address, failed in zip(addresses, zip(*found, strict=True), strict=True):
            assert {event.event for event in failed} == {FAILED}
            assert {event.code for event in failed} <= codes | {"signer_unavailable"}
            assert {event.code for event in failed} & codes
            assert all(event.text.startswith(address) for event in failed)
            pool.wait_for_log(f"backend_state backend={address} state=open why=")
        until(lambda: all(f"{a}: " in note(pool) for a in addresses), what="notes in the status")

        sick.mode = Mode.HONEST
        if misbehave is dead:
            sick.start()
        until(lambda: all_good(pool, client, mine), what="its recovery")
        for address in addresses:
            pool.wait_for_log(f"backend_state backend={address} state=closed")
        until(lambda: not note(pool), what="a status without trouble")


def test_a_signer_that_flaps_fails_or_signs_and_never_stops_the_others(
    pool: PoolProcess, servers: list[SignerServer]
) -> None:
    flapping = servers[0]
    mine, *others = pool.keys
    move(pool, mine, f"{flapping.http}/{{}}")
    pool.configure(SETTINGS)
    pool.serve(1)
    with pool.client() as client:
        for turn in range(12):
            flapping.mode = (Mode.HONEST, Mode.CLOSES, Mode.HANGS)[turn % 3]
            events = attest(pool, client)
            assert all(is_good(key, events[key.key_hash]) for key in others)
            event = events[mine.key_hash]
            assert event.event == FAILED or is_good(mine, event)
        flapping.mode = Mode.HONEST
        until(lambda: is_good(mine, attest(pool, client)[mine.key_hash]), what="its recovery")


def test_a_watermark_of_the_signers_own_is_a_refusal(
    pool: PoolProcess, servers: list[SignerServer]
) -> None:
    careful = servers[0]
    mine = pool.keys[0]
    move(pool, mine, f"{careful.tcp}/{{}}")
    pool.serve(1)
    careful.mode = Mode.WATERMARK
    with pool.client() as client:
        for _ in range(4):
            event = attest(pool, client)[mine.key_hash]
            assert (event.event, event.code) == (EVENT_REFUSED, "signer_rejected")
            assert "not above high watermark" in event.text
    assert "backend_state" not in pool.log(), "who says no is there"


def test_a_key_with_two_signers_goes_on_when_one_is_dead(
    pool: PoolProcess, servers: list[SignerServer]
) -> None:
    first, second = servers
    mine = pool.keys[0]
    move(pool, mine, f"{first.http}/{{}}", f"{second.tcp}/{{}}")
    pool.configure(SETTINGS)
    pool.serve(1)
    with pool.client() as client:
        assert is_good(mine, attest(pool, client)[mine.key_hash])
        assert (first.asked, second.asked) == (1, 0)
        first.stop()
        for _ in range(4):
            assert is_good(mine, attest(pool, client)[mine.key_hash])
        assert second.asked == 4
        first.start()
        until(
            lambda: is_good(mine, attest(pool, client)[mine.key_hash]) and first.asked > 1,
            what="the first source again",
        )


def test_a_public_key_that_the_directory_lacks_is_asked_of_the_signer(
    pool: PoolProcess, servers: list[SignerServer]
) -> None:
    mine = pool.keys[0]
    (pool.state_dir / "keys/public_keys").write_text("[]")
    move(pool, mine, f"{servers[0].http}/{{}}")
    pool.serve(1)
    with pool.client() as client:
        assert is_good(mine, attest(pool, client)[mine.key_hash])
