"""Bakers on the sandbox chain: it grows, survives bakers that sleep, and nobody votes twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from broker.messages import (
    ATTESTATION_READY,
    BLOCK_READY,
    FAILED,
    FORGE_AND_SIGN_ATTESTATIONS,
    FORGE_AND_SIGN_BLOCK,
    PREATTESTATION_READY,
    BlockReady,
    Event,
    Request,
    VoteBatch,
)
from signers.formats import base58, block_header
from signers.formats.networks import MAVRYK, TEZOS, Network
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from workers.baker.automaton import Automaton
from workers.baker.baker_rpc import BakerRpc
from workers.baker.baker_state import BakerState, ChainRules
from workers.node.rpc import ChainRpc
from workers.node.transport import Node
from workers.preparation.block_preparation import BlockPreparation
from workers.preparation.chain_view import forging_constants
from workers.preparation.preparation_job import PreparationJob
from workers.sandbox.accounts import SandboxKey, sandbox_keys
from workers.sandbox.chain import Chain
from workers.sandbox.constants import sandbox_constants
from workers.sandbox.genesis import BootstrapAccount, Genesis
from workers.sandbox.node import SandboxNode
from workers.sandbox.rpc import RpcServer
from workers.sandbox.services import services_of

pytestmark = pytest.mark.process
BAKERS = sandbox_keys("automaton", "baker", 4)
RULES = {"mavryk": "boreas", "tezos": "ushuaia"}
THRESHOLD = {"mavryk": "consensus_threshold", "tezos": "consensus_threshold_size"}


class KeysAtHand:
    """Signs what a pool would sign, in this process: no queue, no watermark, no broker."""

    def __init__(self, keys: Sequence[SandboxKey], network: Network, node: Node) -> None:
        self._keys = {key.address_text(network): key for key in keys}
        self._preparation = BlockPreparation({"main": node}, network, randomness=lambda n: b"7" * n)
        self._tasks: set[asyncio.Task[None]] = set()
        self.hear = None
        self.refuses_attestations_of = None  # a level and a round

    @property
    def delegates(self) -> list[str]:
        return list(self._keys)

    def push(self, request: Request) -> None:
        work = self._block if request.kind == FORGE_AND_SIGN_BLOCK else self._votes
        task = asyncio.create_task(work(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _votes(self, request: Request) -> None:
        batch = msgspec.msgpack.decode(request.payload, type=VoteBatch)
        attests = request.kind == FORGE_AND_SIGN_ATTESTATIONS
        if attests and (batch.level, batch.round) == self.refuses_attestations_of:
            for vote in request.votes:
                self.hear(Event(request.id, vote.delegate, FAILED, text="as the test wants it"))
            return
        template = VoteTemplate(
            Kind.ATTESTATION if attests else Kind.PREATTESTATION,
            base58.decode(base58.CHAIN_ID, batch.chain_id),
            base58.decode(base58.BLOCK_HASH, batch.branch),
            batch.level,
            batch.round,
            base58.decode(base58.PAYLOAD_HASH, batch.payload_hash),
        )
        event = ATTESTATION_READY if attests else PREATTESTATION_READY
        for vote in request.votes:
            signature = self._keys[vote.delegate].sign(template.signable(vote.slot))
            signed = template.operation(vote.slot, signature)
            self.hear(Event(request.id, vote.delegate, event, signed))

    async def _block(self, request: Request) -> None:
        deadline = asyncio.get_running_loop().time() + request.ttl_ms / 1000
        job = PreparationJob(1, request.payload, request.delegate, request.ttl_ms)
        try:
            prepared = await self._preparation.prepare(job, deadline=deadline)
        except Exception as error:
            self.hear(Event(request.id, request.delegate, FAILED, text=repr(error)))
            return
        header = block_header.decode(prepared.unsigned_header)
        signature = self._keys[request.delegate].sign_block(header, prepared.chain_id)
        ready = BlockReady(prepared.unsigned_header + signature, prepared.operations, "")
        self.hear(Event(request.id, request.delegate, BLOCK_READY, msgspec.msgpack.encode(ready)))


def genesis_of(network: Network) -> Genesis:
    constants = {
        "minimal_block_delay": "1",
        "delay_increment_per_round": "1",
        "consensus_committee_size": 24,
        THRESHOLD[network.name]: 13,
    }
    return Genesis(
        network=network,
        protocol=network.protocol,
        constants=sandbox_constants(RULES[network.name], constants),
        seed=b"automaton",
        timestamp=int(time.time()),
        accounts=tuple(
            BootstrapAccount(key.address, key.public_key, stake=10**12) for key in BAKERS
        ),
    )


@asynccontextmanager
async def a_chain(network: Network) -> AsyncIterator[tuple[Chain, str]]:
    sandbox = SandboxNode(Chain(genesis_of(network)))
    prefix = sandbox.dialect.protocol_prefix
    server = RpcServer(
        services_of(sandbox), sandbox.streams, prefix, time.time, chain_id=sandbox.chain_id
    )
    port = await server.start("127.0.0.1", 0)
    try:
        yield sandbox.chain, f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


@asynccontextmanager
async def a_baker(
    url: str,
    network: Network,
    keys: Sequence[SandboxKey],
    *,
    refuses_attestations_of: tuple[int, int] | None = None,
) -> AsyncIterator[Automaton]:
    node = Node(url)
    deadline = asyncio.get_running_loop().time() + 5
    main = ChainRpc(node)
    chain_id = (await main.header("head", deadline=deadline)).chain_id
    rpc = BakerRpc(node, chain_id)
    rules = ChainRules(
        forging_constants(await main.constants("head", deadline=deadline)),
        await rpc.threshold(deadline=deadline),
        branch_is_grandparent=network is TEZOS,
    )
    hands = KeysAtHand(keys, network, node)
    hands.refuses_attestations_of = refuses_attestations_of
    automaton = Automaton(
        BakerState(hands.delegates, rules), network, ChainRpc(node, chain_id), rpc, hands.push
    )
    hands.hear = automaton.hear
    running = asyncio.create_task(automaton.run())
    try:
        yield automaton
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await node.aclose()


async def grown(chain: Chain, level: int, *, within_s: float) -> None:
    """Wait until the chain has a block of this level."""
    end = time.monotonic() + within_s
    while chain.head.level < level:
        assert time.monotonic() < end, f"the chain stands still at level {chain.head.level}"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=lambda network: network.name)
def test_a_baker_with_all_keys_bakes_a_block_a_round(network: Network) -> None:
    async def scenario() -> None:
        async with a_chain(network) as (chain, url), a_baker(url, network, BAKERS) as baker:
            await grown(chain, 4, within_s=9)
            counts = chain.statistics
            assert counts.rounds_over_zero == 0
            assert counts.refused_blocks == {}
            assert chain.double_signing.conflicts_total == 0
            assert baker.counts["blocks_not_injected"] == 0
            # Every delegate's votes are in the chain: 24 slots attested the block below.
            votes = chain.head.operations[0]
            assert len(votes) == len(chain.rules.rights.committee(chain.head.level - 1).slots)

    asyncio.run(scenario())


def test_two_bakers_share_the_rounds_and_hear_each_other() -> None:
    async def scenario() -> None:
        async with (
            a_chain(MAVRYK) as (chain, url),
            a_baker(url, MAVRYK, BAKERS[:2]) as first,
            a_baker(url, MAVRYK, BAKERS[2:]) as second,
        ):
            await grown(chain, 4, within_s=12)
            assert first.counts["block_ready"] + second.counts["block_ready"] >= 3
            assert chain.double_signing.conflicts_total == 0

    asyncio.run(scenario())


def test_a_sleeping_baker_costs_rounds_not_the_chain() -> None:
    async def scenario() -> None:
        # Whoever bakes level 3 at round 0 sleeps; the others have a quorum without him.
        async with a_chain(MAVRYK) as (chain, url):
            asleep = chain.rules.rights.committee(3).baker(0)
            awake = [key for key in BAKERS if key.address != asleep]
            async with a_baker(url, MAVRYK, awake):
                await grown(chain, 3, within_s=25)
            assert chain.statistics.rounds_over_zero >= 1
            assert chain.double_signing.conflicts_total == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=lambda network: network.name)
def test_a_payload_that_was_not_elected_is_proposed_again(network: Network) -> None:
    async def scenario() -> None:
        async with (
            a_chain(network) as (chain, url),
            a_baker(url, network, BAKERS, refuses_attestations_of=(3, 0)) as baker,
        ):
            await grown(chain, 4, within_s=15)
            below = chain.tree.get(chain.head.header.predecessor)
            assert (below.level, below.round) == (3, 1)
            assert below.header.payload_round == 0
            assert below.header.fitness.locked_round == 0
            assert baker.counts["failed"] == 4
            assert baker.counts["blocks_not_injected"] == 0
            assert chain.statistics.reproposals == 1

    asyncio.run(scenario())
