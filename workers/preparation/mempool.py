"""The operations that a node offers for the next block, as bytes."""

from __future__ import annotations

import asyncio
import logging

from signers.errors import MalformedBytes
from signers.formats.networks import Network
from signers.formats.operation import signature_suffix
from workers.node.answers import ForgeRequest, PendingOperation
from workers.node.operation_json import is_hash_of, operation_bytes, signature_of
from workers.node.rpc import ChainRpc
from workers.preparation.preparation_errors import PreparationError
from workers.preparation.submitted_operation import SubmittedOperation, read_operation

log = logging.getLogger("forgepool.preparer")

# An operation takes about 0.2 ms to write and decode: a slice keeps the loop for 5 ms.
OPERATIONS_PER_SLICE = 25
# Rare kinds are forged by the node, one call each; more of them wait for the next block.
FORGED_BY_NODE_MAX = 32


async def pending_operations(
    chain: ChainRpc, network: Network, *, deadline: float
) -> list[SubmittedOperation]:
    """What is valid in the node's mempool, as far as its bytes can be had."""
    pending = (await chain.pending_operations(deadline=deadline)).valid
    submitted: list[SubmittedOperation] = []
    left_to_node: list[PendingOperation] = []
    for place, operation in enumerate(pending):
        if place % OPERATIONS_PER_SLICE == 0:
            await asyncio.sleep(0)
        data = operation_bytes(operation, network)
        if data is None:
            left_to_node.append(operation)
        else:
            _append(submitted, data, network)
    for operation in left_to_node[:FORGED_BY_NODE_MAX]:
        data = await forged_by_node(chain, operation, deadline=deadline)
        if data is not None:
            _append(submitted, data, network)
    return submitted


def _append(submitted: list[SubmittedOperation], data: bytes, network: Network) -> None:
    try:
        submitted.append(read_operation(data, network))
    except MalformedBytes as error:
        log.warning("operation_left_out from=mempool reason=%s", error)


async def forged_by_node(
    chain: ChainRpc, operation: PendingOperation, *, deadline: float
) -> bytes | None:
    """The bytes of an operation of a rare kind; None when they are not to be had."""
    request = ForgeRequest(operation.branch, operation.contents)
    try:
        unsigned = bytes.fromhex(await chain.forge_operation("head", request, deadline=deadline))
        signed = unsigned + signature_suffix(signature_of(operation))
    except (PreparationError, MalformedBytes, ValueError) as error:
        log.warning("operation_left_out hash=%s reason=%s", operation.hash, error)
        return None
    return signed if is_hash_of(operation.hash, signed) else None
