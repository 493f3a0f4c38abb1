"""The paths of a node's RPC that forging needs, for one chain. Shapes: `node_answers.py`."""

from __future__ import annotations

from workers.node.answers import (
    Account,
    Baker,
    BlockToInject,
    ConsensusConstants,
    ConsensusKey,
    Constants,
    ForgeRequest,
    Header,
    LevelInfo,
    LevelValidators,
    ParsedOperation,
    ParseRequest,
    PendingOperations,
    PreappliedBlock,
    PreapplyRequest,
    Protocols,
    RawOperation,
    Validator,
)
from workers.node.transport import Node, Query
from workers.preparation.preparation_errors import NodeAnswerMalformed

# The mempool of a node holds up to 10,000 operations of together 10 MB; JSON makes five of each.
MEMPOOL_BYTES_MAX = 64 * 1024 * 1024
# A preapplied block lists its operations, up to 4.7 MB, as hex.
PREAPPLY_BYTES_MAX = 16 * 1024 * 1024

VALIDATED_ONLY: Query = {
    "validated": "true",
    "refused": "false",
    "outdated": "false",
    "branch_refused": "false",
    "branch_delayed": "false",
}


class ChainRpc:
    """One chain, seen through one node.

    `chain` is a chain id or "main", `block` a block hash or "head"; deadlines and errors are
    those of `Node`.
    """

    def __init__(self, node: Node, chain: str = "main") -> None:
        self.node = node
        self.chain = chain

    # -- a block --

    async def header(self, block: str, *, deadline: float) -> Header:
        return await self.node.get(self._of(block, "header"), Header, deadline=deadline)

    async def protocols(self, block: str, *, deadline: float) -> Protocols:
        return await self.node.get(self._of(block, "protocols"), Protocols, deadline=deadline)

    async def level_after(self, block: str, *, deadline: float) -> LevelInfo:
        """The level that will be baked on top of `block`."""
        path = self._of(block, "helpers/current_level")
        return await self.node.get(path, LevelInfo, deadline=deadline, query={"offset": 1})

    async def resulting_context_hash(self, block: str, *, deadline: float) -> str:
        """The hash of the context after `block`, which the next header carries."""
        path = self._of(block, "resulting_context_hash")
        return await self.node.get(path, str, deadline=deadline)

    async def live_blocks(self, block: str, *, deadline: float) -> list[str]:
        """The blocks that an operation on top of `block` may name as its branch."""
        return await self.node.get(self._of(block, "live_blocks"), list[str], deadline=deadline)

    async def constants(self, block: str, *, deadline: float) -> Constants:
        path = self._of(block, "context/constants")
        return await self.node.get(path, Constants, deadline=deadline)

    async def account(self, block: str, address: str, *, deadline: float) -> Account:
        path = self._of(block, f"context/contracts/{address}")
        return await self.node.get(path, Account, deadline=deadline)

    async def manager_key(self, block: str, address: str, *, deadline: float) -> str | None:
        """The public key of an account, or None as long as it is not revealed."""
        path = self._of(block, f"context/contracts/{address}/manager_key")
        return await self.node.get(path, str | None, deadline=deadline)  # type: ignore[arg-type]

    async def hash(self, block: str, *, deadline: float) -> str:
        return await self.node.get(self._of(block, "hash"), str, deadline=deadline)

    async def raw_header(self, block: str, *, deadline: float) -> str:
        """The signed header in hex."""
        return await self.node.get(self._of(block, "header/raw"), str, deadline=deadline)

    async def operation_hashes(self, block: str, *, deadline: float) -> list[list[str]]:
        """The hashes of a block's operations, by pass."""
        path = self._of(block, "operation_hashes")
        return await self.node.get(path, list[list[str]], deadline=deadline)

    async def branch(self, block: str, length: int, *, deadline: float) -> list[str]:
        """A block, its predecessor and so on, as many as that; fewer near the genesis."""
        [branch] = await self.node.get(
            f"/chains/{self.chain}/blocks",
            list[list[str]],
            deadline=deadline,
            query={"length": length, "head": block},
        ) or [[]]
        return branch

    # -- who bakes and votes --

    async def consensus_constants(self, block: str, *, deadline: float) -> ConsensusConstants:
        path = self._of(block, "context/constants")
        return await self.node.get(path, ConsensusConstants, deadline=deadline)

    async def bakers(self, block: str, level: int, rounds: int, *, deadline: float) -> list[Baker]:
        """Who bakes the first rounds of a level, in their order. Raises NodeAnswerMalformed."""
        entries = await self.node.get(
            self._of(block, "helpers/baking_rights"),
            list[Baker],
            deadline=deadline,
            query={"level": level, "max_round": rounds - 1, "all": "true"},
        )
        bakers = sorted((each for each in entries if each.level == level), key=lambda b: b.round)
        if [each.round for each in bakers] != list(range(rounds)):
            raise NodeAnswerMalformed(f"not each of {rounds} rounds of level {level} has a baker")
        return bakers

    async def validators(self, block: str, level: int, *, deadline: float) -> list[Validator]:
        """The committee of a level, `slots` filled on every network.

        Raises NodeAnswerMalformed where all bakers attest: votes weigh by stake then, not by slots.
        """
        entries = await self.node.get(
            self._of(block, "helpers/validators"),
            list[LevelValidators],
            deadline=deadline,
            query={"level": level},
        )
        validators = []
        for entry in entries:
            if entry.all_bakers_attest_activated:
                raise NodeAnswerMalformed(f"at level {level} all bakers attest: not read here")
            if entry.delegate:
                validators.append(Validator(entry.delegate, entry.consensus_key, entry.slots))
            for each in entry.delegates:
                each.slots = each.slots or each.rounds
                validators.append(each)
        return validators

    async def consensus_key(self, block: str, delegate: str, *, deadline: float) -> ConsensusKey:
        path = self._of(block, f"context/delegates/{delegate}/consensus_key")
        return await self.node.get(path, ConsensusKey, deadline=deadline)

    async def companion_key(self, block: str, delegate: str, *, deadline: float) -> ConsensusKey:
        path = self._of(block, f"context/delegates/{delegate}/companion_key")
        return await self.node.get(path, ConsensusKey, deadline=deadline)

    # -- operations --

    async def pending_operations(self, *, deadline: float) -> PendingOperations:
        """What is valid in the mempool now."""
        return await self.node.get(
            f"/chains/{self.chain}/mempool/pending_operations",
            PendingOperations,
            deadline=deadline,
            query=VALIDATED_ONLY,
            bytes_max=MEMPOOL_BYTES_MAX,
        )

    async def forge_operation(self, block: str, request: ForgeRequest, *, deadline: float) -> str:
        """The unsigned bytes, in hex, of an operation given as JSON."""
        path = self._of(block, "helpers/forge/operations")
        return await self.node.post(path, request, str, deadline=deadline)

    async def parse_operations(
        self, block: str, operations: list[RawOperation], *, deadline: float
    ) -> list[ParsedOperation]:
        """Operations as JSON, from their bytes."""
        path = self._of(block, "helpers/parse/operations")
        return await self.node.post(
            path,
            ParseRequest(operations),
            list[ParsedOperation],
            deadline=deadline,
            bytes_max=MEMPOOL_BYTES_MAX,
        )

    # -- blocks to try and to inject --

    async def preapply_block(
        self, predecessor: str, request: PreapplyRequest, *, timestamp: int, deadline: float
    ) -> PreappliedBlock:
        """Let the node build the block that `request` drafts; `timestamp` in Unix seconds."""
        return await self.node.post(
            self._of(predecessor, "helpers/preapply/block"),
            request,
            PreappliedBlock,
            deadline=deadline,
            query={"timestamp": timestamp},
            bytes_max=PREAPPLY_BYTES_MAX,
        )

    async def inject_block(self, block: BlockToInject, *, deadline: float) -> str:
        """Give a signed block to the node, wait for its validation, return its hash."""
        path = "/injection/block"
        return await self.node.post(
            path, block, str, deadline=deadline, query={"chain": self.chain}
        )

    async def inject_operation(self, operation: bytes, *, deadline: float) -> str:
        """Give a signed operation to the node, wait for its verdict, return its hash."""
        path = "/injection/operation"
        return await self.node.post(
            path, operation.hex(), str, deadline=deadline, query={"chain": self.chain}
        )

    def _of(self, block: str, path: str) -> str:
        return f"/chains/{self.chain}/blocks/{block}/{path}"
