"""Which worker checks what: slices of work that the quarantine asks for, beside all queues.

    asked ──► given to a worker ──► answered
      │             └─────────────► worker_lost: it ended, fell silent, or came back without it
      └──► busy, no_worker

A slice waits nowhere: it is given to a worker that has a place for it, or refused at once, and who
has asked for it decides what then. So checks take neither memory of the broker nor a delegate's
turn. The owner of the delegate that a slice hints at is preferred, since it has that key at hand.
A worker that says that its slices were lost is asked after all others, until it has answered one:
what is asked again must not go to the same broken verifier.

Pure: what to send is handed back. Answers of workers that were given up are dropped.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from hashlib import blake2b

from broker.membership import Worker, WorkerState
from broker.verification import CheckAnswer, CheckSlice

# Each is 2 ms of work or a block. Eight of them are enough work while the answers to sixteen, and
# the next sixteen, are on their way: one message each, for a message costs as much as two votes.
SLICES_PER_WORKER_MAX = 24

BUSY = "busy"
NO_WORKER = "no_worker"
WORKER_LOST = "worker_lost"

Asker = Hashable


class CheckRouting:
    """What each worker is checking, and for whom."""

    def __init__(self, epoch: str) -> None:
        self._asked: dict[int, tuple[Asker, int]] = {}  # who, and what he calls it
        self._in_hand: dict[Worker, dict[int, int]] = {}  # costs of its slices, by number
        self._doubtful: set[Worker] = set()  # who have lost slices, and answered none since
        # A worker may still answer what a broker that is no more has given it.
        self._next_number = int.from_bytes(blake2b(epoch.encode(), digest_size=6).digest())
        self.counts = {"given": 0, "answered": 0, BUSY: 0, NO_WORKER: 0, WORKER_LOST: 0}

    def give(
        self, asker: Asker, asked: CheckSlice, workers: Iterable[Worker], owner: Worker | None
    ) -> tuple[Worker, CheckSlice] | CheckAnswer:
        """Find a worker for a slice, which gets a number of ours, or say why there is none."""
        ready = [worker for worker in workers if worker.state is WorkerState.READY]
        free = [worker for worker in ready if self._places(worker)]
        if not free:
            problem = BUSY if ready else NO_WORKER
            self.counts[problem] += 1
            return CheckAnswer(asked.number, problem=problem)
        is_at_hand = owner in free and owner not in self._doubtful
        worker = owner if is_at_hand else min(free, key=self._rank)
        assert worker is not None
        number, self._next_number = self._next_number, self._next_number + 1
        self._asked[number] = asker, asked.number
        self._in_hand.setdefault(worker, {})[number] = asked.cost_us
        self.counts["given"] += 1
        return worker, CheckSlice(number, asked.cost_us, asked.body, asked.ttl_ms, asked.hint)

    def answered(
        self, worker: Worker, answers: Iterable[CheckAnswer]
    ) -> list[tuple[Asker, CheckAnswer]]:
        """Who gets which answer of a worker, under his own number."""
        in_hand = self._in_hand.get(worker, {})
        found = []
        for answer in answers:
            if in_hand.pop(answer.number, None) is None:
                continue  # given up before
            if answer.problem == WORKER_LOST:
                self._doubtful.add(worker)
            else:
                self._doubtful.discard(worker)
            asker, number = self._asked.pop(answer.number)
            found.append((asker, CheckAnswer(number, answer.body, answer.problem)))
        self.counts["answered"] += len(found)
        return found

    def lost(self, worker: Worker) -> list[tuple[Asker, CheckAnswer]]:
        """Give up what a worker has; who has asked is told at once."""
        self._doubtful.discard(worker)
        asked = [self._asked.pop(number) for number in self._in_hand.pop(worker, {})]
        self.counts[WORKER_LOST] += len(asked)
        return [(asker, CheckAnswer(number, problem=WORKER_LOST)) for asker, number in asked]

    def room(self, workers: Iterable[Worker]) -> int:
        """How many slices could be given now."""
        return sum(self._places(w) for w in workers if w.state is WorkerState.READY)

    def in_hand(self, worker: Worker) -> int:
        """How many slices a worker has."""
        return len(self._in_hand.get(worker, ()))

    def _places(self, worker: Worker) -> int:
        return SLICES_PER_WORKER_MAX - self.in_hand(worker)

    def _rank(self, worker: Worker) -> tuple[bool, int]:
        """The least is asked first: by what it has to check, in microseconds of CPU."""
        return worker in self._doubtful, sum(self._in_hand.get(worker, {}).values())
