"""Forging: a predecessor, a round and the chosen operations become an unsigned header.

Pure: everything that varies (votes, nonce, operations) is an argument, so the same arguments
give the same bytes. The proof of work is still to be found; its nonce is the prefix and zeros.

Source: Octez `lib_delegate/block_forge.ml`, `baking_actions.ml` (prepare_block).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from signers.formats.block_header import POW_NONCE_BYTES, BlockHeader, Fitness, encode
from signers.formats.content_kind import CONSENSUS_PASS
from signers.formats.hashes import blake2b_32, operations_hash, payload_hash
from workers.preparation.chain_view import ChainView
from workers.preparation.preparation_errors import InvalidRequest
from workers.preparation.rounds import block_timestamp

VALIDATION_PASSES = 4
UNIX_SECONDS_MAX = (1 << 63) - 1
_VOTE_CODES = {"on": 0, "off": 1, "pass": 2}
_ADAPTIVE_ISSUANCE_SHIFT = 2
_OPTIONAL_HASH_BYTES = {False: 1, True: 33}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a block holds: four passes of signed operations, and where its payload comes from."""

    operations: tuple[tuple[bytes, ...], ...]  # consensus, votes, anonymous, manager
    payload_round: int  # the round in which this payload was first proposed
    locked_round: int | None = None  # the round of the preattestations in pass 0, if any

    @property
    def payload(self) -> tuple[tuple[bytes, ...], ...]:
        """Everything but the consensus pass."""
        return self.operations[CONSENSUS_PASS + 1 :]

    @property
    def operation_hashes(self) -> list[list[bytes]]:
        return [[blake2b_32(operation) for operation in one] for one in self.operations]


def per_block_votes(
    liquidity_baking: str, adaptive_issuance: str, *, votes_on_issuance: bool
) -> int:
    """The vote byte of a header; each vote is "on", "off" or "pass".

    Raises InvalidRequest for a vote on adaptive issuance where there is none.
    """
    if votes_on_issuance:
        code = _VOTE_CODES[adaptive_issuance] << _ADAPTIVE_ISSUANCE_SHIFT
        return _VOTE_CODES[liquidity_baking] | code
    if adaptive_issuance != "pass":
        raise InvalidRequest("this protocol has no vote on adaptive issuance")
    return _VOTE_CODES[liquidity_baking]


def header_timestamp(view: ChainView, round_: int) -> int:
    """When a block of this round on this predecessor must be dated. Raises InvalidRequest."""
    timestamp = block_timestamp(
        view.constants,
        predecessor_timestamp=view.timestamp,
        predecessor_round=view.round,
        round_=round_,
    )
    if timestamp > UNIX_SECONDS_MAX:
        raise InvalidRequest(f"round {round_} would begin after the end of time")
    return timestamp


def forge_header(
    view: ChainView,
    round_: int,
    proposal: Proposal,
    *,
    votes: int,
    seed_nonce_hash: bytes | None,
    nonce_prefix: bytes,
) -> BlockHeader:
    """The unsigned header of `proposal` at `round_` on top of the view's predecessor.

    `votes` is the vote byte, `seed_nonce_hash` 32 bytes where the level commits to a nonce.
    Raises InvalidRequest when rounds contradict each other.
    """
    _check_rounds(round_, proposal)
    hashes = proposal.operation_hashes
    return BlockHeader(
        level=view.level + 1,
        proto=view.proto,
        predecessor=view.predecessor,
        timestamp=header_timestamp(view, round_),
        validation_passes=VALIDATION_PASSES,
        operations_hash=operations_hash(hashes),
        fitness=Fitness.tenderbake(
            level=view.level + 1,
            round=round_,
            predecessor_round=view.round,
            locked_round=proposal.locked_round,
        ),
        context=view.resulting_context,
        payload_hash=payload_hash(view.predecessor, proposal.payload_round, _payload(hashes)),
        payload_round=proposal.payload_round,
        proof_of_work_nonce=nonce_prefix.ljust(POW_NONCE_BYTES, b"\0"),
        seed_nonce_hash=seed_nonce_hash,
        per_block_votes=votes,
        signature=None,
    )


def shell_bytes(header: BlockHeader) -> int:
    """How long the shell part of an unsigned header is: where its contents begin."""
    contents = 32 + 4 + POW_NONCE_BYTES + _OPTIONAL_HASH_BYTES[header.seed_nonce_hash is not None]
    return len(encode(replace(header, signature=None))) - contents - 1


def _payload(hashes: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Everything but the consensus pass, in order."""
    return [operation for one in hashes[CONSENSUS_PASS + 1 :] for operation in one]


def _check_rounds(round_: int, proposal: Proposal) -> None:
    if proposal.payload_round > round_:
        raise InvalidRequest(
            f"a payload of round {proposal.payload_round} cannot be in a block of round {round_}"
        )
    if proposal.locked_round is None:
        return
    if not proposal.payload_round <= proposal.locked_round < round_:
        raise InvalidRequest(
            f"preattestations of round {proposal.locked_round} cannot lock a payload of round "
            f"{proposal.payload_round} in a block of round {round_}"
        )
