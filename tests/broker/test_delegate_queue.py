"""One delegate's tasks: first in, first out, however many are taken out of the middle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pool_script import sign

from broker.delegate_queue import Adopted, DelegateQueue, OpenRequest, Task

MESSAGE = sign("a")
REQUEST = OpenRequest("baker", MESSAGE, b"", 0, accepted=100.0, deadline=160.0)


def a_task(number: int, queue: DelegateQueue) -> Task:
    return Task(number, REQUEST, queue, 0, None)


def test_tasks_wait_in_the_order_of_their_arrival() -> None:
    queue = DelegateQueue("a")
    assert (queue.head, list(queue)) == (None, [])
    tasks = [a_task(n, queue) for n in range(3)]
    for task in tasks:
        queue.append(task)
    assert queue.head is tasks[0]
    assert list(queue) == tasks
    assert repr(queue) == "DelegateQueue(a, active=None, waiting=3)"


def test_a_task_whose_worker_died_goes_first_again() -> None:
    queue = DelegateQueue("a")
    first, second = a_task(1, queue), a_task(2, queue)
    queue.append(first)
    queue.append(second)
    queue.remove(first)
    assert list(queue) == [second]
    queue.put_back(first)
    assert list(queue) == [first, second]


def test_tasks_may_end_while_they_are_looked_at() -> None:
    queue = DelegateQueue("a")
    for number in range(4):
        queue.append(a_task(number, queue))
    for task in queue:
        queue.remove(task)
    assert list(queue) == []


@given(st.lists(st.tuples(st.sampled_from(["append", "put_back", "remove"]), st.integers(0, 9))))
def test_a_queue_is_a_list_whatever_is_done_to_it(story: list[tuple[str, int]]) -> None:
    queue = DelegateQueue("a")
    expected: list[Task] = []
    removed: list[Task] = []
    for number, (step, index) in enumerate(story):
        if step == "append":
            expected.append(a_task(number, queue))
            queue.append(expected[-1])
        elif step == "put_back" and removed:
            expected.insert(0, removed.pop())
            queue.put_back(expected[0])
        elif step == "remove" and expected:
            removed.append(expected.pop(index % len(expected)))
            queue.remove(removed[-1])
        assert list(queue) == expected
        assert queue.head is (expected[0] if expected else None)
        assert queue.tail is (expected[-1] if expected else None)
        assert all(task.previous is task.next is None for task in removed)


def test_half_of_a_requests_time_is_over_between_its_acceptance_and_its_deadline() -> None:
    assert REQUEST.half_time == 130.0


def test_what_a_worker_still_holds_is_known_by_client_and_id() -> None:
    queue = DelegateQueue("a")
    task = a_task(1, queue)
    held = Adopted("baker", MESSAGE.id, queue, object())  # type: ignore[arg-type]
    assert held.is_of(task)
    assert not Adopted("other", MESSAGE.id, queue, object()).is_of(task)  # type: ignore[arg-type]
    assert not Adopted("baker", bytes(16), queue, object()).is_of(task)  # type: ignore[arg-type]
    held.task = task
    assert not held.is_of(a_task(2, queue)), "one task waits for it already"
