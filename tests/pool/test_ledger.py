"""A real pool with a key on an emulated Ledger, in the middle of keys of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pool_process import Key, PoolProcess, noop

from broker.client import Client
from broker.messages import ATTESTATION_READY, EVENT_REFUSED, FAILED, SIGN, SIGNED, Event
from signers.formats import base58
from signers.formats.networks import MAVRYK
from signers.keyring.curve import Curve
from signers.ledger.apdu import COIN_MAVRYK, HARDENED, Derivation, full_path
from signers.ledger_emulator.baking_app import BakingApp
from signers.ledger_emulator.derivation import derive, seed_of
from tests.pool.test_remote_signers import attest, is_good
from tests.signers.ledger.conftest import ZEBRAS, Device
from tests.workers.worker_script import a_header

pytestmark = pytest.mark.process

STEPS = (HARDENED, HARDENED)
SECRET = derive(seed_of(ZEBRAS), Curve.SECP256K1, full_path(STEPS, COIN_MAVRYK))
ROOT = derive(seed_of(ZEBRAS), Curve.ED25519, full_path((), COIN_MAVRYK))
ROOT_HASH = ROOT.public_key.hash(MAVRYK)
LEDGER = Key(SECRET.public_key.hash(MAVRYK), SECRET.public_key.text())


@pytest.fixture
def device(pool: PoolProcess) -> Iterator[Device]:
    """A device set up for the pool's chain, whose key is one of the pool's."""
    device = Device(BakingApp(ZEBRAS, coin=COIN_MAVRYK), pool.directory)
    chain = base58.decode(base58.CHAIN_ID, pool.chain_id)
    device.app.marks.chain_id = chain
    device.app.authorised = Derivation.SECP256K1, full_path(STEPS, COIN_MAVRYK)
    for file, value in (
        ("public_key_hashs", LEDGER.key_hash),
        ("secret_keys", f"ledger://{ROOT_HASH}/secp256k1/0h/0h"),
        ("public_keys", {"locator": "ledger", "key": LEDGER.public_key}),
    ):
        path = pool.state_dir / "keys" / file
        path.write_text(
            json.dumps([*json.loads(path.read_text()), {"name": "ledger", "value": value}])
        )
    pool.on_files("keys", "enable", LEDGER.key_hash, "--fresh", "--yes")
    pool.keys = [*pool.keys, LEDGER]
    pool.environment = pool.environment | device.environment
    yield device
    device.close()


def test_troubles_of_a_device_are_told_apart_and_are_its_own_keys_alone(
    pool: PoolProcess, device: Device
) -> None:
    chain = base58.decode(base58.CHAIN_ID, pool.chain_id)
    others = pool.keys[:-1]

    def attested(client: Client) -> Event:
        events = attest(pool, client)
        assert all(is_good(key, events[key.key_hash]) for key in others)
        return events[LEDGER.key_hash]

    pool.serve(1)
    with pool.client() as client:
        event = attested(client)
        assert event.event == ATTESTATION_READY, event.text
        assert SECRET.public_key.verify(b"\x13" + chain + event.body[:-64], event.body[-64:])
        for trouble, cure, code in (
            ("lock", "unlock", "device_locked"),
            ("app wallet", "app baking", "device_wrong_app"),
            ("unplug", "plug", "device_absent"),
        ):
            device.does(trouble)
            event = attested(client)
            assert (event.event, event.code) == (FAILED, code)
            pool.wait_for_log(f"code={code}")
            device.does(cure)
            assert attested(client).event == ATTESTATION_READY


def test_a_repeat_is_not_asked_of_the_device_and_a_lost_block_is_lost(
    pool: PoolProcess, device: Device
) -> None:
    chain = base58.decode(base58.CHAIN_ID, pool.chain_id)
    unsigned = b"\x11" + chain + a_header(level=7)
    pool.serve(1)

    def sign(client: Client, message: bytes) -> Event:
        [event] = client.wait(client.push_one(SIGN, LEDGER.key_hash, message, ttl_ms=20_000))
        assert isinstance(event, Event)
        return event

    with pool.client() as client:
        first = sign(client, unsigned)
        assert first.event == SIGNED, first.text
        assert SECRET.public_key.verify(unsigned, first.body)
        device.does("unplug")
        again = sign(client, unsigned)
        assert (again.event, again.body) == (SIGNED, first.body), "the store has kept it"
        following = b"\x11" + chain + a_header(level=8)
        for _ in range(2):
            not_asked = sign(client, following)
            assert (not_asked.event, not_asked.code) == (FAILED, "device_absent")
        device.does("plug")
        signed = sign(client, following)
        assert signed.event == SIGNED, "nobody had been asked for it"
        assert sign(client, following).body == signed.body
        device.does("lose signature")
        last = b"\x11" + chain + a_header(level=9)
        lost = sign(client, last)
        assert (lost.event, lost.code) == (FAILED, "device_lost")
        refused = sign(client, last)
        assert (refused.event, refused.code) == (EVENT_REFUSED, "signature_lost")
        assert sign(client, b"\x11" + chain + a_header(level=10)).event == SIGNED
        no_duty = sign(client, noop("hello"))
        assert (no_duty.event, no_duty.code) == (EVENT_REFUSED, "device_cannot_sign_this")
