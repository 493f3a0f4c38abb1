"""Which votes belong into a block: the attestations of its predecessor, and what locks its payload.

Pure. Whose signature is under a vote is not checked here: votes come from a node that has.

Source: Octez `lib_delegate/operation_pool.ml` (filter_pool, extract_operations_of_list_list).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.preparation.chain_view import ChainView
from workers.preparation.submitted_operation import SubmittedOperation

_ATTESTATIONS = frozenset({"attestation", "attestation_with_dal", "attestations_aggregate"})
_PREATTESTATIONS = frozenset({"preattestation", "preattestations_aggregate"})
_AGGREGATES = frozenset({"attestations_aggregate", "preattestations_aggregate"})


@dataclass(frozen=True, slots=True)
class Vote:
    """What a consensus operation votes for. `slot` is None for an aggregate of several."""

    operation: SubmittedOperation
    is_attestation: bool
    level: int
    round: int
    payload_hash: bytes
    slot: int | None


def votes(operations: Iterable[SubmittedOperation]) -> Iterator[Vote]:
    """Read the votes among operations; others, such as evidence, are passed over."""
    for operation in operations:
        content = operation.decoded.contents[0]
        if content.name in _ATTESTATIONS or content.name in _PREATTESTATIONS:
            is_aggregate = content.name in _AGGREGATES
            common = content.fields["consensus_content"] if is_aggregate else content.fields
            yield Vote(
                operation,
                content.name in _ATTESTATIONS,
                common["level"],
                common["round"],
                common["block_payload_hash"],
                None if is_aggregate else content.fields["slot"],
            )


def attestations_of_predecessor(
    view: ChainView, operations: Iterable[SubmittedOperation]
) -> list[SubmittedOperation]:
    """The votes for the view's predecessor, one of each slot, each on a live branch.

    The votes on data availability of Mavryk Atlas, an operation of their own, come along.
    """
    operations = list(operations)
    wanted = (view.level, view.round, view.payload_hash)
    attestations = [
        vote
        for vote in votes(operations)
        if vote.is_attestation and (vote.level, vote.round, vote.payload_hash) == wanted
    ]
    return _live(view, [*_one_per_slot(attestations), *_dal_attestations(view, operations)])


def preattestations_of_payload(
    view: ChainView,
    operations: Iterable[SubmittedOperation],
    *,
    payload_hash: bytes,
    payload_round: int,
    round_: int,
) -> tuple[list[SubmittedOperation], int | None]:
    """The votes that lock a payload re-proposed at `round_`, and the round that they lock.

    Of several rounds the latest counts; None and nothing when there is no such vote.
    """
    candidates = [
        vote
        for vote in votes(operations)
        if not vote.is_attestation
        and (vote.level, vote.payload_hash) == (view.level + 1, payload_hash)
        and payload_round <= vote.round < round_
    ]
    candidates = [vote for vote in candidates if vote.operation.branch in view.live_blocks]
    if not candidates:
        return [], None
    locked_round = max(vote.round for vote in candidates)
    locking = _one_per_slot(vote for vote in candidates if vote.round == locked_round)
    return locking, locked_round


def _one_per_slot(candidates: Iterable[Vote]) -> list[SubmittedOperation]:
    """At most one vote of a slot, the one with the lowest bytes; every aggregate."""
    chosen: dict[int, SubmittedOperation] = {}
    aggregates = []
    for vote in sorted(candidates, key=lambda vote: vote.operation.data):
        if vote.slot is None:
            aggregates.append(vote.operation)
        else:
            chosen.setdefault(vote.slot, vote.operation)
    return [*aggregates, *chosen.values()]


def _dal_attestations(
    view: ChainView, operations: Iterable[SubmittedOperation]
) -> list[SubmittedOperation]:
    return [
        operation
        for operation in operations
        if operation.decoded.contents[0].name == "dal_attestation"
        and operation.decoded.contents[0].fields["level"] == view.level
    ]


def _live(view: ChainView, operations: list[SubmittedOperation]) -> list[SubmittedOperation]:
    return [each for each in operations if each.branch in view.live_blocks]
