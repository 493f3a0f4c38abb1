"""The baker's mind as transcripts: what it hears and when, and what it wants done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from signers.formats.signable import Kind
from workers.baker.baker_state import BakerState, ChainRules
from workers.baker.commands import (
    BlockWanted,
    Command,
    OperationsWanted,
    ParentWanted,
    RightsWanted,
    VotesWanted,
)
from workers.baker.stimuli import (
    ParentSeen,
    Proposal,
    ProposalSeen,
    Rights,
    RightsKnown,
    SlotVote,
    Stimulus,
    TimePassed,
    VotesSeen,
)
from workers.baker.vote_tally import BALLOTS_MAX, VoteTally
from workers.preparation.chain_view import ForgingConstants

T0 = 1_000_000  # when level 10 was proposed
# Rounds of 10 s, 15 s, 20 s …
CONSTANTS = ForgingConstants(10, 5, 2**62 - 1, 1_733_333, 1_040_000, 60_000)
RULES = ChainRules(CONSTANTS, threshold=5, branch_is_grandparent=False)
# Seven slots; a quorum is five. "us" and "also us" are ours.
SLOTS = {"us": (0, 4), "also us": (1,), "them": (2, 5, 6), "others": (3,)}
POWER = {"us": 2, "also us": 1, "them": 3, "others": 1}
BAKERS = ("them", "us", "others", "also us", "them", "us")
PAYLOAD = bytes([1]) * 32


def rights(level: int, bakers: tuple[str, ...] = BAKERS) -> RightsKnown:
    return RightsKnown(Rights(level, SLOTS, bakers))


def block(level: int, round_: int = 0, *, on: Proposal | None = None, **fields: Any) -> Proposal:
    fields = {
        "hash": bytes([level, round_]) * 16,
        "predecessor": bytes([level - 1, 0]) * 16 if on is None else on.hash,
        "level": level,
        "round": round_,
        "timestamp": T0 + 10 * (level - 10),
        "payload_hash": PAYLOAD,
        "payload_round": round_,
        "locked_round": None,
        "operations": ((b"votes below",), (), (), (b"transfer",)),
    } | fields
    return Proposal(**fields)


PARENT = block(9)
TIP = block(10, on=PARENT)


def votes(kind: Kind, proposal: Proposal, *delegates: str) -> VotesSeen:
    assert proposal.payload_hash is not None
    return VotesSeen(
        tuple(
            SlotVote(
                kind,
                proposal.level,
                proposal.round,
                proposal.payload_hash,
                SLOTS[delegate][0],
                f"{kind.name} {proposal.level}.{proposal.round} of {delegate}".encode(),
            )
            for delegate in delegates
        )
    )


def preattested(proposal: Proposal, *delegates: str) -> VotesSeen:
    return votes(Kind.PREATTESTATION, proposal, *(delegates or ("us", "them")))


def attested(proposal: Proposal, *delegates: str) -> VotesSeen:
    return votes(Kind.ATTESTATION, proposal, *(delegates or ("us", "them")))


class Script:
    """Plays stimuli at times after T0, and keeps what was wanted."""

    def __init__(self, rules: ChainRules = RULES, *, started: bool = True) -> None:
        self.state = BakerState({"us", "also us"}, rules)
        if started:
            self.hear(0, ProposalSeen(PARENT))
            self.hear(0, rights(10), rights(11))

    def hear(self, at: float, *stimuli: Stimulus) -> list[Command]:
        return [
            command
            for stimulus in stimuli
            for command in self.state.handle(stimulus, T0 + at)
            if not isinstance(command, RightsWanted | ParentWanted)
        ]

    def tick(self, at: float) -> list[Command]:
        return self.hear(at, TimePassed())


def vote_kinds(commands: list[Command]) -> list[Kind]:
    return [each.kind for each in commands if isinstance(each, VotesWanted)]


def blocks(commands: list[Command]) -> list[tuple[str, int, int]]:
    return [
        (each.delegate, each.level, each.round)
        for each in commands
        if isinstance(each, BlockWanted)
    ]


# -- votes ----------------------------------------------------------------------------------------


def test_a_proposal_is_preattested_by_all_of_ours() -> None:
    assert Script().hear(0.1, ProposalSeen(TIP)) == [
        VotesWanted(
            Kind.PREATTESTATION,
            PARENT.hash,
            10,
            0,
            PAYLOAD,
            (("us", 0), ("also us", 1)),
            T0 + 10.0,
        )
    ]


def test_a_quorum_of_preattestations_is_answered_with_attestations() -> None:
    script = Script()
    script.hear(0.1, ProposalSeen(TIP))
    assert script.hear(0.2, preattested(TIP, "them", "also us")) == []  # power 4 of 5
    assert vote_kinds(script.hear(0.3, preattested(TIP, "others"))) == [Kind.ATTESTATION]


def test_everything_is_wanted_once() -> None:
    script = Script()
    script.hear(0.1, ProposalSeen(TIP), preattested(TIP))
    for stimulus in (ProposalSeen(TIP), preattested(TIP), rights(10), TimePassed()):
        assert script.hear(0.4, stimulus) == []


def test_votes_may_come_before_their_proposal() -> None:
    script = Script()
    script.hear(0.1, preattested(TIP))
    assert vote_kinds(script.hear(0.2, ProposalSeen(TIP))) == [
        Kind.PREATTESTATION,
        Kind.ATTESTATION,
    ]


def test_a_vote_counts_once_and_only_for_its_proposal() -> None:
    script = Script()
    script.hear(0.1, ProposalSeen(TIP), preattested(TIP, "them"), preattested(TIP, "them"))
    other = replace(TIP, payload_hash=bytes(32))
    assert script.hear(0.2, preattested(other, "us", "others")) == []
    assert script.hear(0.2, preattested(replace(TIP, round=1), "us", "others")) == []
    assert script.hear(0.2, attested(TIP, "us")) == []
    assert vote_kinds(script.hear(0.3, preattested(TIP, "us"))) == [Kind.ATTESTATION]


def test_a_proposal_of_a_round_that_is_over_gets_no_vote() -> None:
    assert vote_kinds(Script().hear(10.0, ProposalSeen(TIP))) == []
    script = Script()
    script.hear(9.9, ProposalSeen(TIP))
    assert vote_kinds(script.hear(10.0, preattested(TIP))) == []


def test_a_proposal_of_the_future_waits_for_its_time() -> None:
    script = Script()
    assert script.hear(-0.5, ProposalSeen(TIP)) == []
    assert script.state.deadline(T0 - 0.5) == T0
    assert vote_kinds(script.tick(0.0)) == [Kind.PREATTESTATION]


def test_votes_wait_for_the_rights_of_their_level() -> None:
    script = Script(started=False)
    commands = script.state.handle(ProposalSeen(TIP), T0 + 0.1)
    assert commands == [ParentWanted(PARENT.hash), RightsWanted(10), RightsWanted(11)]
    assert vote_kinds(script.hear(0.2, rights(10))) == [Kind.PREATTESTATION]


def test_on_tezos_votes_name_the_grandparent() -> None:
    script = Script(replace(RULES, branch_is_grandparent=True))
    [wanted] = script.hear(0.1, ProposalSeen(TIP))
    assert wanted.branch == PARENT.predecessor
    fresh = Script(replace(RULES, branch_is_grandparent=True), started=False)
    assert fresh.hear(0.1, ProposalSeen(TIP), rights(10)) == []
    [wanted] = fresh.hear(0.2, ParentSeen(PARENT))
    assert wanted.branch == PARENT.predecessor


def test_who_has_no_slot_does_not_vote() -> None:
    state = BakerState({"nobody"}, RULES)
    state.handle(ProposalSeen(PARENT), T0)
    state.handle(rights(10), T0)
    assert vote_kinds(state.handle(ProposalSeen(TIP), T0 + 0.1)) == []


# -- locks ----------------------------------------------------------------------------------------

ROUND_1 = block(10, 1, on=PARENT, timestamp=T0 + 10)


def locked_at_round_0() -> Script:
    script = Script()
    script.hear(0.1, ProposalSeen(TIP), preattested(TIP))
    return script


def test_a_locked_payload_may_be_preattested_again() -> None:
    script = locked_at_round_0()
    assert vote_kinds(script.hear(10.1, ProposalSeen(ROUND_1))) == [Kind.PREATTESTATION]


def test_another_payload_may_not() -> None:
    other = replace(ROUND_1, payload_hash=bytes(32))
    assert vote_kinds(locked_at_round_0().hear(10.1, ProposalSeen(other))) == []
    assert vote_kinds(Script().hear(10.1, ProposalSeen(other))) == [Kind.PREATTESTATION]


def test_unless_it_proves_that_it_was_locked_later() -> None:
    script = locked_at_round_0()
    later = block(10, 2, on=PARENT, timestamp=T0 + 25, payload_hash=bytes(32), locked_round=1)
    assert vote_kinds(script.hear(25.1, ProposalSeen(later))) == [Kind.PREATTESTATION]


def test_a_lock_ends_with_its_level() -> None:
    script = locked_at_round_0()
    script.hear(0.2, attested(TIP))
    following = block(11, on=TIP, payload_hash=bytes(32))
    assert vote_kinds(script.hear(10.1, ProposalSeen(following))) == [Kind.PREATTESTATION]


# -- blocks ---------------------------------------------------------------------------------------


def elected(script: Script | None = None) -> Script:
    script = script or Script()
    script.hear(0.1, ProposalSeen(TIP), preattested(TIP), attested(TIP))
    return script


def test_the_next_level_is_baked_on_an_elected_block_when_its_time_has_come() -> None:
    script = Script()
    script.hear(0, rights(11, ("us", "them")))
    elected(script)
    assert script.state.deadline(T0 + 0.2) == T0 + 10
    assert script.tick(9.9) == []
    script.hear(9.9, attested(TIP, "others"))
    [wanted] = script.tick(10.0)
    assert wanted == BlockWanted(
        "us",
        TIP.hash,
        11,
        0,
        tuple(f"ATTESTATION 10.0 of {each}".encode() for each in ("us", "them", "others")),
        None,
        T0 + 20.0,
    )


def test_when_the_first_baker_is_late_the_next_takes_his_turn() -> None:
    script = elected()  # level 11: them, us, others …
    assert script.tick(10.0) == []
    assert script.state.deadline(T0 + 10.0) == T0 + 20
    assert blocks(script.tick(20.0)) == [("us", 11, 1)]
    assert blocks(script.tick(35.0)) == []
    assert blocks(script.tick(55.0)) == [("also us", 11, 3)]


def test_whoever_sleeps_through_a_round_bakes_the_one_that_runs() -> None:
    assert blocks(elected().tick(56.0)) == [("also us", 11, 3)]


def test_without_election_the_next_round_has_a_fresh_payload() -> None:
    script = Script()
    script.hear(0.1, attested(PARENT), ProposalSeen(TIP), preattested(TIP, "us"))
    [wanted] = script.tick(10.0)
    assert (wanted.delegate, wanted.level, wanted.round) == ("us", 10, 1)
    assert wanted.predecessor == PARENT.hash
    assert wanted.payload is None
    # The attestations of the parent: those that we saw, and those in the block that failed.
    assert b"ATTESTATION 9.0 of them" in wanted.consensus_operations
    assert b"votes below" in wanted.consensus_operations
    assert wanted.until == T0 + 25


def test_with_a_lock_its_payload_is_proposed_again() -> None:
    [wanted] = locked_at_round_0().tick(10.0)
    assert (wanted.delegate, wanted.level, wanted.round) == ("us", 10, 1)
    assert wanted.payload.payload_hash == PAYLOAD
    assert wanted.payload.payload_round == 0
    assert wanted.payload.operations == ((), (), (b"transfer",))
    assert b"PREATTESTATION 10.0 of them" in wanted.consensus_operations
    assert b"votes below" in wanted.consensus_operations


def test_the_operations_of_a_lock_are_asked_for_when_they_are_not_known() -> None:
    bare = replace(TIP, operations=None)
    script = Script()
    script.hear(0.1, ProposalSeen(bare), preattested(bare))
    assert script.tick(10.0) == [OperationsWanted(bare)]
    assert script.tick(10.1) == []
    [wanted] = script.hear(10.2, ProposalSeen(TIP))
    assert wanted.payload.operations == ((), (), (b"transfer",))


def test_a_locked_payload_outlives_a_round_without_quorum() -> None:
    script = locked_at_round_0()
    again = replace(ROUND_1, payload_round=0, operations=None)
    script.hear(10.1, ProposalSeen(again))
    assert blocks(script.tick(25.0)) == []  # round 2 is of others
    [wanted] = script.tick(45.0)  # round 3
    assert (wanted.delegate, wanted.round) == ("also us", 3)
    assert wanted.payload.payload_round == 0
    assert wanted.payload.operations == ((), (), (b"transfer",))


def test_a_round_that_is_taken_is_not_proposed_again() -> None:
    script = Script()
    assert blocks(script.hear(10.0, ProposalSeen(ROUND_1))) == []
    assert blocks(script.tick(24.9)) == []


def test_the_first_block_stands_on_the_activation_block() -> None:
    activation = block(1, timestamp=T0, payload_hash=None)
    script = Script(started=False)
    script.hear(0, ProposalSeen(activation), rights(1), rights(2, ("us",)))
    assert blocks(script.tick(10.0)) == [("us", 2, 0)]


def test_the_first_baked_block_needs_votes_as_any_other() -> None:
    first = block(2, timestamp=T0)
    script = Script(started=False)
    script.hear(0, rights(2), rights(3, ("us",)))
    assert ParentWanted(first.predecessor) in script.state.handle(ProposalSeen(first), T0 + 0.1)
    assert blocks(script.tick(10.0)) == []
    assert blocks(script.hear(10.1, preattested(first), attested(first))) == [("us", 3, 0)]


def test_nobody_votes_for_the_activation_block_or_asks_what_is_below() -> None:
    activation = block(1, timestamp=T0, payload_hash=None)
    script = Script(started=False)
    script.state.handle(rights(1), T0)
    commands = script.state.handle(ProposalSeen(activation), T0 + 0.1)
    assert commands == [RightsWanted(2)]


def test_a_round_beyond_the_known_rights_is_nobodys() -> None:
    script = elected()
    # Rounds 0 to 5 last until T0 + 10 + 6 × 10 + 5 × 15.
    assert blocks(script.tick(144.0)) == [("us", 11, 5)]
    assert blocks(script.tick(146.0)) == []


def test_a_threshold_of_zero_elects_at_once() -> None:
    script = Script(replace(RULES, threshold=0))
    script.hear(0, rights(11, ("us",)))
    assert vote_kinds(script.hear(0.1, ProposalSeen(TIP))) == [
        Kind.PREATTESTATION,
        Kind.ATTESTATION,
    ]
    assert blocks(script.tick(10.0)) == [("us", 11, 0)]


# -- heads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [PARENT, block(8), replace(TIP, hash=bytes(32))])
def test_what_is_not_above_the_tip_changes_nothing(old: Proposal) -> None:
    script = Script()
    script.hear(0.1, ProposalSeen(TIP))
    assert script.hear(0.2, ProposalSeen(old)) == []
    assert script.state.tip == TIP


def test_a_level_that_was_missed_is_caught_up_with() -> None:
    script = Script()
    far = block(12)
    commands = script.state.handle(ProposalSeen(far), T0 + 20.1)
    assert ParentWanted(far.predecessor) in commands
    assert RightsWanted(12) in commands
    assert RightsWanted(13) in commands
    assert vote_kinds(script.hear(20.2, rights(12))) == [Kind.PREATTESTATION]


def test_a_parent_that_is_not_the_tips_is_ignored() -> None:
    script = Script(started=False)
    stranger = replace(PARENT, hash=bytes(32))
    script.hear(0.1, ProposalSeen(TIP), rights(10), rights(11), ParentSeen(stranger))
    assert blocks(script.tick(10.0)) == []
    assert blocks(script.hear(10.1, ParentSeen(PARENT))) == [("us", 10, 1)]


def test_nothing_is_wanted_before_the_first_head() -> None:
    script = Script(started=False)
    assert script.tick(0) == []
    assert script.hear(0, ParentSeen(PARENT), preattested(TIP), rights(10)) == []
    assert script.state.deadline(T0) is None


def test_what_is_remembered_does_not_grow_with_the_chain() -> None:
    script = Script()
    below = PARENT
    for level in range(10, 110):
        at = 10 * (level - 10)
        tip = block(level, on=below)
        script.hear(at, rights(level), ProposalSeen(tip), preattested(tip), attested(tip))
        script.tick(at + 10)
        below = tip
    state = script.state
    assert len(state._rights) <= 3
    assert len(state._asked) <= 10
    assert len(state._tally._operations) <= 4


def test_votes_for_countless_payloads_are_not_all_remembered() -> None:
    tally = VoteTally()
    for number in range(BALLOTS_MAX + 10):
        other = replace(TIP, payload_hash=number.to_bytes(32))
        tally.add(preattested(other).votes)
    last = rights(10).rights
    assert tally.power(Kind.PREATTESTATION, other, last) == 0
    known = replace(TIP, payload_hash=(BALLOTS_MAX - 1).to_bytes(32))
    tally.add(preattested(known, "others").votes)
    assert tally.power(Kind.PREATTESTATION, known, last) == 6


def test_a_slot_that_is_nobodys_first_has_no_power() -> None:
    tally = VoteTally()
    [vote] = preattested(TIP, "us").votes
    tally.add([replace(vote, slot=4), replace(vote, slot=99)])
    assert tally.power(Kind.PREATTESTATION, TIP, rights(10).rights) == 0
