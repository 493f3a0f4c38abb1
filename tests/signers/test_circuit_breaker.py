"""The circuit breaker under a hand-held clock."""

from hypothesis import given
from hypothesis import strategies as st

from signers.backends.circuit_breaker import CircuitBreaker, State


def a_breaker() -> CircuitBreaker:
    return CircuitBreaker(failures_to_open=3, open_s=1.0, open_s_max=5.0)


def fail(breaker: CircuitBreaker, now: float, why: str = "no answer") -> None:
    token = breaker.ask(now)
    assert token is not None
    breaker.failed(token, now, why)


def test_it_opens_after_failures_in_a_row_and_says_why() -> None:
    breaker = a_breaker()
    for now in (0.0, 0.1):
        fail(breaker, now)
        assert breaker.state is State.CLOSED
    fail(breaker, 0.2, "connection refused")
    assert breaker.state is State.OPEN
    assert breaker.story() == "3 times in a row, last: connection refused"
    assert breaker.ask(1.1) is None


def test_an_answer_in_between_begins_the_count_again() -> None:
    breaker = a_breaker()
    for now in (0.0, 1.0, 2.0, 3.0):
        fail(breaker, now)
        token = breaker.ask(now)
        assert token is not None
        breaker.succeeded(token)
    assert (breaker.state, breaker.story()) == (State.CLOSED, "")


def test_when_its_time_is_over_one_probe_at_a_time_is_let_through() -> None:
    breaker = a_breaker()
    for _ in range(3):
        fail(breaker, 0.0)
    probe = breaker.ask(1.0)
    assert probe is not None
    assert breaker.state is State.HALF_OPEN
    assert breaker.ask(1.0) is None
    breaker.succeeded(probe)
    assert breaker.state is State.CLOSED
    assert None not in (breaker.ask(1.0), breaker.ask(1.0))


def test_each_failed_probe_doubles_the_time_up_to_a_bound() -> None:
    breaker, now, waits = a_breaker(), 0.0, []
    for _ in range(3):
        fail(breaker, now)
    for _ in range(5):
        waits.append(breaker.open_until - now)
        now = breaker.open_until
        fail(breaker, now)
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_after_a_success_it_begins_with_the_short_time_again() -> None:
    breaker = a_breaker()
    for now in (0.0, 0.0, 0.0, 1.0, 3.0):
        fail(breaker, now)
    probe = breaker.ask(8.0)
    assert probe is not None
    breaker.succeeded(probe)
    for _ in range(3):
        fail(breaker, 9.0)
    assert breaker.open_until == 10.0


def test_answers_of_calls_from_before_the_change_count_for_nothing() -> None:
    breaker = a_breaker()
    early = [breaker.ask(0.0) for _ in range(5)]
    for token in early[:3]:
        assert token is not None
        breaker.failed(token, 0.5, "no answer")
    until = breaker.open_until
    assert early[3] is not None
    assert early[4] is not None
    breaker.succeeded(early[3])
    breaker.failed(early[4], 0.9, "no answer")
    assert (breaker.state, breaker.open_until) == (State.OPEN, until)


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from(["ask", "yes", "no", "gone"]))))
def test_it_never_stays_open_for_longer_than_its_bound(steps: list[tuple[float, str]]) -> None:
    breaker, now = a_breaker(), 0.0
    tokens: list[int] = []
    for wait, step in steps:
        now += wait
        if step == "ask":
            token = breaker.ask(now)
            tokens += [] if token is None else [token]
        elif tokens:
            token = tokens.pop(0)
            if step == "yes":
                breaker.succeeded(token)
            else:
                breaker.failed(token, now, "no answer")
        assert breaker.open_until <= now + 5.0
        if breaker.state is State.OPEN:
            assert breaker.last_failure is not None
    for token in tokens:
        breaker.succeeded(token)
    assert breaker.ask(now + 5.0) is not None
