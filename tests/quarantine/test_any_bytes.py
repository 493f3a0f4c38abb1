"""Scenario 40, the core's part: whatever bytes come, no exception escapes and nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quarantine_script import CLIENT, Script
from scripted_chain import encode, vote_for

from broker.errors import MalformedMessage
from broker.messages import Request
from broker.quarantine.administration import decode_question
from broker.quarantine.offers import vote_ids
from broker.verification import CheckAnswer, Judgement, Verdict, VerdictBody

names = st.text(max_size=3)
passes = st.lists(st.lists(st.binary(max_size=4), max_size=2), max_size=5)
payloads = st.one_of(
    st.binary(max_size=40),
    st.fixed_dictionaries({"peer": names, "raw": st.binary(max_size=1_100)}).map(encode),
    st.fixed_dictionaries(
        {"peer": names, "raws": st.lists(st.binary(max_size=1_100), max_size=4)}
    ).map(encode),
    st.fixed_dictionaries(
        {"peer": names, "header": st.binary(max_size=40), "operations": passes}
    ).map(encode),
)
kinds = st.sampled_from(["verify_vote", "verify_votes", "verify_block", "sign"])
verdicts = st.builds(
    Verdict,
    number=st.integers(0, 9),
    judgement=st.one_of(st.sampled_from(list(Judgement)), st.integers(0, 99)),
    reason=names,
    until_unix_ms=st.integers(-(2**63), 2**63 - 1),
    wanted=st.lists(st.binary(max_size=4), max_size=3),
)
answers = st.one_of(
    st.binary(max_size=40),
    st.lists(verdicts, max_size=3).map(lambda told: encode(VerdictBody(told, -1))),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(kinds, payloads), min_size=1, max_size=8))
def test_whatever_is_pushed_is_refused_or_ends(pushed: list[tuple[str, bytes]]) -> None:
    script = Script()
    for i, (kind, payload) in enumerate(pushed):
        id_ = i.to_bytes(14) + b"\xff\xff"
        script._names |= dict.fromkeys([id_, *vote_ids(id_, 4)], "any")
        script.core.pushed(CLIENT, Request(id_, kind, payload), script.now, script.unix_now)
        script.core.validate()
    script.run()
    script.later(130)
    assert script.core.accounting.held == script.core.accounting.in_flight == 0


@settings(max_examples=40)
@given(answers)
def test_whatever_a_worker_answers_the_item_ends(answer: bytes) -> None:
    script = Script()
    script.vote(vote_for(script.root, "d"))
    script.block(script.root.child())
    script.turn()
    for slice_ in script.unanswered:
        script.reply(CheckAnswer(slice_.number, answer))
    script.unanswered.clear()
    script.run()
    script.later(130)
    assert script.core.accounting.held == script.core.accounting.in_flight == 0
    assert len(script.ends()) == 2


@pytest.mark.parametrize(
    "question",
    [
        b"\xc1",
        b"\x82\xa4type\xa4held\xa1x" + b"\x91" * 5_000 + b"\x90",
        encode({"type": "cleared", "level": 2**63}),
        encode({"type": "cleared", "level": -1}),
        encode({"type": "drop"}),
    ],
)
def test_what_no_operator_asks_is_called_malformed(question: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_question(question)
