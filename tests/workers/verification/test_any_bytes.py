"""Any bytes give a verdict: never an exception, and never VALID by chance."""

from __future__ import annotations

import msgspec
import pytest
import real_objects
from hypothesis import given
from hypothesis import strategies as st
from made_votes import LEVEL, POSITION, Delegate

from broker.verification import Ancestor, CheckItem, Judgement, Verdict
from signers.formats.networks import MAVRYK, TEZOS
from workers.verification.block_check import check_block
from workers.verification.evidence_check import make_evidence
from workers.verification.header_check import check_header
from workers.verification.known_chain import KnownChain
from workers.verification.vote_check import check_vote

DELEGATES = [Delegate(TEZOS), Delegate(MAVRYK), Delegate(MAVRYK, protocol=1)]
_, CHAIN_ID, KEY, HEADER = real_objects.headers()[0]
VOTE = DELEGATES[0].vote()
WITH_DAL = DELEGATES[0].vote(dal=1 << 40)


@st.composite
def damaged(draw: st.DrawFn, *originals: bytes) -> bytes:
    """A right object with some bytes changed, cut, doubled or put in."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.integers(0, 3))
        if how == 0 and data:
            data[place] = draw(st.integers(0, 255))
        elif how == 1:
            del data[place : place + draw(st.integers(1, 40))]
        elif how == 2:
            data[place:place] = draw(st.binary(max_size=40))
        else:
            data += data[place:]
    return bytes(data)


bytes_of_strangers = st.one_of(st.binary(max_size=400), damaged(VOTE, WITH_DAL, HEADER))


def is_fair(verdict: Verdict, raw: bytes, *originals: bytes) -> bool:
    """Whether a verdict is one, and VALID only for what was right before."""
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(verdict), type=Verdict)
    assert again == verdict
    return verdict.judgement != Judgement.VALID or raw in originals


@given(bytes_of_strangers, st.sampled_from(DELEGATES))
def test_votes(raw: bytes, delegate: Delegate) -> None:
    rights = real_objects.rights_of(LEVEL, delegate.voter)
    verdict = check_vote(0, raw, delegate.rules, rights, POSITION)
    assert is_fair(verdict, raw, VOTE, WITH_DAL)


@given(bytes_of_strangers)
def test_headers(raw: bytes) -> None:
    rules = real_objects.rules(CHAIN_ID, work=2**64 - 1)
    level = real_objects.block_header.decode(HEADER).level
    rights = real_objects.rights_of(level, real_objects.voter(KEY, *range(4)))
    position = real_objects.at(level - 1, 2_000_000_000)
    assert is_fair(check_header(0, raw, rules, rights, position), raw, HEADER)


@given(
    st.one_of(st.just(HEADER), bytes_of_strangers),
    st.lists(st.lists(st.one_of(bytes_of_strangers), max_size=3), max_size=5),
    st.lists(st.one_of(st.just(HEADER), bytes_of_strangers), max_size=3),
)
def test_blocks(raw: bytes, operations: list[list[bytes]], ancestors: list[bytes]) -> None:
    rules = real_objects.rules(CHAIN_ID, work=2**64 - 1)
    chain = KnownChain(rules.chain_id, TEZOS)
    item = CheckItem(0, raw, operations, [Ancestor(each, operations) for each in ancestors])
    position = real_objects.at(real_objects.block_header.decode(HEADER).level, 2_000_000_000)
    assert check_block(item, rules, chain, position).judgement != Judgement.VALID


@given(bytes_of_strangers, bytes_of_strangers, st.sampled_from([TEZOS, MAVRYK]))
def test_evidence(one: bytes, other: bytes, network: real_objects.Any) -> None:
    verdict = make_evidence(0, one, other, bytes(32), network.protocol)
    assert bool(verdict.made) == (verdict.judgement == Judgement.VALID)


@pytest.mark.parametrize("number", [0, -1, 2**31 - 1, 2**62])
def test_positions_of_any_size(number: int) -> None:
    position = msgspec.structs.replace(POSITION, head_level=number, head_round=abs(number))
    for delegate in DELEGATES:
        rights = real_objects.rights_of(LEVEL, delegate.voter)
        assert check_vote(0, VOTE, delegate.rules, rights, position).judgement in Judgement
