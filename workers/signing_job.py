"""A worker's tasks, from assignment to result: first without bytes (a block), then with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from broker.messages import Assignment
from signers.formats.signable import Signable
from signers.marks.watermark import MARKED_KINDS

if TYPE_CHECKING:
    from signers.marks.store_tables import BlockDraft
    from workers.bls_vote import BlsVote
    from workers.pipeline import SigningBatch


class PendingTask(Struct, eq=False):
    """What the broker assigned, as long as there are no bytes to sign."""

    epoch: str  # of the broker that assigned it
    number: int
    attempt: int
    delegate: str  # hash of the key that signs
    request: Assignment
    deadline: float  # monotonic seconds


class SigningJob(Struct, eq=False):
    """A task whose bytes are known: what is judged, then signed, then released."""

    epoch: str
    number: int
    attempt: int
    delegate: str
    request: Assignment
    deadline: float
    unsigned: bytes  # watermark ‖ message: exactly the bytes that are signed
    signable: Signable  # kind, chain, level and round as read from these bytes
    draft: BlockDraft | None = None  # of a block: what the store keeps with the mark
    is_elsewhere: bool = False  # its signer is no key of ours, and might not sign alike
    batch: SigningBatch | None = None  # while it is permitted and not released
    signature: bytes | None = None
    expectation: int | None = None  # under which its signer is asked, see `kept_signatures`
    bls_vote: BlsVote | None = None  # of a tz4 key: the consensus key's job, or its companion's


Task = PendingTask | SigningJob


def is_duty(job: SigningJob) -> bool:
    """Whether it is a block or a vote: nobody is asked about it, and it cannot wait for anybody."""
    return job.signable.kind in MARKED_KINDS


def with_bytes(
    task: PendingTask,
    unsigned: bytes,
    signable: Signable,
    draft: BlockDraft | None = None,
    *,
    is_elsewhere: bool = False,
) -> SigningJob:
    """The task, now that its bytes are known."""
    return SigningJob(
        task.epoch,
        task.number,
        task.attempt,
        task.delegate,
        task.request,
        task.deadline,
        unsigned,
        signable,
        draft,
        is_elsewhere,
    )
