"""A chain baked in this process, with real signatures, and the node of that chain.

The node stands at the chain's beginning, so what is baked here is news to it and to whoever asks
it. Blocks hold attestations of all delegates and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from signers.formats import base58, block_header
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.hashes import blake2b_32, operations_hash, payload_hash
from signers.formats.networks import (
    ATTESTATION_WATERMARK,
    MAVRYK,
    PREATTESTATION_TAG,
    PREATTESTATION_WATERMARK,
)
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from workers.sandbox.accounts import SandboxKey, bakers_json, sandbox_keys
from workers.sandbox.block_tree import Block as ChainBlock
from workers.sandbox.block_tree import Era
from workers.sandbox.chain import Chain
from workers.sandbox.constants import sandbox_constants
from workers.sandbox.genesis_files import BakerEntry, genesis_of
from workers.sandbox.levels import level_info

SIGNATURE_BYTES = 64
STAKE = 4_000_000_000_000
READY_S = 30.0
Block = tuple[bytes, list[list[bytes]]]  # signed header, four passes
VOTE_KINDS = (Kind.PREATTESTATION, Kind.ATTESTATION)


class BenchChain:
    """Everything that its delegates sign."""

    def __init__(self, seed: str, delegates: int, slots: int, age_s: int) -> None:
        """A chain that began `age_s` ago; rounds last a second, quorums are two thirds."""
        self.seed = seed
        self.keys = sandbox_keys(seed, "baker", delegates)
        self.started = int(time.time()) - age_s
        self._options = {
            "minimal_block_delay": "1",
            "delay_increment_per_round": "0",
            "consensus_committee_size": slots,
            "consensus_threshold": slots * 2 // 3 + 1,
        }
        self.chain = Chain(
            genesis_of(
                MAVRYK,
                MAVRYK.protocols[0],
                sandbox_constants("boreas", self._options),
                seed=seed,
                timestamp=self.started,
                bakers=[BakerEntry(key.public_key_text, STAKE) for key in self.keys],
                accounts=[],
            )
        )
        self.id = base58.encode(base58.CHAIN_ID, self.chain.rules.chain_id)
        self._by_address = {key.address: key for key in self.keys}

    @property
    def head(self) -> ChainBlock:
        return self.chain.head

    @contextlib.contextmanager
    def node(self, directory: Path) -> Iterator[str]:
        """A node at the chain's beginning, in a process of its own; gives its address."""
        bakers, ready = directory / "bakers.json", directory / "ready"
        bakers.write_text(json.dumps(bakers_json(self.keys, [STAKE] * len(self.keys))))
        constants = [f"--constant={name}={json.dumps(v)}" for name, v in self._options.items()]
        command = [sys.executable, "-m", "broker.command", "sandbox", "--network", "mavryk"]
        command += ["--seed", self.seed, "--start-at", str(self.started), "--port", "0"]
        command += ["--bakers", str(bakers), "--ready-file", str(ready)]
        command += ["--delay-increment", "0", *constants]
        with (directory / "node.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until = time.monotonic() + READY_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"no node: {(directory / 'node.log').read_text()}")
                time.sleep(0.02)
            yield json.loads(ready.read_text())["url"]
        finally:
            process.terminate()
            process.wait(READY_S)

    # -- blocks -----------------------------------------------------------------------------------

    def block(self, predecessor: ChainBlock, round_: int, *, is_orphan: bool = False) -> Block:
        """A signed header of a round on top of a block, and its operations.

        An orphan stands on a block that nobody has ever seen.
        """
        passes = [self.votes(Kind.ATTESTATION, predecessor), [], [], []]
        header = self._header(predecessor, round_, passes)
        if is_orphan:
            header = replace(header, predecessor=os.urandom(32))
        threshold = self.chain.rules.constants.proof_of_work_threshold
        count = 0
        while not block_header.pow_is_enough(block_header.pow_stamp(header), threshold):
            count += 1
            header = replace(header, proof_of_work_nonce=count.to_bytes(8))
        baker = self.chain.rules.rights.committee(header.level).baker(round_)
        signature = self._by_address[baker].sign_block(header, self.chain.rules.chain_id)
        return block_header.encode(replace(header, signature=signature)), passes

    def bake(self) -> Block:
        """A block of round 0 on top of the head, which becomes the head here."""
        header, passes = self.block(self.head, 0)
        outcome = self.chain.inject_block(header, passes, time.time())
        assert outcome.refusal is None, outcome.refusal
        return header, passes

    def _header(
        self, predecessor: ChainBlock, round_: int, passes: list[list[bytes]]
    ) -> BlockHeader:
        rules, level = self.chain.rules, predecessor.level + 1
        committed = level_info(rules.constants, level).expected_commitment
        began = predecessor.header.timestamp
        return BlockHeader(
            level=level,
            proto=1,
            predecessor=predecessor.hash,
            timestamp=rules.durations.timestamp(began, predecessor.round, round_),
            validation_passes=4,
            operations_hash=operations_hash([[blake2b_32(o) for o in one] for one in passes]),
            fitness=Fitness.tenderbake(
                level=level, round=round_, predecessor_round=predecessor.round, locked_round=None
            ),
            context=predecessor.resulting_context_hash,
            payload_hash=payload_hash(predecessor.hash, round_, []),
            payload_round=round_,
            proof_of_work_nonce=bytes(8),
            seed_nonce_hash=blake2b_32(b"%d" % level) if committed else None,
            per_block_votes=0x0A,
            signature=None,
        )

    # -- votes ------------------------------------------------------------------------------------

    def votes(self, kind: Kind, block: ChainBlock) -> list[bytes]:
        """A vote of every delegate for a block; nobody votes for the chain's activation."""
        if block.era is not Era.BAKED:
            return []
        header = block.header
        return self.votes_for(
            kind, header.predecessor, block.level, block.round, header.payload_hash
        )

    def votes_for(
        self, kind: Kind, branch: bytes, level: int, round_: int, payload: bytes
    ) -> list[bytes]:
        """A vote of every delegate who has a slot at a level."""
        template = VoteTemplate(kind, self.chain.rules.chain_id, branch, level, round_, payload)
        committee = self.chain.rules.rights.committee(level)
        return [
            self._vote(template, slots[0], self._by_address[owner])
            for owner, slots in committee.slots.items()
        ]

    def _vote(self, template: VoteTemplate, slot: int, key: SandboxKey) -> bytes:
        return template.operation(slot, key.sign(template.signable(slot)))

    def signed_again(self, vote: bytes, round_: int | None, payload: bytes) -> bytes:
        """The vote of the same delegate for another payload, and another round unless None."""
        key, watermark = self._signer(vote)
        round_bytes = vote[39:43] if round_ is None else round_.to_bytes(4)
        unsigned = vote[:39] + round_bytes + payload
        return unsigned + key.sign(watermark + self.chain.rules.chain_id + unsigned)

    def signed_message(self, vote: bytes) -> tuple[bytes, bytes, bytes]:
        """Public key, digest and signature of a vote: what is left to verify."""
        unsigned, signature = vote[:-SIGNATURE_BYTES], vote[-SIGNATURE_BYTES:]
        key, watermark = self._signer(vote)
        digest = blake2b_32(watermark + self.chain.rules.chain_id + unsigned)
        return key.public_key[1:], digest, signature

    def _signer(self, vote: bytes) -> tuple[SandboxKey, bytes]:
        """Whose vote it is, by its level and slot, and the watermark of its kind."""
        is_early = vote[32] == PREATTESTATION_TAG
        watermark = PREATTESTATION_WATERMARK if is_early else ATTESTATION_WATERMARK
        slot, level = int.from_bytes(vote[33:35]), int.from_bytes(vote[35:39])
        owner = self.chain.rules.rights.committee(level).owners[slot]
        return self._by_address[owner], bytes([watermark])
