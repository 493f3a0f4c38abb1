"""Keys of every curve behind a gateway: signatures as texts and bytes, versions, and proofs."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator

import pytest
from gateway_process import GatewayProcess, exchange
from pool_process import PoolProcess, an_empty_pool, until

from signers.formats import base58
from signers.formats.hashes import blake2b_32
from signers.formats.networks import TEZOS
from signers.formats.signable import Kind
from signers.formats.tagged_keys import tagged_hash
from signers.formats.vote import VoteTemplate
from signers.keyring.curve import CURVES_BY_NAME
from signers.keyring.keys import PublicKey, read_signature

pytestmark = pytest.mark.process

CHAIN = bytes.fromhex("7a06a770")
SCHEME = TEZOS.protocol.bls_scheme
PREFIX = {"ed25519": "edsig", "secp256k1": "spsig1", "p256": "p2sig", "bls": "BLsig"}


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    """A gateway of a Tezos pool with one key of each curve, which may be proven and listed."""
    with an_empty_pool() as pool:
        pool.on_files("init", "--network", "tezos", "--chain-id", "mainnet")
        for name in CURVES_BY_NAME:
            pool.on_files("keys", "generate", name, "--curve", name)
        (pool.state_dir / "policy.toml").write_text(
            '[default]\nkinds = ["consensus", "proof_of_possession", "deterministic_nonce"]\n'
        )
        pool.serve(1)
        found = GatewayProcess(pool, "--allow-to-prove-possession")
        found.start()
        yield found


def public_key(gateway: GatewayProcess, curve: str) -> tuple[str, PublicKey]:
    """The hash and the public key that the gateway says."""
    listed = json.loads(gateway.pool.on_files("keys", "list", "--json"))
    key_hash = next(each["key_hash"] for each in listed if each["name"] == curve)
    text = gateway.call("GET", f"/keys/{key_hash}").body["public_key"]
    key = PublicKey.read(text)
    assert key.hash(TEZOS) == key_hash
    return key_hash, key


def vote(pool: PoolProcess, curve: str) -> bytes:
    """An attestation in the form that a key of the curve signs."""
    level = pool.next_level()
    template = VoteTemplate(Kind.ATTESTATION, CHAIN, bytes(32), level, 0, blake2b_32(b"payload"))
    return template.bls_signable() if curve == "bls" else template.signable(0, None)


@pytest.mark.parametrize("curve", CURVES_BY_NAME)
def test_a_key_of_every_curve_signs_over_http(gateway: GatewayProcess, curve: str) -> None:
    key_hash, key = public_key(gateway, curve)
    data = vote(gateway.pool, curve)
    answer = gateway.sign(key_hash, data, "?version=3")
    assert answer.status == 200
    assert answer.body["signature"].startswith(PREFIX[curve])
    assert key.verify(data, read_signature(answer.body["signature"]), SCHEME)
    assert gateway.sign(key_hash, data, "?version=2").body == answer.body


@pytest.mark.parametrize("curve", CURVES_BY_NAME)
def test_a_key_of_every_curve_signs_over_a_socket(gateway: GatewayProcess, curve: str) -> None:
    """A BLS key is named as Octez does since 23.0: its tag twice, and the signature version."""
    key_hash, key = public_key(gateway, curve)
    data = vote(gateway.pool, curve)
    named = tagged_hash(key_hash)
    if curve == "bls":
        named = b"\x03" + named + b"\x03"
    with gateway.unix() as connection:
        answer = exchange(connection, b"\x00" + named + len(data).to_bytes(4) + data)
    assert answer[0] == 0
    assert key.verify(data, answer[1:], SCHEME)


def test_a_bls_key_does_not_sign_by_the_scheme_of_another_network(gateway: GatewayProcess) -> None:
    key_hash, _ = public_key(gateway, "bls")
    assert gateway.sign(key_hash, vote(gateway.pool, "bls"), "?version=1").status == 400


@pytest.mark.parametrize("curve", CURVES_BY_NAME)
def test_a_key_of_every_curve_derives_nonces(gateway: GatewayProcess, curve: str) -> None:
    """As Octez does: HMAC-SHA256 under the 32 bytes that the secret key's text holds."""
    key_hash, _ = public_key(gateway, curve)
    secrets = json.loads((gateway.pool.state_dir / "keys" / "secret_keys").read_text())
    [locator] = [each["value"] for each in secrets if each["name"] == curve]
    secret = base58.decode(CURVES_BY_NAME[curve].value.secret, locator.partition(":")[2])
    level = (20878).to_bytes(4)
    nonce = hmac.digest(secret, level, "sha256")
    asked = tagged_hash(key_hash) + len(level).to_bytes(4) + level
    with gateway.tcp() as connection:
        assert exchange(connection, b"\x05" + tagged_hash(key_hash)) == b"\x00\xff"
        length = (32).to_bytes(4)
        assert exchange(connection, b"\x03" + asked) == b"\x00" + length + nonce
        hashed = hashlib.blake2b(nonce, digest_size=32).digest()
        assert exchange(connection, b"\x04" + asked) == b"\x00" + length + hashed


def test_a_public_key_that_no_file_lists_is_learnt_from_the_worker(gateway: GatewayProcess) -> None:
    listed = {curve: public_key(gateway, curve) for curve in CURVES_BY_NAME}
    file = gateway.pool.state_dir / "keys" / "public_keys"
    content = file.read_text()
    file.write_text("[]")
    try:
        for key_hash, key in listed.values():
            until(lambda hash_=key_hash: is_learnt(gateway, hash_), what="the change to be noticed")
            answer = gateway.call("GET", f"/keys/{key_hash}")
            assert answer.body == {"public_key": key.text()}
            with gateway.unix() as connection:
                told = exchange(connection, b"\x01" + tagged_hash(key_hash))
                assert told == b"\x00" + key.tagged()
    finally:
        file.write_text(content)


def is_learnt(gateway: GatewayProcess, key_hash: str) -> bool:
    """Ask for a public key; whether the pool was asked for it, once."""
    assert gateway.call("GET", f"/keys/{key_hash}").status == 200
    return f"key={key_hash} kind=public_key" in gateway.pool.log()


def test_a_bls_key_proves_its_possession(gateway: GatewayProcess) -> None:
    key_hash, key = public_key(gateway, "bls")
    target = f"/bls_prove_possession/{key_hash}"
    proof = gateway.call("GET", target).body["bls_prove_possession"]
    assert key.verify_possession(base58.decode(base58.BLS_SIGNATURE, proof))
    other = PublicKey.read(
        "BLpk1ur5XXicWYMMzCVZZWyLZhybtyX8Zot2uCzDCZW8KcC5BdZiLVXRZvZzi4GuZYL9SarUvKpE"
    )
    over = gateway.call("GET", f"{target}?bls_pk={other.text()}").body["bls_prove_possession"]
    assert key.verify_possession(base58.decode(base58.BLS_SIGNATURE, over), other)
    with gateway.tcp() as connection:
        answer = exchange(connection, b"\x07" + tagged_hash(key_hash) + b"\x00")
        assert answer == b"\x00" + base58.decode(base58.BLS_SIGNATURE, proof)
    ed_hash, _ = public_key(gateway, "ed25519")
    assert gateway.call("GET", f"/bls_prove_possession/{ed_hash}").status == 400
