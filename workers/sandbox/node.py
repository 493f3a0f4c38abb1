"""What every service of the node works with: the chain, its prints, and who listens.

Also the words for what a call may name: a chain, a block, an account.
"""

from __future__ import annotations

from typing import Any

import msgspec

from signers.errors import MalformedBytes
from signers.formats import base58
from workers.sandbox.block_id import NotABlockId, find_block
from workers.sandbox.block_json import BlockJson
from workers.sandbox.block_tree import Block
from workers.sandbox.chain import (
    BlockValidated,
    Chain,
    Event,
    HeadChanged,
    OperationClassified,
)
from workers.sandbox.context import Context
from workers.sandbox.directory import BadCall, Call, NotFound
from workers.sandbox.mempool import Class, Classified
from workers.sandbox.names import Contract, text
from workers.sandbox.operation_json import OperationJson
from workers.sandbox.streams import Streams, Topic

# Prints of waiting operations, which every reader of the mempool asks for again: a few full
# blocks of them, at about 1 kB each.
_PRINTS_KEPT = 4096


class SandboxNode:
    """One chain and everything that serves it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.rules = chain.rules
        self.constants = chain.rules.constants
        self.dialect = chain.rules.dialect
        self.names = chain.rules.names
        self.streams = Streams()
        genesis = chain.rules.genesis
        self.blocks = BlockJson(genesis, self.dialect, self.names)
        self.operations = OperationJson(chain.rules, genesis.protocol.hash)
        self.protocol_hash = genesis.protocol.hash
        self.chain_id = text(base58.CHAIN_ID, chain.rules.chain_id)
        self._prints: dict[tuple[bytes, Class, bool], bytes] = {}

    def publish(self, events: tuple[Event, ...]) -> None:
        """Tell the listeners what has happened."""
        for event in events:
            match event:
                case BlockValidated(block):
                    self.streams.publish(Topic.VALIDATED_BLOCKS, block)
                case HeadChanged(head, _):
                    self.streams.publish(Topic.HEADS, head)
                    self.streams.end(Topic.OPERATIONS)
                case OperationClassified(classified):
                    self.streams.publish(Topic.OPERATIONS, classified)
                case _:
                    pass

    def print_waiting(self, classified: Classified, *, streamed: bool) -> msgspec.Raw:
        """Return the JSON of a waiting operation, as the list or the stream has it."""
        key = (classified.operation.hash, classified.class_, streamed)
        printed = self._prints.get(key)
        if printed is None:
            if streamed:
                shown = self.operations.streamed(classified.operation, classified.refusal)
            else:
                shown = self.operations.waiting(
                    classified.operation, classified.refusal, old_names=False
                )
            if len(self._prints) >= _PRINTS_KEPT:
                del self._prints[next(iter(self._prints))]
            printed = self._prints[key] = msgspec.json.encode(shown)
        return msgspec.Raw(printed)

    # -- what a call names ----------------------------------------------------------------------

    def check_chain(self, call: Call) -> None:
        """Check that a call names this chain. Raises BadCall, NotFound."""
        name = call.argument("chain")
        if name in ("main", self.chain_id):
            return
        if name != "test":
            try:
                base58.decode(base58.CHAIN_ID, name)
            except MalformedBytes:
                raise call.bad_argument("chain", "chain_id") from None
        raise NotFound

    def block_of(self, call: Call) -> Block:
        """Return the block that a call names. Raises BadCall, NotFound."""
        self.check_chain(call)
        try:
            block = find_block(self.chain.tree, call.argument("block"))
        except NotABlockId:
            raise call.bad_argument("block", "block_id") from None
        if block is None:
            raise NotFound
        return block

    def context_of(self, call: Call) -> tuple[Block, Context]:
        """Return the block that a call names and the state after it.

        Raises BadCall; NotFound also when the state of so old a block is gone.
        """
        block = self.block_of(call)
        if block.context is None:
            raise NotFound
        return block, block.context

    def contract_of(self, call: Call) -> Contract:
        """Return the contract that a call names. Raises BadCall."""
        try:
            return self.names.read_contract(call.argument("contract"))
        except MalformedBytes:
            raise call.bad_argument("contract", "contract_id") from None

    def delegate_of(self, call: Call) -> bytes:
        """Return the registered delegate that a call names. Raises BadCall, NotFound."""
        try:
            address = self.names.read_address(call.argument("pkh"))
        except MalformedBytes:
            raise call.bad_argument("pkh", "Signature.Public_key_hash") from None
        if address not in self.rules.consensus_keys:
            raise NotFound
        return address

    def delegates_in(self, call: Call) -> frozenset[bytes] | None:
        """Return the delegates that the query asks for, None for all. Raises BadCall."""
        # A consensus key is its delegate's own key on this chain.
        asked = call.query.texts("delegate") + call.query.texts("consensus_key")
        if not asked:
            return None
        try:
            return frozenset(map(self.names.read_address, asked))
        except MalformedBytes as error:
            raise BadCall(f"Failed to parse the query string: {error}") from None

    def old_names(self, call: Call) -> bool:
        """Return whether a call wants the names of version 0. Raises BadCall."""
        version = call.query.text("version")
        if version is not None and version not in self.dialect.versions:
            raise BadCall(f'Failed to parse the query string: version: "{version}"')
        return version == "0"


def hash_text(block: Block) -> str:
    """Return a block's hash as text."""
    return text(base58.BLOCK_HASH, block.hash)


Json = dict[str, Any]
