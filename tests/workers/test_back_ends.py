"""Back-ends and their bulkheads with real threads: who waits for whom, and what comes out.

The signers here are ours to command; real ones over real sockets are in
``tests/pool/test_remote_signers.py``.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event

import pytest

from broker.messages import Outcome
from signers.backends.backend import (
    HAS_NOT_SIGNED,
    BackEnd,
    SignerBusy,
    SignerFailed,
    SignerLost,
    SignerMalformed,
    SignerRejected,
    SignerTimeout,
    SignerUnavailable,
    SignerUnknownKey,
    SignerWrongSignature,
)
from signers.backends.key_uri import TcpKey
from signers.errors import BadRequest
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK
from signers.formats.tagged_keys import hash_text
from signers.keyring.keys import PublicKey
from tests.workers.worker_script import CHAIN, KEYS, A, B, C, a_header, a_job, a_task, a_vote
from workers.back_ends import ANSWER_WITHIN_S, Answered, BackEnds
from workers.bulkhead import OVERDUE_S, Limits
from workers.key_source import BackEndSigner, DelayedKey, DelayedSigner, Source
from workers.signing_job import SigningJob

ANSWER_S = 10.0


@dataclass
class Device:
    """A signer that does what it is told: `script` holds what to raise or to give, in turn."""

    script: list[Exception | bytes] = field(default_factory=list)
    hang: Event | None = None
    is_asked: Event = field(default_factory=Event)
    asked: list[bytes] = field(default_factory=list)
    asked_for_keys: int = 0
    closed: bool = False

    def sign(self, public_key: PublicKey, key_hash: str, message: bytes, timeout_s: float) -> bytes:
        self.asked.append(message)
        self.is_asked.set()
        if self.hang is not None:
            assert self.hang.wait(ANSWER_S)
        if self.script:
            answer = self.script.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return KEYS[key_hash].sign(message, blake2b_32(message))

    def public_key(self, key_hash: str, timeout_s: float) -> PublicKey:
        self.asked_for_keys += 1
        if self.hang is not None:
            assert self.hang.wait(ANSWER_S)
        return KEYS[key_hash].public_key

    def close(self) -> None:
        self.closed = True


class Pool:
    """Back-ends over some devices, by the port of their pretended addresses.

    `limits` are those of all, `of_first` those of the first alone.
    """

    def __init__(
        self, *devices: Device, limits: Limits | None = None, of_first: Limits | None = None
    ) -> None:
        self.devices = devices
        common = limits or Limits()
        chosen = {"tcp://h:0": of_first or common}
        self.back_ends = BackEnds(self._make, lambda name: chosen.get(name, common))

    def _make(self, source: Source) -> BackEnd:
        if isinstance(source, DelayedKey):
            return DelayedSigner(source)
        assert isinstance(source, TcpKey)
        return self.devices[source.port]

    def submit(self, job: SigningJob, *devices: int, knows_key: bool = True) -> SigningJob:
        sources = tuple(TcpKey("h", port, job.delegate) for port in devices)
        public_key = KEYS[job.delegate].public_key if knows_key else None
        signer = BackEndSigner(job.delegate, sources, public_key)
        self.back_ends.submit(job, signer, time.monotonic())
        return job

    def ask_public_key(self, key_hash: str, device: int) -> None:
        signer = BackEndSigner(key_hash, (TcpKey("h", device, key_hash),), None)
        self.back_ends.submit(a_task(key_hash), signer, time.monotonic())

    def receive(self, count: int) -> list[Answered]:
        poll = select.poll()
        poll.register(self.back_ends.fileno(), select.POLLIN)
        answers: list[Answered] = []
        end = time.monotonic() + ANSWER_S
        while len(answers) < count:
            assert time.monotonic() < end
            at = self.back_ends.deadline()
            wait_s = min(end, end if at is None else at) - time.monotonic()
            poll.poll(max(0.0, wait_s) * 1000 + 1)
            answers += self.back_ends.receive(time.monotonic())
        return answers

    def answer(self) -> Answered:
        [answer] = self.receive(1)
        return answer

    def wait_for_call(self, asked: Event) -> None:
        """Until a back-end is asked; nothing is answered meanwhile."""
        end = time.monotonic() + ANSWER_S
        while not asked.wait(0.01):
            assert time.monotonic() < end
            assert self.back_ends.receive(time.monotonic()) == []


@pytest.fixture
def pool_of() -> Iterator[Callable[..., Pool]]:
    pools = []

    def make(*devices: Device, **options: Limits) -> Pool:
        pools.append(Pool(*devices, **options))
        return pools[-1]

    yield make
    for pool in pools:
        for device in pool.devices:
            if device.hang is not None:
                device.hang.set()
        pool.back_ends.close()
        assert all(device.closed for device in pool.devices if device.asked)


PoolOf = Callable[..., Pool]


def a_block() -> bytes:
    return b"\x11" + CHAIN + a_header()


def test_a_signature_comes_back_with_its_job(pool_of: PoolOf) -> None:
    pool = pool_of(Device())
    assert pool.back_ends.receive(0.0) == []
    job = pool.submit(a_job(A, a_vote()), 0)
    assert pool.answer() == Answered(job, KEYS[A].sign(job.unsigned, job.signable.digest))


def test_a_public_key_that_is_not_known_is_asked_for_once(pool_of: PoolOf) -> None:
    pool = pool_of(Device())
    for level in (1, 2):
        pool.submit(a_job(A, a_vote(level)), 0, knows_key=False)
        assert pool.answer().answer is not None
    assert pool.devices[0].asked_for_keys == 1


def test_a_back_end_that_hangs_holds_up_nobody_else(pool_of: PoolOf) -> None:
    hang = Event()
    pool = pool_of(Device(hang=hang), Device(), limits=Limits(concurrency=1))
    stuck, waits = (pool.submit(a_job(key, a_vote()), 0) for key in (A, B))
    other = pool.submit(a_job(C, a_vote()), 1)
    assert pool.answer().job is other
    hang.set()
    assert [answer.job for answer in pool.receive(2)] == [stuck, waits]


def test_a_line_that_is_full_is_answered_at_once(pool_of: PoolOf) -> None:
    pool = pool_of(Device(hang=Event()), limits=Limits(concurrency=1, queue=1))
    for key in (A, B, C):
        job = pool.submit(a_job(key, a_vote()), 0)
    assert pool.back_ends.deadline() == 0.0
    answer = pool.answer()
    assert (answer.job, answer.code) == (job, "signer_busy")


def test_a_back_end_has_no_more_threads_than_places(pool_of: PoolOf) -> None:
    hang = Event()
    device = Device(hang=hang)
    pool = pool_of(device, limits=Limits(concurrency=3, queue=100))
    for level in range(20):
        pool.submit(a_job(A, a_vote(level)), 0)
    assert len(device.asked) <= 3
    hang.set()
    assert len(pool.receive(20)) == 20


def test_whatever_a_back_end_throws_ends_its_job_and_not_its_thread(pool_of: PoolOf) -> None:
    pool = pool_of(Device([ZeroDivisionError("out of its mind")]), limits=Limits(concurrency=1))
    pool.submit(a_job(A, a_vote(1)), 0)
    answer = pool.answer()
    assert answer.code == "signer_lost", "nobody knows what it has done"
    assert answer.problem == "tcp://h:0: ZeroDivisionError: out of its mind"
    pool.submit(a_job(A, a_vote(2)), 0)
    assert pool.answer().answer is not None


# -- lies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", [b"", b"\x01" * 64, b"\x01" * 96, "another key's"])
def test_a_signature_that_is_not_the_keys_never_comes_out(pool_of: PoolOf, lie: bytes) -> None:
    job = a_job(A, a_vote())
    if lie == "another key's":
        lie = KEYS[B].sign(job.unsigned, job.signable.digest)
    pool = pool_of(Device([lie]))
    pool.submit(job, 0)
    answer = pool.answer()
    assert (answer.answer, answer.code) == (None, "signer_wrong_signature")
    assert A in answer.problem


def test_a_liar_is_left_alone_after_some_lies(pool_of: PoolOf) -> None:
    pool = pool_of(Device([b"\x01" * 64] * 9))
    codes = []
    for level in range(4):
        pool.submit(a_job(A, a_vote(level)), 0)
        codes.append(pool.answer().code)
    assert codes == ["signer_wrong_signature"] * 3 + ["signer_unavailable"]
    assert len(pool.devices[0].asked) == 3


# -- fail-over ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SignerUnavailable("refused"), SignerTimeout("late")])
def test_a_vote_goes_to_the_next_source(pool_of: PoolOf, error: Exception) -> None:
    pool = pool_of(Device([error]), Device())
    pool.submit(a_job(A, a_vote()), 0, 1)
    assert pool.answer().answer is not None
    assert [len(device.asked) for device in pool.devices] == [1, 1]


def test_a_block_that_may_have_been_signed_goes_on_where_signatures_are_alike(
    pool_of: PoolOf,
) -> None:
    pool = pool_of(Device([SignerLost("reset")]), Device())
    pool.submit(a_job(A, a_block()), 0, 1)
    assert pool.answer().answer is not None


def test_a_block_that_may_have_been_signed_goes_nowhere_else_where_they_are_not(
    pool_of: PoolOf,
) -> None:
    secp256k1 = hash_text(b"\x01" + bytes(20), MAVRYK)
    for error, asked in (
        (SignerLost("reset"), [1, 0]),
        (SignerTimeout("late"), [1, 0]),
        (SignerUnavailable("refused"), [1, 1]),
    ):
        pool = pool_of(Device([error]), Device([SignerUnavailable("refused")]))
        job = a_job(secp256k1, a_block())
        sources = tuple(TcpKey("h", port, secp256k1) for port in (0, 1))
        signer = BackEndSigner(secp256k1, sources, KEYS[A].public_key)
        pool.back_ends.submit(job, signer, time.monotonic())
        assert pool.answer().answer is None
        assert [len(device.asked) for device in pool.devices] == asked


def test_what_a_rule_forbids_is_asked_of_nobody_else(pool_of: PoolOf) -> None:
    pool = pool_of(Device([SignerRejected("not above high watermark")]), Device())
    pool.submit(a_job(A, a_vote()), 0, 1)
    answer = pool.answer()
    assert (answer.outcome, answer.code, answer.problem) == (
        Outcome.REFUSED, "signer_rejected", "tcp://h:0: not above high watermark",
    )  # fmt: skip
    assert pool.devices[1].asked == []


def test_a_source_that_is_left_alone_is_skipped(pool_of: PoolOf) -> None:
    pool = pool_of(Device([SignerUnavailable("refused")] * 9), Device())
    for level in range(5):
        pool.submit(a_job(A, a_vote(level)), 0, 1)
        assert pool.answer().answer is not None
    assert [len(device.asked) for device in pool.devices] == [3, 5]


def test_when_all_sources_fail_the_answer_names_each(pool_of: PoolOf) -> None:
    pool = pool_of(Device([SignerUnavailable("refused")]), Device([SignerTimeout("late")]))
    pool.submit(a_job(A, a_vote()), 0, 1)
    answer = pool.answer()
    assert (answer.outcome, answer.code, answer.problem) == (
        Outcome.FAILED, "signer_timeout", "tcp://h:0: refused; tcp://h:1: late",
    )  # fmt: skip


def test_a_vote_whose_source_hangs_goes_to_the_next_and_ends_once(pool_of: PoolOf) -> None:
    hang = Event()
    pool = pool_of(Device(hang=hang), Device(), limits=Limits(time_limit_s=0.1))
    job = pool.submit(a_job(A, a_vote()), 0, 1)
    assert pool.answer() == Answered(job, KEYS[A].sign(job.unsigned, job.signable.digest))
    assert pool.back_ends.trouble() == "tcp://h:0: 1 calls hang"
    hang.set()
    other = pool.submit(a_job(B, a_vote()), 1)
    assert pool.answer().job is other, "the late answer is nobody's any more"


def test_a_job_whose_only_source_hangs_waits_for_it(pool_of: PoolOf) -> None:
    hang = Event()
    pool = pool_of(Device(hang=hang), limits=Limits(time_limit_s=0.1))
    job = pool.submit(a_job(A, a_vote()), 0)
    at = pool.back_ends.deadline()
    assert at is not None
    assert pool.back_ends.receive(at + OVERDUE_S) == []
    assert any("it hangs" in note for note in pool.back_ends.notes)
    hang.set()
    assert pool.answer().job is job


def test_a_source_that_was_given_up_ends_the_job_if_it_is_the_first_to_sign(
    pool_of: PoolOf,
) -> None:
    slow, slower = Event(), Event()
    pool = pool_of(Device(hang=slow), Device(hang=slower), limits=Limits(time_limit_s=0.1))
    job = pool.submit(a_job(A, a_vote()), 0, 1)
    pool.wait_for_call(pool.devices[1].is_asked)
    slow.set()
    signature = KEYS[A].sign(job.unsigned, job.signable.digest)
    assert pool.answer() == Answered(job, signature)
    slower.set()
    other = pool.submit(a_job(B, a_vote()), 1)
    assert pool.answer().job is other, "one signature is enough"


def test_what_a_source_that_was_given_up_signs_after_the_jobs_end_is_kept_for_repeats(
    pool_of: PoolOf,
) -> None:
    hang = Event()
    pool = pool_of(Device(hang=hang), Device([SignerFailed("no")]), limits=Limits(time_limit_s=0.1))
    job = pool.submit(a_job(A, a_vote()), 0, 1)
    answer = pool.answer()
    assert (answer.job, answer.code, answer.may_have_signed) == (job, "signer_failed", True)
    hang.set()
    assert pool.answer() == Answered(job, KEYS[A].sign(job.unsigned, job.signable.digest))


def test_a_job_that_is_signed_does_not_fail_when_its_next_source_has_no_place(
    pool_of: PoolOf,
) -> None:
    slow, hang = Event(), Event()
    pool = pool_of(
        Device(hang=slow), Device(hang=hang), limits=Limits(1), of_first=Limits(time_limit_s=0.1)
    )
    blocking = pool.submit(a_job(B, a_vote()), 1)
    job = pool.submit(a_job(A, a_vote()), 0, 1)
    at = pool.back_ends.deadline()
    assert at is not None
    assert pool.back_ends.receive(at) == [], "the first hangs, the second is busy"
    slow.set()
    assert pool.answer().job is job
    assert pool.back_ends.receive(at + ANSWER_WITHIN_S) == [], "it waits in vain, and nobody minds"
    hang.set()
    assert pool.answer().job is blocking
    assert len(pool.devices[1].asked) == 1


# -- whether there may be a signature -------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        SignerUnavailable("refused"),
        SignerBusy("busy"),
        SignerFailed("no"),
        SignerUnknownKey("no key"),
        SignerRejected("not above high watermark"),
    ],
)
def test_after_these_there_is_surely_no_signature(pool_of: PoolOf, error: Exception) -> None:
    pool = pool_of(Device([error]))
    pool.submit(a_job(A, a_block()), 0)
    assert not pool.answer().may_have_signed


@pytest.mark.parametrize(
    "error",
    [
        SignerTimeout("late"),
        SignerLost("reset"),
        SignerMalformed("garbage"),
        SignerWrongSignature("lies"),
        BadRequest("an error that no list has"),
        ZeroDivisionError("out of its mind"),
    ],
)
def test_after_all_others_there_may_be_one(pool_of: PoolOf, error: Exception) -> None:
    pool = pool_of(Device([error]))
    pool.submit(a_job(A, a_block()), 0)
    assert pool.answer().may_have_signed
    assert not isinstance(error, HAS_NOT_SIGNED)


def test_one_source_in_doubt_is_enough_for_doubt(pool_of: PoolOf) -> None:
    errors = SignerUnavailable("refused"), SignerTimeout("late")
    for first, second in (errors, errors[::-1]):
        pool = pool_of(Device([first]), Device([second]))
        pool.submit(a_job(A, a_block()), 0, 1)
        assert pool.answer().may_have_signed
    pool = pool_of(Device([errors[0]]), Device([errors[0]]))
    pool.submit(a_job(A, a_block()), 0, 1)
    assert not pool.answer().may_have_signed


def test_whom_nobody_was_asked_for_is_surely_not_signed(pool_of: PoolOf) -> None:
    pool = pool_of(Device(hang=Event()), limits=Limits(concurrency=1, queue=1))
    for key in (A, B, C):
        pool.submit(a_job(key, a_block()), 0)
    assert not pool.answer().may_have_signed, "its line is full"


def test_a_source_that_hangs_and_then_says_that_it_was_not_reached_is_believed(
    pool_of: PoolOf,
) -> None:
    hang = Event()
    device = Device([SignerUnavailable("refused")], hang=hang)
    pool = pool_of(device, limits=Limits(time_limit_s=0.1))
    pool.submit(a_job(A, a_block()), 0)
    at = pool.back_ends.deadline()
    assert at is not None
    assert pool.back_ends.receive(at + OVERDUE_S) == []
    hang.set()
    assert not pool.answer().may_have_signed


# -- a person is asked ----------------------------------------------------------------------------

NOOP = b"\x03" + bytes(32) + b"\x11" + bytes(4)


def test_an_operation_waits_for_a_person_and_a_duty_does_not_wait_for_either(
    pool_of: PoolOf,
) -> None:
    hang = Event()
    limits = Limits(1, time_limit_s=0.1, person_limit_s=60.0)
    pool = pool_of(Device(hang=hang), limits=limits)
    job = pool.submit(a_job(A, NOOP), 0)
    pool.wait_for_call(pool.devices[0].is_asked)
    assert pool.back_ends.receive(time.monotonic() + 30.0) == []
    assert pool.back_ends.notes == [], "nobody says that it hangs"
    vote = pool.submit(a_job(B, a_vote()), 0)
    busy = pool.answer()
    assert (busy.job, busy.code, busy.may_have_signed) == (vote, "signer_busy", False)
    hang.set()
    assert pool.answer().job is job


def test_a_vote_has_its_own_limit_also_where_people_are_asked(pool_of: PoolOf) -> None:
    pool = pool_of(Device(hang=Event()), limits=Limits(1, time_limit_s=0.1, person_limit_s=60.0))
    pool.submit(a_job(A, a_vote()), 0)
    at = pool.back_ends.deadline()
    assert at is not None
    assert pool.back_ends.receive(at) == []
    assert any("it hangs" in note for note in pool.back_ends.notes)
    assert at < time.monotonic() + ANSWER_WITHIN_S


def test_only_operations_have_longer_and_only_where_people_are_asked(pool_of: PoolOf) -> None:
    sources = TcpKey("h", 0, A), TcpKey("h", 1, A)
    pool = pool_of(limits=Limits(), of_first=Limits(person_limit_s=60.0))
    operation, vote, block = (a_job(A, each) for each in (NOOP, a_vote(), a_block()))
    within_s = pool.back_ends.answers_within_s
    assert within_s(operation, sources) == 60.0
    assert within_s(operation, sources[1:]) == ANSWER_WITHIN_S
    assert within_s(vote, sources) == within_s(block, sources) == ANSWER_WITHIN_S
    assert within_s(operation, ()) == ANSWER_WITHIN_S, "a key that is being opened"
    hasty = pool_of(limits=Limits(person_limit_s=2.0))
    assert hasty.back_ends.answers_within_s(operation, sources) == ANSWER_WITHIN_S


# -- what is told ---------------------------------------------------------------------------------


def test_each_change_and_each_failure_has_a_line(pool_of: PoolOf) -> None:
    pool = pool_of(Device([SignerUnavailable("refused")] * 3))
    for level in range(3):
        pool.submit(a_job(A, a_vote(level)), 0)
        pool.answer()
    failed = f"backend_failed backend=tcp://h:0 key={A} code=signer_unavailable why='refused'"
    *failures, state = pool.back_ends.notes
    assert failures == [failed] * 3
    assert state == (
        "backend_state backend=tcp://h:0 state=open why='3 times in a row, last: refused'"
    )
    assert pool.back_ends.trouble() == "tcp://h:0: open, 3 times in a row, last: refused"


def test_a_delayed_key_is_a_back_end_like_any_other(pool_of: PoolOf) -> None:
    pool = pool_of()
    job = a_job(A, a_vote())
    source = DelayedKey(A, 1, KEYS[A])
    signer = BackEndSigner(A, (source,), KEYS[A].public_key)
    pool.back_ends.submit(job, signer, time.monotonic())
    assert pool.answer() == Answered(job, KEYS[A].sign(job.unsigned, job.signable.digest))
    assert KEYS[A].secret_text() not in repr(source)


# -- public keys ----------------------------------------------------------------------------------


def test_a_task_without_bytes_is_told_the_public_key(pool_of: PoolOf) -> None:
    pool = pool_of(Device(), Device())
    pool.ask_public_key(A, 0)
    assert pool.answer().answer == KEYS[A].public_key.tagged()
    assert pool.devices[0].asked == [], "nothing was signed for it"
    pool.ask_public_key(A, 0)
    assert pool.answer().answer == KEYS[A].public_key.tagged()
    assert pool.devices[0].asked_for_keys == 1, "it is remembered"


def test_who_hangs_when_asked_for_a_public_key_ends_the_task_once(
    pool_of: PoolOf,
) -> None:
    hang = Event()
    pool = pool_of(Device(hang=hang), limits=Limits(time_limit_s=0.05))
    pool.ask_public_key(A, 0)
    answer = pool.answer()
    assert (answer.answer, answer.code, answer.outcome) == (None, "signer_timeout", Outcome.FAILED)
    hang.set()
    pool.submit(a_job(A, a_vote()), 0)
    assert pool.answer().answer is not None, "the late key was dropped, and the next call is served"
