"""Block headers: a real one, its hash, its proof of work, its fitness."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.formats import base58, block_header
from signers.formats.block_header import BlockHeader, Fitness

# A real block of a ParisC test network, level 989795 (ecadlabs/taquito, blockResponse).
REAL = bytes.fromhex(
    "000f1a630128a543c28cd80d04e2ef22622df962ae6c5f432a632a3f09fd4e95644d064bb70000000066db6a"
    "72048327889b5c374a8db77a2fab7de759a60c4798df6d51c2bffbe69d9387506a1200000021000000010200"
    "000004000f1a630000000000000004ffffffff0000000400000000d83fd602acb1434d59b056b34912b28fcf"
    "f2ca33a7da55edd1d45e111eab458d8978d2d374c1069a4525d68662c1a95da34fa2b429cd460c04df1c8f59"
    "e7b577000000001a991a0300000000000841938293d8fde58e3e91247788fb29899e931194501b7a766fbec3"
    "35512c6961512c1c5c0020d90383c25f556afde3210c0953d39191e9726d9ecd7b8743b808"
)
# An Octez codec sample with an Emmy fitness and a seed nonce hash.
EMMY_FITNESS = bytes.fromhex(
    "00000533010e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8000000005e9dcb"
    "b00242e9bc4583d4f9fa6ba422733f45d3a44397141a953d2237bf8df62e5046eef700000011000000010100"
    "000008000000000000000a4c7319284b55068bb7c4e0b9f8585729db7fb27ab4ca9cff2038a1fc324f650c00"
    "0000000000000000000000000000000000000000000000000000000000000000000000101895ca00000000ff"
    "043691f53c02ca1ac6f1a0c1586bf77973e04c2d9b618a8309e79651daf0d5580166804fe735e06e97e26da8"
    "236b6341b91c625d5e82b3524ec0a88cc982365e70f8a5b9bc65df2ea6d21ee244cc3a96fb33031c394c78b1"
    "179ff1b8a44237740c"
)
PROOF = bytes.fromhex(
    "0000518e0118425847ac255b6d7c30ce8fec23b8eaf13b741de7d18509ac2ef83c741209630000000061947a"
    "f504805682ea5d089837764b3efcc90b91db24294ff9ddb66019f332ccba17cc474100000021000000010200"
    "0000040000518e0000000000000004ffffffff0000000400000000eb1320a71e8bf8b0162a3ec315461e9153"
    "a38b70d00d5dde2df85eb92748f8d068d776e356683a9e23c186ccfb72ddc6c9857bb1704487972922e7c89a"
    "7121f800000000a8e1dd3c000000000000"
)


def test_a_real_header_reads_and_hashes() -> None:
    header = block_header.decode(REAL)
    assert (header.level, header.round, header.proto, header.timestamp) == (
        989795,
        0,
        1,
        1725655666,
    )
    assert header.fitness == Fitness.tenderbake(level=989795, round=0, predecessor_round=0)
    assert base58.encode(base58.BLOCK_HASH, block_header.block_hash(header)) == (
        "BLauzww5KwkaBTuPjxANENMHHR4BapJ2G9B86z2bsZHHi5oKanb"
    )
    assert block_header.votes_of(header.per_block_votes) == ("on", "pass")
    assert block_header.encode(header) == REAL
    assert block_header.unsigned(header) == REAL[:-64]


def test_a_seed_nonce_hash_and_an_older_fitness_read() -> None:
    header = block_header.decode(EMMY_FITNESS)
    assert header.seed_nonce_hash is not None
    assert header.validation_passes == 2
    assert header.fitness.elements == (b"\1", bytes.fromhex("000000000000000a"))
    assert not header.fitness.is_tenderbake
    with pytest.raises(MalformedBytes):
        _ = header.round
    assert block_header.encode(header) == EMMY_FITNESS


def test_an_unsigned_header_has_no_hash() -> None:
    with pytest.raises(MalformedBytes):
        block_header.block_hash(block_header.decode(REAL[:-64]))


@pytest.mark.parametrize(
    ("nonce", "stamp", "threshold"),
    [
        (
            "0000000502000000",
            "0a4d3321a2743debacfde9719e19f93f7ba99d8904835b91c5ddc8c08f7cba52",
            2**62 - 1,
        ),
        (
            "000000058a5b0000",
            "0000e39d8477ee5cf55e6131d0557d7188def1773c3711d4e797e57f07ac191e",
            2**48 - 1,
        ),
    ],
)
def test_proof_of_work_is_of_the_header_signed_with_zeros(
    nonce: str, stamp: str, threshold: int
) -> None:
    header = replace(block_header.decode(PROOF), proof_of_work_nonce=bytes.fromhex(nonce))
    for signature in (None, bytes([1]) * 64, bytes([2]) * 96):
        found = block_header.pow_stamp(replace(header, signature=signature))
        assert found.hex() == stamp
    assert block_header.pow_is_enough(found, threshold)
    assert not block_header.pow_is_enough(found, 2**40)
    assert block_header.pow_is_enough(b"\xff" * 32, -1)


@pytest.mark.parametrize("signature_bytes", [0, 64, 96, 2420])
def test_a_header_has_no_signature_or_one_of_a_known_length(signature_bytes: int) -> None:
    header = block_header.decode(PROOF + bytes(signature_bytes))
    assert header.signature == (bytes(signature_bytes) or None)


@pytest.mark.parametrize("extra", [1, 63, 65, 95, 97, 128, 2419])
def test_any_other_rest_is_refused(extra: int) -> None:
    with pytest.raises(MalformedBytes):
        block_header.decode(PROOF + bytes(extra))


def test_every_truncation_is_refused() -> None:
    for length in range(len(PROOF)):
        with pytest.raises(MalformedBytes):
            block_header.decode(PROOF[:length])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-62135596800, "0001-01-01T00:00:00Z"),
        (253402300799, "9999-12-31T23:59:59Z"),
        (253402300800, "253402300800"),
        (-(2**63), str(-(2**63))),
        (2**63 - 1, str(2**63 - 1)),
    ],
)
def test_a_time_is_shown_in_utc_or_as_a_number(seconds: int, shown: str) -> None:
    header = replace(block_header.decode(REAL), timestamp=seconds)
    assert block_header.to_json(header)["timestamp"] == shown


votes = st.sampled_from([0, 1, 2, 4, 5, 6, 8, 9, 10, 0xFF])
hashes = st.binary(min_size=32, max_size=32)
fitnesses = st.builds(Fitness, st.lists(st.binary(max_size=12), max_size=6).map(tuple)) | st.builds(
    lambda level, round, predecessor_round, gap: Fitness.tenderbake(
        level=level,
        round=round,
        predecessor_round=predecessor_round,
        locked_round=round - gap if 0 < gap <= round else None,
    ),
    level=st.integers(0, 2**31 - 1),
    round=st.integers(0, 2**31 - 1),
    predecessor_round=st.integers(0, 2**31 - 1),
    gap=st.integers(0, 3),
)
headers = st.builds(
    BlockHeader,
    level=st.integers(0, 2**31 - 1),
    proto=st.integers(0, 255),
    predecessor=hashes,
    timestamp=st.integers(-(2**63), 2**63 - 1),
    validation_passes=st.integers(0, 255),
    operations_hash=hashes,
    fitness=fitnesses,
    context=hashes,
    payload_hash=hashes,
    payload_round=st.integers(0, 2**31 - 1),
    proof_of_work_nonce=st.binary(min_size=8, max_size=8),
    seed_nonce_hash=st.none() | hashes,
    per_block_votes=votes,
    signature=st.none() | st.binary(min_size=64, max_size=64) | st.binary(min_size=96, max_size=96),
)


@given(headers)
def test_a_written_header_reads_back(header: BlockHeader) -> None:
    assert block_header.decode(block_header.encode(header)) == header


@given(st.binary(max_size=400) | headers.map(block_header.encode), st.integers(0, 4000))
def test_any_bytes_give_a_header_or_malformed(data: bytes, bit: int) -> None:
    flipped = bytearray(data)
    if bit < len(data) * 8:
        flipped[bit // 8] ^= 1 << bit % 8
    try:
        header = block_header.decode(bytes(flipped))
    except MalformedBytes:
        return
    assert block_header.encode(header) == flipped


def test_fitness_ranks_by_length_then_element_by_element() -> None:
    def rank(*elements: str) -> Fitness:
        return Fitness(tuple(bytes.fromhex(element) for element in elements))

    ascending = [
        rank(),
        rank("00"),
        rank("01"),
        rank("0000"),
        rank("", "00"),
        rank("00", ""),
        Fitness.tenderbake(level=7, round=1, predecessor_round=5),
        Fitness.tenderbake(level=7, round=1, predecessor_round=1),
        Fitness.tenderbake(level=7, round=2, predecessor_round=1),
        Fitness.tenderbake(level=7, round=2, predecessor_round=1, locked_round=0),
        Fitness.tenderbake(level=7, round=2, predecessor_round=1, locked_round=1),
        Fitness.tenderbake(level=8, round=0, predecessor_round=2),
    ]
    for (i, lower), (j, higher) in itertools.product(enumerate(ascending), repeat=2):
        assert (lower < higher) == (i < j)


def test_fitness_tells_level_and_rounds() -> None:
    fitness = Fitness.tenderbake(level=7, round=3, predecessor_round=2, locked_round=1)
    assert fitness.is_tenderbake
    assert (fitness.level, fitness.round, fitness.predecessor_round, fitness.locked_round) == (
        7,
        3,
        2,
        1,
    )


@pytest.mark.parametrize(
    "fitness",
    [
        Fitness.tenderbake(level=7, round=1, predecessor_round=0, locked_round=1),
        Fitness((b"\1", bytes(4), b"", b"\xff" * 4, bytes(4))),
        Fitness((b"\2", bytes(3), b"", b"\xff" * 4, bytes(4))),
        Fitness((b"\2", bytes(4), b"", bytes(4), bytes(4))),
        Fitness((b"\2", bytes(4), bytes(1), b"\xff" * 4, bytes(4))),
        Fitness((b"\2", bytes(4), b"", b"\xff" * 4, b"\xff" * 4)),
        Fitness((b"\2", bytes(4), b"", b"\xff" * 4)),
    ],
)
def test_a_fitness_that_tenderbake_does_not_write_has_no_round(fitness: Fitness) -> None:
    assert not fitness.is_tenderbake
    with pytest.raises(MalformedBytes):
        _ = fitness.round


@pytest.mark.parametrize(
    ("byte", "liquidity_baking", "adaptive_issuance"),
    [(0x00, "on", "on"), (0x01, "off", "on"), (0x02, "pass", "on"), (0x0A, "pass", "pass"),
     (0x04, "on", "off"), (0xFF, "off", "on")],
)  # fmt: skip
def test_per_block_votes_have_two_bits_each(
    byte: int, liquidity_baking: str, adaptive_issuance: str
) -> None:
    assert block_header.votes_of(byte) == (liquidity_baking, adaptive_issuance)
