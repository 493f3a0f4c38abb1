"""One back-end's places under a hand-held clock."""

from __future__ import annotations

from signers.backends.backend import (
    SignerBusy,
    SignerRejected,
    SignerTimeout,
    SignerUnavailable,
)
from signers.backends.circuit_breaker import State
from workers.bulkhead import OVERDUE_S, Bulkhead, Call, Limits

LIMITS = Limits(concurrency=2, queue=2, time_limit_s=1.0, open_s_max=4.0)
GIVE_UP_AT = 9.0


def a_bulkhead() -> Bulkhead[str]:
    return Bulkhead[str]("tcp://h:1", LIMITS)


def enter(bulkhead: Bulkhead[str], work: str = "", now: float = 0.0) -> list[str]:
    """Enter a call; returns what is started then."""
    assert bulkhead.refusal(now) is None
    bulkhead.enter(Call(work, now + GIVE_UP_AT))
    return [call.work for call in bulkhead.start(now)]


def fail(bulkhead: Bulkhead[str], now: float) -> None:
    bulkhead.enter(Call("", now + GIVE_UP_AT))
    [call] = bulkhead.start(now)
    bulkhead.answered(call, SignerTimeout("no answer in time"), now)


def opened(bulkhead: Bulkhead[str], now: float = 0.0) -> Bulkhead[str]:
    for _ in range(3):
        fail(bulkhead, now)
    assert bulkhead.breaker.state is State.OPEN
    return bulkhead


def test_so_many_are_made_at_once_and_the_next_in_turn() -> None:
    bulkhead = a_bulkhead()
    assert enter(bulkhead, "a") == ["a"]
    bulkhead.enter(Call("b", GIVE_UP_AT))
    [b] = bulkhead.start(0.0)
    assert enter(bulkhead, "c") == enter(bulkhead, "d") == []
    bulkhead.answered(b, None, 0.1)
    assert [call.work for call in bulkhead.start(0.1)] == ["c"]
    assert bulkhead.running == 2


def test_a_line_that_is_full_is_busy() -> None:
    bulkhead = a_bulkhead()
    for _ in range(4):
        enter(bulkhead)
    refusal = bulkhead.refusal(0.0)
    assert isinstance(refusal, SignerBusy)
    assert "2 calls wait for tcp://h:1" in str(refusal)


def test_a_call_ends_at_its_limit_or_with_the_work() -> None:
    bulkhead = a_bulkhead()
    for give_up_at in (9.0, 0.4):
        bulkhead.enter(Call("", give_up_at))
    assert [call.end for call in bulkhead.start(0.0)] == [1.0, 0.4]
    assert bulkhead.deadline() == 0.4 + OVERDUE_S


def test_who_waits_in_vain_is_turned_away() -> None:
    bulkhead = a_bulkhead()
    for work in ("a", "b", "c"):
        enter(bulkhead, work)
    assert bulkhead.turned_away(GIVE_UP_AT - 0.1) == []
    [(call, error)] = bulkhead.turned_away(GIVE_UP_AT)
    assert call.work == "c"
    assert isinstance(error, SignerBusy)


def test_when_the_breaker_opens_nobody_goes_on_waiting() -> None:
    bulkhead = a_bulkhead()
    calls = []
    for work in ("a", "b", "c", "d"):
        bulkhead.enter(Call(work, GIVE_UP_AT))
        calls += bulkhead.start(0.0)
    for call in calls:
        bulkhead.answered(call, SignerTimeout("no answer in time"), 1.0)
    [c, _] = bulkhead.start(1.0)
    bulkhead.enter(Call("e", GIVE_UP_AT))
    bulkhead.answered(c, SignerTimeout("no answer in time"), 2.0)
    [(call, error)] = bulkhead.turned_away(2.0)
    assert call.work == "e"
    assert isinstance(error, SignerUnavailable)
    assert "3 times in a row, last: no answer in time" in str(error)


def test_while_it_is_open_nothing_is_taken_and_then_one_probe() -> None:
    bulkhead = opened(a_bulkhead())
    assert isinstance(bulkhead.refusal(0.1), SignerUnavailable)
    assert bulkhead.trouble().startswith("tcp://h:1: open, 3 times in a row")
    assert enter(bulkhead, "probe", 0.5) == ["probe"]
    assert isinstance(bulkhead.refusal(0.5), SignerUnavailable)
    assert bulkhead.trouble().startswith("tcp://h:1: half_open, ")


def test_a_rule_that_says_no_is_no_failure_of_the_signer() -> None:
    bulkhead = a_bulkhead()
    for _ in range(9):
        bulkhead.enter(Call("", GIVE_UP_AT))
        [call] = bulkhead.start(0.0)
        bulkhead.answered(call, SignerRejected("not above high watermark"), 0.0)
    assert bulkhead.breaker.state is State.CLOSED
    assert bulkhead.trouble() == ""


def test_a_call_that_hangs_keeps_its_place_and_counts_as_a_failure_once() -> None:
    bulkhead = a_bulkhead()
    calls = []
    for work in ("a", "b"):
        bulkhead.enter(Call(work, GIVE_UP_AT))
        calls += bulkhead.start(0.0)
    assert bulkhead.overdue(1.0) == []
    assert {call.work for call in bulkhead.overdue(1.0 + OVERDUE_S)} == {"a", "b"}
    assert bulkhead.overdue(9.0) == []
    assert bulkhead.hanging == 2
    assert isinstance(bulkhead.refusal(9.0), SignerBusy)
    assert bulkhead.trouble() == "tcp://h:1: 2 calls hang"
    assert bulkhead.deadline() is None
    bulkhead.answered(calls[0], SignerTimeout("at last"), 9.0)
    assert bulkhead.breaker.last_failure is not None
    assert bulkhead.breaker.last_failure.in_a_row == 2, "they were counted when they hung"
    assert enter(bulkhead, "c", 9.0) == ["c"]


def test_a_signer_that_is_back_is_as_new() -> None:
    bulkhead = opened(a_bulkhead())
    bulkhead.enter(Call("probe", GIVE_UP_AT))
    [probe] = bulkhead.start(0.5)
    bulkhead.answered(probe, None, 0.6)
    assert bulkhead.breaker.state is State.CLOSED
    assert bulkhead.trouble() == ""
    assert enter(bulkhead, "a", 0.6) + enter(bulkhead, "b", 0.6) == ["a", "b"]


# -- a person is asked ----------------------------------------------------------------------------

ASKS_PEOPLE = Limits(concurrency=1, time_limit_s=1.0, person_limit_s=60.0)


def test_what_waits_for_a_person_has_a_limit_of_its_own() -> None:
    for for_person, end in ((True, 60.0), (False, 1.0)):
        bulkhead = Bulkhead[str]("ledger:d", ASKS_PEOPLE)
        bulkhead.enter(Call("", 100.0, for_person=for_person))
        assert [call.end for call in bulkhead.start(0.0)] == [end]
        assert bulkhead.deadline() == end + OVERDUE_S


def test_nobody_waits_behind_a_person() -> None:
    bulkhead = Bulkhead[str]("ledger:d", ASKS_PEOPLE)
    bulkhead.enter(Call("delegation", 100.0, for_person=True))
    bulkhead.enter(Call("vote", 9.0))
    [delegation] = bulkhead.start(0.0)
    assert bulkhead.deadline() == 0.0, "whoever waits hears of it at once"
    [(call, error)] = bulkhead.turned_away(0.0)
    assert (call.work, type(error)) == ("vote", SignerBusy)
    assert isinstance(bulkhead.refusal(0.0), SignerBusy)
    assert bulkhead.trouble() == "", "it is asked and there"
    bulkhead.answered(delegation, None, 30.0)
    assert enter(bulkhead, "vote", 30.0) == ["vote"]


def test_a_place_beside_the_person_is_a_place() -> None:
    bulkhead = Bulkhead[str]("http://h:1", Limits(concurrency=2, person_limit_s=60.0))
    bulkhead.enter(Call("delegation", 100.0, for_person=True))
    bulkhead.start(0.0)
    assert enter(bulkhead, "vote") == ["vote"]
    bulkhead.enter(Call("next vote", 9.0))
    assert bulkhead.turned_away(0.0) == [], "it waits for the vote's place"
