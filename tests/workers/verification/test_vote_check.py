"""Votes: real ones, every way in which one byte can be wrong, and what protocols disagree about."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import real_objects
from made_votes import HEAD_S, LEVEL, POSITION, Delegate

from broker.verification import Judgement, Position, Verdict, VoteFacts
from signers.curves import bls
from signers.formats.companion_weight import companion_weight
from signers.formats.hashes import blake2b_20
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind
from signers.formats.vote import read_signed_vote
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey
from workers.verification.level_rights import LevelRights, Voter
from workers.verification.verdicts import Reason
from workers.verification.vote_check import VoteCheck, check_vote

REAL = real_objects.votes()
BLS_KEYS = [SecretKey.from_seed(bytes([n]) * 32, Curve.BLS, TEZOS.bls_scheme) for n in (1, 2)]


def by_id(record: Any) -> str:
    return str(record[0]) if isinstance(record, tuple) else ""


@pytest.mark.parametrize("record", REAL, ids=by_id)
def test_real_votes_are_valid(record: tuple[str, str, str, bytes]) -> None:
    _, chain_id, public_key, raw = record
    vote = read_signed_vote(raw)
    verdict = check_vote(7, raw, *real_objects.vote_surroundings(chain_id, public_key, raw))
    assert (verdict.number, verdict.judgement) == (7, Judgement.VALID), verdict
    assert isinstance(verdict.facts, VoteFacts)
    assert (verdict.facts.level, verdict.facts.payload_hash) == (vote.level, vote.payload_hash)


REASONS_OF_A_WRONG_BYTE = {
    Reason.MALFORMED,
    Reason.NOT_A_VOTE,
    Reason.AGGREGATE_ALONE,
    Reason.WRONG_PROTOCOL,
    Reason.TOO_OLD,
    Reason.TOO_FAR,
    Reason.ROUND_TOO_FAR,
    Reason.NO_RIGHTS,
    Reason.RIGHTS_UNKNOWN,
    Reason.BAD_SIGNATURE,
}


@pytest.mark.parametrize("record", REAL[:6], ids=by_id)
def test_each_wrong_byte_is_found(record: tuple[str, str, str, bytes]) -> None:
    _, chain_id, public_key, raw = record
    rules, rights, position = real_objects.vote_surroundings(chain_id, public_key, raw)
    check = VoteCheck(rules, rights, position)
    for place in range(len(raw)):
        for flip in (0x01, 0x80, 0xFF):
            wrong = bytearray(raw)
            wrong[place] ^= flip
            verdict = check.check(0, bytes(wrong))
            assert verdict.judgement != Judgement.VALID, place
            assert verdict.judgement != Judgement.UNCHECKED, place
            assert verdict.reason == expected_reason(place, verdict), (place, flip, verdict)


def expected_reason(place: int, verdict: Verdict) -> str:
    """What a wrong byte at a place must be called; several names where the value decides."""
    if place < 32 or place >= 43:  # branch, payload hash, signature
        allowed = {Reason.BAD_SIGNATURE}
        if place >= 75:  # what could be DAL content may not be any more
            allowed |= {Reason.MALFORMED, Reason.BAD_SIGNATURE}
    elif place == 32:
        allowed = {
            Reason.NOT_A_VOTE, Reason.BAD_SIGNATURE, Reason.AGGREGATE_ALONE, Reason.MALFORMED,
        }  # fmt: skip
    elif place < 35:
        allowed = {Reason.NO_RIGHTS}
    elif place < 39:
        allowed = {Reason.TOO_OLD, Reason.TOO_FAR, Reason.MALFORMED, Reason.RIGHTS_UNKNOWN}
    else:
        allowed = {Reason.ROUND_TOO_FAR, Reason.MALFORMED, Reason.BAD_SIGNATURE}
    return verdict.reason if verdict.reason in allowed else f"one of {sorted(allowed)}"


def test_every_cut_of_a_vote_is_refused() -> None:
    _, chain_id, public_key, raw = REAL[0]
    check = VoteCheck(*real_objects.vote_surroundings(chain_id, public_key, raw))
    for wrong in [raw[:length] for length in range(len(raw))] + [raw + b"\0", raw * 40]:
        verdict = check.check(0, wrong)
        assert verdict.judgement == Judgement.INVALID
        assert verdict.reason in (Reason.MALFORMED, Reason.NOT_A_VOTE)


def test_one_bad_vote_spoils_no_other() -> None:
    _, chain_id, public_key, raw = REAL[0]
    check = VoteCheck(*real_objects.vote_surroundings(chain_id, public_key, raw))
    bad = raw[:-1] + bytes([raw[-1] ^ 1])
    items = [raw] * 20 + [bad, b"", b"\xff" * 139] + [raw] * 20
    verdicts = [check.check(number, each) for number, each in enumerate(items)]
    wrong = [verdict.number for verdict in verdicts if verdict.judgement != Judgement.VALID]
    assert wrong == [20, 21, 22]


@pytest.mark.parametrize("network", [TEZOS, MAVRYK], ids=lambda n: n.name)
def test_votes_checked_together_are_judged_as_each_alone(network: Any) -> None:
    """Whatever came before: votes that differ in slot and signature only share what was read."""
    rng = Random(network.name)
    curves = (Curve.ED25519, Curve.P256, Curve.SECP256K1, Curve.BLS)
    delegates = [
        Delegate(network, curve=curve, slots=(3 + 10 * n, 5 + 10 * n))
        for n, curve in enumerate(curves)
    ]
    others: list[dict[str, Any]] = [
        {}, {"kind": Kind.PREATTESTATION}, {"branch": b"c" * 32}, {"payload_hash": b"q" * 32},
        {"round": 1}, {"round": 99}, {"level": LEVEL - 2}, {"level": LEVEL + 1},
    ]  # fmt: skip
    votes = [
        one.vote(slot=slot, **other)
        for one in delegates
        for other in others
        for slot in (*one.voter.slots, 4, 7000)
    ]
    votes += [one.vote(slot=one.voter.slots[0], dal=6) for one in delegates[:3]]
    for vote in list(votes):
        place = rng.randrange(len(vote))
        votes.append(
            vote[:place] + bytes([vote[place] ^ 1 << rng.randrange(8)]) + vote[place + 1 :]
        )
        votes += [vote[:-1], vote + b"\0", vote[:75] + rng.randbytes(64)]
    rules = delegates[0].rules
    rights = real_objects.rights_of(LEVEL, *(one.voter for one in delegates))
    for _ in range(3):
        rng.shuffle(votes)
        check = VoteCheck(rules, rights, POSITION)
        together = [check.check(number, vote) for number, vote in enumerate(votes)]
        assert together == [
            check_vote(number, vote, rules, rights, POSITION) for number, vote in enumerate(votes)
        ]
        assert {verdict.judgement for verdict in together} >= {
            Judgement.VALID, Judgement.INVALID, Judgement.STALE, Judgement.RIGHTS_UNKNOWN,
        }  # fmt: skip


# -- made votes: slots, levels, rounds, DAL content ------------------------------------------------


def test_another_slot_of_ones_own() -> None:
    tezos, mavryk = Delegate(TEZOS), Delegate(MAVRYK)
    assert tezos.check(tezos.vote(slot=5)).reason == Reason.NOT_LOWEST_SLOT
    first, second = (mavryk.check(mavryk.vote(slot=slot)) for slot in (3, 5))
    assert first.judgement == second.judgement == Judgement.VALID
    assert isinstance(first.facts, VoteFacts)
    assert isinstance(second.facts, VoteFacts)
    assert first.facts.delegate == second.facts.delegate
    assert first.facts.statement != second.facts.statement, "an offence where any slot counts"


@pytest.mark.parametrize("network", [TEZOS, MAVRYK], ids=lambda n: n.name)
def test_what_makes_two_statements(network: Any) -> None:
    one = Delegate(network)
    verdicts = [
        one.check(one.vote(**other))
        for other in ({}, {"dal": 6}, {"payload_hash": b"q" * 32}, {"branch": b"c" * 32})
    ]
    assert {verdict.judgement for verdict in verdicts} == {Judgement.VALID}
    plain, with_dal, other_payload, other_branch = (v.facts.statement for v in verdicts)  # type: ignore[union-attr]
    assert plain == with_dal, "DAL content is not part of the statement"
    assert len({plain, other_payload, other_branch}) == 3


@pytest.mark.parametrize(
    ("level", "judgement", "reason"),
    [
        (LEVEL - 2, Judgement.STALE, Reason.TOO_OLD),
        (LEVEL - 1, Judgement.VALID, ""),
        (LEVEL + 1, Judgement.VALID, ""),
        (LEVEL + 2, Judgement.VALID, ""),
        (LEVEL + 3, Judgement.STALE, Reason.TOO_FAR),
        (2**31 - 1, Judgement.STALE, Reason.TOO_FAR),
    ],
)
def test_the_window_of_levels(level: int, judgement: Judgement, reason: str) -> None:
    one = Delegate()
    verdict = one.check(one.vote(level=level), level=level)
    assert (verdict.judgement, verdict.reason) == (judgement, reason)


def test_rounds_follow_the_clock() -> None:
    """Rounds last 10 s, 15 s, 20 s: 30 s after the head's time round 2 of its level runs."""
    one = Delegate()
    later = Position((HEAD_S + 30) * 1000, LEVEL - 2, LEVEL, 0, HEAD_S)
    reasons = [one.check(one.vote(round=n), later).reason for n in range(6)]
    assert reasons == ["", "", "", "", Reason.ROUND_TOO_FAR, Reason.ROUND_TOO_FAR]
    assert one.check(one.vote(round=2**31 - 1), later).reason == Reason.ROUND_TOO_FAR
    # A clock that is behind does not make the head's own votes too early.
    behind = Position((HEAD_S - 60) * 1000, LEVEL - 2, LEVEL, 4, HEAD_S)
    assert one.check(one.vote(round=4), behind).reason == ""


def test_rounds_are_solved_and_not_counted() -> None:
    rules = Delegate().rules
    for round_ in [*range(50), 10**3, 10**5]:
        start = rules.offset_ms(round_)
        assert [rules.round_after_ms(start + d) for d in (-1, 0, 1)] == [round_ - 1, round_, round_]


def test_rights_of_a_level_that_nobody_has_told() -> None:
    one = Delegate()
    verdict = one.check(one.vote(level=LEVEL + 1))
    assert verdict.judgement == Judgement.RIGHTS_UNKNOWN
    assert one.check(one.vote(slot=4)).reason == Reason.NO_RIGHTS
    assert one.check(one.vote(slot=7000)).reason == Reason.NO_RIGHTS


def test_a_vote_for_another_chain_is_badly_signed() -> None:
    one = Delegate()
    assert one.check(one.vote(chain_id=b"\0\0\0\0")).reason == Reason.BAD_SIGNATURE


@pytest.mark.parametrize("curve", [Curve.SECP256K1, Curve.P256, Curve.BLS], ids=lambda c: c.name)
def test_keys_of_other_curves(curve: Curve) -> None:
    one = Delegate(TEZOS, curve=curve)
    raw = one.vote(kind=Kind.PREATTESTATION)
    assert one.check(raw).judgement == Judgement.VALID
    assert one.check(raw[:-1] + bytes([raw[-1] ^ 1])).reason == Reason.BAD_SIGNATURE


def test_a_tz4_vote_with_dal_content_needs_the_companion() -> None:
    one = Delegate(TEZOS, curve=Curve.BLS)
    companion = BLS_KEYS[1]
    template, dal = one.template(), 2048
    signed = template.bls_signable()
    weight = companion_weight(
        blake2b_20(one.secret.public_key.raw), blake2b_20(companion.public_key.raw), signed[5:], dal
    )
    signature = bls.add_signatures(
        (one.secret.sign(signed, b""), bls.weigh_signature(companion.sign(signed, b""), weight))
    )
    raw = template.operation(3, signature, dal)
    assert one.check(raw).reason == Reason.NO_COMPANION_KEY
    hash_ = companion.public_key.hash(TEZOS)
    one.voter = Voter(
        one.voter.delegate, one.voter.consensus_hash, one.voter.key, (3, 5), hash_,
        companion.public_key,
    )  # fmt: skip
    assert one.check(raw).judgement == Judgement.VALID
    assert one.check(template.operation(3, signature, dal + 1)).reason == Reason.BAD_SIGNATURE


def test_dal_content_where_the_protocol_has_none() -> None:
    atlas = Delegate(MAVRYK, protocol=1)
    assert atlas.check(atlas.vote(dal=3)).reason == Reason.WRONG_PROTOCOL
    own_operation = b"b" * 32 + b"\x16" + bytes(80)
    assert atlas.check(own_operation).reason == Reason.NOT_COUNTED
    assert Delegate(MAVRYK).check(own_operation).reason == Reason.NOT_A_VOTE


def test_a_committee_has_one_owner_for_a_slot() -> None:
    one = Delegate().voter
    with pytest.raises(ValueError, match="slot 3"):
        LevelRights(LEVEL, (one, one), 7000)
    with pytest.raises(ValueError, match="slot 5"):
        LevelRights(LEVEL, (one,), 4)
