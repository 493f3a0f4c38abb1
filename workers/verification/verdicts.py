"""Why something was not valid, as stable codes, and the verdicts that carry them.

Pure. docs/verification.md says what each code means and who is to blame for it.
"""

from __future__ import annotations

from enum import StrEnum

from broker.verification import ChainFacts, HeaderFacts, Judgement, Verdict, VoteFacts

Facts = VoteFacts | HeaderFacts | ChainFacts | None


class Reason(StrEnum):
    """The codes of all verdicts but VALID."""

    # the bytes themselves
    MALFORMED = "malformed"
    NOT_A_VOTE = "not_a_vote"
    AGGREGATE_ALONE = "aggregate_alone"
    WRONG_PROTOCOL = "wrong_protocol"
    WRONG_FITNESS_LEVEL = "wrong_fitness_level"
    WRONG_PASSES = "wrong_passes"
    WRONG_PAYLOAD_ROUND = "wrong_payload_round"
    NOT_COUNTED = "not_counted"
    # place and time
    TOO_OLD = "too_old"
    TOO_FAR = "too_far"
    ROUND_TOO_FAR = "round_too_far"
    TOO_EARLY = "too_early"
    FAR_TOO_EARLY = "far_too_early"
    # who
    RIGHTS_UNKNOWN = "rights_unknown"
    NO_RIGHTS = "no_rights"
    NOT_LOWEST_SLOT = "not_lowest_slot"
    NO_COMPANION_KEY = "no_companion_key"
    BAD_SIGNATURE = "bad_signature"
    UNSUPPORTED_KEY = "unsupported_key"
    NOT_ENOUGH_WORK = "not_enough_work"
    # a block on its predecessor
    WRONG_ANCESTORS = "wrong_ancestors"
    OFF_FINAL_BRANCH = "off_final_branch"
    WRONG_LEVEL = "wrong_level"
    WRONG_PROTO = "wrong_proto"
    WRONG_PREDECESSOR_ROUND = "wrong_predecessor_round"
    WRONG_TIMESTAMP = "wrong_timestamp"
    WRONG_FITNESS = "wrong_fitness"
    WRONG_OPERATIONS_HASH = "wrong_operations_hash"
    WRONG_PAYLOAD_HASH = "wrong_payload_hash"
    TOO_MUCH_IN_PASS = "too_much_in_pass"
    WRONG_OPERATION = "wrong_operation"
    WRONG_PASS = "wrong_pass"
    WRONG_VOTE = "wrong_vote"
    VOTE_TWICE = "vote_twice"
    NO_QUORUM = "no_quorum"
    NO_LOCKED_QUORUM = "no_locked_quorum"
    OUTDATED_OPERATION = "outdated_operation"
    OPERATION_TWICE = "operation_twice"
    OPERATION_NOT_VALID = "operation_not_valid"
    TOO_MUCH_GAS = "too_much_gas"
    # evidence
    NO_OFFENCE = "no_offence"
    # nobody's fault
    CHAIN_UNKNOWN = "chain_unknown"
    STATE_UNKNOWN = "state_unknown"
    ANCESTORS_WANTED = "ancestors_wanted"
    NODE_UNAVAILABLE = "node_unavailable"
    OUT_OF_TIME = "out_of_time"
    INTERNAL = "internal"


_VALID = int(Judgement.VALID)  # spares each vote the look into the enumeration


def valid(number: int, facts: Facts) -> Verdict:
    """Nothing that was checked is wrong."""
    return Verdict(number, _VALID, "", "", facts)


def invalid(number: int, reason: Reason, text: str = "", facts: Facts = None) -> Verdict:
    """A rule is broken that no later event can mend."""
    return Verdict(number, Judgement.INVALID, reason, text, facts)


def body_invalid(number: int, reason: Reason, text: str, facts: Facts) -> Verdict:
    """The operations are not those that the header was signed for."""
    return Verdict(number, Judgement.BODY_INVALID, reason, text, facts)


def stale(number: int, reason: Reason, text: str, facts: Facts = None) -> Verdict:
    """Outside of what is looked at; nobody's fault."""
    return Verdict(number, Judgement.STALE, reason, text, facts)


def rights_unknown(number: int, level: int, facts: Facts = None) -> Verdict:
    """Nobody has told who has the rights of a level."""
    text = f"the rights of level {level} are not known"
    return Verdict(number, Judgement.RIGHTS_UNKNOWN, Reason.RIGHTS_UNKNOWN, text, facts)


def unchecked(number: int, reason: Reason, text: str, facts: Facts = None) -> Verdict:
    """It could not be checked; says nothing about the item."""
    return Verdict(number, Judgement.UNCHECKED, reason, text, facts)
