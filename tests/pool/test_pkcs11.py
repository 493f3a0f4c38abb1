"""A real pool with a key in a SoftHSM token and a key in a file."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
from pool_process import CHAIN, PoolProcess, an_empty_pool, until, wait_for_all

from broker.client import Client, new_id
from broker.messages import ATTESTATION_READY, FAILED, SIGN, SIGNED, Event, Request
from signers.formats import block_header
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.networks import MAVRYK
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey
from tests.signers.pkcs11.soft_token import PIN, SoftToken, module

pytestmark = pytest.mark.process

AUTHORITY = f"pkcs11:token=pool?module-path={module()}"


@pytest.fixture
def pool() -> Iterator[PoolProcess]:
    """A pool with one key in its directory, not started yet."""
    with an_empty_pool() as pool:
        pool.make(1)
        yield pool


@pytest.fixture
def token(pool: PoolProcess) -> SoftToken:
    token = SoftToken(pool.directory)
    pool.environment |= {"SOFTHSM2_CONF": str(token.conf), "FORGEPOOL_PKCS11_PIN": PIN}
    return token


def add(pool: PoolProcess, token: SoftToken) -> PublicKey:
    """Make a P-256 key in the token and let the pool sign with it."""
    key = token.add(Curve.P256, "baker")
    key_hash = key.hash(MAVRYK)
    for name, value in (
        ("secret_keys", token.uri("baker", "")),
        ("public_keys", {"locator": token.uri("baker", ""), "key": key.text()}),
        ("public_key_hashs", key_hash),
    ):
        file = pool.state_dir / "keys" / name
        content = json.loads(file.read_text())
        file.write_text(json.dumps([*content, {"name": "hsm", "value": value}]))
    pool.on_files("keys", "enable", "hsm", "--fresh", "--yes")
    return key


def block(level: int) -> bytes:
    """What is signed of a block, watermark and chain in front."""
    header = BlockHeader(
        level=level,
        proto=1,
        predecessor=bytes(32),
        timestamp=1_700_000_000,
        validation_passes=4,
        operations_hash=bytes(32),
        fitness=Fitness.tenderbake(level=level, round=0, predecessor_round=0),
        context=bytes(32),
        payload_hash=bytes(32),
        payload_round=0,
        proof_of_work_nonce=bytes(8),
        seed_nonce_hash=None,
        per_block_votes=0,
        signature=None,
    )
    return b"\x11" + CHAIN + block_header.encode(header)


def sign(client: Client, key_hash: str, message: bytes) -> Event:
    id = client.push(Request(new_id(), SIGN, message, key_hash, ttl_ms=30_000))
    [event] = client.wait(id)
    return event


def attest(pool: PoolProcess, client: Client, level: int, *delegates: str) -> dict[str, Event]:
    id = pool.attest(client, level, delegates)
    return {e.delegate: e for e in wait_for_all(client, id) if isinstance(e, Event)}


def test_a_key_in_a_token_votes_and_bakes_beside_a_key_in_a_file(
    pool: PoolProcess, token: SoftToken
) -> None:
    key, [local] = add(pool, token), pool.keys
    hsm = key.hash(MAVRYK)
    pool.serve(2)
    with pool.client() as client:
        level = pool.next_level()
        votes = attest(pool, client, level, hsm, local.key_hash)
        vote = votes[hsm].body
        assert key.verify(b"\x13" + CHAIN + vote[:-64], vote[-64:])
        assert local.has_signed(0x13, votes[local.key_hash].body)
        baked = sign(client, hsm, block(level))
        assert baked.event == SIGNED, baked
        assert key.verify(block(level), baked.body)

        # The token takes a new nonce each time; whoever repeats gets what was given before.
        assert attest(pool, client, level, hsm)[hsm].body == vote
        assert sign(client, hsm, block(level)).body == baked.body
        for pid in pool.signing_pids().values():
            pool.signal(pid, signal.SIGKILL)
            until(lambda pid=pid: pid not in pool.signing_pids().values(), what="its end")
        pool.wait_for_signing(2)
        assert attest(pool, client, level, hsm)[hsm].body == vote
        assert sign(client, hsm, block(level)).body == baked.body
        new = attest(pool, client, pool.next_level(), hsm)[hsm].body
        assert key.verify(b"\x13" + CHAIN + new[:-64], new[-64:])


def test_a_token_that_is_away_is_its_own_keys_trouble_alone(
    pool: PoolProcess, token: SoftToken
) -> None:
    key, [local] = add(pool, token), pool.keys
    hsm = key.hash(MAVRYK)
    pool.configure("[signers]\nopen_s_max = 0.5\n")
    pool.serve(1)

    def note() -> str:
        [worker] = pool.workers()
        return str(worker["note"])

    def vote(client: Client) -> Event:
        """The token's vote of a new level; the local key's must be there too."""
        events = attest(pool, client, pool.next_level(), hsm, local.key_hash)
        assert local.has_signed(0x13, events[local.key_hash].body)
        return events[hsm]

    with pool.client() as client:
        assert vote(client).event == ATTESTATION_READY
        bytes_of_block = block(pool.next_level())
        baked = sign(client, hsm, bytes_of_block)
        token.take_away()
        found = [vote(client) for _ in range(4)]
        assert {event.event for event in found} == {FAILED}
        assert {event.code for event in found} <= {"pkcs11_token_absent", "signer_unavailable"}
        assert found[0].code == "pkcs11_token_absent"
        assert all(event.text.startswith(AUTHORITY) for event in found)
        pool.wait_for_log(f"backend_failed backend={AUTHORITY} key={hsm} code=pkcs11_token_absent")
        until(lambda: note().startswith(AUTHORITY), what="a note in the status")
        assert sign(client, hsm, bytes_of_block).body == baked.body, "it is kept in the store"
        not_asked = block(pool.next_level())
        assert sign(client, hsm, not_asked).event == FAILED

        token.put_back()
        until(lambda: vote(client).event == ATTESTATION_READY, what="its recovery")
        until(lambda: not note(), what="a status without trouble")
        at_last = sign(client, hsm, not_asked)
        assert at_last.event == SIGNED, "nobody had been asked for it"
        assert key.verify(not_asked, at_last.body)
        assert sign(client, hsm, not_asked).body == at_last.body


def test_a_module_that_hangs_holds_up_nobody_elses_keys(
    pool: PoolProcess, token: SoftToken
) -> None:
    key, [local] = add(pool, token), pool.keys
    hsm = key.hash(MAVRYK)
    pool.configure("[signers]\ntime_limit_s = 0.3\n")
    pool.serve(1, "--drain-timeout", "0.5")
    [worker] = pool.signing_pids().values()
    with pool.client() as client:
        assert attest(pool, client, pool.next_level(), hsm)[hsm].event == ATTESTATION_READY
        token.hang()
        hanging = pool.attest(client, pool.next_level(), [hsm])
        pool.wait_for_log(f"backend_failed backend={AUTHORITY} key={hsm} code=signer_timeout")
        for _ in range(20):
            events = attest(pool, client, pool.next_level(), local.key_hash)
            assert local.has_signed(0x13, events[local.key_hash].body)
        [event] = [e for e in wait_for_all(client, hanging) if isinstance(e, Event)]
        assert (event.event, event.code) == (FAILED, "signer_timeout")
    assert list(pool.signing_pids().values()) == [worker], "its loop never stood still"
    assert pool.terminate() == 1, "what hangs is not waited for"
