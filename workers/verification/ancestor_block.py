"""A block that others were built on, as far as its header tells.

Also the first blocks of a chain are: the block that activates the protocol has no baker, no round
and no payload.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.verification import HeaderFacts
from signers.errors import MalformedBytes
from signers.formats import block_header
from signers.formats.block_header import Fitness
from signers.formats.codec import Reader
from signers.formats.hashes import HASH_BYTES, blake2b_32
from workers.verification.header_check import fitness_key


@dataclass(frozen=True, slots=True)
class AncestorBlock:
    """A header that was found good before."""

    hash: bytes
    predecessor: bytes
    level: int
    proto: int  # the how manieth protocol of the chain
    round: int  # 0 for a block without
    timestamp: int
    fitness: Fitness
    payload_hash: bytes | None  # None: nobody voted for it
    payload_round: int

    def facts(self) -> HeaderFacts:
        """What it says, as the quarantine has it."""
        return HeaderFacts(
            self.hash,
            self.predecessor,
            self.level,
            self.round,
            self.timestamp,
            self.payload_hash or bytes(HASH_BYTES),
            self.payload_round,
            fitness_key(self.fitness) if self.fitness.is_tenderbake else b"",
            "",
        )


def read_ancestor(raw: bytes) -> AncestorBlock:
    """Read a header of any protocol. Raises MalformedBytes."""
    shell = block_header.read_shell(Reader(raw))
    payload_hash, payload_round, round_ = None, 0, 0
    if shell.fitness.is_tenderbake:
        round_ = shell.fitness.round
        try:
            header = block_header.decode(raw)
        except MalformedBytes:
            pass  # it activates a protocol: other contents behind the shell
        else:
            if header.signature is not None:
                payload_hash, payload_round = header.payload_hash, header.payload_round
    return AncestorBlock(
        blake2b_32(raw),
        shell.predecessor,
        shell.level,
        shell.proto,
        round_,
        shell.timestamp,
        shell.fitness,
        payload_hash,
        payload_round,
    )
