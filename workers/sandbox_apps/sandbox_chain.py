"""Chains of the sandbox: heights and hashes, and who is told of a block."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

# What is told of a chain: a reason of `linera-core`, tagged by its name.
Reason = dict[str, Any]


class Notification(NamedTuple):
    """Something that the listeners to a chain are told."""

    chain_id: str
    reason: Reason


def sandbox_id(kind: str, number: int) -> str:
    """The id of the sandbox's `number`th chain or application: 64 digits, the same in each run."""
    return blake2b(f"forgepool sandbox {kind} {number}".encode(), digest_size=32).hexdigest()


def sandbox_owner(number: int) -> str:
    """The owner of the sandbox's `number`th worker chain."""
    return "0x" + sandbox_id("owner", number)


class SandboxChain:
    """A chain: every block has one more height, and a hash that names it."""

    def __init__(self, chain_id: str) -> None:
        self.chain_id = chain_id
        self.next_height = 0

    def add_block(self) -> tuple[str, Notification]:
        """Make a block; return its hash and what is told of it."""
        height = self.next_height
        self.next_height += 1
        seal = f"{self.chain_id} block {height}".encode()
        block_hash = blake2b(seal, digest_size=32).hexdigest()
        reason = {"NewBlock": {"height": height, "hash": block_hash}}
        return block_hash, Notification(self.chain_id, reason)
