"""Which operations go into a fresh block: rules, order and quotas.

Votes, anonymous and consensus operations are taken in the order of their bytes as long as they
fit. Manager operations compete: each must pay its minimal fee, and whoever pays most for the
scarcer of space and gas goes first. Pure; whether an operation is *valid* is decided elsewhere.

Source: Octez `lib_delegate/operation_selection.ml`, `operation_pool.ml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from signers.formats.content_kind import ANONYMOUS_PASS, CONSENSUS_PASS, MANAGER_PASS, VOTING_PASS


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one validation pass of a block may hold."""

    bytes_max: int
    operations_max: int | None


QUOTAS = (
    Quota(4 * 1024 * 1024, 2048),
    Quota(32 * 1024, None),
    Quota(132 * 1024, 132),
    Quota(512 * 1024, None),
)

# The least that a baker of the reference software takes. Fees are in mutez (mumav on Mavryk),
# the rates in thousandths of them.
MINIMAL_FEE = 100
MINIMAL_MILLIFEE_PER_GAS = 100
MINIMAL_MILLIFEE_PER_BYTE = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """An operation that may go into the block, and what its choice depends on.

    The last four fields are those of manager operations: the sums over the contents of one
    source, and the first counter.
    """

    operation: bytes  # branch, contents, signature
    hash: bytes
    validation_pass: int
    priority: int = 0  # 0: from the mempool; higher: the baker wants it, the higher the more
    source: bytes = b""  # a tagged key hash
    fee: int = 0
    gas: int = 0
    counter: int = 0

    @property
    def size(self) -> int:
        return len(self.operation)


def pays_enough(candidate: Candidate) -> bool:
    """Whether a manager operation pays the minimal fee, for gas and for bytes as well."""
    millifee = candidate.fee * 1000
    return (
        candidate.fee >= MINIMAL_FEE
        and millifee >= candidate.gas * MINIMAL_MILLIFEE_PER_GAS
        and millifee >= candidate.size * MINIMAL_MILLIFEE_PER_BYTE
    )


def in_order_of_bytes(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The order of passes 0 to 2: the mempool's first, as upstream has it; then by bytes."""
    return sorted(candidates, key=lambda each: (each.priority, each.operation))


def in_order_of_worth(candidates: Iterable[Candidate], *, gas_per_block: int) -> list[Candidate]:
    """The order of manager operations that pay enough: by priority, then by what they pay.

    The weight of an operation is its fee divided by its share of the block, of its bytes or of
    its gas, whichever share is larger. Operations of one source keep the places that they have
    earned together, the lowest counter in the first of them: a later one cannot go before.
    """
    by_worth = sorted(
        filter(pays_enough, candidates),
        key=lambda each: (-each.priority, -_weight(each, gas_per_block), each.hash),
    )
    by_counter: dict[tuple[int, bytes], list[Candidate]] = {}
    for candidate in by_worth:
        by_counter.setdefault((candidate.priority, candidate.source), []).append(candidate)
    for queue in by_counter.values():
        queue.sort(key=lambda each: each.counter, reverse=True)
    return [by_counter[each.priority, each.source].pop() for each in by_worth]


def take(candidates: Iterable[Candidate], quota: Quota) -> list[Candidate]:
    """The operations of one pass that fit, in the given order.

    What does not fit is passed over, smaller ones behind it may still go in. Of a number of
    operations the last place stays empty: upstream stops one short of the limit, and a block
    that its own bakers would never make is not worth one more operation.
    """
    taken: list[Candidate] = []
    free = quota.bytes_max
    for candidate in candidates:
        if quota.operations_max is not None and len(taken) + 1 == quota.operations_max:
            break
        if candidate.size <= free:
            taken.append(candidate)
            free -= candidate.size
    return taken


def take_managers(
    candidates: Iterable[Candidate], quota: Quota, *, gas_per_block: int
) -> list[Candidate]:
    """The manager operations that fit by size and gas, in the given order, one of each source.

    The protocol allows a source one operation in a block (`manager_restriction`).
    """
    taken: list[Candidate] = []
    sources: set[bytes] = set()
    free, gas = quota.bytes_max, gas_per_block
    for candidate in candidates:
        if candidate.source in sources or candidate.size > free or candidate.gas > gas:
            continue
        taken.append(candidate)
        sources.add(candidate.source)
        free -= candidate.size
        gas -= candidate.gas
    return taken


def select(candidates: Sequence[Candidate], *, gas_per_block: int) -> tuple[tuple[bytes, ...], ...]:
    """The four passes of a block, from valid candidates; each operation at most once."""
    once = {candidate.hash: candidate for candidate in sorted(candidates, key=lambda c: c.priority)}
    passes: list[list[Candidate]] = [[], [], [], []]
    for candidate in once.values():
        passes[candidate.validation_pass].append(candidate)
    chosen = [
        take(in_order_of_bytes(passes[number]), QUOTAS[number])
        for number in (CONSENSUS_PASS, VOTING_PASS, ANONYMOUS_PASS)
    ]
    managers = in_order_of_worth(passes[MANAGER_PASS], gas_per_block=gas_per_block)
    chosen.append(take_managers(managers, QUOTAS[MANAGER_PASS], gas_per_block=gas_per_block))
    return tuple(tuple(candidate.operation for candidate in one) for one in chosen)


def _weight(candidate: Candidate, gas_per_block: int) -> int:
    """The weight as a whole number that orders as the exact fraction does.

    fee / max(size / S, gas / G) = fee·S·G / max(size·G, gas·S). The denominators stay below
    2^48, so two different fractions differ by more than 2^-96 and the scaled floors differ too.
    """
    space = QUOTAS[MANAGER_PASS].bytes_max
    share = max(candidate.size * gas_per_block, candidate.gas * space)
    return (candidate.fee * space * gas_per_block << 96) // share
