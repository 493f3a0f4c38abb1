"""The search against headers whose nonces are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.formats.block_header import decode, pow_is_enough, pow_stamp
from workers.preparation.preparation_errors import ProofOfWorkExhausted
from workers.preparation.proof_of_work import TRIES_PER_SLICE, slices, threshold_of

# Source: ecadlabs/signatory pkg/signatory/request/request_test.go, block of level 20878, without
# its watermark and chain id.
HEADER = bytes.fromhex(
    "0000518e0118425847ac255b6d7c30ce8fec23b8eaf13b741de7d18509ac2ef83c741209630000000061947af5"
    "04805682ea5d089837764b3efcc90b91db24294ff9ddb66019f332ccba17cc474100000021000000010200000004"
    "0000518e0000000000000004ffffffff0000000400000000eb1320a71e8bf8b0162a3ec315461e9153a38b70d00d"
    "5dde2df85eb92748f8d068d776e356683a9e23c186ccfb72ddc6c9857bb1704487972922e7c89a7121f800000000"
    "a8e1dd3c000000000000"
)
SHELL_BYTES = 147
PREFIX = bytes.fromhex("00000005")


def search(threshold: int, **bounds: int) -> list[bytes | None]:
    return list(slices(HEADER, SHELL_BYTES, PREFIX, threshold, **bounds))


@pytest.mark.parametrize(
    ("threshold", "nonce", "stamp"),
    [
        (
            2**62 - 1,
            "0000000502000000",
            "0a4d3321a2743debacfde9719e19f93f7ba99d8904835b91c5ddc8c08f7cba52",
        ),
        (
            2**48 - 1,
            "000000058a5b0000",
            "0000e39d8477ee5cf55e6131d0557d7188def1773c3711d4e797e57f07ac191e",
        ),
        (threshold_of(-1), "0000000500000000", None),
    ],
)
def test_the_first_good_counter_is_found(threshold: int, nonce: str, stamp: str | None) -> None:
    *pauses, found = search(threshold)
    assert set(pauses) <= {None}
    header = decode(found)
    assert header.proof_of_work_nonce.hex() == nonce
    assert pow_is_enough(pow_stamp(header), threshold)
    if stamp is not None:
        assert pow_stamp(header).hex() == stamp
    # Nothing but the nonce has changed.
    offset = SHELL_BYTES + 36
    assert found[:offset] + found[offset + 8 :] == HEADER[:offset] + HEADER[offset + 8 :]


def test_a_stamp_may_be_exactly_the_threshold() -> None:
    stamp = 0x0A4D3321A2743DEB
    assert decode(search(stamp)[-1]).proof_of_work_nonce.hex() == "0000000502000000"
    assert decode(search(stamp - 1)[-1]).proof_of_work_nonce.hex() != "0000000502000000"


def test_the_search_pauses_after_every_slice() -> None:
    *pauses, found = search(2**48 - 1)
    assert len(pauses) == 23434 // TRIES_PER_SLICE
    assert found is not None


def test_a_search_without_success_ends() -> None:
    with pytest.raises(ProofOfWorkExhausted, match="no nonce among 3000 meets the threshold 0"):
        search(0, counters=3_000)


def test_the_bound_excludes_the_counter_behind_it() -> None:
    assert search(2**48 - 1, counters=23435)[-1] is not None
    with pytest.raises(ProofOfWorkExhausted):
        search(2**48 - 1, counters=23434)


@given(st.integers(min_value=2**56, max_value=2**64 - 1))
def test_whatever_is_found_meets_the_threshold(threshold: int) -> None:
    found = search(threshold)[-1]
    assert pow_is_enough(pow_stamp(decode(found)), threshold)


def test_a_threshold_is_compared_unsigned() -> None:
    assert threshold_of(-1) == 2**64 - 1
    assert threshold_of(2**62 - 1) == 2**62 - 1
    assert threshold_of(-(2**63)) == 2**63
