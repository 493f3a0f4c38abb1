"""The paths of the node's RPC that only the baker needs: rights and streams."""

from __future__ import annotations

import asyncio
from typing import Any

from signers.formats import base58
from signers.formats.networks import Network
from workers.baker.node_news import (
    BakingRight,
    Committee,
    MonitoredBlock,
    MonitoredHeader,
    proposal_of_head,
    rights_of,
    threshold_of,
)
from workers.baker.stimuli import Passes, Proposal, Rights
from workers.node.answers import PendingOperation
from workers.node.operation_json import operation_bytes
from workers.node.rpc import MEMPOOL_BYTES_MAX, VALIDATED_ONLY, ChainRpc
from workers.node.transport import Node, Query, Stream
from workers.preparation.mempool import forged_by_node
from workers.preparation.preparation_errors import NodeAnswerMalformed

# Rounds grow longer: with the shortest, of 1 s and 1 s more each, 64 of them are half an hour.
ROUNDS_ASKED = 64


class BakerRpc:
    """One chain on one node; `chain` is its id as text. Deadlines and errors as in `Node`."""

    def __init__(self, node: Node, chain: str) -> None:
        self.node = node
        self._chain = chain

    async def rights(self, level: int, *, deadline: float) -> Rights:
        """Who votes at a level, and who bakes in its first rounds."""
        try:
            async with asyncio.TaskGroup() as group:
                committees = group.create_task(
                    self._helper("validators", list[Committee], {"level": level}, deadline)
                )
                query: Query = {"level": level, "max_round": ROUNDS_ASKED, "all": "true"}
                bakers = group.create_task(
                    self._helper("baking_rights", list[BakingRight], query, deadline)
                )
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return rights_of(level, committees.result(), bakers.result())

    async def proposal(self, hash_: bytes, *, deadline: float) -> Proposal:
        """A block, without its operations."""
        path = f"{self._block(hash_)}/header"
        shell = await self.node.get(f"{path}/shell", dict[str, Any], deadline=deadline)
        contents = await self.node.get(f"{path}/protocol_data/raw", str, deadline=deadline)
        try:
            head = MonitoredHeader(
                shell["level"],
                shell["predecessor"],
                shell["timestamp"],
                shell["fitness"],
                contents,
                base58.encode(base58.BLOCK_HASH, hash_),
            )
        except KeyError as error:
            raise NodeAnswerMalformed(f"GET {path}/shell: no field {error}") from None
        return proposal_of_head(head)

    async def operations(self, hash_: bytes, network: Network, *, deadline: float) -> Passes:
        """The signed operations of a block; those of rare kinds are written by the node.

        Raises NodeAnswerMalformed for one that cannot be had.
        """
        path = f"{self._block(hash_)}/operations"
        shown = await self.node.get(
            path, list[list[PendingOperation]], deadline=deadline, bytes_max=MEMPOOL_BYTES_MAX
        )
        passes = []
        for one in shown:
            signed = []
            for each in map(_without_metadata, one):
                data = operation_bytes(each, network)
                if data is None:
                    chain = ChainRpc(self.node, self._chain)
                    data = await forged_by_node(chain, each, deadline=deadline)
                if data is None:
                    raise NodeAnswerMalformed(f"GET {path}: {each.hash} has no bytes")
                signed.append(data)
            passes.append(tuple(signed))
        return tuple(passes)

    async def threshold(self, *, deadline: float) -> int:
        """How many slots of the committee are a quorum."""
        path = f"/chains/{self._chain}/blocks/head/context/constants"
        return threshold_of(await self.node.get(path, dict[str, Any], deadline=deadline))

    async def heads(self) -> Stream[MonitoredHeader]:
        """The head now, and every new one."""
        return await self.node.lines(f"/monitor/heads/{self._chain}", MonitoredHeader)

    async def validated_blocks(self) -> Stream[MonitoredBlock]:
        """Every block from now on, as soon as it proves valid."""
        query: Query = {"chain": self._chain}
        return await self.node.lines("/monitor/validated_blocks", MonitoredBlock, query=query)

    async def consensus_operations(self) -> Stream[list[PendingOperation]]:
        """The votes of the mempool, and every new one until the head changes."""
        path = f"/chains/{self._chain}/mempool/monitor_operations"
        query = dict(VALIDATED_ONLY) | {"validation_pass": 0}
        return await self.node.lines(path, list[PendingOperation], query=query)

    async def _helper(self, name: str, answer: Any, query: Query, deadline: float) -> Any:
        path = f"/chains/{self._chain}/blocks/head/helpers/{name}"
        return await self.node.get(path, answer, deadline=deadline, query=query)

    def _block(self, hash_: bytes) -> str:
        return f"/chains/{self._chain}/blocks/{base58.encode(base58.BLOCK_HASH, hash_)}"


def _without_metadata(operation: PendingOperation) -> PendingOperation:
    """The operation as it was injected: a block's contents also say what became of them."""
    contents = [
        {key: value for key, value in content.items() if key != "metadata"}
        for content in operation.contents
    ]
    return PendingOperation(operation.hash, operation.branch, contents, operation.signature)
