"""Blocks by real processes: the sandbox node's chain takes what the pool forges and signs.

The numbers are those of upstream's forge worker tests (see test_forge_worker.py).
"""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgpack
import psutil
import pytest
from pool_process import Key, PoolProcess, an_empty_pool, forgepool, names, until

from broker.client import Client
from broker.messages import ATTESTATION_READY, BLOCK_READY, FAILED, FORGE_AND_SIGN_BLOCK
from signers.formats import base58
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK
from workers.sandbox.accounts import make_transfer, sandbox_keys

pytestmark = pytest.mark.process

BAKERS = 4
ACCOUNTS = sandbox_keys("pool", "account", 2)
STAKE = 10**12
BLOCK_S = 15.0


class Chain:
    """A pool whose keys are the bakers of a sandbox chain, and that chain's node."""

    def __init__(self, pool: PoolProcess) -> None:
        self.pool = pool
        pool.state_dir.mkdir()
        pool.on_files("keys", "generate", "baker", "--count", str(BAKERS), "--network", "mavryk")
        pool.read_keys()
        self.url = ""
        self.node: Any = None
        self.seed = pool.directory.name

    def start(self, *options: str, port: int = 0) -> None:
        """Start the node; on the first start also make the pool's store for its chain."""
        directory = self.pool.directory
        bakers = [{"public_key": key.public_key, "stake": STAKE} for key in self.pool.keys]
        accounts = [{"public_key": k.public_key_text, "balance": STAKE} for k in ACCOUNTS]
        (directory / "bakers.json").write_text(json.dumps(bakers))
        (directory / "accounts.json").write_text(json.dumps(accounts))
        ready = directory / "ready"
        ready.unlink(missing_ok=True)
        self.node = self.pool.start(
            *forgepool("sandbox", "--network", "mavryk", "--seed", self.seed, "--port", str(port)),
            *("--bakers", str(directory / "bakers.json")),
            *("--accounts", str(directory / "accounts.json"), "--ready-file", str(ready)),
            *options,
        )
        until(ready.exists)
        found = json.loads(ready.read_text())
        self.url, self.pool.chain_id = found["url"], found["chain_id"]
        if not self.pool.store.exists():
            self.pool.on_files("init", "--network", "mavryk", "--chain-id", self.pool.chain_id)
            self.pool.on_files("keys", "enable", *self.pool.delegates, "--fresh", "--yes")

    def serve(self, workers: int = 2, *options: str, **delays: Any) -> None:
        self.pool.serve(workers, "--node", self.url, *options, **delays)

    def rpc(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def head(self) -> dict[str, Any]:
        header: dict[str, Any] = self.rpc("/chains/main/blocks/head/header")
        return header

    def baker(self, level: int, round: int = 0) -> Key:
        path = "/chains/main/blocks/head/helpers/baking_rights"
        rights = self.rpc(f"{path}?level={level}&max_round={round + 1}&all=true")
        delegate = next(right["delegate"] for right in rights if right["round"] == round)
        return next(key for key in self.pool.keys if key.key_hash == delegate)

    def wanted(self, round: int = 0, **changes: Any) -> bytes:
        """The payload that asks for the next block."""
        head = self.head()
        fields = {"chain_id": self.pool.chain_id, "predecessor": head["hash"], "round": round,
                  "level": head["level"] + 1, "content": {"kind": "fresh"}}  # fmt: skip
        return msgpack.packb(fields | changes)

    def inject_block(self, block: dict[str, Any]) -> str:
        """Inject a block as `block_ready` brought it; the node checks all of it."""
        operations = [
            [
                {"branch": base58.encode(base58.BLOCK_HASH, each[:32]), "data": each[32:].hex()}
                for each in one
            ]
            for one in block["operations"]
        ]
        body = {"data": block["header"].hex(), "operations": operations}
        injected: str = self.rpc("/injection/block?chain=main", body)
        return injected

    def inject_transfer(self, counter: int = 1) -> None:
        branch = base58.decode(base58.BLOCK_HASH, self.head()["hash"])
        transfer = make_transfer(
            MAVRYK, ACCOUNTS[0], branch=branch, destination=ACCOUNTS[1].address, amount=5,
            counter=counter,
        )  # fmt: skip
        self.rpc("/injection/operation", transfer.hex())


@pytest.fixture
def chain() -> Iterator[Chain]:
    with an_empty_pool() as pool:
        yield Chain(pool)


def block_of(client: Client, id: bytes) -> dict[str, Any]:
    (event,) = client.wait(id, BLOCK_S)
    assert event.event == BLOCK_READY, f"{event.code}: {event.text}"
    block: dict[str, Any] = msgpack.unpackb(event.body)
    return block


def push(client: Client, key: Key, payload: bytes, ttl_ms: int = 10_000) -> bytes:
    return client.push_one(FORGE_AND_SIGN_BLOCK, key.key_hash, payload, ttl_ms=ttl_ms)


def test_a_fresh_block_is_forged_and_the_chain_takes_it(chain: Chain) -> None:
    """Upstream 7, and what it cannot see: a chain's consent."""
    chain.start()
    chain.serve()
    baker = chain.baker(2)
    chain.inject_transfer()
    with chain.pool.client() as client:
        block = block_of(client, push(client, baker, chain.wanted()))
    chain_id = base58.decode(base58.CHAIN_ID, chain.pool.chain_id)
    header, signature = block["header"][:-64], block["header"][-64:]
    assert baker.has_signed_bytes(b"\x11" + chain_id + header, signature)
    assert block["hash"] == base58.encode(base58.BLOCK_HASH, blake2b_32(block["header"]))
    assert len(block["operations"][3]) == 1
    until(lambda: time.time() > _timestamp(header))  # blocks of the future are not taken
    assert chain.inject_block(block) == block["hash"]
    assert chain.head()["hash"] == block["hash"]


def _timestamp(header: bytes) -> int:
    return int.from_bytes(header[4 + 1 + 32 :][:8])


def test_whoever_asks_for_the_same_block_gets_the_same_block(chain: Chain) -> None:
    """Upstream 11: there the second node's block is signed from another watermark file; here
    one store serves all, so both hear of the one block that was signed."""
    chain.start()
    chain.serve()
    baker = chain.baker(2)
    with chain.pool.client("one") as one, chain.pool.client("two") as two:
        ids = (
            push(one, baker, chain.wanted()),
            push(two, baker, chain.wanted(liquidity_baking_vote="on")),
        )
        first, second = block_of(one, ids[0]), block_of(two, ids[1])
    assert first == second


def test_a_repeat_gives_the_same_block_after_a_death_and_with_another_mempool(
    chain: Chain,
) -> None:
    chain.start()
    chain.serve()
    pool, baker, payload = chain.pool, chain.baker(2), chain.wanted()
    with pool.client() as client:
        block = block_of(client, push(client, baker, payload))
        assert block["operations"][3] == []
        chain.inject_transfer()
        for pid in pool.signing_pids().values():
            pool.signal(pid, signal.SIGKILL)
        assert block_of(client, push(client, baker, payload)) == block


def test_a_slow_node_holds_up_its_delegate_alone(chain: Chain) -> None:
    chain.start("--slow-ms", "/chains/main/mempool=1500")
    chain.serve(1)
    pool, baker, payload = chain.pool, chain.baker(2).key_hash, chain.wanted()
    others = [delegate for delegate in pool.delegates if delegate != baker]
    with pool.client() as client:
        block = client.push_one(FORGE_AND_SIGN_BLOCK, baker, payload, ttl_ms=10_000)
        pool.wait_for_active(1)
        assert names(client.wait(pool.attest(client, 2, others))) == [ATTESTATION_READY] * 3
        assert client.session.wants(block), "the others waited for his block"
        assert names(client.wait(pool.attest(client, 2, [baker]))) == [ATTESTATION_READY]
        assert not client.session.wants(block), "his vote did not wait for his block"


def test_with_preparation_ahead_a_slow_node_holds_up_nobody(chain: Chain) -> None:
    chain.start("--slow-ms", "/chains/main/mempool=1500")
    chain.pool.configure('block_preparation = "ahead"\n')
    chain.serve(1)
    pool, baker, payload = chain.pool, chain.baker(2).key_hash, chain.wanted()
    with pool.client() as client:
        block = client.push_one(FORGE_AND_SIGN_BLOCK, baker, payload, ttl_ms=10_000)
        assert names(client.wait(pool.attest(client, 2))) == [ATTESTATION_READY] * BAKERS
        assert client.session.wants(block), "the votes waited for the block"
        assert block_of(client, block)["hash"]


def test_a_block_fails_while_the_node_is_away_and_comes_when_it_is_back(chain: Chain) -> None:
    chain.start()
    chain.serve()
    baker, payload = chain.baker(2), chain.wanted()
    port = int(chain.url.rpartition(":")[2])
    chain.node.terminate()
    chain.node.wait(10.0)
    with chain.pool.client() as client:
        (event,) = client.wait(push(client, baker, payload, ttl_ms=3000))
        assert (event.event, event.code) == (FAILED, "node_unavailable")
        chain.start(port=port)
        # Another genesis time, so another chain: the predecessor that was asked for is gone.
        (event,) = client.wait(push(client, baker, payload))
        assert (event.event, event.code) == (FAILED, "node_not_found")
        payload = chain.wanted()
        assert block_of(client, push(client, chain.baker(2), payload))["hash"]


def test_a_preparer_that_dies_fails_its_blocks_and_is_started_again(chain: Chain) -> None:
    chain.start("--slow-ms", "/chains/main/mempool=1000")
    chain.serve(1)
    pool, baker, payload = chain.pool, chain.baker(2), chain.wanted()
    (worker,) = pool.signing_pids().values()
    with pool.client() as client:
        id = push(client, baker, payload)
        pool.wait_for_active(1)
        (preparer,) = psutil.Process(worker).children()
        until(lambda: preparer.net_connections("tcp"), what="the preparer at work with the node")
        pool.signal(preparer.pid, signal.SIGKILL)
        (event,) = client.wait(id)
        assert (event.event, event.code) == (FAILED, "preparer_died")
        assert block_of(client, push(client, baker, payload))["hash"]
    assert "died name=" not in pool.log()
