"""The worker's state machine: assignments in, results out, nothing kept that its death would lose.

A block first becomes bytes (`preparing`: an earlier draft from the store, or the block preparer);
then block, vote and `sign` alike go through the pipeline: judge, commit, sign, release. Results
are kept until the broker has them in its event log; a broker that was restarted is told what is
still held and what has ended meanwhile.

Pure: messages and the time go in, `end_turn` gives what to do, `deadline` when to call again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf

import msgspec

from broker.messages import (
    DERIVE_NONCE,
    FORGE_AND_SIGN_ATTESTATIONS,
    FORGE_AND_SIGN_BLOCK,
    FORGE_AND_SIGN_PREATTESTATIONS,
    PROTOCOL_VERSION,
    PROVE_POSSESSION,
    READY,
    SIGN,
    TELL_PUBLIC_KEY,
    VOTE_KINDS,
    Assign,
    Assignment,
    BlockReady,
    BrokerMessage,
    CreditBack,
    Drain,
    EncryptedKeys,
    Freed,
    Heartbeat,
    Held,
    HelloWanted,
    Item,
    KeysKnown,
    Leaving,
    OrphanResult,
    OrphanResults,
    Outcome,
    PrepareAhead,
    PreparedAhead,
    Result,
    Results,
    ResultsAck,
    VoteBatch,
    Welcome,
    WorkerHello,
    WorkerMessage,
)
from broker.wire import portions
from signers.errors import MalformedBytes
from signers.formats import base58, block_header
from signers.formats.hashes import blake2b_32
from signers.formats.operation import signature_suffix
from signers.formats.signable import (
    SIGNABLE_BYTES_MAX,
    WATERMARK_BYTES,
    Kind,
    Signable,
    read_signable,
)
from signers.formats.vote import VoteTemplate
from signers.marks.store_tables import BlockDraft
from signers.marks.watermark import CONFLICT, MARKED_KINDS, Verdict
from signers.policy.decision import Denied, Policy, decide
from workers.bls_vote import BlsVote
from workers.pipeline import Committed, Ended, Pipeline, SigningBatch
from workers.preparation.block_request import decode_forge_block
from workers.preparation.preparation_errors import InvalidRequest, MalformedRequest
from workers.preparation.preparation_job import PreparationFailed, PreparationJob, PreparedBlock
from workers.signing_job import PendingTask, SigningJob, Task, with_bytes

HEARTBEAT_S = 0.25  # a sixth of the broker's lease
IDLE_HEARTBEAT_S = 0.5  # while nothing is held: an idle pool should cost next to nothing
HELLO_AGAIN_S = 0.05  # until the broker has welcomed us
# Blocks prepared beside the queue that wait to be signed; a dropped one is prepared again.
AHEAD_BLOCKS_MAX = 32
ORPHAN_ACKS_S = 3.0  # how long an orphan waits for a broker that takes its results
ORPHAN_S_MAX = 20.0  # and for its signers
STORE_PROBE_S = 1.0  # while the store is unavailable
# A signer that has not answered by then ends its request; its key stays occupied. One that asks a
# person has longer, but not for blocks and votes.
SIGNER_LIMIT_S = 10.0
WORKER_WAITS_LONGER_S = 1.0  # than its signers, who should say themselves what is wrong

_VOTE_KIND = {
    FORGE_AND_SIGN_PREATTESTATIONS: Kind.PREATTESTATION,
    FORGE_AND_SIGN_ATTESTATIONS: Kind.ATTESTATION,
}
_BLOCK_WATERMARK = b"\x11"
# What a key does without a mark, and as what the policy must allow it; a public key is public.
_KIND_WITHOUT_MARK = {
    PROVE_POSSESSION: Kind.PROOF_OF_POSSESSION,
    DERIVE_NONCE: Kind.DETERMINISTIC_NONCE,
    TELL_PUBLIC_KEY: None,
}

# BLS keys: on Tezos their votes are signed in their own form, on Mavryk they have none.
_TEZOS_BLS, _MAVRYK_BLS = "tz4", "mv4"
_BLS_HASHES = (_TEZOS_BLS, _MAVRYK_BLS)
_NO_CONSENSUS_KEY = (
    "no_consensus_key",
    "on Mavryk a BLS key (mv4) neither bakes nor votes: give the delegate a consensus key of "
    "another curve",
)


@dataclass(frozen=True, slots=True)
class FindDraft:
    """Ask the store for the block that a key has a mark for at this position, if any."""

    task: PendingTask
    chain_id: bytes
    predecessor: bytes
    level: int
    round: int
    # When the store has refused other bytes at this position: what to answer if there is none.
    refusal: tuple[str, str] | None = None
    refused_header: bytes = b""  # these other bytes


@dataclass(frozen=True, slots=True)
class KeepSignatures:
    """Have the store keep what signers elsewhere have signed, before it is released."""

    signatures: list[tuple[SigningJob, bytes]]


@dataclass(frozen=True, slots=True)
class WithdrawExpectations:
    """Have the store note of blocks that surely nobody has signed them, before they end."""

    ended: list[Ended]


@dataclass(slots=True)
class Turn:
    """What a turn asks the rim to do, in this order."""

    to_broker: list[WorkerMessage] = field(default_factory=list)
    to_store: list[SigningBatch | FindDraft | KeepSignatures | WithdrawExpectations] = field(
        default_factory=list
    )
    to_sign: list[list[SigningJob]] = field(default_factory=list)  # by keys of ours
    to_sign_elsewhere: list[SigningJob] = field(default_factory=list)
    to_prepare: list[PreparationJob] = field(default_factory=list)
    to_answer: list[PendingTask] = field(default_factory=list)  # by a key, without a mark
    probe_store: bool = False
    notes: list[str] = field(default_factory=list)
    stop: bool = False


class Worker:
    """One worker's tasks, results and standing with the broker; see the module's text."""

    def __init__(
        self,
        hello: WorkerHello,
        *,
        holds_key: Callable[[str], bool],
        is_elsewhere: Callable[[str], bool],
        policy: Policy,
        signer_limit_s: Callable[[SigningJob], float] = lambda _: SIGNER_LIMIT_S,
    ) -> None:
        self._hello = hello
        self._holds_key = holds_key
        self._is_elsewhere = is_elsewhere  # whether a key's signer is a device or a remote one
        self._signer_limit_s = signer_limit_s
        self.policy = policy  # the one in force; another takes its place between two messages
        self.epoch = ""
        self.draining = False
        self.holds_applications = False  # its task processor still has something
        self._acks_until = self._give_up_at = inf
        self._is_welcome = False  # by the broker, on this connection
        self._keys = KeysKnown([])
        self.store_down = ""  # why nothing can be judged; empty: it can
        self.signers_down = ""  # which back-ends are in trouble, for `status`
        self.applications_down = ""  # why no off-chain task is processed, likewise
        self.encrypted: EncryptedKeys | None = None  # how far they are opened, likewise
        self.pipeline = Pipeline()
        self._tasks: dict[Task, None] = {}  # assigned, without a result
        self._preparing: dict[int, PendingTask] = {}  # by number of the preparation job
        self._preparing_ahead: dict[int, PendingTask] = {}  # likewise, without their keys
        self._ahead: dict[tuple[str, bytes, str], PreparedBlock] = {}  # by client, id, delegate
        self._next_preparation = 1
        # With a signer elsewhere: its time limit; inf: it has answered in time, and the store
        # is keeping what it said; below 0: it has not, and was reported.
        self._signing: dict[SigningJob, float] = {}
        self._unkept: list[tuple[SigningJob, bytes]] = []  # signed elsewhere in this turn
        self._unsigned: list[Ended] = []  # surely not signed, though it was expected; likewise
        self._results: list[tuple[Task, Result]] = []  # of this turn
        self._unacked: deque[tuple[int, list[tuple[Task, Result]]]] = deque()
        self._next_number = 1
        self._next_heartbeat = 0.0
        self._next_probe = 0.0
        self._turn = Turn()

    # -- the broker's messages --------------------------------------------------------------------

    def keys_known(self, keys: Sequence[str]) -> None:
        """The hashes of the keys in the key store, at the start and when they change."""
        self._keys = KeysKnown(list(keys))
        if self._is_welcome:
            self._turn.to_broker.append(self._keys)

    def not_sent(self) -> None:
        """A message could not be sent: the broker may be another when the next one is."""
        self._is_welcome = False

    def broker_message(self, message: BrokerMessage, now: float) -> None:
        match message:
            case Assign():
                for assignment in message.assignments:
                    self._assigned(assignment, now)
            case PrepareAhead():
                for assignment in message.assignments:
                    self._prepare_ahead(assignment, now)
            case ResultsAck():
                while self._unacked and self._unacked[0][0] <= message.number:
                    self._unacked.popleft()
            case Welcome():
                self._welcomed(message)
            case HelloWanted() if self._is_welcome:
                self._is_welcome, self._next_heartbeat = False, now
            case HelloWanted():
                pass  # our hello is on its way, or will be repeated
            case Drain(superseded=True):
                self.drain("a newer worker of this name has joined", orphaned_at=now)
            case Drain():
                self.drain("the pool drains")

    def drain(self, why: str, *, orphaned_at: float = inf) -> None:
        """Take nothing new; `stop` follows when what is held has ended.

        An orphan waits no longer for a broker that takes its results, or for a signer, than is
        reasonable: nobody will restart the one or look at the other.
        """
        self._acks_until = min(self._acks_until, orphaned_at + ORPHAN_ACKS_S)
        self._give_up_at = min(self._give_up_at, orphaned_at + ORPHAN_S_MAX)
        if not self.draining:
            self.draining = True
            self._turn.to_broker.append(Leaving(why))

    def _say_hello(self) -> None:
        unacked = [task for _, results in self._unacked for task, _ in results]
        late = [job for job in self._signing if self._keeps_key(job)]
        held = [
            Held(t.request.client, t.request.id, t.delegate, t.attempt)
            for t in dict.fromkeys([*self._tasks, *unacked, *late])
        ]
        self._turn.to_broker.append(
            msgspec.structs.replace(
                self._hello, version=PROTOCOL_VERSION, epoch=self.epoch, held=held
            )
        )

    def _welcomed(self, welcome: Welcome) -> None:
        self._is_welcome = True
        self._turn.to_broker.append(self._keys)
        if self.draining:
            self._turn.to_broker.append(Leaving("draining"))
        if welcome.why_not:
            self._turn.notes.append(f"not_signing why={welcome.why_not!r}")
        known, self.epoch = self.epoch == welcome.epoch, welcome.epoch
        # It may have missed what was on its way when the connection broke.
        waiting, self._unacked = self._unacked, deque()
        for _, results in waiting:
            if known:
                self._send_results(results)
            else:
                self._send_orphans(results)

    # -- from assignment to bytes -----------------------------------------------------------------

    def _assigned(self, request: Assignment, now: float) -> None:
        deadline = now + request.ttl_ms / 1000
        if request.kind in VOTE_KINDS:
            self._take_votes(request, deadline)
            return
        for item in request.items:
            task = PendingTask(
                self.epoch, item.task, item.attempt, item.delegate, request, deadline
            )
            if not self._holds_key(item.delegate):
                self._refuse_key(task)
                continue
            if request.kind == FORGE_AND_SIGN_BLOCK and item.delegate[:3] == _MAVRYK_BLS:
                self._end(task, Outcome.REFUSED, _NO_CONSENSUS_KEY)
                continue
            self._tasks[task] = None
            if request.kind == SIGN:
                self._take_bytes(task, request.payload)
            elif request.kind == FORGE_AND_SIGN_BLOCK:
                self._take_block(task)
            elif request.kind in _KIND_WITHOUT_MARK:
                self._take_question(task)
            else:
                text = f"this worker does not know {request.kind[:40]!r}"
                self._end(task, Outcome.REFUSED, ("unknown_kind", text))

    def _take_votes(self, request: Assignment, deadline: float) -> None:
        epoch, holds_key, tasks = self.epoch, self._holds_key, self._tasks
        is_elsewhere, policy, client = self._is_elsewhere, self.policy, request.client
        queue = self.pipeline.waiting.append
        try:
            template = _template(request.kind, request.payload)
            make_signable = template.signable
        except MalformedBytes as e:
            problem = str(e)
            make_signable = None
        for item in request.items:
            number, attempt, delegate = item.task, item.attempt, item.delegate
            if make_signable is not None and delegate[:3] in _BLS_HASHES:
                self._take_bls_vote(request, item, template, deadline)
                continue
            try:
                if make_signable is None:
                    raise MalformedBytes(problem)
                unsigned = make_signable(item.slot, None if item.dal is None else int(item.dal))
                signable = read_signable(unsigned)
            except MalformedBytes as e:
                task = PendingTask(epoch, number, attempt, delegate, request, deadline)
                self._end(task, Outcome.REFUSED, ("malformed", str(e)))
                continue
            job = SigningJob(
                epoch, number, attempt, delegate, request, deadline, unsigned, signable,
                None, is_elsewhere(delegate),
            )  # fmt: skip
            if not holds_key(delegate):
                self._refuse_key(job)
                continue
            decision = decide(policy, delegate, unsigned, signable, client)
            if type(decision) is Denied:
                self._end(job, Outcome.REFUSED, (decision.code, decision.text))
                continue
            tasks[job] = None
            queue(job)

    def _take_bls_vote(
        self, request: Assignment, item: Item, template: VoteTemplate, deadline: float
    ) -> None:
        """Queue what a tz4 key signs, and what its companion signs if there is DAL content."""
        delegate = item.delegate
        task = PendingTask(self.epoch, item.task, item.attempt, delegate, request, deadline)
        if delegate[:3] == _MAVRYK_BLS:
            self._end(task, Outcome.REFUSED, _NO_CONSENSUS_KEY)
            return
        if not self._holds_key(delegate):
            self._refuse_key(task)
            return
        unsigned = template.bls_signable()
        signable, is_elsewhere = read_signable(unsigned), self._is_elsewhere
        if not self._may_sign(task, unsigned, signable):
            return
        companion = None
        if item.dal is not None:
            companion = self._companion_of(item, unsigned, signable, request.client)
        dal = None if companion is None else int(item.dal or 0)
        try:
            vote = BlsVote(template, delegate, item.slot, dal, companion)
        except MalformedBytes as e:
            self._end(task, Outcome.REFUSED, ("malformed", str(e)))
            return
        job = with_bytes(task, unsigned, signable, is_elsewhere=is_elsewhere(delegate))
        job.bls_vote, vote.job = vote, job
        self._tasks[job] = None
        self.pipeline.waiting.append(job)
        if companion is not None:
            self.pipeline.waiting.append(
                msgspec.structs.replace(
                    job, delegate=companion, is_elsewhere=is_elsewhere(companion)
                )
            )

    def _companion_of(
        self, item: Item, unsigned: bytes, signable: Signable, client: str
    ) -> str | None:
        """Return the key that signs the DAL content of a tz4 vote, if one here may do so."""
        companion = item.companion
        if companion is None:
            why = "the request names no companion key"
        elif companion[:3] != _TEZOS_BLS or companion == item.delegate:
            why = f"{companion} is no companion key"
        elif not self._holds_key(companion):
            why = f"no secret key of {companion} in the key store"
        else:
            decision = decide(self.policy, companion, unsigned, signable, client)
            if type(decision) is not Denied:
                return companion
            why = decision.text
        self._drop_dal(item.delegate, why)
        return None

    def _drop_dal(self, delegate: str, why: str) -> None:
        self._turn.notes.append(f"dal_dropped key={delegate} why={why!r}")

    def _refuse_key(self, task: Task) -> None:
        text = f"no secret key of {task.delegate} in the key store; see `forgepool keys import`"
        self._end(task, Outcome.REFUSED, ("unknown_delegate", text))

    def _take_bytes(
        self, task: PendingTask, unsigned: bytes, draft: BlockDraft | None = None
    ) -> None:
        """Queue exactly these bytes for the task, if the policy lets its key sign them."""
        try:
            signable = read_signable(unsigned)
        except MalformedBytes as e:
            self._end(task, Outcome.REFUSED, ("malformed", str(e)))
            return
        if task.delegate[:3] == _MAVRYK_BLS and signable.kind is not Kind.GENERIC:
            self._end(task, Outcome.REFUSED, _NO_CONSENSUS_KEY)
            return
        if not self._may_sign(task, unsigned, signable):
            return
        is_elsewhere = self._is_elsewhere(task.delegate)
        job = with_bytes(task, unsigned, signable, draft, is_elsewhere=is_elsewhere)
        del self._tasks[task]
        self._tasks[job] = None
        self.pipeline.waiting.append(job)

    def _take_question(self, task: PendingTask) -> None:
        """The answer binds nobody to anything: at most the policy is asked, and no mark."""
        kind = _KIND_WITHOUT_MARK[task.request.kind]
        if len(task.request.payload) > SIGNABLE_BYTES_MAX:
            text = f"the payload has more than {SIGNABLE_BYTES_MAX} bytes"
            self._end(task, Outcome.REFUSED, ("malformed", text))
        elif kind is None or self._may_sign(task, b"", Signable(kind, b"", 0, 0, b"")):
            self._turn.to_answer.append(task)

    def _take_block(self, task: PendingTask) -> None:
        """First look whether an earlier attempt left its block: a repeat must be identical."""
        try:
            wanted = decode_forge_block(task.request.payload)
            chain_id = base58.decode(base58.CHAIN_ID, wanted.chain_id)
            predecessor = base58.decode(base58.BLOCK_HASH, wanted.predecessor)
        except (MalformedRequest, MalformedBytes) as e:
            self._end(task, Outcome.REFUSED, ("malformed", str(e)))
            return
        # No node is asked for a block that will not be signed; its bytes are asked about again.
        asked = Signable(Kind.BLOCK, chain_id, wanted.level, wanted.round, b"")
        if not self._may_sign(task, b"", asked):
            return
        self._turn.to_store.append(
            FindDraft(task, chain_id, predecessor, wanted.level, wanted.round)
        )

    def _may_sign(self, task: PendingTask, unsigned: bytes, signable: Signable) -> bool:
        """Ask the policy; when it says no, the task ends."""
        client = task.request.client
        decision = decide(self.policy, task.delegate, unsigned, signable, client)
        if type(decision) is Denied:
            self._end(task, Outcome.REFUSED, (decision.code, decision.text))
            return False
        return True

    def _prepare_ahead(self, request: Assignment, now: float) -> None:
        """Prepare blocks whose keys stay free; they wait in `_ahead` until they are assigned."""
        deadline = now + request.ttl_ms / 1000
        for item in request.items:
            task = PendingTask(
                self.epoch, item.task, item.attempt, item.delegate, request, deadline
            )
            self._preparing_ahead[self._submit_preparation(task, request.ttl_ms)] = task

    def _prepared_ahead(
        self, task: PendingTask, outcome: PreparedBlock | PreparationFailed
    ) -> None:
        if task.epoch != self.epoch:
            return  # nobody will ask for it under this number
        if isinstance(outcome, PreparationFailed):
            ended = _outcome_of(outcome)
            answer = PreparedAhead(task.number, int(ended), outcome.code, outcome.text)
        else:
            answer = PreparedAhead(task.number)
            self._ahead[_name(task)] = outcome
            if len(self._ahead) > AHEAD_BLOCKS_MAX:
                del self._ahead[next(iter(self._ahead))]
        self._turn.to_broker.append(answer)

    def draft_found(self, asked: FindDraft, draft: BlockDraft | None, now: float) -> None:
        """The store's answer to FindDraft."""
        ours = draft is not None and draft.header == asked.refused_header
        if draft is not None and not ours and _predecessor(draft.header) == asked.predecessor:
            self._take_draft(asked.task, asked.chain_id, draft)
        elif asked.refusal is not None:
            self._end(asked.task, Outcome.REFUSED, asked.refusal)
        elif (ahead := self._ahead.pop(_name(asked.task), None)) is not None:
            self._take_prepared(asked.task, ahead)
        else:
            self._prepare(asked.task, now)

    def _prepare(self, task: PendingTask, now: float) -> None:
        ttl_ms = int((task.deadline - now) * 1000)
        if ttl_ms <= 0:
            self._end(task, Outcome.EXPIRED, ("", "its deadline passed; no mark was touched"))
            return
        self._preparing[self._submit_preparation(task, ttl_ms)] = task
        # Until the node has answered and the header is there, this costs us nothing.
        if task.epoch == self.epoch:
            self._turn.to_broker.append(CreditBack([task.number]))

    def _submit_preparation(self, task: PendingTask, ttl_ms: int) -> int:
        number = self._next_preparation
        self._next_preparation += 1
        job = PreparationJob(number, task.request.payload, task.delegate, ttl_ms)
        self._turn.to_prepare.append(job)
        return number

    def cannot_prepare(self, job: PreparationJob) -> None:
        text = "no node is configured: start the pool with --node URL"
        self.prepared(PreparationFailed(job.job, "no_node", text))

    def prepared(self, outcome: PreparedBlock | PreparationFailed) -> None:
        """The block preparer has answered."""
        ahead = self._preparing_ahead.pop(outcome.job, None)
        if ahead is not None:
            self._prepared_ahead(ahead, outcome)
            return
        task = self._preparing.pop(outcome.job, None)
        if task is None:
            return
        if isinstance(outcome, PreparationFailed):
            self._end(task, _outcome_of(outcome), (outcome.code, outcome.text))
        else:
            self._take_prepared(task, outcome)

    def _take_prepared(self, task: PendingTask, block: PreparedBlock) -> None:
        draft = BlockDraft(block.unsigned_header, block.operations, block.seed_nonce)
        self._take_draft(task, block.chain_id, draft)

    def _take_draft(self, task: PendingTask, chain_id: bytes, draft: BlockDraft) -> None:
        self._take_bytes(task, _BLOCK_WATERMARK + chain_id + draft.header, draft)

    def answers_slowly(self, task: PendingTask) -> None:
        """A task's key is being opened, or who has it is asked: that costs this worker nothing."""
        if task.epoch == self.epoch:
            self._turn.to_broker.append(CreditBack([task.number]))

    def answered(self, task: PendingTask, body: bytes) -> None:
        """A key has done what needs no mark."""
        self._end(task, Outcome.READY, body)

    def not_answered(
        self, task: PendingTask, code: str, text: str, outcome: Outcome = Outcome.FAILED
    ) -> None:
        self._end(task, outcome, (code, text))

    # -- store and signers ------------------------------------------------------------------------

    def judged(self, batch: SigningBatch, verdicts: Sequence[Verdict], now: float) -> None:
        permitted = self.pipeline.judged(batch, verdicts)
        if permitted:
            self._turn.to_sign.append(permitted)

    def signs_slowly(self, job: SigningJob, now: float) -> None:
        """The job's signature comes later: its key is being opened, or its signer is elsewhere."""
        self._signing[job] = now + self._signer_limit_s(job)
        if job.epoch == self.epoch and not _is_companions(job):
            self._turn.to_broker.append(CreditBack([job.number]))

    def committed(self, token: Committed, now: float) -> None:
        for job in self.pipeline.committed(token):
            self.signs_slowly(job, now)
            self._turn.to_sign_elsewhere.append(job)

    def store_failed(self, batch: SigningBatch, code: str, text: str) -> None:
        self.pipeline.store_failed(batch, code, text)

    def store_unavailable(self, text: str, now: float) -> None:
        """Until a probe succeeds, every batch fails at once: nothing is signed."""
        if not self.store_down:
            self._turn.notes.append(f"store_unavailable {text}")
            self._next_probe = now + STORE_PROBE_S
        self.store_down = text

    def store_available(self) -> None:
        if self.store_down:
            self._turn.notes.append("store_recovered")
        self.store_down = ""

    def signed(self, jobs: Sequence[SigningJob]) -> None:
        """Keys of ours have signed: each of the jobs that is signed has its `signature`."""
        if self._signing:
            for job in jobs:
                if job.signature is not None:
                    self._signer_answered(job)  # it was being opened
        self.pipeline.signed(jobs)

    def signed_elsewhere(self, job: SigningJob, signature: bytes) -> None:
        """A signer elsewhere has answered, in time or not, with a signature of the job's key."""
        if job.signable.kind not in MARKED_KINDS:  # nothing that a repeat could ask for
            self.kept([(job, signature)])
            return
        self._answered_in_time(job)
        self._unkept.append((job, signature))

    def kept(self, signatures: Sequence[tuple[SigningJob, bytes]]) -> None:
        """Signatures from elsewhere are on disk, each job's with the one to release."""
        for job, signature in signatures:
            job.signature = signature
            self._signer_answered(job)
        self.pipeline.signed([job for job, _ in signatures])

    def signer_failed(
        self,
        job: SigningJob,
        code: str,
        text: str,
        outcome: Outcome = Outcome.FAILED,
        *,
        may_have_signed: bool = True,
    ) -> None:
        """No signature comes: it failed, could not be kept, or (refused) a rule said no.

        Unless there may be one after all, a block that was to be signed elsewhere may be asked
        for again. The store notes that first: who hears of the end may repeat at once.
        """
        if job.expectation is not None and not may_have_signed:
            self._answered_in_time(job)
            self._unsigned.append(Ended(job, outcome, (code, text)))
            return
        self._signer_answered(job)
        self.pipeline.signer_failed(job, code, text, outcome)

    def withdrawn(self, ended: Sequence[Ended]) -> None:
        """The store has noted what surely nobody has signed, or could not: these jobs end."""
        for each in ended:
            self._signer_answered(each.job)
            self.pipeline.signer_failed(each.job, *each.body, each.outcome)

    def _answered_in_time(self, job: SigningJob) -> None:
        """From here on the job waits for the store, if its end was not reported already."""
        if self._signing.get(job, -1.0) >= 0:
            self._signing[job] = inf

    def _keeps_key(self, task: Task) -> bool:
        """Whether it was reported as failed at its signer's time limit, and its key is not free."""
        return (
            isinstance(task, SigningJob)
            and self._signing.get(task, 0.0) < 0
            and not _is_companions(task)
        )

    def _signer_answered(self, job: SigningJob) -> None:
        frees_key = self._keeps_key(job)
        self._signing.pop(job, None)
        if frees_key and job.epoch == self.epoch:
            self._turn.to_broker.append(Freed([job.number]))
        elif frees_key:  # to a broker that does not know its number: the same end once more
            self._send_orphans([(job, self._timed_out(job))])

    # -- ends -------------------------------------------------------------------------------------

    def _timeout_of(self, job: SigningJob) -> tuple[str, str]:
        limit_s = self._signer_limit_s(job)
        return "signer_timeout", f"the signer of {job.delegate} has not answered in {limit_s} s"

    def _timed_out(self, job: SigningJob) -> Result:
        return Result(job.number, job.attempt, int(Outcome.FAILED), self._timeout_of(job))

    def _end(
        self,
        task: Task,
        outcome: Outcome,
        body: bytes | tuple[str, str],
        *,
        occupied: bool = False,
    ) -> None:
        self._tasks.pop(task, None)
        result = Result(task.number, task.attempt, int(outcome), body, occupied)
        self._results.append((task, result))

    def _report_pipeline(self) -> None:
        pipeline = self.pipeline
        results, tasks = self._results, self._tasks
        for job in pipeline.released:
            if job.bls_vote is not None:
                self._bls_vote_released(job, job.bls_vote)
                continue
            del tasks[job]
            results.append((job, Result(job.number, job.attempt, READY, _ready_body(job))))
        for ended in pipeline.ended:
            if _is_companions(ended.job):
                self._companion_ended(ended.job, *ended.body)
            elif ended.body[0] == CONFLICT and ended.job.draft is not None:
                self._look_for_the_others_block(ended)
            else:
                self._end(ended.job, ended.outcome, ended.body)
        pipeline.released, pipeline.ended = [], []

    def _bls_vote_released(self, job: SigningJob, vote: BlsVote) -> None:
        assert job.signature is not None
        vote.released(job.delegate, job.signature)
        self._report_bls_vote(vote)

    def _companion_ended(self, job: SigningJob, code: str, text: str) -> None:
        """The companion key has not signed: the vote goes without its DAL content."""
        vote = job.bls_vote
        assert vote is not None
        self._drop_dal(vote.delegate, f"{code} {text}".strip())
        vote.drop_dal()
        self._report_bls_vote(vote)

    def _report_bls_vote(self, vote: BlsVote) -> None:
        if vote.is_whole() and (job := vote.job) in self._tasks:
            self._end(job, Outcome.READY, vote.operation())

    def _look_for_the_others_block(self, ended: Ended) -> None:
        """An earlier attempt has taken the mark while we prepared: its block is the answer."""
        job = ended.job
        header = block_header.decode(job.unsigned[WATERMARK_BYTES:])
        task = PendingTask(
            job.epoch, job.number, job.attempt, job.delegate, job.request, job.deadline
        )
        del self._tasks[job]
        self._tasks[task] = None
        self._turn.to_store.append(
            FindDraft(
                task,
                job.signable.chain_id,
                header.predecessor,
                header.level,
                header.round,
                ended.body,
                job.unsigned[WATERMARK_BYTES:],
            )
        )

    def _check_signer_limits(self, now: float) -> None:
        for job, limit in list(self._signing.items()):
            if 0 <= limit <= now:
                self._signing[job] = -1.0
                if job.batch is None:
                    continue  # its commit has failed: it was reported, and only the signer is late
                job.batch = None
                if _is_companions(job):
                    self._companion_ended(job, *self._timeout_of(job))
                    continue
                self._end(job, Outcome.FAILED, self._timeout_of(job), occupied=True)

    def _send_results(self, results: list[tuple[Task, Result]]) -> None:
        orphans = [r for r in results if r[0].epoch != self.epoch]
        if orphans:
            self._send_orphans(orphans)
            results = [r for r in results if r[0].epoch == self.epoch]
        for portion in portions(results, lambda each: len(each[1].body)):
            self._unacked.append((self._next_number, portion))
            self._turn.to_broker.append(Results(self._next_number, [r for _, r in portion]))
            self._next_number += 1

    def _send_orphans(self, results: list[tuple[Task, Result]]) -> None:
        """Ends of tasks of a broker that is no more, named so that its successor knows them."""
        for portion in portions(results, lambda each: len(each[1].body)):
            self._send_orphan_portion(portion)

    def _send_orphan_portion(self, results: list[tuple[Task, Result]]) -> None:
        self._unacked.append((self._next_number, results))
        orphans = [
            OrphanResult(
                task.request.client,
                task.request.id,
                task.delegate,
                task.request.fingerprint,
                task.request.kind,
                result.outcome,
                result.body,
                occupied=self._keeps_key(task),
            )
            for task, result in results
        ]
        self._turn.to_broker.append(OrphanResults(self._next_number, orphans))
        self._next_number += 1

    # -- time -------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `end_turn` must be called at the latest."""
        times = [self._next_heartbeat, self._give_up_at]
        times += [limit for limit in self._signing.values() if limit >= 0]
        if self.draining and not self._tasks and not self._signing:
            times.append(self._acks_until)
        if self.store_down:
            times.append(self._next_probe)
        return min(times)

    def end_turn(self, now: float, *, store_wait_ms: int = 0, stalled_by: int = 0) -> Turn:
        """Do what is due and hand out what this turn asks for."""
        if self._signing:
            self._check_signer_limits(now)
        turn = self._turn
        if self._unkept:
            turn.to_store.append(KeepSignatures(self._unkept))
            self._unkept = []
        if self._unsigned:
            turn.to_store.append(WithdrawExpectations(self._unsigned))
            self._unsigned = []
        while (batch := self.pipeline.next_batch(now)) is not None:
            if self.store_down:
                self.pipeline.store_failed(batch, "store_unavailable", self.store_down)
            else:
                turn.to_store.append(batch)
        if self.store_down and now >= self._next_probe:
            self._next_probe = now + STORE_PROBE_S
            turn.probe_store = True
        self._report_pipeline()
        if self._results and self.epoch:
            results, self._results = self._results, []
            self._send_results(results)
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HELLO_AGAIN_S
            if self._is_welcome:
                self._next_heartbeat = now + (HEARTBEAT_S if self._tasks else IDLE_HEARTBEAT_S)
                note = self.store_down or self.signers_down or self.applications_down
                turn.to_broker.append(
                    Heartbeat(
                        self._hello.incarnation, store_wait_ms, stalled_by, note, self.encrypted
                    )
                )
            else:
                self._say_hello()
        held = (
            self._tasks
            or self._signing
            or (self._unacked and now < self._acks_until)
            or self.holds_applications
        )
        if self.draining and (not held or now >= self._give_up_at):
            turn.to_broker.append(Leaving("drained", done=True))
            turn.stop = True
        self._turn = Turn()
        return turn


def _ready_body(job: SigningJob) -> bytes:
    """What the event of a released signature carries."""
    signature = job.signature
    assert signature is not None
    kind = job.request.kind
    if kind in VOTE_KINDS:
        return job.unsigned[WATERMARK_BYTES:] + signature_suffix(signature)
    if kind == SIGN:
        return signature
    assert job.draft is not None
    header = job.draft.header + signature
    hash_ = base58.encode(base58.BLOCK_HASH, blake2b_32(header))
    return msgspec.msgpack.encode(
        BlockReady(header, job.draft.operations, hash_, job.draft.seed_nonce)
    )


def _is_companions(job: SigningJob) -> bool:
    """Whether it is the part of a vote that a companion key signs: the broker knows none such."""
    return job.bls_vote is not None and job.delegate != job.bls_vote.delegate


@lru_cache(maxsize=256)  # a level's batch arrives in many pieces with the same payload
def _template(kind: str, payload: bytes) -> VoteTemplate:
    try:
        batch = msgspec.msgpack.decode(payload, type=VoteBatch)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise MalformedBytes(f"the votes' payload: {e}") from None
    return VoteTemplate(
        _VOTE_KIND[kind],
        base58.decode(base58.CHAIN_ID, batch.chain_id),
        base58.decode(base58.BLOCK_HASH, batch.branch),
        batch.level,
        batch.round,
        base58.decode(base58.PAYLOAD_HASH, batch.payload_hash),
    )


def _outcome_of(failed: PreparationFailed) -> Outcome:
    """Refused when the request itself asks for what cannot be, else failed."""
    of_the_client = failed.code in (MalformedRequest.code, InvalidRequest.code)
    return Outcome.REFUSED if of_the_client else Outcome.FAILED


def _name(task: PendingTask) -> tuple[str, bytes, str]:
    return task.request.client, task.request.id, task.delegate


def _predecessor(unsigned_header: bytes) -> bytes:
    return block_header.decode(unsigned_header).predecessor
