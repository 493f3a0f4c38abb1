"""Headers from before Tenderbake: old blocks stay readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.formats import block_header, emmy_header

# octez-codec sample of 001-PtAtLas.block_header.raw, whose protocol data is of this form.
SAMPLE = bytes.fromhex(
    "00000533010e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8000000005e9dcb"
    "b00242e9bc4583d4f9fa6ba422733f45d3a44397141a953d2237bf8df62e5046eef700000011000000010100"
    "000008000000000000000a4c7319284b55068bb7c4e0b9f8585729db7fb27ab4ca9cff2038a1fc324f650c52"
    "1d101895ca00000000ff043691f53c02ca1ac6f1a0c1586bf77973e04c2d9b618a8309e79651daf0d5586680"
    "4fe735e06e97e26da8236b6341b91c625d5e82b3524ec0a88cc982365e70f8a5b9bc65df2ea6d21ee244cc3a"
    "96fb33031c394c78b1179ff1b8a44237740c"
)
WITH_VOTE = SAMPLE[:-64] + b"\xff" + SAMPLE[-64:]


@pytest.mark.parametrize("data", [SAMPLE, SAMPLE[:-64], WITH_VOTE, WITH_VOTE[:-64]])
def test_an_old_header_reads_and_writes_back(data: bytes) -> None:
    header = emmy_header.decode(data)
    assert emmy_header.encode(header) == data
    assert (header.level, header.priority) == (1331, 0x521D)
    assert header.escape_vote == (True if data.startswith(SAMPLE[:-64] + b"\xff") else None)
    assert emmy_header.unsigned(header) == (data[:-64] if header.signature else data)
    shown = emmy_header.to_json(header)
    assert shown["protocol_data"] == data[SAMPLE.index(b"\x52\x1d\x10") :].hex()
    with pytest.raises(MalformedBytes):
        block_header.decode(data)


def test_a_tenderbake_fitness_is_not_an_old_one() -> None:
    fitness = bytes.fromhex("00000011000000010100000008000000000000000a")
    tenderbake = bytes.fromhex(
        "0000002100000001020000000400000533000000000000000" + "4ffffffff0000000400000000"
    )
    with pytest.raises(MalformedBytes):
        emmy_header.decode(SAMPLE.replace(fitness, tenderbake))


@given(st.integers(0, len(SAMPLE) * 8 - 1), st.integers(0, len(SAMPLE)))
def test_damaged_bytes_give_a_header_or_malformed(bit: int, length: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[bit // 8] ^= 1 << bit % 8
    for data in (bytes(damaged), SAMPLE[:length]):
        try:
            header = emmy_header.decode(data)
        except MalformedBytes:
            continue
        assert emmy_header.encode(header) == data
