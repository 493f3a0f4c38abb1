"""When a child that died is started again, under a hand-held clock."""

from __future__ import annotations

import pytest

from broker.restart_policy import (
    CRASH_LOOP_PAUSE_S,
    DEATHS_MAX,
    FIRST_PAUSE_S,
    FIRST_SILENCE_S_MAX,
    HEALTHY_AFTER_S,
    PAUSE_MAX_S,
    SILENCE_S_MAX,
    RestartPolicy,
    Silence,
    how_it_ended,
)


class ChildScript:
    """A child that lives for a given time, again and again."""

    def __init__(self) -> None:
        self.policy = RestartPolicy()
        self.now = 100.0

    def lives(self, seconds: float) -> float:
        """Started, it dies after so long; the pause until it is started again."""
        self.policy.started(self.now)
        self.now += seconds
        again = self.policy.ended(self.now)
        pause, self.now = again - self.now, again
        return round(pause, 6)


def test_who_dies_for_the_first_time_is_started_at_once() -> None:
    assert ChildScript().lives(0.0) == 0


def test_the_pauses_of_who_dies_of_its_start_double() -> None:
    child = ChildScript()
    pauses = [child.lives(0.1) for _ in range(DEATHS_MAX - 1)]
    assert pauses == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert pauses[1] == 2 * FIRST_PAUSE_S
    assert max(pauses) <= PAUSE_MAX_S
    assert not child.policy.crash_loops


def test_a_crash_loop_is_tried_now_and_then_for_ever() -> None:
    child = ChildScript()
    for _ in range(DEATHS_MAX - 1):
        child.lives(0.1)
    for _ in range(20):
        assert child.lives(HEALTHY_AFTER_S - 0.1) == CRASH_LOOP_PAUSE_S
        assert child.policy.crash_loops


def test_who_has_lived_long_enough_begins_anew() -> None:
    child = ChildScript()
    for _ in range(DEATHS_MAX + 3):
        child.lives(0.1)
    assert child.lives(HEALTHY_AFTER_S) == 0
    assert not child.policy.crash_loops
    assert child.lives(0.1) == 2 * FIRST_PAUSE_S


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-9, "killed by SIGKILL"),
        (-15, "killed by SIGTERM"),
        (-63, "killed by signal 63"),
    ],
)
def test_an_end_has_a_name(status: int, text: str) -> None:
    assert how_it_ended(status) == text


# -- who does not answer --------------------------------------------------------------------------


def asked_in_vain(silence: Silence, pid: int) -> float:
    """Ask twice a second until it is too often; for how long that was."""
    pauses = 1
    while not silence.asked(pid, 0.5):
        pauses += 1
        assert pauses < 1000, "it is asked for ever"
    return pauses * 0.5


def test_who_has_never_answered_has_longer_than_who_falls_silent() -> None:
    silence = Silence()
    assert asked_in_vain(silence, 1) == FIRST_SILENCE_S_MAX + 0.5
    assert silence.answered(2)
    assert asked_in_vain(silence, 2) == SILENCE_S_MAX + 0.5
    assert asked_in_vain(silence, 3) == FIRST_SILENCE_S_MAX + 0.5, "its successor begins anew"


def test_an_answer_makes_up_for_the_questions_before_it() -> None:
    silence = Silence()
    assert silence.answered(1)
    for _ in range(3):
        for _ in range(int(SILENCE_S_MAX / 0.5)):
            assert not silence.asked(1, 0.5)
        assert not silence.answered(1), "only the first one is news"
