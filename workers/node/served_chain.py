"""Which chain a node serves, and of which network it is."""

from __future__ import annotations

from dataclasses import dataclass

from broker.errors import Misconfigured
from signers.formats.networks import NETWORKS, Network
from workers.node.patience import insist
from workers.node.rpc import ChainRpc
from workers.node.transport import Node


@dataclass(frozen=True, slots=True)
class ServedChain:
    """A chain by its id ("Net…")."""

    chain_id: str
    network: Network


async def served_chain(node: Node) -> ServedChain:
    """Ask a node until it answers. Raises Misconfigured for a protocol that is not known."""
    main = ChainRpc(node)
    head = await insist(node, lambda deadline: main.header("head", deadline=deadline))
    protocols = await insist(node, lambda deadline: main.protocols("head", deadline=deadline))
    for network in NETWORKS.values():
        if any(protocol.hash == protocols.next_protocol for protocol in network.protocols):
            return ServedChain(head.chain_id, network)
    raise Misconfigured(
        f"the node runs a protocol that is not known here: {protocols.next_protocol}"
    )
