"""The worker process: one loop around the worker's state machine, and all that it touches.

Only this loop reads the broker's socket and signs with local keys. The store has its thread
(`store_thread`), each signer elsewhere its own (`back_ends`), an encrypted key is opened in threads
(`unlocking`). Child processes prepare blocks (`block_preparer`), check what the quarantine asks
about (`verifier`) and run off-chain tasks (`task_processor`). To all of them: jobs in, results out.
"""

from __future__ import annotations

import logging
import os
import signal
import socket as sockets_of_the_system
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import zmq

from broker import wire
from broker.collector import tune_collector
from broker.config import SignerSettings, TaskSettings
from broker.errors import MalformedMessage
from broker.messages import (
    CREDIT_US_DEFAULT,
    DERIVE_NONCE,
    PROTOCOL_VERSION,
    PROVE_POSSESSION,
    Applications,
    CheckSlices,
    KeysShared,
    LookAgain,
    Outcome,
    ReloadAsked,
    SlicesChecked,
    TaskEventsAck,
    Welcome,
    WorkerHello,
)
from broker.sockets import CurveIdentity, connect, receive, send
from signers.errors import BadRequest, SignersError
from signers.host import host_id
from signers.keyring.passwords import Passwords
from signers.marks.store_lock import STALL_S, lock_holder
from signers.marks.watermark_store import WatermarkStore
from signers.policy.policy_file import PolicyFile
from workers.back_end_settings import BackEndMaker
from workers.back_ends import Answered, BackEnds
from workers.key_ring import KeyRing
from workers.key_source import (
    SIGN_DELAY_ENV,
    BackEndSigner,
    KeyMoved,
    LocalSigner,
    delays_from_environment,
)
from workers.live_files import LiveFiles
from workers.offchain.channel import ProcessorSetup
from workers.offchain.task_processor import TaskProcessor
from workers.pipeline import Committed
from workers.preparation.block_preparer import BlockPreparer
from workers.preparation.preparation_job import PreparerSetup
from workers.signing_job import PendingTask, SigningJob
from workers.store_thread import (
    DraftAnswer,
    Judged,
    Kept,
    Late,
    NotKept,
    StoreAvailable,
    StoreFailed,
    StoreThread,
    Withdrawn,
)
from workers.unlocking import Unlocking, cores
from workers.verification.verifier import Verifier
from workers.verification.verifier_setup import VerifierSetup
from workers.warm_up import WarmUp
from workers.worker import WORKER_WAITS_LONGER_S, Turn, Worker

log = logging.getLogger("forgepool.worker")

MESSAGES_PER_TURN = 64
# Signing releases the GIL for 15 microseconds at a time; the store thread must get it back soon.
GIL_SWITCH_S = 0.0005
STALL_MS = STALL_S * 1000

# The loop signs for so long at a time, then looks at its socket and says that it is alive: a batch
# of tz4 votes takes a quarter of a second, several on a busy machine, and the lease is 1.5 s.
SIGNING_SLICE_S = 0.05
JOBS_PER_LOOK = 16  # at the clock: 0.4 ms of Ed25519, 7 ms of BLS

EXIT_STORE = 3  # the store cannot be trusted by this process any more


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker process is told at its start."""

    name: str
    broker: str  # address of the broker's workers socket
    store: Path
    base_dir: Path  # key store
    nodes: dict[str, str]  # name to URL; the first is the default
    policy: PolicyFile
    watches_files: bool = True  # takes changes of keys and policy over without being asked
    password_file: Path | None = None  # of encrypted keys
    parent_fd: int | None = None  # read end of the supervisor's pipe: closed = drain and end
    curve: CurveIdentity | None = None  # our key pair, for a broker on TCP
    signers: SignerSettings = field(default_factory=SignerSettings)
    tasks: TaskSettings = field(default_factory=TaskSettings)  # off-chain, of applications


class WorkerProcess:
    """The loop; see the module's text."""

    def __init__(self, options: WorkerOptions) -> None:
        sys.setswitchinterval(GIL_SWITCH_S)
        self._options = options
        delays_ms = delays_from_environment(os.environ.get(SIGN_DELAY_ENV, ""))
        passwords = Passwords.from_surroundings(options.password_file)
        self._keys = KeyRing(options.base_dir, os.environ, delays_ms, passwords=passwords)
        self._files = LiveFiles(self._keys, options.policy, watched=options.watches_files)
        self._unlocking = Unlocking(self._keys.open)
        self._warm_up = WarmUp(options.name)
        self._keys_warmed = 0  # which reading of the keys is being opened ahead
        store = WatermarkStore.open(options.store)
        self._store = StoreThread(store)
        maker = BackEndMaker(
            options.signers, os.environ, self._keys.secret_key, self._keys.device_key
        )
        self._back_ends = BackEnds(maker.make, maker.limits)
        self._core = Worker(
            WorkerHello(
                PROTOCOL_VERSION,
                options.name,
                time.time_ns(),
                os.getpid(),
                store.uuid,
                host_id(),
                CREDIT_US_DEFAULT,
                "",
                [],
                runs_tasks=bool(options.tasks.node_service),
            ),
            holds_key=self._keys.holds,
            is_elsewhere=self._keys.is_elsewhere,
            policy=self._files.policy,
            signer_limit_s=self._signer_limit_s,
        )
        self._preparer: BlockPreparer | None = None
        if options.nodes:
            self._preparer = BlockPreparer(PreparerSetup(store.network, options.nodes))
            self._preparer.start()
        self._tasks = TaskProcessor(
            ProcessorSetup(options.name, str(options.store.parent), options.tasks)
        )
        default_node = next(iter(options.nodes.values()), "")
        self._verifier = Verifier(VerifierSetup(options.name, store.network, default_node))
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._broker = connect(self._context, zmq.DEALER, options.broker, options.curve)
        self._poller = zmq.Poller()
        for source in self._sources():
            self._poller.register(source, zmq.POLLIN)
        self._unsigned: deque[list[SigningJob]] = deque()  # permitted, and left for the next turn
        self.exit_status = 0

    def _sources(self) -> list[zmq.Socket[bytes] | int]:
        sources: list[zmq.Socket[bytes] | int] = [
            self._broker,
            self._store.fileno(),
            self._back_ends.fileno(),
            self._unlocking.fileno(),
            self._verifier.fileno(),
            self._tasks.fileno(),
        ]
        if self._preparer is not None:
            sources.append(self._preparer.fileno())
        if self._options.parent_fd is not None:
            sources.append(self._options.parent_fd)
        return sources

    def run(self) -> int:
        """Work until drained; returns the exit status."""
        wake, self._signals = sockets_of_the_system.socketpair()
        for end in (wake, self._signals):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGTERM, lambda *_: self._core.drain("SIGTERM"))
        if self._options.parent_fd is None:
            signal.signal(signal.SIGINT, lambda *_: self._core.drain("SIGINT"))
        else:  # Ctrl-C reaches the whole foreground group; the supervisor decides what it means
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._poller.register(self._signals.fileno(), zmq.POLLIN)
        tune_collector()
        log.info("worker_started name=%s pid=%d", self._options.name, os.getpid())
        self._look_at_files(time.monotonic())
        try:
            while not self._turn():
                pass
        finally:
            signal.set_wakeup_fd(-1)
            self.close()
        log.info("worker_ended name=%s status=%d", self._options.name, self.exit_status)
        return self.exit_status

    def _turn(self) -> bool:
        back_ends_at = _or_never(self._back_ends.deadline())
        preparer_at = inf if self._preparer is None else self._preparer.deadline()
        children_at = min(preparer_at, self._verifier.deadline(), self._tasks.deadline())
        until = min(self._core.deadline(), self._files.next_look, back_ends_at, children_at)
        wait_ms = max(0, int((until - time.monotonic()) * 1000) + 1)
        if self._unsigned:
            wait_ms = 0
        readable = {fd for fd, _ in self._poller.poll(wait_ms)}
        now = time.monotonic()
        if self._signals.fileno() in readable:
            self._signals.recv(64)
        if self._options.parent_fd in readable:
            self._poller.unregister(self._options.parent_fd)
            self._core.drain("the supervisor is gone", orphaned_at=now)
        if self._broker in readable:
            self._read_broker(now)
        if self._store.fileno() in readable:
            self._read_store(now)
        # To look in vain costs some 10 µs each, mostly for the exception that says so.
        if self._back_ends.fileno() in readable or now >= back_ends_at:
            self._read_back_ends(now)
        if self._unlocking.fileno() in readable:
            self._read_unlocked(now)
        preparer = self._preparer
        if preparer is not None and (preparer.fileno() in readable or now >= preparer_at):
            for outcome in preparer.receive():
                self._core.prepared(outcome)
        if self._verifier.fileno() in readable or now >= self._verifier.deadline():
            self._tell_of_checks()
        if self._tasks.fileno() in readable or now >= self._tasks.deadline():
            self._pass_on(self._tasks.exchange(now))
        self._core.holds_applications = self._tasks.holds
        self._core.applications_down = self._tasks.trouble
        if self._core.draining:
            self._tasks.finish(now)
        self._look_at_files(now)
        wait_ms = self._store.wait_ms(now)
        turn = self._core.end_turn(
            now, store_wait_ms=wait_ms, stalled_by=self._who_stalls(now) if wait_ms else 0
        )
        self._perform(turn, now)
        while turn.to_sign or turn.to_answer:  # what was signed may be on disk by now
            self._read_store(now)
            turn = self._core.end_turn(now)
            self._perform(turn, now)
        return turn.stop or bool(self.exit_status)

    # -- in ---------------------------------------------------------------------------------------

    def _read_broker(self, now: float) -> None:
        for _ in range(MESSAGES_PER_TURN):
            frames = receive(self._broker)
            if frames is None:
                return
            try:
                message = wire.decode_broker_message(frames[-1])
                if isinstance(message, ReloadAsked):
                    self._reload(message)
                elif isinstance(message, CheckSlices):
                    self._verifier.take(message)
                elif isinstance(message, KeysShared):
                    self._warm_up.take_sharers(message.workers, self._keys.locked, now)
                    self._open_ahead()
                elif isinstance(message, Applications | TaskEventsAck | LookAgain):
                    self._pass_on(self._tasks.take(message, now))
                else:
                    self._core.broker_message(message, now)
                    if isinstance(message, Welcome):
                        self._pass_on(self._tasks.welcomed())
            except MalformedMessage as e:
                log.error("malformed_broker_message error=%s", e)

    def _read_store(self, now: float) -> None:
        for answer in self._store.receive():
            match answer:
                case Judged():
                    self._core.judged(answer.batch, answer.verdicts, now)
                case Committed():
                    self._core.committed(answer, now)
                case Late():
                    self._core.pipeline.late(answer.jobs)
                case Kept():
                    self._core.kept(answer.signatures)
                case NotKept():
                    for job, _ in answer.asked.signatures:
                        self._core.signer_failed(job, answer.code, answer.text)
                case Withdrawn():
                    self._core.withdrawn(answer.asked.ended)
                case DraftAnswer():
                    self._core.draft_found(answer.asked, answer.draft, now)
                case StoreAvailable():
                    self._core.store_available()
                case StoreFailed():
                    log.error("store_failed code=%s fatal=%s %s", answer.code, answer.fatal,
                              answer.text)  # fmt: skip
                    if answer.batch is not None:
                        self._core.store_failed(answer.batch, answer.code, answer.text)
                    self._core.store_unavailable(answer.text, now)
                    if answer.fatal:
                        self.exit_status = EXIT_STORE

    def _read_back_ends(self, now: float) -> None:
        answers = self._back_ends.receive(now)
        for answer in answers:
            match answer:
                case Answered(job=SigningJob() as job, answer=bytes() as signature):
                    self._core.signed_elsewhere(job, signature)
                case Answered(job=SigningJob() as job):
                    self._core.signer_failed(
                        job, answer.code, answer.problem, answer.outcome,
                        may_have_signed=answer.may_have_signed,
                    )  # fmt: skip
                case Answered(job=PendingTask() as task, answer=bytes() as public_key):
                    self._core.answered(task, public_key)
                case Answered(job=PendingTask() as task):
                    self._core.not_answered(task, answer.code, answer.problem, answer.outcome)
        for note in self._back_ends.notes:
            log.warning("%s", note)
        if answers or self._back_ends.notes:
            self._core.signers_down = self._back_ends.trouble()
            self._back_ends.notes.clear()

    def _read_unlocked(self, now: float) -> None:
        answers = self._unlocking.receive()
        for answer in answers:
            if answer.secret is not None:
                self._keys.opened(answer.key_hash, answer.secret)
                self._warm_up.opened(answer.key_hash, now)
            else:
                self._warm_up.failed(answer.key_hash, answer.code, answer.problem, now)
            match answer.task:
                case SigningJob() as job if answer.secret is not None:
                    self._sign_all([job], now)
                case SigningJob() as job:
                    self._core.signer_failed(job, answer.code, answer.problem)
                case PendingTask() as task if answer.secret is not None:
                    self._answer(task, now)
                case PendingTask() as task:
                    self._core.not_answered(task, answer.code, answer.problem)
        if answers:
            self._tell_of_warm_up()

    def _open_ahead(self) -> None:
        """Open what is ours and still locked; the workers of this host share its cores."""
        threads = -(-cores() // max(1, self._warm_up.sharers))
        self._unlocking.open_ahead(self._warm_up.waiting, threads)
        self._tell_of_warm_up()

    def _tell_of_warm_up(self) -> None:
        for note in self._warm_up.notes:
            log.info("%s", note)
        for alarm in self._warm_up.alarms:
            log.error("%s", alarm)
        self._warm_up.notes, self._warm_up.alarms = [], []
        self._core.encrypted = self._warm_up.progress

    def _who_stalls(self, now: float) -> int:
        """The process that has held the store's lock for too long; the supervisor ends it."""
        holder = lock_holder(self._options.store) if self._store.wait_ms(now) > STALL_MS else None
        return holder.pid if holder is not None and now - holder.since > STALL_S else 0

    def _look_at_files(self, now: float) -> None:
        if self._files.look(now):
            self._core.keys_known(self._keys.hashes)
        self._core.policy = self._files.policy
        if self._keys_warmed != self._keys.readings:
            self._keys_warmed = self._keys.readings
            self._warm_up.take_keys(self._keys.encrypted, self._keys.locked, now)
            self._open_ahead()

    def _reload(self, asked: ReloadAsked) -> None:
        answer, keys_changed = self._files.reload(asked)
        self._core.policy = self._files.policy
        if keys_changed:
            self._core.keys_known(self._keys.hashes)
        if answer is not None and not send(self._broker, [wire.encode(answer)]):
            self._core.not_sent()

    # -- out --------------------------------------------------------------------------------------

    def _perform(self, turn: Turn, now: float) -> None:
        for note in turn.notes:
            log.info("%s", note)
        for to_store in turn.to_store:
            self._store.submit(to_store)
            self._unlocking.loop_works(now)
        if turn.probe_store:
            self._store.probe()
        # Before the next batch is signed: while that takes, the broker deals out new work.
        for message in turn.to_broker:
            if not send(self._broker, [wire.encode(message)]):
                self._core.not_sent()
        self._unsigned += turn.to_sign
        self._sign_for_a_slice(now)
        for job in turn.to_sign_elsewhere:
            self._ask_back_end(job, now)
        for task in turn.to_answer:
            self._answer(task, now)
        for preparation in turn.to_prepare:
            if self._preparer is not None:
                self._preparer.submit(preparation)
            else:
                self._core.cannot_prepare(preparation)

    def _pass_on(self, messages: list[bytes]) -> None:
        """Give the broker what the task processor says."""
        for message in messages:
            if not send(self._broker, [message]):
                self._core.not_sent()  # after the next welcome it says everything again

    def _tell_of_checks(self) -> None:
        """Pass on what the verifier has to say."""
        answers = self._verifier.exchange()
        if answers and not send(self._broker, [wire.encode(SlicesChecked(answers))]):
            self._core.not_sent()

    def _sign_for_a_slice(self, now: float) -> None:
        until = time.monotonic() + SIGNING_SLICE_S
        while self._unsigned and time.monotonic() < until:
            jobs = self._unsigned.popleft()
            if len(jobs) > JOBS_PER_LOOK:
                self._unsigned.appendleft(jobs[JOBS_PER_LOOK:])
            self._sign_all(jobs[:JOBS_PER_LOOK], now)

    def _sign_all(self, jobs: list[SigningJob], now: float) -> None:
        find, locked = self._keys.signer, self._keys.locked
        for job in jobs:
            if job.delegate in locked:
                self._core.signs_slowly(job, now)
                self._unlocking.submit(job)
                continue
            try:
                signer = find(job.delegate)
                if not isinstance(signer, LocalSigner):
                    raise KeyMoved(f"{job.delegate} is elsewhere by now")
                job.signature = signer.sign(job.unsigned, job.signable.digest)
            except Exception as e:  # a key that cannot be read ends its request, not the worker
                self._core.signer_failed(job, getattr(e, "code", "signer_failed"), str(e))
        self._core.signed(jobs)

    def _ask_back_end(self, job: SigningJob, now: float) -> None:
        try:
            signer = self._keys.signer(job.delegate)
            if isinstance(signer, LocalSigner):
                raise KeyMoved(f"{job.delegate} is here by now")
        except SignersError as e:
            self._core.signer_failed(job, e.code, str(e), may_have_signed=False)
        else:
            self._back_ends.submit(job, signer, now)

    def _signer_limit_s(self, job: SigningJob) -> float:
        """How long a job's signer may take; the worker itself waits a little longer."""
        sources = self._keys.sources(job.delegate)
        return self._back_ends.answers_within_s(job, sources) + WORKER_WAITS_LONGER_S

    def _answer(self, task: PendingTask, now: float) -> None:
        """Have a key do what needs no mark; one that takes time to open is opened first."""
        key_hash = task.delegate
        if key_hash in self._keys.locked:
            self._core.answers_slowly(task)
            self._unlocking.submit(task)
            return
        try:
            body = self._answer_of_key(task, now)
        except Exception as e:  # a key that cannot be read ends its request, not the worker
            outcome = Outcome.REFUSED if isinstance(e, BadRequest) else Outcome.FAILED
            self._core.not_answered(task, getattr(e, "code", "signer_failed"), str(e), outcome)
        else:
            if body is None:
                self._core.answers_slowly(task)
            else:
                self._core.answered(task, body)

    def _answer_of_key(self, task: PendingTask, now: float) -> bytes | None:
        """The body of the answer; None when somebody else has been asked for it."""
        key_hash, payload = task.delegate, task.request.payload
        if task.request.kind == PROVE_POSSESSION:
            return self._keys.prove_possession(key_hash, payload)
        if task.request.kind == DERIVE_NONCE:
            return self._keys.derive_nonce(key_hash, payload)
        signer = self._keys.signer(key_hash)
        if signer.public_key is not None:
            return signer.public_key.tagged()
        assert isinstance(signer, BackEndSigner)  # ours know their public keys
        self._back_ends.submit(task, signer, now)
        return None

    def close(self) -> None:
        if self._preparer is not None:
            self._preparer.close()
        self._verifier.close()
        self._tasks.close()
        self._unlocking.close()
        self._back_ends.close()
        self._store.close()
        self._broker.close()
        self._context.term()


def _or_never(at: float | None) -> float:
    return inf if at is None else at
