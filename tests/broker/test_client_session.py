"""A client's session as a transcript: what it pushes, what it hears, what it tells its user."""

from __future__ import annotations

import itertools

import pytest
from pool_script import sign, votes

from broker import wire
from broker.client_session import (
    ACK_S,
    ACK_S_MAX,
    GIVE_UP_LOOK_S,
    SILENCE_AFTER_DEADLINE_S,
    ClientSession,
    Refused,
)
from broker.messages import (
    MESSAGE_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    REQUESTS_PER_PUSH_MAX,
    TTL_MS_DEFAULT,
    Ack,
    Acks,
    Cancelled,
    Event,
    Events,
    Gone,
    Push,
    Replay,
    Replayed,
    ReplyMessage,
    Request,
    Vote,
)
from broker.quarantine.offers import VERIFY_VOTES, VotesOffer, vote_ids
from broker.topic_reader import REPLAY_AGAIN_S, EventsLost

TOPIC = "c/baker"


class SessionScript:
    """A session under a hand-held clock; the test plays the broker."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.session = ClientSession("baker")
        self.events_published = 0

    def push(self, *requests: Request) -> list[Request]:
        for request in requests:
            self.session.push(request, self.now)
        return self.pushes()

    def sends(self) -> list[Push | Replay]:
        """What leaves now, and that `deadline` has called for it."""
        at = self.session.deadline()
        messages = self.session.to_send(self.now)
        assert not messages or (at is not None and at <= self.now)
        return messages

    def pushes(self) -> list[Request]:
        return [r for m in self.sends() if isinstance(m, Push) for r in m.requests]

    def wait(self, seconds: float) -> list[Request]:
        """Let time pass; what is pushed when it is due."""
        until, pushed = self.now + seconds, []
        while (at := self.session.deadline()) is not None and at <= until:
            self.now = max(self.now, at)
            pushed += self.pushes()
        self.now = until
        return pushed

    def acks(self, request: Request, status: str = "accepted", *, epoch: str = "e1",
             code: str = "", retry_ms: int = 0) -> None:  # fmt: skip
        ack = Ack(request.id, status, code, "because", retry_ms)
        self.session.reply(Acks(epoch, [ack]), self.now)

    def ends(self, request: Request, delegate: str = "a", *, epoch: str = "e1") -> None:
        """The next event of the client's topic."""
        self.events_published += 1
        event = Event(request.id, delegate, "signed", b"signature")
        self.session.events(Events(epoch, self.events_published, [event]), self.now)

    def news(self) -> list[object]:
        found = list(self.session.news)
        self.session.news.clear()
        return found

    def news_codes(self) -> list[str]:
        """The codes of requests that came to nothing."""
        return [n.ack.code for n in self.news() if isinstance(n, Refused)]


# -- until the acknowledgement --------------------------------------------------------------------


def test_a_request_is_pushed_and_its_event_passed_on_once() -> None:
    script = SessionScript()
    request = sign("a", ttl_ms=5000)
    assert script.push(request) == [request]
    script.acks(request)
    assert script.session.wants(request.id)
    script.ends(request)
    assert script.news() == [Event(request.id, "a", "signed", b"signature")]
    assert not script.session.wants(request.id)
    assert script.session.open == 0
    script.ends(request)
    assert script.news() == [], "it was published again"
    assert script.session.deadline() is None


def test_without_an_acknowledgement_it_is_pushed_again_after_a_pause_that_doubles() -> None:
    script = SessionScript()
    script.push(sign("a"))
    pauses = []
    for _ in range(7):
        before = script.now
        while not script.pushes():
            script.now = max(script.now + 1e-6, script.session.deadline() or 0.0)
        pauses.append(round(script.now - before, 3))
    assert pauses == [ACK_S, 0.5, 1.0, 2.0, ACK_S_MAX, ACK_S_MAX, ACK_S_MAX]


@pytest.mark.parametrize("status", ["accepted", "duplicate"])
def test_what_is_acknowledged_is_not_pushed_again(status: str) -> None:
    script = SessionScript()
    request = sign("a")
    script.push(request)
    script.acks(request, status)
    assert script.wait(TTL_MS_DEFAULT / 1000) == []
    assert script.news() == []


def test_after_an_acknowledgement_the_pauses_begin_anew() -> None:
    script = SessionScript()
    request = sign("a")
    script.push(request)
    assert len(script.wait(3.0)) == 3
    script.acks(request)
    script.session.push_all_again()
    assert len(script.pushes()) == 1
    assert len(script.wait(ACK_S)) == 1


def test_who_pushes_again_says_how_much_time_is_left() -> None:
    script = SessionScript()
    request = sign("a", ttl_ms=2000)
    script.push(request)
    [again] = script.wait(ACK_S)
    assert again.ttl_ms == 1750
    assert (again.id, again.kind, again.payload) == (request.id, request.kind, request.payload)
    assert (again.delegate, again.votes) == (request.delegate, request.votes)


def test_a_request_without_a_time_to_live_has_the_default_one() -> None:
    script = SessionScript()
    [pushed] = script.push(votes("a", "b"))
    assert pushed.ttl_ms == TTL_MS_DEFAULT
    assert pushed.votes is not None


def test_a_deadline_of_the_wall_clock_is_left_to_the_broker() -> None:
    script = SessionScript()
    request = sign("a", deadline_unix_ms=1_700_000_000_000)
    assert script.push(request) == [request]
    assert script.wait(ACK_S) == [request]
    script.acks(request)
    assert script.wait(3600) == []
    assert script.news() == [], "when its deadline is the session cannot say"
    assert script.session.wants(request.id)


def test_a_time_to_live_goes_before_a_deadline_of_the_wall_clock() -> None:
    script = SessionScript()
    script.push(sign("a", ttl_ms=2000, deadline_unix_ms=1_700_000_000_000))
    [again] = script.wait(ACK_S)
    assert again.ttl_ms == 1750


def test_many_requests_go_in_messages_of_bounded_length_and_in_order() -> None:
    script = SessionScript()
    requests = [sign("a", ttl_ms=5000) for _ in range(REQUESTS_PER_PUSH_MAX + 1)]
    for request in requests:
        script.session.push(request, script.now)
    messages = script.sends()
    assert [len(m.requests) for m in messages if isinstance(m, Push)] == [REQUESTS_PER_PUSH_MAX, 1]
    assert [r for m in messages if isinstance(m, Push) for r in m.requests] == requests
    assert {m.client for m in messages if isinstance(m, Push)} == {"baker"}


@pytest.mark.parametrize(
    "requests",
    [
        [sign("a", bytes(300_000)) for _ in range(40)],
        [votes(*(f"mv1{i:033}" for i in range(2000))) for _ in range(40)],
        [sign("a", bytes(PAYLOAD_BYTES_MAX)), sign("a", bytes(PAYLOAD_BYTES_MAX))],
    ],
    ids=["payloads", "votes", "the largest"],
)
def test_big_requests_go_in_messages_that_a_socket_takes(requests: list[Request]) -> None:
    script = SessionScript()
    for request in requests:
        script.session.push(request, script.now)
    messages = [m for m in script.sends() if isinstance(m, Push)]
    assert len(messages) > 1
    assert all(len(wire.encode(m)) < MESSAGE_BYTES_MAX for m in messages)
    assert [r.id for m in messages for r in m.requests] == [r.id for r in requests]


# -- refusals -------------------------------------------------------------------------------------


def test_a_refused_request_is_told_and_forgotten() -> None:
    script = SessionScript()
    request = sign("a")
    script.push(request)
    script.acks(request, "refused", code="unknown_delegate")
    [refused] = script.news()
    assert isinstance(refused, Refused)
    assert (refused.ack.id, refused.ack.code) == (request.id, "unknown_delegate")
    assert script.session.open == 0
    assert script.wait(10) == []


@pytest.mark.parametrize(
    "request_",
    [
        Request(bytes(16), "attest", b"", votes=[Vote("a", 0x10000)]),
        Request(bytes(16), "attest", b"", votes=[Vote("the name of a key", 0)]),
        Request(bytes(16), "sign", bytes(PAYLOAD_BYTES_MAX + 1), "a"),
        Request(b"short", "sign", b"", "a"),
        Request(bytes(16), "sign", b"", "a", ttl_ms=0),
    ],
    ids=["slot", "delegate", "payload", "id", "ttl"],
)
def test_a_request_that_no_broker_could_read_is_refused_and_never_sent(request_: Request) -> None:
    script, good = SessionScript(), sign("a")
    assert [each.id for each in script.push(request_, good)] == [good.id]
    assert script.news_codes() == ["malformed"]
    assert not script.session.wants(request_.id)


def test_a_busy_broker_is_asked_again_when_it_said() -> None:
    script = SessionScript()
    request = sign("a")
    script.push(request)
    script.acks(request, "refused", code="busy", retry_ms=700)
    assert script.wait(0.69) == []
    assert len(script.wait(0.01)) == 1
    assert script.news() == []


def test_a_broker_that_is_busy_past_the_deadline_has_refused() -> None:
    script = SessionScript()
    request = sign("a", ttl_ms=1000)
    script.push(request)
    script.now += 1.0
    script.acks(request, "refused", code="busy", retry_ms=200)
    assert script.news_codes() == ["busy"]


def test_a_request_that_no_broker_took_before_its_deadline_is_pushed_no_more() -> None:
    script = SessionScript()
    request = sign("a", ttl_ms=1000)
    script.push(request)
    assert len(script.wait(5)) == 2, "at 0.25 and 0.75 s"
    assert script.news_codes() == [], "a broker may have it, and its end may be heard of"
    assert script.wait(60) == []
    assert script.news_codes() == ["outcome_unknown"]
    assert script.session.open == 0


def test_a_request_that_could_not_even_be_pushed_before_its_deadline_was_taken_by_nobody() -> None:
    script = SessionScript()
    script.session.push(sign("a", ttl_ms=1000), script.now)
    script.now += 1.0
    assert script.sends() == []
    assert script.news_codes() == ["no_answer"]
    assert script.session.open == 0


def test_while_nothing_can_be_sent_each_request_still_has_its_end() -> None:
    script = SessionScript()
    pushed = sign("a", ttl_ms=1000)
    script.push(pushed)  # and then the broker was gone
    unpushed = [sign("b", ttl_ms=3000) for _ in range(100)]
    for request in unpushed:
        script.session.push(request, script.now)
    heard: dict[str, int] = {}
    looks = 0
    while (at := script.session.next_look) is not None:
        script.now = max(script.now, at)
        script.session.look(script.now)
        looks += 1
        for code in script.news_codes():
            heard[code] = heard.get(code, 0) + 1
    assert heard == {"no_answer": 100, "outcome_unknown": 1}
    assert looks <= 1 + (1 + SILENCE_AFTER_DEADLINE_S) / GIVE_UP_LOOK_S
    assert script.session.deadline() is None, "nothing is kept of them"


def test_what_was_forgotten_leaves_nothing_to_do() -> None:
    script = SessionScript()
    pushed, due = sign("a"), sign("b")
    script.push(pushed)
    script.session.push(due, script.now)
    script.session.forget(pushed.id)
    script.session.forget(due.id)
    assert script.sends() == []
    assert script.session.deadline() is None


def test_an_accepted_request_is_wanted_past_its_deadline_and_then_given_up() -> None:
    script = SessionScript()
    request = sign("a", ttl_ms=1000)
    script.push(request)
    script.acks(request)
    script.wait(1.0 + SILENCE_AFTER_DEADLINE_S - 0.01)
    assert script.session.wants(request.id)
    script.session.push_all_again()
    assert [r.ttl_ms for r in script.pushes()] == [1], "its end may be published again"
    script.wait(GIVE_UP_LOOK_S + 0.01)
    assert script.news_codes() == ["outcome_unknown"]
    assert not script.session.wants(request.id)


def test_an_acknowledgement_of_something_forgotten_is_nothing() -> None:
    script = SessionScript()
    request = sign("a")
    script.push(request)
    script.session.forget(request.id)
    script.acks(request, "refused", code="busy")
    assert script.news() == []
    assert script.wait(10) == []
    script.ends(request)
    assert script.news() == []


# -- votes for the quarantine, many in a request --------------------------------------------------


def strangers_votes(count: int, id_: bytes = bytes(14) + b"\xff\xff") -> Request:
    payload = wire.encode(VotesOffer("p1", [b"vote %d" % n for n in range(count)]))
    return Request(id_, VERIFY_VOTES, payload, ttl_ms=5000)


def end(script: SessionScript, id_: bytes, event: str = "cleared") -> None:
    script.events_published += 1
    said = [Event(id_, "", event)]
    script.session.events(Events("e1", script.events_published, said), script.now)


def test_each_vote_of_a_request_has_an_end_of_its_own() -> None:
    script = SessionScript()
    request = strangers_votes(3)
    ids = vote_ids(request.id, 3)
    assert script.push(request) == [request]
    script.acks(request)
    for event in ("held", "cleared", "held", "cleared"):  # the last two were published again
        end(script, ids[1], event)
    end(script, vote_ids(request.id, 4)[3])  # there is no such vote
    assert script.news() == [Event(ids[1], "", "held"), Event(ids[1], "", "cleared")]
    assert [script.session.wants(id_) for id_ in ids] == [True, False, True]
    assert script.session.wants(request.id)
    for id_ in ids:
        end(script, id_)
    assert [event.id for event in script.news()] == [ids[0], ids[2]]  # type: ignore[attr-defined]
    assert not script.session.wants(request.id)
    assert script.session.deadline() is None


def test_pushed_again_is_what_has_not_ended() -> None:
    """Its end is remembered for a while only: later it would be judged a second time."""
    script = SessionScript()
    request = strangers_votes(3)
    script.push(request)
    script.session.push_all_again()
    assert script.pushes() == [request]
    end(script, vote_ids(request.id, 3)[1])
    script.session.push_all_again()
    [again] = script.pushes()
    offer = wire.decode_as(VotesOffer, again.payload)
    assert (again.id, offer.peer, offer.raws) == (request.id, "p1", [b"vote 0", b"", b"vote 2"])
    assert again.ttl_ms == 5000
    for number in (0, 2):
        end(script, vote_ids(request.id, 3)[number])
    assert script.session.open == 0


def test_with_a_deadline_by_the_clock_it_keeps_that() -> None:
    script = SessionScript()
    payload = strangers_votes(2).payload
    request = Request(bytes(16), VERIFY_VOTES, payload, deadline_unix_ms=2_000_000_000_000)
    script.push(request)
    end(script, vote_ids(request.id, 2)[0])
    script.session.push_all_again()
    [again] = script.pushes()
    assert (again.ttl_ms, again.deadline_unix_ms) == (None, request.deadline_unix_ms)


def test_a_request_whose_id_is_that_of_its_first_vote() -> None:
    script = SessionScript()
    request = strangers_votes(2, bytes(16))
    script.push(request)
    end(script, request.id)
    end(script, request.id)
    assert len(script.news()) == 1
    assert script.session.open == 1
    assert not script.session.wants(request.id), "whoever waits for the vote is done"
    end(script, vote_ids(request.id, 2)[1])
    assert script.session.open == 0


def test_two_requests_cannot_have_votes_of_the_same_ids() -> None:
    script = SessionScript()
    first, second = strangers_votes(2), strangers_votes(2, bytes(14) + b"\xff\xfe")
    assert script.push(first, second) == [first]
    assert script.news_codes() == ["id_reused"] * 2
    for id_ in vote_ids(first.id, 2):
        end(script, id_)
    assert [type(each) for each in script.news()] == [Event, Event]
    assert script.push(second) == [second]


def test_votes_that_no_message_can_hold_are_refused_each() -> None:
    script = SessionScript()
    payload = wire.encode(VotesOffer("p1", [bytes(PAYLOAD_BYTES_MAX // 2)] * 2))
    request = Request(bytes(16), VERIFY_VOTES, payload)
    assert script.push(request) == []
    refused = [each.ack.id for each in script.news() if isinstance(each, Refused)]
    assert refused == vote_ids(request.id, 2)


def test_who_is_refused_is_refused_with_all_votes_that_have_not_ended() -> None:
    script = SessionScript()
    request = strangers_votes(3)
    ids = vote_ids(request.id, 3)
    script.push(request)
    end(script, ids[0])
    script.acks(request, "refused", code="busy")
    ended, *refused = script.news()
    assert ended == Event(ids[0], "", "cleared")
    assert [each.ack.id for each in refused if isinstance(each, Refused)] == ids[1:]
    assert script.session.deadline() is None


def test_votes_that_nobody_took_come_to_nothing_each() -> None:
    script = SessionScript()
    script.push(strangers_votes(2))
    script.wait(5 + SILENCE_AFTER_DEADLINE_S + 2 * GIVE_UP_LOOK_S)
    assert script.news_codes() == ["outcome_unknown"] * 2


def test_a_payload_without_votes_is_refused_as_it_is() -> None:
    script = SessionScript()
    request = Request(bytes(16), VERIFY_VOTES, b"none")
    script.push(request)
    script.acks(request, "refused", code="malformed")
    assert script.news_codes() == ["malformed"]


def test_votes_beside_requests_of_the_same_client() -> None:
    """Ids that differ in their last bytes only are ids of others, too."""
    script = SessionScript()
    request, other = strangers_votes(2), Request(bytes(14) + b"\0\7", "verify_vote", b"")
    script.push(request, other)
    end(script, other.id)
    assert not script.session.wants(other.id)
    assert script.session.wants(request.id)
    end(script, bytes(14) + b"\0\\9")
    assert script.news() == [Event(other.id, "", "cleared")], "nobody has asked for the second"


# -- batches --------------------------------------------------------------------------------------


def test_a_batch_is_wanted_until_each_of_its_delegates_has_ended() -> None:
    script = SessionScript()
    batch = votes("a", "b", "c")
    script.push(batch)
    script.acks(batch)
    for delegate in ("b", "b", "a"):
        script.ends(batch, delegate)
    assert [n.delegate for n in script.news() if isinstance(n, Event)] == ["b", "a"]
    assert script.session.wants(batch.id)
    script.ends(batch, "c")
    assert [n.delegate for n in script.news() if isinstance(n, Event)] == ["c"]
    assert not script.session.wants(batch.id)


# -- crashes --------------------------------------------------------------------------------------


def restarted_by_acks(script: SessionScript) -> None:
    script.session.reply(Acks("e2", []), script.now)


def restarted_by_events(script: SessionScript) -> None:
    script.session.events(Events("e2", 1, []), script.now)


def a_new_connection(script: SessionScript) -> None:
    script.session.push_all_again()


@pytest.mark.parametrize("what", [restarted_by_acks, restarted_by_events, a_new_connection])
def test_whatever_is_still_wanted_is_pushed_again_under_its_id(what) -> None:  # type: ignore[no-untyped-def]
    script = SessionScript()
    ended, accepted, pushed = sign("a"), votes("a", "b"), sign("c")
    script.push(ended, accepted, pushed)
    script.acks(ended)
    script.acks(accepted)
    script.ends(ended)
    what(script)
    assert [r.id for r in script.pushes()] == [accepted.id, pushed.id]


def test_the_same_epoch_again_is_no_reason_to_push() -> None:
    script = SessionScript()
    first, second = sign("a"), sign("b")
    script.push(first)
    script.acks(first)
    script.push(second)
    script.acks(second)
    script.session.events(Events("e1", 1, []), script.now)
    assert script.sends() == []


# -- lost events ----------------------------------------------------------------------------------


def a_gap(script: SessionScript) -> tuple[Request, Request]:
    """Two accepted requests; the first one's event is lost, the second one's waits behind it."""
    first, second = sign("a"), sign("b")
    script.push(first, second)
    script.acks(first)
    script.acks(second)
    script.session.events(Events("e1", 1, []), script.now)
    script.events_published += 1
    script.ends(second, "b")
    assert script.news() == []
    return first, second


def test_a_lost_event_is_asked_for_and_passed_on_in_order() -> None:
    script = SessionScript()
    first, second = a_gap(script)
    assert script.sends() == [Replay(TOPIC, "e1", 1)]
    lost = Event(first.id, "a", "signed", b"signature")
    script.session.reply(Replayed(TOPIC, "e1", 1, [lost], False), script.now)
    assert [n.id for n in script.news() if isinstance(n, Event)] == [first.id, second.id]
    assert script.session.deadline() is None


def test_a_replay_that_is_not_answered_is_asked_for_again() -> None:
    script = SessionScript()
    a_gap(script)
    script.sends()
    at = script.session.deadline()
    assert at is not None
    script.now += REPLAY_AGAIN_S
    assert at <= script.now
    assert script.sends() == [Replay(TOPIC, "e1", 1)]


def test_after_events_that_nobody_keeps_the_ends_are_asked_for_by_pushing_again() -> None:
    script = SessionScript()
    first, second = a_gap(script)
    script.sends()
    script.session.reply(Gone(TOPIC, "e1", 2), script.now)
    ended, lost = script.news()
    assert isinstance(ended, Event)
    assert ended.id == second.id
    assert lost == EventsLost(TOPIC, "e1", 1, 1)
    assert [r.id for r in script.pushes()] == [first.id]


@pytest.mark.parametrize(
    "reply",
    [
        Replayed("c/another", "e1", 1, [], False),
        Gone(TOPIC, "another", 9),
        Gone("c/another", "e1", 9),
        Cancelled("e1", 1, 0),
    ],
)
def test_answers_to_somebody_elses_question_change_nothing(reply: ReplyMessage) -> None:
    script = SessionScript()
    a_gap(script)
    script.sends()
    script.session.reply(reply, script.now)
    assert script.news() == []
    script.now += REPLAY_AGAIN_S
    assert script.sends() == [Replay(TOPIC, "e1", 1)]


# -- time -----------------------------------------------------------------------------------------


def test_a_session_with_nothing_open_waits_for_nothing() -> None:
    assert SessionScript().session.deadline() is None


def test_what_is_pushed_leaves_at_once() -> None:
    script = SessionScript()
    script.session.push(sign("a"), script.now)
    at = script.session.deadline()
    assert at is not None
    assert at <= script.now


def test_a_session_looks_seldom_while_it_only_waits() -> None:
    script = SessionScript()
    request = sign("a", ttl_ms=60_000)
    script.push(request)
    script.acks(request)
    looks = 0
    for _ in itertools.takewhile(lambda _: script.now < 1030.0, itertools.count()):
        at = script.session.deadline()
        assert at is not None
        script.now = max(script.now, at)
        assert script.sends() == []
        looks += 1
    assert looks <= 32
