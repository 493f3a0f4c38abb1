"""Services about the node itself, its chain as a whole, and what it is set up for."""

from __future__ import annotations

from functools import partial
from typing import Any

from signers.errors import MalformedBytes
from signers.formats import base58
from workers.sandbox.block_id import find_block
from workers.sandbox.directory import BadCall, Call, Directory, NotFound
from workers.sandbox.genesis import GENESIS_PROTOCOL
from workers.sandbox.names import text
from workers.sandbox.node import Json, SandboxNode, hash_text

# `length` of a chain listing; asking for more than are kept is no error.
_LENGTH_MAX = 100_000
# Octez base58.ml, ``cryptobox_public_key_hash``: "id" and 28 more characters.
_PEER_ID = base58.Prefix("peer id", bytes.fromhex("9967"), 16)
_LANDMARKS = ("checkpoint", "savepoint", "caboose")


class NodeServices:
    """`/version`, `/chains/…` without a block, `/config`, `/network`."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    def add_to(self, directory: Directory) -> None:
        fixed: dict[str, Any] = {
            "/version": self._version(),
            "/config/network/user_activated_upgrades": [],
            "/config/network/user_activated_protocol_overrides": [],
            "/config/history_mode": {"history_mode": {"rolling": {"additional_cycles": 1}}},
            "/config/network/dal": {
                "activated": False,
                "use_mock_srs_for_testing": True,
                "bootstrap_peers": [],
            },
            "/network/connections": [],
            "/network/points": [],
            "/network/stat": {
                "total_sent": "0",
                "total_recv": "0",
                "current_inflow": 0,
                "current_outflow": 0,
            },
            "/network/self": text(_PEER_ID, self._node.rules.genesis.hash[:16]),
            "/health/ready": {},
            "/protocols": [GENESIS_PROTOCOL, self._node.protocol_hash],
        }
        for path, answer in fixed.items():
            directory.serve("GET", path, partial(_always, answer))
        chain = "/chains/{chain}"
        directory.serve("GET", f"{chain}/chain_id", self.chain_id)
        directory.serve("GET", f"{chain}/is_bootstrapped", self.is_bootstrapped)
        directory.serve("GET", f"{chain}/blocks", self.blocks)
        directory.serve("GET", f"{chain}/protocols", self.protocols)
        directory.serve("GET", f"{chain}/invalid_blocks", self.invalid_blocks)
        for name in _LANDMARKS:
            directory.serve("GET", f"{chain}/levels/{name}", partial(self.landmark, name))

    def _version(self) -> Json:
        return {
            "version": self._node.dialect.version,
            "network_version": {
                "chain_name": self._node.dialect.chain_name,
                "distributed_db_version": 2,
                "p2p_version": 1,
            },
            "commit_info": None,
        }

    def chain_id(self, call: Call) -> str:
        self._node.check_chain(call)
        return self._node.chain_id

    def is_bootstrapped(self, call: Call) -> Json:
        self._node.check_chain(call)
        return {"bootstrapped": True, "sync_state": "synced"}

    def invalid_blocks(self, call: Call) -> list[Json]:
        self._node.check_chain(call)
        return []

    def protocols(self, call: Call) -> list[Json]:
        self._node.check_chain(call)
        tree = self._node.chain.tree
        activations = (
            (GENESIS_PROTOCOL, tree.genesis),
            (self._node.protocol_hash, tree.activation),
        )
        return [
            {
                "protocol": protocol,
                "proto_level": proto_level,
                "activation_block": {"block_hash": hash_text(block), "level": block.level},
            }
            for proto_level, (protocol, block) in enumerate(activations)
        ]

    def landmark(self, name: str, call: Call) -> Json:
        self._node.check_chain(call)
        block = find_block(self._node.chain.tree, name)
        if block is None:
            raise NotFound
        return {"block_hash": hash_text(block), "level": block.level}

    def blocks(self, call: Call) -> list[list[str]]:
        """For each head asked for (the chain's own by default) it and those below it."""
        self._node.check_chain(call)
        tree = self._node.chain.tree
        length = call.query.number("length")
        length = 1 if length is None else min(max(length, 0), _LENGTH_MAX)
        min_date = call.query.number("min_date")
        listed = []
        for hash in self._heads(call):
            head = tree.get(hash)
            if head is None or (min_date is not None and head.header.timestamp < min_date):
                continue
            branch: list[str] = []
            for block in tree.ancestors(head):
                if len(branch) >= length:
                    break
                branch.append(text(base58.BLOCK_HASH, block.hash))
            listed.append(branch)
        return listed

    def _heads(self, call: Call) -> list[bytes]:
        asked = call.query.texts("head")
        try:
            named = [base58.decode(base58.BLOCK_HASH, each) for each in asked]
        except MalformedBytes as error:
            raise BadCall(f"Failed to parse the query string: head: {error}") from None
        return named or [self._node.chain.head.hash]


def _always(answer: Any, _: Call) -> Any:
    return answer
