"""The lane under hand-held clocks: slices in, questions and verdicts out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import real_objects
from made_votes import CHAIN, LEVEL, POSITION, Delegate

from broker.verification import (
    Check,
    CheckBody,
    CheckItem,
    CheckSlice,
    Judgement,
    Position,
    Verdict,
    VerdictBody,
)
from signers.formats import base58
from signers.formats.networks import TEZOS, DalVotes
from workers.verification.lane import Lane
from workers.verification.node_questions import (
    ChainTold,
    ChainWanted,
    NotTold,
    RightsTold,
    RightsWanted,
    RulesTold,
    RulesWanted,
    VoterTold,
)
from workers.verification.verdicts import Reason

CHAIN_ID = base58.encode(base58.CHAIN_ID, CHAIN)
RULES = RulesTold(
    TEZOS.protocol.hash, 10, 5, 2**48 - 1, 10**7, 10**6, 60_000, 7000, 4667, 360, 32_768
)
DELEGATE = Delegate()
HEADER = real_objects.headers()[0][3]
BUDGET_S = 0.002


class Played:
    """A lane, its clocks, and a node that the test answers for."""

    def __init__(self, *, has_node: bool = True) -> None:
        self.now = 100.0
        self.clock = 0.0
        self.step_s = 0.0  # how much each look at the clock shows to be gone; all of it was CPU
        self.lane = Lane(TEZOS, clock=self._look, cpu=lambda: self.clock, has_node=has_node)

    def _look(self) -> float:
        self.clock += self.step_s
        return self.clock

    def take(
        self, number: int, items: list[CheckItem], check: int = Check.VOTE, ttl_ms: int = 4000,
        position: Position = POSITION,
    ) -> None:  # fmt: skip
        body = msgspec.msgpack.encode(CheckBody(check, CHAIN_ID, position, items))
        self.lane.take(CheckSlice(number, 100, body, ttl_ms), self.now)

    def work(self, budget_s: float = BUDGET_S) -> None:
        self.lane.work(self.now, budget_s)

    def questions(self) -> list[Any]:
        return [asked.question for asked in self.lane.questions]

    def tell(self, told: Any) -> None:
        """Answer the oldest question."""
        asked = self.lane.questions.pop(0)
        self.lane.answered(asked.number, told, self.now)

    def fail(self) -> None:
        asked = self.lane.questions.pop(0)
        self.lane.answered(asked.number, NotTold("node_timeout", "too slow"), self.now)

    def know(self, *levels: int) -> None:
        """Let the lane learn rules and rights by checking something."""
        for level in levels:
            self.take(999, votes(level=level))
            self.work()
            while self.lane.questions:
                wanted = self.questions()[0]
                self.tell(RULES if isinstance(wanted, RulesWanted) else rights(level))
                self.work()
        self.verdicts()

    def verdicts(self) -> dict[int, list[Verdict]]:
        """What was answered since the last look, by slice."""
        answers, self.lane.answers = self.lane.answers, []
        assert not [answer for answer in answers if answer.problem]
        return {
            answer.number: msgspec.msgpack.decode(answer.body, type=VerdictBody).verdicts
            for answer in answers
        }


def votes(count: int = 1, **other: Any) -> list[CheckItem]:
    return [CheckItem(number, DELEGATE.vote(**other)) for number in range(count)]


def rights(level: int = LEVEL) -> RightsTold:
    key = DELEGATE.voter.key
    tagged = bytes([key.curve.value.tag]) + key.raw
    hash_ = DELEGATE.voter.delegate
    return RightsTold(level, [VoterTold(hash_, hash_, tagged, (3, 5))])


def judgements(verdicts: list[Verdict]) -> list[int]:
    return [verdict.judgement for verdict in verdicts]


def test_a_vote_waits_for_rules_and_rights_which_are_asked_for_once() -> None:
    played = Played()
    played.take(1, votes(3))
    played.take(2, votes(2))
    played.work()
    assert played.questions() == [RulesWanted()]
    played.tell(RULES)
    played.work()
    assert played.questions() == [RightsWanted(LEVEL)]
    assert played.verdicts() == {}
    played.tell(rights())
    played.work()
    found = played.verdicts()
    assert {number: judgements(each) for number, each in found.items()} == {
        1: [Judgement.VALID] * 3,
        2: [Judgement.VALID] * 2,
    }
    played.take(3, votes())
    played.work()
    assert judgements(played.verdicts()[3]) == [Judgement.VALID]
    assert played.questions() == []


def test_an_item_that_needs_no_node_does_not_wait_for_one() -> None:
    played = Played()
    played.know(LEVEL)
    early = CheckItem(1, DELEGATE.vote(level=LEVEL + 1))
    played.take(1, [early, CheckItem(7, b"junk"), CheckItem(2, DELEGATE.vote())])
    played.work()
    assert played.questions() == [RightsWanted(LEVEL + 1)]
    assert played.verdicts() == {}, "a slice is answered as a whole"
    played.tell(rights(LEVEL + 1))
    played.work()
    [verdicts] = played.verdicts().values()
    assert [v.number for v in verdicts] == [1, 7, 2], "in the order in which they were asked"
    assert judgements(verdicts) == [Judgement.VALID, Judgement.INVALID, Judgement.VALID]


def test_verdicts_come_in_the_order_of_the_items() -> None:
    """Whoever asked knows them by that; what waited for the node was judged last."""
    played = Played()
    played.know(LEVEL)
    later = DELEGATE.vote(level=LEVEL + 1)
    played.take(1, [CheckItem(3, later), CheckItem(2, b"junk"), CheckItem(1, DELEGATE.vote())])
    played.work()
    played.tell(rights(LEVEL + 1))
    played.work()
    [verdicts] = played.verdicts().values()
    assert [verdict.number for verdict in verdicts] == [3, 2, 1]


def test_what_the_node_does_not_tell_is_not_asked_for_again_at_once() -> None:
    played = Played()
    played.know(LEVEL)
    played.take(1, votes(level=LEVEL + 1))
    played.work()
    played.fail()
    played.work()
    assert judgements(played.verdicts()[1]) == [Judgement.RIGHTS_UNKNOWN]
    played.take(2, votes(level=LEVEL + 1))
    played.work()
    assert (judgements(played.verdicts()[2]), played.questions()) == ([6], [])
    played.now += 1.1
    played.take(3, votes(level=LEVEL + 1))
    played.work()
    assert played.questions() == [RightsWanted(LEVEL + 1)]


def test_a_node_that_hangs_costs_half_of_the_slices_time() -> None:
    played = Played()
    played.know(LEVEL)
    played.take(1, votes(level=LEVEL + 1), ttl_ms=4000)
    played.work()
    assert played.lane.deadline() == played.now + 2.0
    played.now += 1.9
    played.lane.wake(played.now)
    assert not played.lane
    played.now += 0.1
    played.lane.wake(played.now)
    played.work()
    assert judgements(played.verdicts()[1]) == [Judgement.RIGHTS_UNKNOWN]
    played.tell(rights(LEVEL + 1))  # late, and still learnt
    played.take(2, votes(level=LEVEL + 1))
    played.work()
    assert judgements(played.verdicts()[2]) == [Judgement.VALID]


def test_without_a_node_nothing_is_guessed() -> None:
    played = Played(has_node=False)
    played.take(1, votes())
    played.take(2, [CheckItem(0, b"")], check=Check.CHAIN)
    played.work()
    found = played.verdicts()
    assert {verdict.reason for each in found.values() for verdict in each} == {
        Reason.CHAIN_UNKNOWN,
        Reason.NODE_UNAVAILABLE,
    }
    assert {v.judgement for each in found.values() for v in each} == {Judgement.UNCHECKED}


def test_work_ends_when_its_time_is_spent() -> None:
    played = Played()
    played.know(LEVEL)
    played.take(1, votes(20))
    played.step_s = 0.0005
    passes = 0
    while played.lane:
        played.work(BUDGET_S)
        passes += 1
        assert played.lane.answers == [] or not played.lane
    assert passes == 5, "four votes of half a millisecond in two"
    [answer] = played.lane.answers
    spent_us = msgspec.msgpack.decode(answer.body, type=VerdictBody).spent_us
    assert spent_us == pytest.approx(20 * 500, rel=0.01)


def test_time_that_runs_out_in_the_middle_of_a_slice_leaves_the_rest_unchecked() -> None:
    played = Played()
    played.know(LEVEL)
    played.take(1, votes(10), ttl_ms=100)
    played.step_s = 0.0005
    played.work(BUDGET_S)
    assert played.lane
    assert played.lane.answers == []
    played.step_s = 0.0
    played.now += 0.2
    played.work()
    verdicts = played.verdicts()[1]
    assert [verdict.number for verdict in verdicts] == list(range(10))
    assert [v.judgement for v in verdicts[:4]] == [Judgement.VALID] * 4
    assert {verdict.reason for verdict in verdicts[4:]} == {Reason.OUT_OF_TIME}


def test_what_there_was_no_time_for_is_not_checked() -> None:
    played = Played()
    played.know(LEVEL)
    played.take(1, votes(2), ttl_ms=100)
    played.now += 0.2
    played.work()
    verdicts = played.verdicts()[1]
    assert [(v.judgement, v.reason) for v in verdicts] == [
        (Judgement.UNCHECKED, Reason.OUT_OF_TIME)
    ] * 2


def test_slices_that_are_none() -> None:
    played = Played()
    for body in (b"", b"\xc1", msgspec.msgpack.encode([1, "NetX", [0] * 5, []])):
        played.lane.take(CheckSlice(5, 0, body, 1000), played.now)
    assert [answer.problem for answer in played.lane.answers] == ["malformed"] * 3
    played.lane.answers = []
    played.take(1, [])
    assert played.verdicts() == {1: []}


def test_answers_that_make_no_sense_teach_nothing() -> None:
    played = Played()
    played.take(1, votes())
    played.work()
    played.tell(msgspec.structs.replace(RULES, minimal_block_delay_s=0))
    played.work()
    assert played.verdicts()[1][0].reason == Reason.CHAIN_UNKNOWN
    played.now += 2
    played.take(2, votes())
    played.work()
    played.tell(RULES)
    played.work()
    twice = rights().voters * 2
    played.tell(RightsTold(LEVEL, twice))
    played.work()
    assert judgements(played.verdicts()[2]) == [Judgement.RIGHTS_UNKNOWN]


def test_where_the_chain_stands_is_asked_each_time() -> None:
    played = Played()
    for number in (1, 2):
        played.take(number, [CheckItem(4, b"k" * 32)], check=Check.CHAIN)
        played.work()
        assert played.questions() == [ChainWanted(b"k" * 32)]
        below = [b"b" * 32]
        played.tell(ChainTold(RULES, b"f" * 32, [HEADER], 12, "NetXdQprcVkpaWU", below))
        [verdict] = played.verdicts()[number]
        facts = verdict.facts
        assert (verdict.judgement, facts.delegates, facts.committee_slots) == (0, 12, 7000)  # type: ignore[union-attr]
        assert facts.headers == [HEADER]  # type: ignore[union-attr]
        assert (facts.below, facts.operations_ttl) == (below, RULES.operations_ttl)  # type: ignore[union-attr]
    played.take(3, [CheckItem(4, b"k" * 32)], check=Check.CHAIN)
    played.work()
    played.fail()
    assert played.verdicts()[3][0].reason == Reason.NODE_UNAVAILABLE


def test_rules_are_asked_for_again_at_each_new_head() -> None:
    played = Played()
    played.know(LEVEL)
    above = msgspec.structs.replace(POSITION, head_level=POSITION.head_level + 1)
    for number, position in enumerate((POSITION, above, above)):
        played.take(number, votes(), position=position)
        played.work()
        assert played.verdicts()[number][0].judgement == Judgement.VALID, "nobody waits for it"
    assert played.questions() == [RulesWanted()]
    other = next(p for p in TEZOS.protocols if p.dal_votes is not DalVotes.IN_ATTESTATION)
    with_dal = [CheckItem(0, DELEGATE.vote(dal=1))]
    played.take(3, with_dal, position=above)
    played.work()
    assert played.verdicts()[3][0].judgement == Judgement.VALID
    played.tell(msgspec.structs.replace(RULES, protocol=other.hash))
    played.take(4, with_dal, position=above)
    played.work()
    assert played.verdicts()[4][0].reason == Reason.WRONG_PROTOCOL


def test_a_check_that_nobody_knows_and_a_new_protocol() -> None:
    played = Played()
    played.know(LEVEL)
    played.take(1, votes(), check=77)
    played.work()
    assert played.verdicts()[1][0].reason == Reason.INTERNAL
    played.take(2, [CheckItem(0, b"")], check=Check.CHAIN)
    played.work()
    fewer = msgspec.structs.replace(RULES, committee_size=4)
    played.tell(ChainTold(fewer, b"f" * 32, [], 1, "NetXdQprcVkpaWU"))
    played.verdicts()
    played.take(3, votes())
    played.work()
    assert played.questions() == [RightsWanted(LEVEL)], "a committee of another size"
