"""A small baker that lives in the test: it forges, signs and injects by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from signers.formats import base58, block_header
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.hashes import blake2b_32, operations_hash, payload_hash
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from signers.keyring.curve import Curve
from workers.sandbox.accounts import SandboxKey, make_transfer, sandbox_keys
from workers.sandbox.block_tree import Block, Era
from workers.sandbox.chain import Chain, HeadChanged, Outcome
from workers.sandbox.constants import sandbox_constants
from workers.sandbox.genesis import BootstrapAccount, Genesis
from workers.sandbox.levels import level_info
from workers.sandbox.node import SandboxNode
from workers.sandbox.rpc import RpcServer
from workers.sandbox.services import services_of

Passes = Sequence[Sequence[bytes]]

SEED = "a test"
START = 1_800_000_000
STAKE = 4_000_000_000_000
FUNDS = 10_000_000_000

BAKERS = sandbox_keys(SEED, "baker", 5)
ACCOUNTS = sandbox_keys(SEED, "account", 8)
STRANGERS = sandbox_keys(SEED, "stranger", 4)


def genesis_of(
    network: Any = MAVRYK,
    protocol: int = 0,
    bakers: Sequence[SandboxKey] = BAKERS,
    **constants: Any,
) -> Genesis:
    """A chain of five bakers and eight accounts, the last two of them not revealed."""
    names = {"Boreas": "boreas", "Atlas": "atlas", "Ushuaia": "ushuaia"}
    changes = {"minimal_block_delay": "1", "delay_increment_per_round": "1", **constants}
    baking = [BootstrapAccount(key.address, key.public_key, stake=STAKE) for key in bakers]
    revealed = [BootstrapAccount(key.address, key.public_key, FUNDS) for key in ACCOUNTS[:6]]
    unrevealed = [BootstrapAccount(key.address, None, FUNDS) for key in ACCOUNTS[6:]]
    return Genesis(
        network=network,
        protocol=network.protocols[protocol],
        constants=sandbox_constants(names[network.protocols[protocol].name], changes),
        seed=SEED.encode(),
        timestamp=START,
        accounts=(*baking, *revealed, *unrevealed),
    )


@dataclass
class Bakery:
    """Every baker's key, and a chain to bake."""

    chain: Chain
    now: float = float(START)
    nonces: dict[int, bytes] = field(default_factory=dict)
    bakers: Sequence[SandboxKey] = tuple(BAKERS)

    @property
    def head(self) -> Block:
        return self.chain.head

    @property
    def network(self) -> Any:
        return self.chain.rules.network

    def key_of(self, address: bytes) -> SandboxKey:
        return next(key for key in self.bakers if key.address == address)

    def baker(self, level: int, round: int) -> SandboxKey:
        return self.key_of(self.chain.rules.rights.committee(level).baker(round))

    # -- votes --

    def votes(
        self,
        kind: Kind,
        block: Block,
        *,
        slots: Iterable[int] | None = None,
        dal: int | None = None,
        **other: Any,
    ) -> list[bytes]:
        """One vote of every delegate for a block, or of the owners of some slots."""
        template = VoteTemplate(
            **{
                "kind": kind,
                "chain_id": self.chain.rules.chain_id,
                "branch": block.header.predecessor,
                "level": block.level,
                "round": block.round,
                "payload_hash": block.header.payload_hash,
                **other,
            }
        )
        committee = self.chain.rules.rights.committee(block.level)
        first_slots = [owned[0] for owned in committee.slots.values()]
        votes = []
        for slot in first_slots if slots is None else slots:
            key = self.key_of(committee.owners[slot])
            is_bls = key.curve is Curve.BLS
            signed = template.bls_signable() if is_bls else template.signable(slot, dal)
            signature = key.sign(signed)
            votes.append(template.operation(slot, signature, dal))
        return votes

    def preattestations(self, block: Block, **other: Any) -> list[bytes]:
        return self.votes(Kind.PREATTESTATION, block, **other)

    def attestations(self, block: Block, **other: Any) -> list[bytes]:
        return self.votes(Kind.ATTESTATION, block, **other) if block.era is Era.BAKED else []

    # -- transfers --

    def transfer(self, source: SandboxKey, **other: Any) -> bytes:
        """A transfer of one coin between accounts that exist, on top of the head."""
        account = self.account(source)
        return make_transfer(
            self.network,
            source,
            **{
                "branch": self.head.hash,
                "counter": account.counter + 1,
                "destination": ACCOUNTS[0].address,
                "amount": 1_000_000,
                **other,
            },
        )

    def transfer_of(self, number: int) -> bytes:
        return self.transfer(ACCOUNTS[number])

    def account(self, key: SandboxKey) -> Any:
        from workers.sandbox.ledger import Ledger

        context = self.head.context
        assert context is not None
        return Ledger(context).account(key.address)

    # -- blocks --

    def passes(self, consensus: Sequence[bytes], managers: Sequence[bytes] = ()) -> Passes:
        return (consensus, (), (), managers)

    def header(
        self,
        passes: Passes,
        *,
        predecessor: Block | None = None,
        round: int = 0,
        payload_round: int | None = None,
        locked_round: int | None = None,
    ) -> BlockHeader:
        """The header of a right block, not yet signed."""
        predecessor = predecessor or self.head
        rules = self.chain.rules
        level = predecessor.level + 1
        payload_round = round if payload_round is None else payload_round
        hashes = [[blake2b_32(signed) for signed in one_pass] for one_pass in passes]
        committed = None
        if level_info(rules.constants, level).expected_commitment:
            self.nonces[level] = blake2b_32(b"nonce %d" % level)
            committed = blake2b_32(self.nonces[level])
        return BlockHeader(
            level=level,
            proto=1,
            predecessor=predecessor.hash,
            timestamp=rules.durations.timestamp(
                predecessor.header.timestamp, predecessor.round, round
            ),
            validation_passes=4,
            operations_hash=operations_hash(hashes),
            fitness=Fitness.tenderbake(
                level=level,
                round=round,
                predecessor_round=predecessor.round,
                locked_round=locked_round,
            ),
            context=predecessor.resulting_context_hash,
            payload_hash=payload_hash(
                predecessor.hash, payload_round, [h for one in hashes[1:] for h in one]
            ),
            payload_round=payload_round,
            proof_of_work_nonce=bytes(8),
            seed_nonce_hash=committed,
            per_block_votes=0x0A if self.network is MAVRYK else 2,
            signature=None,
        )

    def stamped(self, header: BlockHeader) -> BlockHeader:
        """The header with a proof of work."""
        threshold = self.chain.rules.constants.proof_of_work_threshold
        counter = 0
        while not block_header.pow_is_enough(block_header.pow_stamp(header), threshold):
            counter += 1
            header = replace(header, proof_of_work_nonce=counter.to_bytes(8))
        return header

    def signed(self, header: BlockHeader, key: SandboxKey | None = None) -> bytes:
        """The bytes of a header with proof of work and the signature of its round's baker."""
        header = self.stamped(header)
        key = key or self.baker(header.level, header.round)
        signature = key.sign_block(header, self.chain.rules.chain_id)
        return block_header.encode(replace(header, signature=signature))

    def inject(self, raw_header: bytes, passes: Passes) -> Outcome:
        timestamp = block_header.decode(raw_header).timestamp
        self.now = max(self.now, float(timestamp))
        return self.chain.inject_block(raw_header, passes, self.now)

    def inject_operation(self, signed: bytes) -> Outcome:
        return self.chain.inject_operation(signed, self.now)

    def bake(self, managers: Sequence[bytes] = (), **where: Any) -> Block:
        """Bake a right block with all votes for its predecessor, which becomes the head."""
        predecessor = where.get("predecessor") or self.head
        passes = self.passes(self.attestations(predecessor), managers)
        outcome = self.inject(self.signed(self.header(passes, **where)), passes)
        assert outcome.refusal is None, outcome.refusal
        assert any(isinstance(event, HeadChanged) for event in outcome.events)
        return self.head

    def bake_to(self, level: int) -> Block:
        while self.head.level < level:
            self.bake()
        return self.head


@pytest.fixture
def genesis() -> Callable[..., Genesis]:
    return genesis_of


@pytest.fixture(params=["mavryk", "tezos"])
def network(request: pytest.FixtureRequest) -> Any:
    return {"mavryk": MAVRYK, "tezos": TEZOS}[request.param]


@pytest.fixture
def bakery() -> Bakery:
    """A chain of Mavryk Boreas that nobody has baked yet."""
    return Bakery(Chain(genesis_of()))


@pytest.fixture
def new_bakery() -> Callable[..., Bakery]:
    """Make a bakery on a network, with some constants changed."""

    def make(*args: Any, bakers: Sequence[SandboxKey] = BAKERS, **kwargs: Any) -> Bakery:
        return Bakery(Chain(genesis_of(*args, bakers=bakers, **kwargs)), bakers=bakers)

    return make


@pytest.fixture
def accounts() -> list[SandboxKey]:
    return ACCOUNTS


@pytest.fixture
def strangers() -> list[SandboxKey]:
    """Keys that the chain has never heard of."""
    return STRANGERS


class Rpc:
    """A node that listens on a real socket, and a client to it."""

    def __init__(self, bakery: Bakery, server: RpcServer, http: httpx.AsyncClient) -> None:
        self.bakery = bakery
        self.stop = server.stop
        self.http = http

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON of an answer, whose form is checked on the way."""
        response = await self.http.get(path, params=query or None)
        assert response.status_code == 200, response.text
        return self.read(response)

    async def post(self, path: str, body: Any, **query: Any) -> Any:
        response = await self.http.post(path, json=body, params=query or None)
        assert response.status_code == 200, response.text
        return self.read(response)

    async def refused(self, path: str, body: Any, **query: Any) -> Any:
        """The trace of a call that the chain refuses."""
        response = await self.http.post(path, json=body, params=query or None)
        assert response.status_code == 500, response.text
        return self.read(response)

    @staticmethod
    def read(response: httpx.Response) -> Any:
        assert response.headers["content-type"] == "application/json"
        assert response.content.endswith(b"\n")
        assert response.content.count(b"\n") == 1
        return response.json()

    async def inject_block(self, raw: bytes, passes: Passes, **query: Any) -> Any:
        self.bakery.now = max(self.bakery.now, float(block_header.decode(raw).timestamp))
        return await self.http.post(
            "/injection/block", json=block_body(raw, passes), params=query or None
        )

    async def bake(self, managers: Sequence[bytes] = (), **where: Any) -> Block:
        """Bake the next block through the RPC."""
        predecessor = where.get("predecessor") or self.bakery.head
        passes = self.bakery.passes(self.bakery.attestations(predecessor), managers)
        raw = self.bakery.signed(self.bakery.header(passes, **where))
        response = await self.inject_block(raw, passes)
        assert response.status_code == 200, response.text
        return self.bakery.head


def block_body(raw: bytes, passes: Passes) -> dict[str, Any]:
    """What `injection/block` is given."""
    return {
        "data": raw.hex(),
        "operations": [
            [
                {
                    "branch": base58.encode(base58.BLOCK_HASH, signed[:32]),
                    "data": signed[32:].hex(),
                }
                for signed in one_pass
            ]
            for one_pass in passes
        ],
    }


@pytest.fixture
def serve() -> Callable[..., None]:
    """Run a scenario against the node of a bakery; its clock is the bakery's."""

    def run(bakery: Bakery, scenario: Callable[[Rpc], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            node = SandboxNode(bakery.chain)
            server = RpcServer(
                services_of(node),
                node.streams,
                node.dialect.protocol_prefix,
                lambda: bakery.now,
                chain_id=node.chain_id,
                **options,
            )
            port = await server.start("127.0.0.1", 0)
            try:
                base_url = f"http://127.0.0.1:{port}"
                # Plain HTTP: nobody's certificates are to be read, which takes longer than a test.
                async with httpx.AsyncClient(base_url=base_url, timeout=20, verify=False) as http:
                    await scenario(Rpc(bakery, server, http))
            finally:
                await server.stop()

        asyncio.run(main())

    return run
