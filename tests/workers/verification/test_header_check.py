"""Headers: real ones, every way in which one byte can be wrong, and the order of fitnesses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import real_objects
from hypothesis import given
from hypothesis import strategies as st
from real_objects import at, rights_of, voter

from broker.verification import HeaderFacts, Judgement, Position, Verdict
from signers.formats import block_header
from signers.formats.block_header import Fitness
from signers.formats.hashes import blake2b_32
from workers.verification.header_check import HEADER_BYTES_MAX, check_header, fitness_key
from workers.verification.level_rights import LevelRights
from workers.verification.verdicts import Reason

REAL = real_objects.headers()


def by_id(record: Any) -> str:
    return str(record[0]) if isinstance(record, tuple) else ""


def round_after(header: block_header.BlockHeader, rounds: int) -> Fitness:
    """A fitness of so many rounds later."""
    fitness = header.fitness
    return Fitness.tenderbake(
        level=header.level,
        round=header.round + rounds,
        predecessor_round=fitness.predecessor_round,
        locked_round=fitness.locked_round,
    )


def judge(chain_id: str, public_key: str, raw: bytes, given: bytes, **other: Any) -> Verdict:
    """The verdict on `given` where `raw` is right."""
    header = block_header.decode(raw)
    baker = voter(public_key, header.round)
    work = int.from_bytes(block_header.pow_stamp(header)[:8])  # test networks have easier ones
    rules = real_objects.rules(chain_id, work=max(work, 2**48 - 1))
    position = other.get("position") or at(header.level - 1, header.timestamp - 10)
    return check_header(1, given, rules, rights_of(header.level, baker), position)


@pytest.mark.parametrize("record", REAL, ids=by_id)
def test_real_headers_are_valid(record: tuple[str, str, str, bytes]) -> None:
    _, chain_id, public_key, raw = record
    header = block_header.decode(raw)
    position = at(header.level - 1, header.timestamp)
    verdict = judge(chain_id, public_key, raw, raw, position=position)
    assert verdict.judgement == Judgement.VALID, verdict
    facts = verdict.facts
    assert isinstance(facts, HeaderFacts)
    assert (facts.hash, facts.level, facts.round) == (blake2b_32(raw), header.level, header.round)


# Of a header of 257 bytes without locked round and seed nonce, by offset.
NAMES_OF_A_WRONG_BYTE = [
    (0, 4, {Reason.TOO_OLD, Reason.TOO_FAR, Reason.WRONG_FITNESS_LEVEL, Reason.MALFORMED}),
    (4, 5, {Reason.NOT_ENOUGH_WORK, Reason.BAD_SIGNATURE}),
    (5, 37, {Reason.NOT_ENOUGH_WORK, Reason.BAD_SIGNATURE}),
    (37, 45, {Reason.FAR_TOO_EARLY, Reason.NOT_ENOUGH_WORK, Reason.BAD_SIGNATURE}),
    (45, 46, {Reason.WRONG_PASSES}),
    (46, 78, {Reason.NOT_ENOUGH_WORK, Reason.BAD_SIGNATURE}),
    (78, 115, {Reason.MALFORMED, Reason.WRONG_FITNESS_LEVEL, Reason.NOT_ENOUGH_WORK,
               Reason.NO_RIGHTS, Reason.BAD_SIGNATURE}),
    (115, 179, {Reason.NOT_ENOUGH_WORK, Reason.BAD_SIGNATURE}),
    (179, 183, {Reason.WRONG_PAYLOAD_ROUND, Reason.MALFORMED}),
    (183, 191, {Reason.NOT_ENOUGH_WORK, Reason.BAD_SIGNATURE}),
    (191, 193, {Reason.MALFORMED, Reason.NOT_ENOUGH_WORK, Reason.BAD_SIGNATURE}),
    (193, 257, {Reason.BAD_SIGNATURE}),
]  # fmt: skip


@pytest.mark.parametrize("record", [r for r in REAL if len(r[3]) == 257][:3], ids=by_id)
def test_each_wrong_byte_is_found(record: tuple[str, str, str, bytes]) -> None:
    _, chain_id, public_key, raw = record
    for first, end, names in NAMES_OF_A_WRONG_BYTE:
        for place in range(first, end):
            for flip in (0x01, 0x80, 0xFF):
                wrong = bytearray(raw)
                wrong[place] ^= flip
                verdict = judge(chain_id, public_key, raw, bytes(wrong))
                assert verdict.reason in names, (place, flip, verdict)


def test_every_cut_of_a_header_is_malformed() -> None:
    _, chain_id, public_key, raw = REAL[0]
    for wrong in [raw[:length] for length in range(len(raw))] + [raw + b"\0", raw * 40]:
        assert judge(chain_id, public_key, raw, wrong).reason == Reason.MALFORMED
    assert len(raw * 40) > HEADER_BYTES_MAX


def test_junk_under_a_stamped_header_is_the_signatures_fault() -> None:
    """The proof of work does not cover the signature: variants of one header are free."""
    _, chain_id, public_key, raw = REAL[0]
    for junk in range(20):
        wrong = raw[:-64] + bytes([junk]) * 64
        assert judge(chain_id, public_key, raw, wrong).reason == Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("early_s", "judgement", "reason"),
    [
        (0, Judgement.VALID, ""),
        (1, Judgement.VALID, ""),
        (5, Judgement.EARLY, Reason.TOO_EARLY),
        (600, Judgement.STALE, Reason.FAR_TOO_EARLY),
    ],
)
def test_the_clock(early_s: int, judgement: Judgement, reason: str) -> None:
    _, chain_id, public_key, raw = REAL[0]
    header = block_header.decode(raw)
    now_s = header.timestamp - early_s
    position = Position(now_s * 1000, header.level - 3, header.level - 1, 0, now_s - 10)
    verdict = judge(chain_id, public_key, raw, raw, position=position)
    assert (verdict.judgement, verdict.reason) == (judgement, reason)
    if judgement == Judgement.EARLY:
        assert verdict.until_unix_ms == header.timestamp * 1000


@pytest.mark.parametrize(
    ("head", "final", "reason"),
    [(-257, -259, Reason.TOO_FAR), (-256, -258, ""), (5, 0, Reason.TOO_OLD), (5, -1, "")],
)
def test_the_window_of_levels(head: int, final: int, reason: str) -> None:
    """`head` and `final` are counted from the level of the block."""
    _, chain_id, public_key, raw = REAL[0]
    header = block_header.decode(raw)
    position = at(header.level + head, header.timestamp, final=header.level + final)
    verdict = judge(chain_id, public_key, raw, raw, position=position)
    assert verdict.reason == reason
    if reason == Reason.TOO_FAR:
        assert isinstance(verdict.facts, HeaderFacts), "the asker may be behind"
        assert verdict.facts.level == header.level


def test_rights_that_nobody_has_told_or_has() -> None:
    _, chain_id, public_key, raw = REAL[0]
    header = block_header.decode(raw)
    rules = real_objects.rules(chain_id, work=2**64 - 1)
    position = at(header.level - 1, header.timestamp)
    verdict = check_header(1, raw, rules, lambda level: None, position)
    assert verdict.judgement == Judgement.RIGHTS_UNKNOWN
    other = rights_of(header.level, voter(public_key, header.round + 1))
    assert check_header(1, raw, rules, other, position).reason == Reason.NO_RIGHTS


def test_bakers_that_are_drawn_by_themselves() -> None:
    _, chain_id, public_key, raw = REAL[0]
    header = block_header.decode(raw)
    rules = real_objects.rules(chain_id, work=2**64 - 1)
    position = at(header.level - 1, header.timestamp)
    baker, other = voter(public_key), voter(REAL[1][2], 0)
    assert baker.delegate != other.delegate
    for bakers, judgement in (
        ([baker] * (header.round + 1), Judgement.VALID),
        ([other] * (header.round + 1), Judgement.INVALID),
    ):
        rights = LevelRights(header.level, [other], 1, bakers)
        verdict = check_header(1, raw, rules, lambda level: rights, position)  # noqa: B023
        assert verdict.judgement == judgement
    assert not LevelRights(header.level, [other], 1, [baker]).tells_baker(1)
    late = block_header.encode(replace(header, fitness=round_after(header, 1)))
    verdict = check_header(
        1, late, rules, lambda level: LevelRights(header.level, [other], 1, [baker]), position
    )
    assert verdict.judgement == Judgement.RIGHTS_UNKNOWN, "nobody has told of that round"


rounds = st.integers(0, 2**31 - 2)


@st.composite
def fitnesses(draw: st.DrawFn) -> Fitness:
    round_ = draw(st.one_of(st.integers(1, 4), rounds.filter(bool)))
    locked = draw(st.one_of(st.none(), st.integers(0, min(round_ - 1, 3)), st.just(round_ - 1)))
    return Fitness.tenderbake(
        level=draw(st.one_of(st.integers(0, 3), st.integers(0, 2**31 - 1))),
        round=round_,
        predecessor_round=draw(st.one_of(st.integers(0, 3), rounds)),
        locked_round=locked,
    )


@given(fitnesses(), fitnesses())
def test_keys_of_fitnesses_compare_as_they_do(one: Fitness, other: Fitness) -> None:
    assert (fitness_key(one) < fitness_key(other)) == (one < other)
    assert (fitness_key(one) == fitness_key(other)) == (one.elements == other.elements)
    assert len(fitness_key(one)) == 17


def test_a_header_without_signature_is_malformed() -> None:
    _, chain_id, public_key, raw = REAL[0]
    header = replace(block_header.decode(raw), signature=None)
    assert judge(chain_id, public_key, raw, block_header.encode(header)).reason == Reason.MALFORMED
