"""Streams about blocks: `/monitor`. Source: Octez ``monitor_services.ml``."""

from __future__ import annotations

import msgspec

from workers.sandbox.block_tree import Block
from workers.sandbox.directory import Call, Directory, NotFound
from workers.sandbox.names import time_text
from workers.sandbox.node import SandboxNode, hash_text
from workers.sandbox.streams import OpenStream, Topic


class MonitorServices:
    """Heads, validated blocks, and whether the node is ready."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    def add_to(self, directory: Directory) -> None:
        services = {
            "/monitor/heads/{chain}": self.heads,
            "/monitor/validated_blocks": self.validated_blocks,
            "/monitor/applied_blocks": self.validated_blocks,
            "/monitor/received_blocks/{chain}": self.received_blocks,
            "/monitor/bootstrapped": self.bootstrapped,
            "/monitor/active_chains": self.active_chains,
            "/monitor/protocols": self.protocols,
        }
        for path, service in services.items():
            directory.serve("GET", path, service)

    def heads(self, call: Call) -> OpenStream:
        """The head at once, then every new one."""
        self._node.check_chain(call)
        protocols, next_protocols = _protocols_in(call)

        def line(block: Block) -> bytes | None:
            if not self._is_of(block, protocols, next_protocols):
                return None
            return msgspec.json.encode(self._node.blocks.monitored_head(block))

        first = line(self._node.chain.head)
        listener = self._node.streams.listen(Topic.HEADS, line)
        return OpenStream([] if first is None else [first], listener)

    def validated_blocks(self, call: Call) -> OpenStream:
        """Every block that proves valid from now on, whether or not it becomes the head."""
        if call.query.text("chain") not in (None, "main", self._node.chain_id):
            raise NotFound
        protocols, next_protocols = _protocols_in(call)

        def line(block: Block) -> bytes | None:
            if not self._is_of(block, protocols, next_protocols):
                return None
            return msgspec.json.encode(self._node.blocks.monitored_block(block))

        return OpenStream([], self._node.streams.listen(Topic.VALIDATED_BLOCKS, line))

    def received_blocks(self, call: Call) -> OpenStream:
        self._node.check_chain(call)

        def line(block: Block) -> bytes:
            return msgspec.json.encode({"hash": hash_text(block)})

        return OpenStream([], self._node.streams.listen(Topic.VALIDATED_BLOCKS, line))

    def bootstrapped(self, call: Call) -> OpenStream:
        """The head, and the end: this node has nobody to catch up with."""
        head = self._node.chain.head
        line = {"block": hash_text(head), "timestamp": time_text(head.header.timestamp)}
        return OpenStream([msgspec.json.encode(line)], None)

    def active_chains(self, call: Call) -> OpenStream:
        listener = self._node.streams.listen(Topic.NEVER, lambda _: None)
        return OpenStream([msgspec.json.encode([{"chain_id": self._node.chain_id}])], listener)

    def protocols(self, call: Call) -> OpenStream:
        listener = self._node.streams.listen(Topic.NEVER, lambda _: None)
        return OpenStream([], listener)

    def _is_of(
        self, block: Block, protocols: frozenset[str], next_protocols: frozenset[str]
    ) -> bool:
        made_by = self._node.blocks.protocol_of(block)
        followed_by = self._node.blocks.next_protocol_of(block)
        return (not protocols or made_by in protocols) and (
            not next_protocols or followed_by in next_protocols
        )


def _protocols_in(call: Call) -> tuple[frozenset[str], frozenset[str]]:
    return (
        frozenset(call.query.texts("protocol")),
        frozenset(call.query.texts("next_protocol")),
    )
