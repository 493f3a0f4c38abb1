"""Services about one block: `/chains/…/blocks/…`, its header, metadata and operations."""

from __future__ import annotations

from typing import Any, Literal

from signers.formats import base58
from workers.sandbox.block_json import VALIDATION_PASSES, shell_json
from workers.sandbox.block_tree import Block, Era
from workers.sandbox.directory import BadCall, Call, Directory, NotFound
from workers.sandbox.names import text
from workers.sandbox.node import Json, SandboxNode, hash_text

_BLOCK = "/chains/{chain}/blocks/{block}"


class BlockServices:
    """Blocks as they are; nothing here looks at the state."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node
        self._live: tuple[bytes, list[str]] = (b"", [])

    def add_to(self, directory: Directory) -> None:
        services = {
            "": self.block,
            "/hash": lambda call: hash_text(self._node.block_of(call)),
            "/header": lambda call: self._node.blocks.header(self._node.block_of(call)),
            "/header/shell": lambda call: shell_json(self._node.block_of(call).header),
            "/header/raw": lambda call: self._node.block_of(call).raw_header.hex(),
            "/header/protocol_data": self.protocol_data,
            "/header/protocol_data/raw": lambda call: self._node.block_of(call).protocol_data.hex(),
            "/metadata": self.metadata,
            "/protocols": self.protocols,
            "/live_blocks": self.live_blocks,
            "/resulting_context_hash": self.resulting_context_hash,
            "/operations": self.operations,
            "/operations/{pass}": self.operations_of_pass,
            "/operations/{pass}/{index}": self.operation,
            "/operation_hashes": self.hashes,
            "/operation_hashes/{pass}": self.hashes_of_pass,
            "/operation_hashes/{pass}/{index}": self.hash_of_operation,
        }
        for path, service in services.items():
            directory.serve("GET", _BLOCK + path, service)

    def block(self, call: Call) -> Json:
        block = self._node.block_of(call)
        self._node.old_names(call)
        return {
            "protocol": self._node.blocks.protocol_of(block),
            "chain_id": self._node.chain_id,
            "hash": hash_text(block),
            "header": {**shell_json(block.header), **self._node.blocks.protocol_data(block)},
            "metadata": self._node.blocks.metadata(block),
            "operations": self.operations(call),
        }

    def protocol_data(self, call: Call) -> Json:
        block = self._node.block_of(call)
        protocol = self._node.blocks.protocol_of(block)
        return {"protocol": protocol, **self._node.blocks.protocol_data(block)}

    def metadata(self, call: Call) -> Json:
        block = self._node.block_of(call)
        self._node.old_names(call)
        return self._node.blocks.metadata(block)

    def protocols(self, call: Call) -> Json:
        block = self._node.block_of(call)
        return {
            "protocol": self._node.blocks.protocol_of(block),
            "next_protocol": self._node.blocks.next_protocol_of(block),
        }

    def live_blocks(self, call: Call) -> list[str]:
        block = self._node.block_of(call)
        known, hashes = self._live
        if known != block.hash:
            live = sorted(live.hash for live in self._node.chain.tree.live_blocks(block))
            hashes = [text(base58.BLOCK_HASH, hash) for hash in live]
            self._live = (block.hash, hashes)
        return hashes

    def resulting_context_hash(self, call: Call) -> str:
        return text(base58.CONTEXT_HASH, self._node.block_of(call).resulting_context_hash)

    # -- operations -----------------------------------------------------------------------------

    def operations(self, call: Call) -> list[list[Json]]:
        block = self._node.block_of(call)
        return [
            [self._operation(call, block, index, position) for position in range(len(one_pass))]
            for index, one_pass in enumerate(_passes(block))
        ]

    def operations_of_pass(self, call: Call) -> list[Json]:
        block = self._node.block_of(call)
        index = _pass_of(call)
        count = len(_passes(block)[index])
        return [self._operation(call, block, index, position) for position in range(count)]

    def operation(self, call: Call) -> Json:
        block = self._node.block_of(call)
        index, position = _pass_of(call), call.number("index")
        if position >= len(_passes(block)[index]):
            raise NotFound
        return self._operation(call, block, index, position)

    def _operation(self, call: Call, block: Block, index: int, position: int) -> Json:
        operation = self._node.rules.read(block.operations[index][position].signed)
        receipts = None if _wants(call) == "never" else block.receipts[index][position]
        return self._node.operations.in_block(
            operation, receipts, old_names=self._node.old_names(call)
        )

    def hashes(self, call: Call) -> list[list[str]]:
        block = self._node.block_of(call)
        return [_hash_texts(block, index) for index in range(len(_passes(block)))]

    def hashes_of_pass(self, call: Call) -> list[str]:
        block = self._node.block_of(call)
        return _hash_texts(block, _pass_of(call))

    def hash_of_operation(self, call: Call) -> str:
        hashes = self.hashes_of_pass(call)
        position = call.number("index")
        if position >= len(hashes):
            raise NotFound
        return hashes[position]


def _passes(block: Block) -> Any:
    """Return the operations of a block: always four lists, for wallets look into all of them."""
    return block.operations if block.era is Era.BAKED else ((),) * VALIDATION_PASSES


def _pass_of(call: Call) -> int:
    index = call.number("pass")
    if index >= VALIDATION_PASSES:
        raise NotFound
    return index


def _hash_texts(block: Block, index: int) -> list[str]:
    return [text(base58.OPERATION_HASH, each.hash) for each in _passes(block)[index]]


def _wants(call: Call) -> Literal["always", "never"] | None:
    wish = call.query.text("metadata")
    if wish is None or wish == "always":
        return "always"
    if wish == "never":
        return "never"
    raise BadCall(f'Failed to parse the query string: metadata: "{wish}"')
