"""One topic as its reader hears it: order, gaps, replays, restarts, and what is gone for good."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.messages import Event, Events, Gone, Replay, Replayed
from broker.topic_reader import REPLAY_AGAIN_S, EventsLost, TopicReader

TOPIC = "c/baker"


def events(epoch: str, first: int, last: int) -> list[Event]:
    """Events first … last of an epoch, which carry their number: "e1:5"."""
    return [
        Event(bytes(16), "a", "signed", f"{epoch}:{n}".encode()) for n in range(first, last + 1)
    ]


def names(events: list[Event]) -> list[str]:
    return [event.body.decode() for event in events]


@dataclass
class ReaderScript:
    """A reader under a hand-held clock; the test plays the broker."""

    now: float = 100.0
    reader: TopicReader = field(default_factory=lambda: TopicReader(TOPIC))
    restarts: int = 0

    def hears(self, epoch: str, first: int, last: int | None = None) -> list[str]:
        """Events first … last are published; what the reader passes on."""
        message = Events(epoch, first, events(epoch, first, first if last is None else last))
        ready, restarted = self.reader.events(message, self.now)
        self.restarts += restarted
        return names(ready)

    def hears_head(self, epoch: str, coming: int) -> None:
        ready, restarted = self.reader.events(Events(epoch, coming, []), self.now)
        assert ready == []
        self.restarts += restarted

    def asks(self) -> Replay | None:
        """What is asked for now, and that `deadline` says when."""
        at = self.reader.deadline()
        asked = self.reader.replay_due(self.now)
        assert (asked is not None) == (at is not None and at <= self.now)
        return asked

    def replayed(self, epoch: str, first: int, last: int, *, more: bool = False) -> list[str]:
        part = Replayed(TOPIC, epoch, first, events(epoch, first, last), more)
        return names(self.reader.replayed(part, self.now))

    def gone(self, epoch: str, oldest: int) -> tuple[list[str], EventsLost | None]:
        ready, lost = self.reader.gone(Gone(TOPIC, epoch, oldest), self.now)
        return names(ready), lost


# -- in order -------------------------------------------------------------------------------------


def test_a_reader_starts_where_the_stream_is() -> None:
    script = ReaderScript()
    assert script.hears("e1", 7, 8) == ["e1:7", "e1:8"]
    assert script.hears("e1", 9) == ["e1:9"]
    assert script.asks() is None
    assert script.restarts == 0


def test_the_first_head_says_where_the_stream_is() -> None:
    script = ReaderScript()
    script.hears_head("e1", 5)
    assert script.asks() is None
    assert script.hears("e1", 5) == ["e1:5"]


def test_a_head_without_a_gap_asks_for_nothing() -> None:
    script = ReaderScript()
    script.hears("e1", 1, 4)
    script.hears_head("e1", 5)
    assert script.asks() is None


def test_what_comes_twice_is_passed_on_once() -> None:
    script = ReaderScript()
    script.hears("e1", 1, 4)
    assert script.hears("e1", 3, 5) == ["e1:5"]
    assert script.hears("e1", 2) == []
    assert script.asks() is None
    assert script.hears("e1", 6) == ["e1:6"]


# -- gaps -----------------------------------------------------------------------------------------


def test_an_event_behind_a_gap_waits_for_the_replay_of_those_before() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    assert script.hears("e1", 4, 5) == []
    assert script.asks() == Replay(TOPIC, "e1", 2)
    assert script.replayed("e1", 2, 5) == ["e1:2", "e1:3", "e1:4", "e1:5"]
    assert script.asks() is None
    assert script.hears("e1", 6) == ["e1:6"]


def test_a_head_shows_that_the_last_event_was_lost() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears_head("e1", 3)
    assert script.asks() == Replay(TOPIC, "e1", 2)
    assert script.replayed("e1", 2, 2) == ["e1:2"]


def test_a_replay_that_is_not_answered_is_asked_for_again_a_second_later() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e1", 3)
    assert script.asks() is not None
    script.now += REPLAY_AGAIN_S - 0.01
    assert script.asks() is None
    script.now += 0.01
    assert script.asks() == Replay(TOPIC, "e1", 2)


def test_more_events_behind_a_gap_do_not_ask_more_often() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e1", 3)
    assert script.asks() is not None
    script.hears("e1", 4)
    script.hears_head("e1", 5)
    assert script.asks() is None


def test_a_replay_comes_in_parts_and_is_waited_for_until_its_last() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears_head("e1", 6)
    script.asks()
    assert script.replayed("e1", 2, 3, more=True) == ["e1:2", "e1:3"]
    script.now += REPLAY_AGAIN_S
    assert script.asks() == Replay(TOPIC, "e1", 4), "the rest has not come"
    assert script.replayed("e1", 4, 5) == ["e1:4", "e1:5"]
    script.now += REPLAY_AGAIN_S
    assert script.asks() is None


def test_a_second_gap_is_asked_for_when_the_first_is_closed() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e1", 3)
    script.hears("e1", 5)
    assert script.asks() == Replay(TOPIC, "e1", 2)
    assert script.replayed("e1", 2, 3) == ["e1:2", "e1:3"]
    assert script.asks() == Replay(TOPIC, "e1", 4)
    assert script.replayed("e1", 4, 5) == ["e1:4", "e1:5"]


def test_what_does_not_fit_behind_a_gap_is_replayed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.topic_reader.AHEAD_EVENTS_MAX", 2)
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e1", 3, 6)
    script.asks()
    assert script.replayed("e1", 2, 2) == ["e1:2", "e1:3", "e1:4"]
    script.hears_head("e1", 7)
    assert script.asks() == Replay(TOPIC, "e1", 5)


# -- events that the log does not keep any more ---------------------------------------------------


def test_what_is_gone_is_reported_and_the_rest_goes_on() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e1", 6)
    script.asks()
    assert script.gone("e1", 5) == ([], EventsLost(TOPIC, "e1", 2, 4))
    assert script.asks() == Replay(TOPIC, "e1", 5)
    assert script.replayed("e1", 5, 6) == ["e1:5", "e1:6"]


def test_what_waited_behind_the_gap_is_not_lost_with_it() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e1", 4, 5)
    script.asks()
    assert script.gone("e1", 9) == (["e1:4", "e1:5"], EventsLost(TOPIC, "e1", 2, 3))


def test_a_log_that_cannot_be_read_now_loses_nothing() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears_head("e1", 3)
    script.asks()
    assert script.gone("e1", 0) == ([], None)
    assert script.asks() is None
    script.now += REPLAY_AGAIN_S
    assert script.asks() == Replay(TOPIC, "e1", 2)


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    assert script.gone("e1", 9) == ([], None)
    script.hears("e1", 3)
    assert script.gone("another", 9) == ([], None)
    assert script.replayed("another", 2, 2) == []
    assert script.asks() == Replay(TOPIC, "e1", 2)


# -- the broker restarts --------------------------------------------------------------------------


def test_after_a_restart_the_former_epochs_tail_comes_first() -> None:
    script = ReaderScript()
    script.hears("e1", 1, 2)
    assert script.hears("e2", 1, 2) == []
    assert script.restarts == 1
    assert script.asks() == Replay(TOPIC, "e1", 3)
    assert script.replayed("e1", 3, 4) == ["e1:3", "e1:4"]
    assert script.asks() == Replay(TOPIC, "e1", 5), "until nothing comes any more"
    assert script.replayed("e1", 5, 4) == ["e2:1", "e2:2"]
    assert script.asks() is None
    assert script.hears("e2", 3) == ["e2:3"]


def test_a_tail_comes_in_parts_and_is_asked_for_again_from_where_it_stopped() -> None:
    script = ReaderScript()
    script.hears("e1", 1, 2)
    script.hears("e2", 1)
    script.asks()
    assert script.replayed("e1", 3, 4, more=True) == ["e1:3", "e1:4"]
    assert script.asks() is None, "more is on its way"
    assert script.replayed("e1", 6, 7, more=True) == [], "a part in between was lost"
    script.now += REPLAY_AGAIN_S
    assert script.asks() == Replay(TOPIC, "e1", 5)
    assert script.replayed("e1", 4, 6) == ["e1:5", "e1:6"], "what came twice comes once"
    assert script.replayed("e1", 5, 6) == ["e2:1"], "nothing new: this was all"


def test_while_a_tail_is_read_an_answer_about_another_epoch_is_none_about_it() -> None:
    script = ReaderScript()
    script.hears("e1", 1, 2)
    script.hears_head("e2", 1)
    script.asks()
    assert script.replayed("e0", 3, 4) == []
    assert script.gone("e0", 9) == ([], None)
    script.now += REPLAY_AGAIN_S
    assert script.asks() == Replay(TOPIC, "e1", 3)
    assert script.replayed("e1", 3, 3) == ["e1:3"]


def test_an_empty_part_of_a_tail_is_not_its_end() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e2", 1)
    script.asks()
    assert script.replayed("e1", 2, 1, more=True) == []
    script.now += REPLAY_AGAIN_S
    assert script.asks() == Replay(TOPIC, "e1", 2)


def test_what_was_behind_a_gap_at_the_restart_is_part_of_the_tail() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e1", 3)
    script.hears("e2", 1)
    assert script.asks() == Replay(TOPIC, "e1", 2)
    assert script.replayed("e1", 2, 3) == ["e1:2", "e1:3"]
    assert script.replayed("e1", 4, 3) == ["e2:1"]


def test_the_new_epochs_events_that_were_missed_are_asked_for_behind_the_tail() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    assert script.hears("e2", 3) == []
    script.asks()
    assert script.replayed("e1", 2, 1) == []
    assert script.asks() == Replay(TOPIC, "e2", 1)
    assert script.replayed("e2", 1, 3) == ["e2:1", "e2:2", "e2:3"]


def test_a_tail_with_a_hole_is_read_behind_it() -> None:
    script = ReaderScript()
    script.hears("e1", 1, 2)
    script.hears("e2", 1)
    script.asks()
    assert script.gone("e1", 5) == ([], EventsLost(TOPIC, "e1", 3, 4))
    assert script.asks() == Replay(TOPIC, "e1", 5)
    assert script.replayed("e1", 5, 5) == ["e1:5"]
    assert script.replayed("e1", 6, 5) == ["e2:1"]


@pytest.mark.parametrize("oldest", [0, 3])
def test_a_tail_that_nobody_keeps_is_lost_by_an_unknown_count(oldest: int) -> None:
    script = ReaderScript()
    script.hears("e1", 1, 2)
    script.hears("e2", 1)
    script.asks()
    assert script.gone("e1", oldest) == (["e2:1"], EventsLost(TOPIC, "e1", 3, 0))
    assert script.asks() is None


def test_the_tails_of_two_restarts_are_read_one_after_the_other() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    script.hears("e2", 1)
    script.hears("e3", 1)
    assert script.restarts == 2
    assert script.asks() == Replay(TOPIC, "e1", 2)
    assert script.replayed("e1", 2, 1) == []
    assert script.asks() == Replay(TOPIC, "e2", 1)
    assert script.replayed("e2", 1, 1) == ["e2:1"]
    assert script.asks() == Replay(TOPIC, "e2", 2)
    assert script.replayed("e2", 2, 1) == ["e3:1"]
    assert script.asks() is None


def test_a_restart_before_the_first_event_leaves_no_tail() -> None:
    script = ReaderScript()
    assert not script.reader.heard_epoch("e1", script.now), "the first epoch is no restart"
    assert script.reader.heard_epoch("e2", script.now)
    assert script.asks() == Replay(TOPIC, "e2", 1)
    assert script.replayed("e2", 1, 2) == ["e2:1", "e2:2"]


def test_the_same_epoch_again_is_no_restart() -> None:
    script = ReaderScript()
    script.hears("e1", 1)
    assert not script.reader.heard_epoch("e1", script.now)
    assert script.hears("e1", 2) == ["e1:2"]


def test_stragglers_of_a_former_epoch_are_no_restart_and_not_read_twice() -> None:
    script = ReaderScript()
    assert script.hears("e1", 1, 3) == ["e1:1", "e1:2", "e1:3"]
    script.reader.heard_epoch("e2", script.now)  # by an acknowledgement, which was faster
    assert script.hears("e1", 4, 5) == []
    script.hears_head("e1", 6)
    assert script.restarts == 0
    assert not script.reader.heard_epoch("e1", script.now)
    assert script.asks() == Replay(TOPIC, "e1", 4)
    assert script.replayed("e1", 4, 5) == ["e1:4", "e1:5"]
    assert script.hears("e2", 1) == []
    assert script.asks() == Replay(TOPIC, "e1", 6)
    assert script.replayed("e1", 6, 5) == ["e2:1"]
    assert script.hears("e1", 5) == []
    assert script.asks() is None


# -- whatever happens -----------------------------------------------------------------------------


@dataclass
class PlayedBroker:
    """A topic of a broker that restarts and whose log is cut: what it published and still keeps."""

    epochs: list[str] = field(default_factory=lambda: ["e0"])
    numbers: dict[str, int] = field(default_factory=lambda: {"e0": 0})
    oldest: dict[str, int] = field(default_factory=lambda: {"e0": 1})

    @property
    def epoch(self) -> str:
        return self.epochs[-1]

    def restart(self) -> None:
        self.epochs.append(f"e{len(self.epochs)}")
        self.numbers[self.epoch], self.oldest[self.epoch] = 0, 1

    def answer(self, asked: Replay) -> Replayed | Gone:
        last, oldest = self.numbers[asked.epoch], self.oldest[asked.epoch]
        if asked.first < oldest:
            return Gone(TOPIC, asked.epoch, oldest)
        return Replayed(
            TOPIC, asked.epoch, asked.first, events(asked.epoch, asked.first, last), False
        )


@given(
    st.lists(
        st.sampled_from(
            ["heard", "missed", "logged", "head", "restart", "straggler", "asks", "cut"]
        )
    ),
)
@settings(max_examples=300, deadline=None)
def test_every_event_is_read_once_and_in_order_or_reported_lost(story: list[str]) -> None:
    broker, script = PlayedBroker(), ReaderScript()
    script.hears_head("e0", 1)
    read: list[str] = []
    lost: list[EventsLost] = []

    def answered() -> None:
        script.now += REPLAY_AGAIN_S
        if (asked := script.asks()) is None:
            return
        answer = broker.answer(asked)
        if isinstance(answer, Gone):
            ready, gone = script.gone(answer.epoch, answer.oldest)
            lost.extend([gone] if gone is not None else [])
        else:
            ready = names(script.reader.replayed(answer, script.now))
        read.extend(ready)

    for step in [*story, "head"]:
        match step:
            case "heard" | "missed" | "logged":
                broker.numbers[broker.epoch] += 1
                if step == "heard":
                    read += script.hears(broker.epoch, broker.numbers[broker.epoch])
            case "head":
                script.hears_head(broker.epoch, broker.numbers[broker.epoch] + 1)
            case "restart":
                broker.restart()
                script.hears_head(broker.epoch, 1)
            case "straggler":
                if len(broker.epochs) > 1:
                    former = broker.epochs[-2]
                    read += script.hears(former, max(1, broker.numbers[former]))
            case "cut":
                broker.oldest = {e: n + 1 for e, n in broker.numbers.items()}
            case _:
                answered()
    for _ in range(4 * len(story) + 2):
        answered()
        script.hears_head(broker.epoch, broker.numbers[broker.epoch] + 1)

    missing = {f"{x.epoch}:{n}" for x in lost for n in range(x.first, x.last + 1)}
    everything = [f"{e}:{n}" for e in broker.epochs for n in range(1, broker.numbers[e] + 1)]
    assert read == [name for name in everything if name not in missing]
    assert script.asks() is None
