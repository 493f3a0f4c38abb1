"""Prepared blocks on a real chain: signed with their bakers' keys they become its head."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from signers.formats import base58, block_header
from signers.formats.networks import MAVRYK, TEZOS, Network
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from workers.node.answers import BlockToInject, RawOperation
from workers.node.rpc import ChainRpc
from workers.node.transport import Node
from workers.preparation.block_preparation import BlockPreparation
from workers.preparation.block_request import (
    ExtraOperation,
    ForgeBlock,
    Fresh,
    Reproposal,
    encode_forge_block,
)
from workers.preparation.preparation_errors import NodeError
from workers.preparation.preparation_job import PreparationJob, PreparedBlock
from workers.sandbox.accounts import SandboxKey, make_transfer, sandbox_keys
from workers.sandbox.block_tree import Block
from workers.sandbox.chain import Chain
from workers.sandbox.constants import sandbox_constants
from workers.sandbox.genesis import BootstrapAccount, Genesis
from workers.sandbox.node import SandboxNode
from workers.sandbox.rpc import RpcServer
from workers.sandbox.services import services_of

pytestmark = pytest.mark.process
BAKERS = sandbox_keys("preparation", "baker", 4)
ACCOUNTS = sandbox_keys("preparation", "account", 5)
RULES = {"mavryk": "boreas", "tezos": "ushuaia"}
# Blocks may be dated in the past: an old genesis lets the chain run without waiting.
AGE_S = 600


def genesis_of(network: Network) -> Genesis:
    names = {"minimal_block_delay": "1", "delay_increment_per_round": "1"}
    bakers = [BootstrapAccount(key.address, key.public_key, stake=10**12) for key in BAKERS]
    revealed = [BootstrapAccount(key.address, key.public_key, 10**10) for key in ACCOUNTS[:4]]
    hidden = [BootstrapAccount(key.address, None, 10**10) for key in ACCOUNTS[4:]]
    return Genesis(
        network=network,
        protocol=network.protocol,
        constants=sandbox_constants(RULES[network.name], names),
        seed=b"preparation",
        timestamp=int(time.time()) - AGE_S,
        accounts=(*bakers, *revealed, *hidden),
    )


@dataclass
class Bakery:
    """A sandbox chain, reached over HTTP, and everybody's keys."""

    chain: Chain
    rpc: ChainRpc
    preparation: BlockPreparation

    @property
    def head(self) -> Block:
        return self.chain.head

    @property
    def network(self) -> Network:
        return self.chain.rules.network

    def request(self, content: Fresh | Reproposal | None = None, **fields: object) -> ForgeBlock:
        wanted = {
            "chain_id": base58.encode(base58.CHAIN_ID, self.chain.rules.chain_id),
            "predecessor": base58.encode(base58.BLOCK_HASH, self.head.hash),
            "level": self.head.level + 1,
            "round": 0,
        }
        return ForgeBlock(content=content or Fresh(), **wanted | fields)

    async def prepare(self, wanted: ForgeBlock) -> PreparedBlock:
        job = PreparationJob(1, encode_forge_block(wanted), "", 5_000)
        return await self.preparation.prepare(job, deadline=soon())

    async def inject(self, prepared: PreparedBlock) -> str:
        header = block_header.decode(prepared.unsigned_header)
        committee = self.chain.rules.rights.committee(header.level)
        key = next(key for key in BAKERS if key.address == committee.baker(header.round))
        signature = key.sign_block(header, prepared.chain_id)
        operations = [
            [
                RawOperation(base58.encode(base58.BLOCK_HASH, each[:32]), each[32:].hex())
                for each in one
            ]
            for one in prepared.operations
        ]
        block = BlockToInject((prepared.unsigned_header + signature).hex(), operations)
        return await self.rpc.inject_block(block, deadline=soon())

    async def bake(self, wanted: ForgeBlock | None = None) -> PreparedBlock:
        """Prepare, sign and inject a block; it must become the head."""
        prepared = await self.prepare(wanted or self.request())
        hash_text = await self.inject(prepared)
        assert base58.encode(base58.BLOCK_HASH, self.head.hash) == hash_text
        assert self.head.level == prepared.level
        return prepared

    def votes(self, kind: Kind, block: Block) -> list[bytes]:
        """The votes of the whole committee for a block."""
        template = VoteTemplate(
            kind,
            self.chain.rules.chain_id,
            block.header.predecessor,
            block.level,
            block.round,
            block.header.payload_hash,
        )
        owners = self.chain.rules.rights.committee(block.level).slots
        return [
            template.operation(slots[0], key.sign(template.signable(slots[0])))
            for key in BAKERS
            if (slots := owners.get(key.address))
        ]

    async def attest(self) -> list[bytes]:
        """Let everybody attest the head, through the mempool."""
        votes = self.votes(Kind.ATTESTATION, self.head)
        for vote in votes:
            await self.rpc.inject_operation(vote, deadline=soon())
        return votes

    def transfer(self, source: SandboxKey, *, counter: int = 1, **fields: object) -> bytes:
        fields = {"destination": ACCOUNTS[0].address, "amount": 5, "counter": counter} | fields
        return make_transfer(self.network, source, branch=self.head.hash, **fields)

    async def pend(self, operations: Sequence[bytes]) -> None:
        for operation in operations:
            await self.rpc.inject_operation(operation, deadline=soon())


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


@asynccontextmanager
async def a_bakery(network: Network) -> AsyncIterator[Bakery]:
    sandbox = SandboxNode(Chain(genesis_of(network)))
    prefix = sandbox.dialect.protocol_prefix
    server = RpcServer(
        services_of(sandbox), sandbox.streams, prefix, time.time, chain_id=sandbox.chain_id
    )
    node = Node(f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}")
    try:
        preparation = BlockPreparation({"sandbox": node}, network, randomness=lambda n: b"7" * n)
        yield Bakery(sandbox.chain, ChainRpc(node), preparation)
    finally:
        await node.aclose()
        await server.stop()


networks = pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=lambda network: network.name)


@networks
def test_a_chain_of_prepared_blocks_grows(network: Network) -> None:
    async def scenario() -> None:
        async with a_bakery(network) as bakery:
            commitments = []
            for number in range(6):
                pending = bakery.transfer(ACCOUNTS[number % 4], counter=1 + number // 4)
                await bakery.pend([pending])
                votes = await bakery.attest() if bakery.head.level > 1 else []
                prepared = await bakery.bake()
                assert prepared.operations[3] == [pending]
                assert prepared.operations[0] == sorted(votes)
                commitments.append(prepared.seed_nonce)
            assert b"7" * 32 in commitments, "one of six levels commits to a nonce"
            assert None in commitments

    asyncio.run(scenario())


@networks
def test_the_node_applies_a_block_when_it_is_asked_to(network: Network) -> None:
    async def scenario() -> None:
        async with a_bakery(network) as bakery:
            await bakery.bake()
            good = bakery.transfer(ACCOUNTS[0])
            gap = bakery.transfer(ACCOUNTS[1], counter=3)
            votes = bakery.votes(Kind.ATTESTATION, bakery.head)
            content = Fresh(votes, [ExtraOperation(each) for each in (good, gap)])
            local = await bakery.prepare(bakery.request(content))
            applied = await bakery.prepare(bakery.request(content, validation="node"))
            assert local.operations == applied.operations
            assert local.unsigned_header == applied.unsigned_header
            await bakery.bake(bakery.request(content, force_apply=True))

    asyncio.run(scenario())


@networks
def test_a_payload_is_proposed_again_in_a_later_round(network: Network) -> None:
    async def scenario() -> None:
        async with a_bakery(network) as bakery:
            await bakery.bake()
            below = bakery.head
            votes = bakery.votes(Kind.ATTESTATION, below)
            extra = [ExtraOperation(bakery.transfer(ACCOUNTS[0]))]
            first = await bakery.bake(bakery.request(Fresh(votes, extra)))
            preattestations = bakery.votes(Kind.PREATTESTATION, bakery.head)
            again = Reproposal(
                base58.encode(base58.PAYLOAD_HASH, bakery.head.header.payload_hash),
                0,
                first.operations[1:],
                votes + preattestations,
            )
            where = {
                "predecessor": base58.encode(base58.BLOCK_HASH, below.hash),
                "level": below.level + 1,
                "round": 2,
            }
            local = await bakery.prepare(bakery.request(again, **where))
            applied = await bakery.prepare(bakery.request(again, **where, force_apply=True))
            assert local == applied
            await bakery.bake(bakery.request(again, **where))
            assert bakery.head.round == 2
            assert bakery.head.header.fitness.locked_round == 0
            assert bakery.head.header.payload_round == 0

    asyncio.run(scenario())


@networks
def test_a_hidden_key_is_revealed_and_a_full_mempool_is_sorted_out(network: Network) -> None:
    async def scenario() -> None:
        async with a_bakery(network) as bakery:
            await bakery.bake()
            cheap = bakery.transfer(ACCOUNTS[0], fee=400)
            dear = bakery.transfer(ACCOUNTS[1], fee=9_000)
            revealing = bakery.transfer(ACCOUNTS[4], reveal=True, fee=1_000)
            later = bakery.transfer(ACCOUNTS[0], counter=2, fee=50_000)
            await bakery.pend([cheap, dear, revealing])
            votes = bakery.votes(Kind.ATTESTATION, bakery.head)
            content = Fresh(votes, [ExtraOperation(later)])
            prepared = await bakery.bake(bakery.request(content))
            assert prepared.operations[3] == [dear, revealing, cheap]

    asyncio.run(scenario())


def test_the_chain_is_no_echo() -> None:
    async def scenario() -> None:
        async with a_bakery(MAVRYK) as bakery:
            prepared = await bakery.prepare(bakery.request())
            prepared.operations[3].append(bakery.transfer(ACCOUNTS[0]))
            with pytest.raises(NodeError, match="inconsistent_operations_hash"):
                await bakery.inject(prepared)

    asyncio.run(scenario())
