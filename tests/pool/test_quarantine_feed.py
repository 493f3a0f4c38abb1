"""`forgepool quarantine feed`: from a node of strangers through the quarantine into ours.

The strangers' blocks are baked in the test and given to their node; ours is of the same chain and
knows nothing of them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pool_process import ANSWER_S, END_S, READY_S, PoolProcess, an_empty_pool, forgepool, until

sys.path.insert(0, str(Path(__file__).parents[1] / "workers" / "sandbox"))

from bakery import Bakery

from broker.client import Client
from broker.config import QuarantineSettings, quarantine_endpoints
from broker.messages import Status, StatusWanted
from broker.quarantine.admin_client import QuarantineAdmin
from broker.quarantine.offers import VERIFY_BLOCK, BlockOffer
from signers.formats import base58
from signers.formats.networks import MAVRYK
from workers.sandbox.accounts import bakers_json, sandbox_keys
from workers.sandbox.block_tree import Block
from workers.sandbox.chain import Chain
from workers.sandbox.constants import sandbox_constants
from workers.sandbox.genesis_files import genesis_of, read_bakers

pytestmark = pytest.mark.process

KEYS = sandbox_keys("feed", "baker", 3)
BAKERS = json.dumps(bakers_json(KEYS, [10**12] * 3))
DELAYS = {"minimal_block_delay": "1", "delay_increment_per_round": "1"}


class Node:
    """A sandbox node in a process."""

    def __init__(self, pool: PoolProcess, name: str, started_at: int) -> None:
        self._pool = pool
        self._ready = pool.directory / f"{name}.ready"
        bakers = pool.directory / "bakers.json"
        bakers.write_text(BAKERS)
        self._command = (
            *forgepool("sandbox", "--network", "mavryk", "--seed", "feed", "--bakers", str(bakers)),
            *("--start-at", str(started_at), "--ready-file", str(self._ready)),
        )
        self.start(0)

    def start(self, port: int) -> None:
        self._ready.unlink(missing_ok=True)
        self.process = self._pool.start(*self._command, "--port", str(port))
        until(self._ready.exists)
        self.url = json.loads(self._ready.read_text())["url"]

    def restart(self) -> None:
        """End it, and start it where it was; it knows nothing any more."""
        self.process.terminate()
        self.process.wait(END_S)
        self.start(int(self.url.rpartition(":")[2]))

    def rpc(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data)
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return json.load(answer)

    def inject(self, block: Block) -> None:
        operations = [
            [
                {"branch": base58.encode(base58.BLOCK_HASH, each.signed[:32]),
                 "data": each.signed[32:].hex()}
                for each in one_pass
            ]
            for one_pass in block.operations
        ]  # fmt: skip
        self.rpc("/injection/block", {"data": block.raw_header.hex(), "operations": operations})

    def head(self) -> str:
        found: str = self.rpc("/chains/main/blocks/head/hash")
        return found

    def votes(self) -> set[str]:
        waiting = self.rpc("/chains/main/mempool/pending_operations")["validated"]
        return {operation["hash"] for operation in waiting}


class Network:
    """The strangers' chain and node, and a pool with a quarantine and a node of its own."""

    def __init__(self, pool: PoolProcess) -> None:
        self.pool = pool
        started_at = int(time.time()) - 600  # none of the blocks is of the future
        genesis = genesis_of(
            MAVRYK, MAVRYK.protocols[0], sandbox_constants("boreas", DELAYS), seed="feed",
            timestamp=started_at, bakers=read_bakers(BAKERS.encode()), accounts=[],
        )  # fmt: skip
        self.bakery = Bakery(Chain(genesis), bakers=KEYS)
        self.blocks: list[Block] = []
        self.theirs, self.ours = (Node(pool, name, started_at) for name in ("theirs", "ours"))
        pool.state_dir.mkdir()
        self.endpoints = quarantine_endpoints(pool.state_dir, QuarantineSettings())
        chain_id = base58.encode(base58.CHAIN_ID, genesis.chain_id)
        pool.on_files("init", "--network", "mavryk", "--chain-id", chain_id)
        # It has no key: verifying needs none.
        pool.start_command("serve", "--workers", "1", "--node", self.ours.url, "--quarantine")
        pool.wait_for_log("chain_known", READY_S)

    def bake(self) -> str:
        """Bake a block with all votes for its predecessor, for the strangers' node."""
        block = self.bakery.bake()
        self.blocks.append(block)
        self.theirs.inject(block)
        return base58.encode(base58.BLOCK_HASH, block.hash)

    def kill_the_quarantine(self) -> None:
        with QuarantineAdmin(self.endpoints) as admin:
            answer = admin.ask(StatusWanted())
        assert isinstance(answer, Status)
        self.pool.signal(int(str(answer.status["pid"])), signal.SIGKILL)

    def push(self, block: Block) -> None:
        """Push a block under the name of the adapter, and wait until it is cleared."""
        operations = [[each.signed for each in one_pass] for one_pass in block.operations]
        offer = BlockOffer("strangers", block.raw_header, operations)
        with Client(self.endpoints, "feed-strangers") as client:
            client.wait_live()
            id = client.push_one(VERIFY_BLOCK, "any", msgspec.msgpack.encode(offer))
            assert client.wait(id, ANSWER_S)[-1].event == "cleared"

    def feed(self, *options: str) -> subprocess.Popen[bytes]:
        return self.pool.start_command(
            "quarantine", "feed", "--from", self.theirs.url, "--into", self.ours.url,
            "--peer", "strangers", "--verbose", *options,
        )  # fmt: skip


@pytest.fixture
def network() -> Iterator[Network]:
    with an_empty_pool() as pool:
        yield Network(pool)


def test_what_a_node_says_reaches_ours_in_order(network: Network) -> None:
    """The head alone is told at first; what leads up to it the quarantine wants."""
    theirs, ours = network.theirs, network.ours
    head = [network.bake() for _ in range(3)][-1]
    feed = network.feed("--json")
    until(lambda: ours.head() == head, what="the blocks from before")
    head = network.bake()
    until(lambda: ours.head() == head, what="a block as it comes")
    for vote in network.bakery.attestations(network.bakery.head):
        theirs.rpc("/injection/operation", vote.hex())
    assert len(theirs.votes()) == len(KEYS)
    until(lambda: ours.votes() == theirs.votes(), what="the votes")
    theirs.restart()
    for block in network.blocks:
        theirs.inject(block)
    head = network.bake()
    until(lambda: ours.head() == head, what="a block of the node that was away")
    network.kill_the_quarantine()
    head = network.bake()
    until(lambda: ours.head() == head, READY_S, "a block for a quarantine that was away")
    told = len(network.blocks)
    until(lambda: network.pool.log().count("block_injected hash=") == told, what="its word for it")
    feed.kill()
    feed.wait(END_S)
    head = network.bake()
    network.push(network.blocks[-1])  # which it would have done, had it lived a little longer
    feed = network.feed("--json")
    until(lambda: ours.head() == head, READY_S, "what was cleared while nobody was there")
    feed.send_signal(signal.SIGTERM)
    assert feed.wait(END_S) == 0
    log = network.pool.log()
    assert "feeding chain=" in log
    assert log.count("block_wanted block=B") >= 2
    assert f"stream_broken node={theirs.url} reason=" in log
    assert log.count("block_injected hash=") == len(network.blocks)
    objects = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    [done] = [each for each in objects if "blocks_injected" in each]
    assert done["blocks_injected"] == 1
    assert "cleared" not in done, "that was before its time"
    assert "not_injected" not in log
