"""The worker asks the policy before it queues anything: votes, blocks and bytes to sign."""

from __future__ import annotations

import pytest

from signers.formats.signable import Kind
from signers.policy.decision import Policy
from signers.policy.rule import CONSENSUS_KINDS, Rule
from tests.workers.worker_script import (
    CHAIN,
    A,
    B,
    WorkerScript,
    a_vote,
    block,
    sign,
    votes,
)

NOOP = b"\x03" + bytes(32) + b"\x11" + (4).to_bytes(4) + b"text"
NO_VOTES = Rule("blocks", frozenset({Kind.BLOCK}))
OTHERS = Rule("others", CONSENSUS_KINDS, clients=("others",))


def why(worker: WorkerScript, delegate: str) -> tuple[str, str]:
    code, text = worker.bodies[delegate]
    return code, text


def test_a_vote_that_the_policy_denies_is_refused_and_touches_no_mark() -> None:
    worker = WorkerScript(policy=Policy(rules=[(NO_VOTES, [A])]))
    worker.gets(votes(A, B))
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: "refused: policy", B: "attestation_ready"}
    code, text = why(worker, A)
    assert code == "policy"
    assert "rule 'blocks': it allows no attestation" in text
    assert (A, Kind.ATTESTATION) not in worker.store.marks


def test_who_asks_is_the_assignment_s_client() -> None:
    worker = WorkerScript(policy=Policy(OTHERS))
    worker.gets(votes(A))
    assert worker.ends() == {A: "refused: policy"}
    assert "its clients are others, not baker" in why(worker, A)[1]


def test_an_operation_is_refused_without_a_rule() -> None:
    worker = WorkerScript(policy=Policy())
    worker.gets(sign(A, NOOP))
    worker.gets(sign(B, a_vote()))
    assert worker.ends() == {A: "refused: policy"}
    assert why(worker, A)[0] == "policy"
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {B: "signed"}


def test_no_node_is_asked_for_a_block_that_will_not_be_signed() -> None:
    elsewhere = Rule("elsewhere", CONSENSUS_KINDS, chains=frozenset({bytes(4)}))
    worker = WorkerScript(policy=Policy(elsewhere))
    worker.gets(block(A))
    assert worker.ends() == {A: "refused: policy"}
    assert not worker.wanted_drafts
    assert not worker.preparations


@pytest.mark.parametrize("becomes", [Rule("votes", frozenset({Kind.ATTESTATION})), OTHERS])
def test_a_block_is_asked_about_again_when_its_bytes_are_there(becomes: Rule) -> None:
    worker = WorkerScript(policy=Policy(Rule("here", CONSENSUS_KINDS, chains=frozenset({CHAIN}))))
    worker.gets(block(A))
    assert worker.finds_draft() is None
    worker.core.policy = Policy(becomes)
    worker.prepared()
    assert worker.ends() == {A: "refused: policy"}
    assert why(worker, A)[0] == "policy"


def test_another_policy_is_in_force_for_the_next_assignment() -> None:
    worker = WorkerScript(policy=Policy(NO_VOTES))
    worker.gets(votes(A))
    assert worker.ends() == {A: "refused: policy"}
    worker.core.policy = Policy()
    worker.gets(votes(A))
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: "attestation_ready"}
