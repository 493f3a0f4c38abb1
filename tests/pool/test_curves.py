"""Keys of every curve, plain and encrypted, vote and bake nothing twice in a real pool."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pool_process import CHAIN, POLICY, PoolProcess, an_empty_pool, batch, names, noop, until

from broker.client import Client, new_id
from broker.messages import FORGE_AND_SIGN_ATTESTATIONS, SIGN, Event, Request, Vote
from broker.wire import encode
from signers.curves import bls
from signers.formats.companion_weight import companion_weight
from signers.formats.hashes import blake2b_20
from signers.formats.networks import TEZOS, BlsScheme
from signers.formats.vote import SignedVote, read_signed_vote
from signers.keyring.curve import CURVES_BY_NAME, Curve
from signers.keyring.keys import PublicKey

pytestmark = pytest.mark.process

DAL = 2048


@pytest.fixture(scope="module")
def keys() -> dict[str, PublicKey]:
    """Of the pool below, by hash; the names of its keys are those of their curves."""
    return {}


@pytest.fixture(scope="module")
def pool(keys: dict[str, PublicKey]) -> Iterator[PoolProcess]:
    """A running pool on Tezos with an encrypted key of each curve, and a plain companion key."""
    with an_empty_pool() as pool:
        passwords = pool.directory / "passwords"
        passwords.write_text("wrong\nright\n")
        new_password = pool.directory / "new"
        new_password.write_text("right\n")
        pool.on_files("init", "--network", "tezos", "--chain-id", pool.chain_id)
        sealed = ("--encrypted", "--password-filename", str(new_password))
        for curve in CURVES_BY_NAME:
            pool.on_files("keys", "generate", curve, "--curve", curve, *sealed)
        pool.read_keys()
        [tz4] = [key for key in pool.delegates if key.startswith("tz4")]
        pool.on_files("keys", "generate", "companion", "--curve", "bls", "--delegate", tz4)
        listed = json.loads(pool.on_files("keys", "list", "--json"))
        assert [key["scheme"] for key in listed] == [*["encrypted"] * 4, "unencrypted"]
        keys |= {key["key_hash"]: PublicKey.read(key["public_key"]) for key in listed}
        pool.set_policy(POLICY)
        pool.serve(2, "--password-filename", str(passwords))
        yield pool


def test_keys_are_opened_before_anybody_needs_them(pool: PoolProcess) -> None:
    """By the two workers together each once, the first of their passwords being a wrong one."""
    until(lambda: pool.status()["encrypted_keys"] == {"total": 4, "opened": 4, "failed": 0})
    shares = [each["encrypted_keys"] for each in pool.status()["workers"]]
    assert sum(share["total"] for share in shares if share) == 4
    assert "keys_opened opened=" in pool.log()


def voted(pool: PoolProcess, level: int, votes: list[Vote]) -> dict[str, SignedVote]:
    """The operations of these votes, by delegate."""
    with pool.client(f"baker-{level}") as client:
        id = new_id()
        client.push(Request(id, FORGE_AND_SIGN_ATTESTATIONS, encode(batch(level)), votes=votes))
        events = client.wait(id)
    assert set(names(events)) == {"attestation_ready"}
    return {event.delegate: read_signed_vote(event.body) for event in events}


def test_keys_of_every_curve_vote(pool: PoolProcess, keys: dict[str, PublicKey]) -> None:
    operations = voted(
        pool, pool.next_level(), [Vote(key, slot) for slot, key in enumerate(pool.delegates)]
    )
    assert {key[:3] for key in operations} == {"tz1", "tz2", "tz3", "tz4"}
    for key_hash, vote in operations.items():
        key, template = keys[key_hash], vote.template(CHAIN)
        is_bls = key.curve is Curve.BLS
        signed = template.bls_signable() if is_bls else template.signable(vote.slot)
        assert key.verify(signed, vote.signature, TEZOS.bls_scheme)


def test_the_same_vote_has_the_same_signature(pool: PoolProcess) -> None:
    votes = [Vote(key, slot) for slot, key in enumerate(pool.delegates)]
    level = pool.next_level()
    assert voted(pool, level, votes) == voted(pool, level, votes)


def test_a_tz4_vote_with_dal_carries_the_companions_part(
    pool: PoolProcess, keys: dict[str, PublicKey]
) -> None:
    [tz4] = [key for key in pool.delegates if key.startswith("tz4")]
    [companion] = keys.keys() - set(pool.delegates)
    vote = voted(pool, pool.next_level(), [Vote(tz4, 3, str(DAL), companion)])[tz4]
    message = vote.template(CHAIN).bls_signable()
    own, beside = keys[tz4].raw, keys[companion].raw
    weight = companion_weight(blake2b_20(own), blake2b_20(beside), message[5:], DAL)
    both = bls.add_public_keys((own, bls.weigh_public_key(beside, weight)))
    assert vote.dal == DAL
    assert PublicKey(Curve.BLS, both).verify(message, vote.signature, BlsScheme.POSSESSION)
    marks = pool.marks()
    assert marks[tz4, "attestation"] == marks[companion, "attestation"]
    assert voted(pool, pool.next_level(), [Vote(tz4, 3, str(DAL))])[tz4].dal is None
    assert "dal_dropped" in pool.log()


def test_keys_of_every_curve_sign_bytes(pool: PoolProcess, keys: dict[str, PublicKey]) -> None:
    unsigned = noop("every curve")
    with pool.client("wallet") as client:
        for key_hash in pool.delegates:
            [event] = ask(client, Request(new_id(), SIGN, unsigned, key_hash))
            assert event.event == "signed"
            assert keys[key_hash].verify(unsigned, event.body, TEZOS.bls_scheme)


def ask(client: Client, request: Request) -> list[Event]:
    client.push(request)
    return client.wait(request.id)


def test_a_wrong_password_fails_its_own_requests_alone() -> None:
    with an_empty_pool() as pool:
        file = pool.directory / "passwords"
        file.write_text("right\n")
        pool.make(2)
        sealed = ("--encrypted", "--password-filename", str(file))
        pool.on_files("keys", "generate", "sealed", *sealed)
        pool.read_keys()
        *plain, locked = pool.delegates
        file.write_text("wrong\n")
        pool.serve(1, "--password-filename", str(file))
        until(lambda: f"key_not_opened key={locked} code=wrong_password" in pool.log())
        until(lambda: pool.status()["encrypted_keys"]["failed"] == 1)
        told = pool.run("status").stdout
        assert "total=1 opened=0 failed=1" in told
        assert f"key not opened: wrong_password: the encrypted key sealed ({locked})" in told
        votes = [Vote(key, slot) for slot, key in enumerate(pool.delegates)]
        with pool.client() as client:
            request = Request(new_id(), FORGE_AND_SIGN_ATTESTATIONS, encode(batch(10)), votes=votes)
            ends = {event.delegate: event for event in ask(client, request)}
        assert {ends[key].event for key in plain} == {"attestation_ready"}
        assert (ends[locked].event, ends[locked].code) == ("failed", "wrong_password")
        file.write_text("right\n")
        until(lambda: pool.status()["encrypted_keys"] == {"total": 1, "opened": 1, "failed": 0})
