"""A worker's state machine under a hand-held clock; the test plays the broker, the store's thread,
the signers and the block preparer, one step at a time.

    worker = WorkerScript()
    worker.gets(votes(A, B))
    worker.judges()
    worker.signs()
    assert worker.ends() == {}, "the mark is not on disk"
    worker.commits()
    assert worker.ends() == {A: "attestation_ready", B: "attestation_ready"}

Marks are judged by the real rule and signatures made by real keys; only the disk is played.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any, TypeVar

from broker import wire
from broker.messages import (
    CREDIT_US_DEFAULT,
    FORGE_AND_SIGN_ATTESTATIONS,
    FORGE_AND_SIGN_BLOCK,
    PROTOCOL_VERSION,
    READY_EVENT,
    SIGN,
    Assign,
    Assignment,
    BrokerMessage,
    Item,
    OrphanResult,
    OrphanResults,
    Outcome,
    PrepareAhead,
    Result,
    Results,
    ResultsAck,
    VoteBatch,
    Welcome,
    WorkerHello,
    WorkerMessage,
)
from signers.formats import base58, block_header
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.networks import MAVRYK, TEZOS, BlsScheme
from signers.formats.signable import Kind, Signable, read_signable
from signers.formats.vote import VoteTemplate
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey
from signers.marks.store_tables import BlockDraft
from signers.marks.watermark import (
    ADVANCE,
    FRESH,
    MARKED_KINDS,
    UNMARKED,
    Verdict,
    floor_mark,
    judge,
)
from signers.policy.decision import Policy
from signers.policy.rule import CONSENSUS_KINDS, Rule
from workers.pipeline import Committed, SigningBatch
from workers.preparation.block_request import ForgeBlock, Fresh, encode_forge_block
from workers.preparation.preparation_job import PreparationFailed, PreparationJob, PreparedBlock
from workers.signing_job import PendingTask, SigningJob, is_duty, with_bytes
from workers.worker import (
    SIGNER_LIMIT_S,
    FindDraft,
    KeepSignatures,
    Turn,
    WithdrawExpectations,
    Worker,
)

CHAIN = b"\x01\x02\x03\x04"
CHAIN_TEXT = base58.encode(base58.CHAIN_ID, CHAIN)
PREDECESSOR, OTHER_PREDECESSOR = (bytes([i]) * 32 for i in (1, 2))
PAYLOAD_HASH = bytes([9]) * 32
TTL_MS = 60_000
KEYS = {
    key.public_key.hash(MAVRYK): key for key in (SecretKey(bytes([i]) * 32) for i in range(1, 6))
}
A, B, C, D, E = KEYS
_BLS = [SecretKey(bytes([i]) * 32, Curve.BLS, BlsScheme.POSSESSION) for i in (1, 2)]
TZ4, COMPANION = (key.public_key.hash(TEZOS) for key in _BLS)
MV4 = _BLS[0].public_key.hash(MAVRYK)
_P256 = SecretKey(bytes([1]) * 32, Curve.P256)
P256 = _P256.public_key.hash(MAVRYK)
KEYS |= {TZ4: _BLS[0], COMPANION: _BLS[1], MV4: _BLS[0].with_scheme(BlsScheme.AUGMENTED)}
KEYS |= {P256: _P256}
STRANGER = SecretKey(bytes([99]) * 32).public_key.hash(MAVRYK)

# What the scripts sign besides blocks and votes does nothing on chain.
POLICY = Policy(Rule("default", CONSENSUS_KINDS, frozenset(["failing_noop"])))

_numbers = itertools.count(1)
M = TypeVar("M")


# -- what the broker assigns ----------------------------------------------------------------------


def assignment(kind: str, payload: bytes, *delegates: str, ttl_ms: int = TTL_MS,
               dal: str | None = None, companion: str | None = None) -> Assignment:  # fmt: skip
    items = [Item(next(_numbers), 1, d, slot, dal, companion) for slot, d in enumerate(delegates)]
    id = next(_numbers).to_bytes(16)
    return Assignment("baker", id, kind, b"fingerprint of %b" % id, ttl_ms, payload, items)


def votes(*delegates: str, level: int = 5, round: int = 0, payload: int = 9,
          kind: str = FORGE_AND_SIGN_ATTESTATIONS, **other: Any) -> Assignment:  # fmt: skip
    """Votes of one level and round; another `payload` makes other bytes at the same place."""
    batch = VoteBatch(
        CHAIN_TEXT, base58.encode(base58.BLOCK_HASH, PREDECESSOR), level, round,
        base58.encode(base58.PAYLOAD_HASH, bytes([payload]) * 32),
    )  # fmt: skip
    return assignment(kind, wire.encode(batch), *delegates, **other)


def sign(delegate: str, unsigned: bytes, **other: Any) -> Assignment:
    return assignment(SIGN, unsigned, delegate, **other)


def block(delegate: str, *, level: int = 5, round: int = 0, predecessor: bytes = PREDECESSOR,
          **other: Any) -> Assignment:  # fmt: skip
    wanted = ForgeBlock(
        CHAIN_TEXT, base58.encode(base58.BLOCK_HASH, predecessor), level, round, Fresh()
    )
    return assignment(FORGE_AND_SIGN_BLOCK, encode_forge_block(wanted), delegate, **other)


# -- bytes and jobs by themselves -----------------------------------------------------------------


def a_vote(level: int = 5, payload: int = 9) -> bytes:
    """What is signed for an attestation; another `payload` makes other bytes."""
    branch, hash_ = PREDECESSOR, bytes([payload]) * 32
    return VoteTemplate(Kind.ATTESTATION, CHAIN, branch, level, 0, hash_).signable(0)


def a_task(delegate: str, *, number: int = 1, deadline: float = 1e9) -> PendingTask:
    request = assignment(FORGE_AND_SIGN_BLOCK, b"", delegate)
    return PendingTask("e1", number, 1, delegate, request, deadline)


def a_job(delegate: str, unsigned: bytes, draft: BlockDraft | None = None,
          **task: Any) -> SigningJob:  # fmt: skip
    return with_bytes(a_task(delegate, **task), unsigned, read_signable(unsigned), draft)


# -- what the block preparer makes ----------------------------------------------------------------


def a_header(*, level: int = 5, round: int = 0, predecessor: bytes = PREDECESSOR,
             content: int = 1) -> bytes:  # fmt: skip
    """An unsigned header; another `content` makes another block at the same place."""
    return block_header.encode(
        BlockHeader(
            level=level,
            proto=1,
            predecessor=predecessor,
            timestamp=1_700_000_000,
            validation_passes=4,
            operations_hash=bytes([content]) * 32,
            fitness=Fitness.tenderbake(level=level, round=round, predecessor_round=0),
            context=bytes(32),
            payload_hash=PAYLOAD_HASH,
            payload_round=round,
            proof_of_work_nonce=bytes(8),
            seed_nonce_hash=None,
            per_block_votes=0,
            signature=None,
        )
    )


def a_draft(**header: Any) -> BlockDraft:
    return BlockDraft(a_header(**header), OPERATIONS, None)


OPERATIONS = [[b"attestation"], [], [], [b"transfer"]]


# -- the store ------------------------------------------------------------------------------------


class PlayedStore:
    """Marks on a disk: judging and committing are two steps, and either may not come."""

    def __init__(self) -> None:
        self.marks: dict[tuple[str, Kind], Signable] = {}
        self.drafts: dict[tuple[str, int, int], BlockDraft] = {}

    def judge(self, batch: SigningBatch) -> list[Verdict]:
        return [self._judge(job) for job in batch.jobs]

    def _judge(self, job: SigningJob) -> Verdict:
        asked = job.signable
        if asked.kind not in MARKED_KINDS:
            return UNMARKED
        mark = self.marks.get((job.delegate, asked.kind), floor_mark(asked.kind, CHAIN, FRESH))
        return judge(mark, asked, job.delegate)

    def commit(self, batch: SigningBatch) -> None:
        for job in batch.permitted:
            asked = job.signable
            if job.draft is not None and self._judge(job) is ADVANCE:
                self.drafts[job.delegate, asked.level, asked.round] = job.draft
            self.marks[job.delegate, asked.kind] = asked
            if job.is_elsewhere and asked.kind is Kind.BLOCK:
                job.expectation = next(_numbers)


# -- the worker -----------------------------------------------------------------------------------


class WorkerScript:
    """One worker; welcomed by the broker of epoch e1 unless said otherwise.

    `elsewhere`: the key whose signer is a device. `person_limit_s`: how long it waits for somebody
    to agree to what is no duty.
    """

    def __init__(
        self,
        *,
        welcome: bool = True,
        elsewhere: str = "",
        policy: Policy = POLICY,
        person_limit_s: float = SIGNER_LIMIT_S,
    ) -> None:
        self.now = 100.0
        hello = WorkerHello(
            PROTOCOL_VERSION, "w0", 7, 4711, "store", "host", CREDIT_US_DEFAULT, "", []
        )
        self.core = Worker(
            hello,
            holds_key=KEYS.__contains__,
            is_elsewhere=lambda key: key == elsewhere,
            policy=policy,
            signer_limit_s=lambda job: SIGNER_LIMIT_S if is_duty(job) else person_limit_s,
        )
        self.store = PlayedStore()
        self.in_store: deque[SigningBatch] = deque()  # not judged
        self.committing: deque[SigningBatch] = deque()  # judged
        self.wanted_drafts: deque[FindDraft] = deque()
        self.unsigned: list[SigningJob] = []
        self.asked_elsewhere: deque[SigningJob] = deque()
        self.unkept: deque[KeepSignatures] = deque()
        self.unsigned_elsewhere: deque[WithdrawExpectations] = deque()
        self.preparations: deque[PreparationJob] = deque()
        self.unanswered: list[PendingTask] = []
        self.notes: list[str] = []
        self.probes = 0
        self.stopped = False
        self.bodies: dict[str, Any] = {}  # of the last end of each delegate
        self.numbers: list[int] = []  # of result messages
        self._tasks: dict[int, tuple[str, str]] = {}  # number -> delegate, kind
        self._ends: dict[str, str] = {}
        self._unheard: list[WorkerMessage] = []
        if welcome:
            self.turn()
            self.welcome()
            self.hears(None)

    def turn(self, **store: int) -> Turn:
        turn = self.core.end_turn(self.now, **store)
        for job in turn.to_store:
            if isinstance(job, SigningBatch):
                self.in_store.append(job)
            elif isinstance(job, KeepSignatures):
                self.unkept.append(job)
            elif isinstance(job, WithdrawExpectations):
                self.unsigned_elsewhere.append(job)
            else:
                self.wanted_drafts.append(job)
        self.unsigned += [job for jobs in turn.to_sign for job in jobs]
        self.asked_elsewhere += turn.to_sign_elsewhere
        self.preparations += turn.to_prepare
        self.unanswered += turn.to_answer
        self.notes += turn.notes
        self.probes += turn.probe_store
        self.stopped = turn.stop
        for message in turn.to_broker:
            self._hear(message)
        return turn

    def wait(self, seconds: float) -> None:
        """Let time pass; the worker is called whenever it has asked for it."""
        until = self.now + seconds
        while (at := self.core.deadline()) <= until and not self.stopped:
            self.now = max(self.now, at)
            self.turn()
        self.now = until

    # What the broker hears.

    def _hear(self, message: WorkerMessage) -> None:
        self._unheard.append(message)
        if isinstance(message, Results | OrphanResults):
            assert message.number > max(self.numbers, default=0), "an ack is of one message"
            self.numbers.append(message.number)
        if isinstance(message, Results):
            for result in message.results:
                delegate, kind = self._tasks[result.task]
                self._note_end(delegate, kind, result)
        elif isinstance(message, OrphanResults):
            for orphan in message.results:
                self._note_end(f"orphan {orphan.delegate}", orphan.kind, orphan)

    def _note_end(self, name: str, kind: str, result: Result | OrphanResult) -> None:
        if result.outcome == Outcome.READY:
            text = READY_EVENT[kind]
        else:
            text = ": ".join(filter(None, [Outcome(result.outcome).name.lower(), result.body[0]]))
        if result.occupied:
            text += ", occupied"
        if self._ends.get(name) == f"{text}, occupied":
            del self._ends[name]  # the same end once more: its key is free now
        assert name not in self._ends, f"{name} ends twice: {self._ends[name]}, then {text}"
        self._ends[name], self.bodies[name] = text, result.body

    def ends(self) -> dict[str, str]:
        """How tasks have ended since the last call, by delegate."""
        ends, self._ends = self._ends, {}
        return ends

    def hears(self, kind: type[M] | None) -> list[M]:
        """The messages of one kind since the last call of `hears`; the others are dropped."""
        heard, self._unheard = self._unheard, []
        return [m for m in heard if kind is not None and isinstance(m, kind)]

    # What the broker says.

    def told(self, message: BrokerMessage) -> None:
        self.core.broker_message(message, self.now)
        self.turn()

    def welcome(self, epoch: str = "e1", why_not: str = "") -> None:
        self.told(Welcome(epoch, not why_not, why_not))

    def gets(self, *assignments: Assignment) -> None:
        self._enter(assignments)
        self.told(Assign(list(assignments)))

    def prepares(self, *assignments: Assignment) -> None:
        self._enter(assignments)
        self.told(PrepareAhead(list(assignments)))

    def _enter(self, assignments: tuple[Assignment, ...]) -> None:
        for each in assignments:
            for item in each.items:
                self._tasks[item.task] = item.delegate, each.kind

    def acked(self, number: int) -> None:
        self.told(ResultsAck(number))

    # What the store answers.

    def judges(self) -> list[str]:
        """The oldest batch is judged; whose signatures are permitted."""
        batch = self.in_store.popleft()
        self.committing.append(batch)
        self.core.judged(batch, self.store.judge(batch), self.now)
        self.turn()
        return [job.delegate for job in batch.permitted]

    def commits(self) -> None:
        """The oldest judged batch is on disk."""
        batch = self.committing.popleft()
        self.store.commit(batch)
        self.core.committed(Committed(batch), self.now)
        self.turn()

    def store_fails(self, code: str = "disk_full") -> None:
        """The oldest batch is not judged, or its commit fails."""
        batch = (self.committing or self.in_store).popleft()
        self.core.store_failed(batch, code, "no space left")
        self.turn()

    def finds_draft(self) -> BlockDraft | None:
        """The store answers the oldest question for a block."""
        asked = self.wanted_drafts.popleft()
        draft = self.store.drafts.get((asked.task.delegate, asked.level, asked.round))
        self.core.draft_found(asked, draft, self.now)
        self.turn()
        return draft

    # What signers answer.

    def signs(self, *delegates: str) -> None:
        """The permitted jobs (of some delegates) are signed."""
        jobs = [j for j in self.unsigned if not delegates or j.delegate in delegates]
        self.unsigned = [j for j in self.unsigned if j not in jobs]
        for job in jobs:
            job.signature = KEYS[job.delegate].sign(job.unsigned, job.signable.digest)
        self.core.signed(jobs)
        self.turn()

    def signs_slowly(self, delegate: str) -> SigningJob:
        """The key of the delegate's job takes time to open, or for ever."""
        job = next(j for j in self.unsigned if j.delegate == delegate)
        self.unsigned.remove(job)
        self.core.signs_slowly(job, self.now)
        self.turn()
        return job

    def signs_late(self, job: SigningJob) -> None:
        """The key is open at last, and has signed."""
        job.signature = KEYS[job.delegate].sign(job.unsigned, job.signable.digest)
        self.core.signed([job])
        self.turn()

    def asks(self) -> SigningJob:
        """The oldest job that a signer elsewhere is asked for; it answers later, or never."""
        return self.asked_elsewhere.popleft()

    def answers(self, job: SigningJob, signature: bytes | None = None) -> None:
        """A signer elsewhere has signed."""
        signature = signature or KEYS[job.delegate].sign(job.unsigned, job.signable.digest)
        self.core.signed_elsewhere(job, signature)
        self.turn()

    def keeps(self) -> None:
        """The oldest signatures from elsewhere are on disk."""
        self.core.kept(self.unkept.popleft().signatures)
        self.turn()

    def fails(self, job: SigningJob, *, may_have_signed: bool, **how: Any) -> None:
        """A signer elsewhere has not signed, or nobody knows."""
        self.core.signer_failed(job, "signer_failed", "why", may_have_signed=may_have_signed, **how)
        self.turn()

    def withdraws(self) -> None:
        """The store has noted the oldest that surely nobody has signed."""
        self.core.withdrawn(self.unsigned_elsewhere.popleft().ended)
        self.turn()

    # What the block preparer answers.

    def prepared(self, *, content: int = 1, nonce: bytes | None = None, **header: Any) -> None:
        job = self.preparations.popleft()
        unsigned = a_header(content=content, **header)
        read = block_header.decode(unsigned)
        self.core.prepared(
            PreparedBlock(
                job.job, CHAIN, unsigned, OPERATIONS, read.predecessor, read.level,
                read.fitness.round, nonce,
            )
        )  # fmt: skip
        self.turn()

    def not_prepared(self, code: str) -> None:
        job = self.preparations.popleft()
        self.core.prepared(PreparationFailed(job.job, code, "why"))
        self.turn()
