"""The quarantine by real processes: its sockets, its store, workers that check, a node to ask.

A chain is baked on one node; the pool under test has another node of the same chain, which knows
nothing of it yet. So everything that the first node's network has to say is news.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from pool_process import ANSWER_S, PoolProcess, an_empty_pool, forgepool, until
from test_blocks import Chain
from test_checks import attest, bake

from broker.client import Client
from broker.config import QuarantineSettings, quarantine_endpoints
from broker.messages import Event
from signers.formats import base58
from signers.formats.hashes import blake2b_32

pytestmark = pytest.mark.process

BLOCKS = 4


class Network:
    """What a chain's bakers have said: blocks and votes, in order."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.votes: list[list[bytes]] = []  # by block


@pytest.fixture(scope="module")
def baked() -> Iterator[tuple[Chain, Network]]:
    """A pool with a chain that was baked, and another node that is still at its beginning."""
    with an_empty_pool() as pool:
        chain = Chain(pool)
        start_at = str(int(time.time()))
        chain.start("--start-at", start_at)
        chain.serve(2)
        network = Network()
        with pool.client() as client:
            chain.inject_transfer()
            for _ in range(BLOCKS):
                network.blocks.append(bake(chain, client))
                network.votes.append(attest(chain, client))
        pool.terminate()
        chain.node.send_signal(signal.SIGTERM)
        chain.node.wait(ANSWER_S)
        chain.start("--start-at", start_at)
        chain.serve(2, "--quarantine")
        yield chain, network


def feeder(pool: PoolProcess, name: str = "feeder") -> Client:
    own = quarantine_endpoints(pool.state_dir, QuarantineSettings())
    client = Client(own, name)
    client.wait_live()
    return client


def push_block(client: Client, block: dict[str, Any], peer: str = "p1") -> bytes:
    offer = {"peer": peer, "header": block["header"], "operations": block["operations"]}
    return client.push_one("verify_block", "any", msgspec.msgpack.encode(offer), ttl_ms=60_000)


def test_a_chain_in_reverse_order_clears_in_its_order(baked: tuple[Chain, Network]) -> None:
    chain, network = baked
    with feeder(chain.pool) as client:
        ids = [push_block(client, block) for block in reversed(network.blocks)]
        print(ids)
        ends = []
        for id in ids:
            for event in client.wait(id, ANSWER_S):
                print(event)
                ends.append(event)
    print(chain.pool.log_path.read_text()[-6000:])
    assert [event.event for event in ends] == ["cleared"] * BLOCKS
