"""Requests to sign: what is read from them, and what is refused."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.formats.signable import Kind, Signable, read_signable
from signers.formats.vote import VoteTemplate

# Signatory pkg/signatory/request/request_test.go, chain id NetXxkAx4woPLyu.
CHAIN_ID = bytes.fromhex("ed9d217c")
PRE = bytes.fromhex(
    "12ed9d217c2f50673bab6b20dfb0a88ca93b4a0c72a34c807af5dffbece2cba3d2b509835f14006000000002"
    "000000041f1ebb39759cc957216f88fb4d005abc206fb00a53f8d57ac01be00c084cba97"
)
ATT = bytes.fromhex(
    "13ed9d217cfc81eee810737b04018acef4db74d056b79edc43e6be46cae7e4c217c22a82f01500120000518d"
    "0000000003e7ea1f67dbb0bb6cfa372cb092cd9cf786b4f1b5e5139da95b915fb95e698d"
)
BLK = bytes.fromhex(
    "11ed9d217c0000518e0118425847ac255b6d7c30ce8fec23b8eaf13b741de7d18509ac2ef83c741209630000"
    "000061947af504805682ea5d089837764b3efcc90b91db24294ff9ddb66019f332ccba17cc47410000002100"
    "00000102000000040000518e0000000000000004ffffffff0000000400000000eb1320a71e8bf8b0162a3ec3"
    "15461e9153a38b70d00d5dde2df85eb92748f8d068d776e356683a9e23c186ccfb72ddc6c9857bb170448797"
    "2922e7c89a7121f800000000a8e1dd3c000000000000"
)
PRE_BLS = PRE[:37] + b"\x28" + PRE[40:]
ATT_BLS = ATT[:37] + b"\x29" + ATT[40:]
ATT_DAL = ATT[:37] + b"\x17" + ATT[38:] + bytes.fromhex("8020")
# The body of an Atlas DAL attestation: bitset 5, level 20877, slot 18.
DAL = b"\x14" + ATT[1:37] + bytes.fromhex("16050000518d0012")


# A transaction of a real account (baking-bad/netezos, named after its operation hash
# onq4Qp8uVeCjRkkr57gfFknwo6gq11pAAWYBe2ht3maTfssgiXZ).
TRANSACTION = b"\x03" + bytes.fromhex(
    "28992fe2d63a072c9b5703d51909e37849d9b7f2173235c9ce9001fa42c6c9fb6c00fd7c49f062b70d844338"
    "3b2ae76e0dcb05fe811dcab001bbbb17e4d10d9c0580a4e803014e90545255120567ffe25263e50469eb69c4"
    "f6de0000"
)


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


@pytest.mark.parametrize(
    ("data", "kind", "level", "round_"),
    [
        (PRE, Kind.PREATTESTATION, 2, 4),
        (ATT, Kind.ATTESTATION, 20877, 0),
        (BLK, Kind.BLOCK, 20878, 0),
        (PRE_BLS, Kind.PREATTESTATION, 2, 4),
        (ATT_BLS, Kind.ATTESTATION, 20877, 0),
        (ATT_DAL, Kind.ATTESTATION, 20877, 0),
        (DAL, Kind.DAL_ATTESTATION, 20877, 0),
    ],
    ids=["preattestation", "attestation", "block", "pre bls", "att bls", "att dal", "dal"],
)
def test_a_request_tells_its_kind_level_and_round(
    data: bytes, kind: Kind, level: int, round_: int
) -> None:
    assert read_signable(data) == Signable(kind, CHAIN_ID, level, round_, digest(data))


def test_what_is_no_vote_is_generic() -> None:
    assert read_signable(TRANSACTION) == Signable(Kind.GENERIC, b"", 0, 0, digest(TRANSACTION))


def test_an_authentication_tells_what_another_signer_is_asked() -> None:
    """Octez ``signer_messages.ml`` (``to_sign``): what a client signs who asks for PRE."""
    data = bytes.fromhex("0401004e99eea7224c93d2f1e614bf86d74025b3e26a64") + PRE
    assert read_signable(data) == Signable(Kind.AUTHENTICATION, b"", 0, 0, digest(data))


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        ("0401004e99eea7224c93d2f1e614bf86d74025b3e26a64", b""),
        ("0401004e99eea7224c93d2f1e614bf86d74025b3e26a64", PRE[:-1]),
        ("0402004e99eea7224c93d2f1e614bf86d74025b3e26a64", PRE),
        ("0401054e99eea7224c93d2f1e614bf86d74025b3e26a64", PRE),
        ("0401004e99eea7224c93d2f1e614bf86d74025b3e26a64" * 2, PRE),
    ],
)
def test_an_authentication_of_what_cannot_be_read_is_refused(head: str, wanted: bytes) -> None:
    with pytest.raises(MalformedBytes):
        read_signable(bytes.fromhex(head) + wanted)


@pytest.mark.parametrize("data", [PRE, ATT, BLK, PRE_BLS, ATT_BLS, ATT_DAL, DAL])
def test_what_has_a_mark_of_its_own_is_not_signed_as_generic(data: bytes) -> None:
    for generic in (b"\x03" + data[1:], b"\x03" + data[5:]):
        with pytest.raises(MalformedBytes):
            read_signable(generic)


@pytest.mark.parametrize("tail", [b"\0", b"\x6c", bytes(64)])
def test_an_operation_to_sign_ends_exactly(tail: bytes) -> None:
    for data in (TRANSACTION[:-1], TRANSACTION + tail, TRANSACTION[:33], b"\x03"):
        with pytest.raises(MalformedBytes):
            read_signable(data)


def test_more_bytes_than_an_operation_has_are_not_read() -> None:
    with pytest.raises(MalformedBytes, match="more than"):
        read_signable(b"\x03" + bytes(100_000))


def test_the_digest_is_that_of_the_vendor() -> None:
    assert read_signable(PRE).digest.hex() == (
        "e74901b390076136d48508323d0d341a305c673b239646c232395928450a5907"
    )


@pytest.mark.parametrize("data", [PRE, ATT, BLK, PRE_BLS, ATT_BLS, ATT_DAL, DAL])
def test_a_byte_more_or_less_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        if data is ATT_DAL and length == 80:
            continue  # a whole vote, refused below for its tag
        with pytest.raises(MalformedBytes):
            read_signable(data[:length])
    for tail in (b"\0", b"\1", bytes(32), bytes(64), bytes(96)):
        with pytest.raises(MalformedBytes):
            read_signable(data + tail)


@pytest.mark.parametrize("data", [PRE, ATT, BLK, PRE_BLS, ATT_BLS, ATT_DAL, DAL])
@pytest.mark.parametrize("watermark", [0x00, 0x01, 0x02, 0x05, 0x11, 0x12, 0x13, 0x14, 0xFF])
def test_another_watermark_than_its_own_is_refused(data: bytes, watermark: int) -> None:
    if watermark == data[0]:
        return
    with pytest.raises(MalformedBytes):
        read_signable(bytes([watermark]) + data[1:])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (PRE[:40] + b"\x80" + PRE[41:], "negative level"),
        (PRE[:44] + b"\x80" + PRE[45:], "negative round"),
        (PRE_BLS[:38] + b"\x80" + PRE_BLS[39:], "negative level of a tz4 vote"),
        (ATT_DAL[:80], "an attestation with DAL that has none"),
        (ATT_DAL[:80] + b"\x80\x00", "a number that is not canonical"),
        (ATT_DAL[:80] + b"\x41", "a negative set of slots"),
        (ATT_DAL[:80] + b"\x80" * 2000 + b"\x01", "a number without end"),
        (BLK[:8] + b"\x8f" + BLK[9:], "a fitness of another level"),
        (BLK[:5] + b"\x80" + BLK[6:], "a block of a negative level"),
        (BLK + bytes(64), "a signed header"),
        (BLK[:-1] + b"\x03", "no per-block vote"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_signer_must_not_guess_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(MalformedBytes):
        read_signable(data)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_signable_or_malformed(data: bytes) -> None:
    try:
        signable = read_signable(data)
    except MalformedBytes:
        return
    assert signable.digest == digest(data)


@given(st.sampled_from([PRE, ATT, BLK, PRE_BLS, ATT_BLS, ATT_DAL, DAL, TRANSACTION]), st.data())
def test_a_flipped_bit_never_moves_the_signature_to_another_kind(
    data: bytes, draw: st.DataObject
) -> None:
    bit = draw.draw(st.integers(0, len(data) * 8 - 1))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        signable = read_signable(bytes(flipped))
    except MalformedBytes:
        return
    assert signable.kind == read_signable(data).kind
    assert signable.digest != digest(data)


TEMPLATE = VoteTemplate(Kind.ATTESTATION, CHAIN_ID, ATT[5:37], 20877, 0, ATT[48:])


def test_a_template_writes_the_bytes_that_are_signed() -> None:
    pre = VoteTemplate(Kind.PREATTESTATION, CHAIN_ID, PRE[5:37], 2, 4, PRE[48:])
    assert pre.signable(96) == PRE
    assert pre.bls_signable() == PRE_BLS
    assert TEMPLATE.signable(18) == ATT
    assert TEMPLATE.signable(18, dal=2048) == ATT_DAL
    assert TEMPLATE.bls_signable() == ATT_BLS


def test_a_signature_ends_the_operation() -> None:
    short, long = bytes(range(64)), bytes(range(96))
    assert TEMPLATE.operation(18, short) == ATT[5:] + short
    assert TEMPLATE.operation(18, long) == ATT[5:] + b"\xff\x03" + long
    assert TEMPLATE.operation(18, short, dal=2048) == ATT_DAL[5:] + short
    with pytest.raises(MalformedBytes):
        TEMPLATE.operation(18, short[:63])


@given(
    st.sampled_from([Kind.PREATTESTATION, Kind.ATTESTATION]),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**16 - 1),
    st.none() | st.integers(0, 2**300),
)
def test_what_a_template_writes_reads_back(
    kind: Kind, level: int, round_: int, slot: int, dal: int | None
) -> None:
    template = VoteTemplate(kind, CHAIN_ID, bytes(32), level, round_, bytes(32))
    for data in (
        template.signable(slot, dal if kind is Kind.ATTESTATION else None),
        template.bls_signable(),
    ):
        assert read_signable(data)[:4] == (kind, CHAIN_ID, level, round_)


@pytest.mark.parametrize("slot", [-1, 65536])
def test_a_slot_out_of_range_is_refused(slot: int) -> None:
    with pytest.raises(MalformedBytes):
        TEMPLATE.signable(slot)


@pytest.mark.parametrize(("level", "round_"), [(-1, 0), (2**31, 0), (0, -1), (0, 2**31)])
def test_a_level_or_round_out_of_range_is_refused(level: int, round_: int) -> None:
    with pytest.raises(MalformedBytes):
        VoteTemplate(Kind.ATTESTATION, CHAIN_ID, bytes(32), level, round_, bytes(32))


def test_a_preattestation_has_no_dal() -> None:
    with pytest.raises(MalformedBytes):
        VoteTemplate(Kind.PREATTESTATION, CHAIN_ID, bytes(32), 1, 0, bytes(32)).signable(0, dal=1)


@pytest.mark.parametrize("kind", [Kind.BLOCK, Kind.DAL_ATTESTATION, Kind.GENERIC])
def test_only_votes_have_a_template(kind: Kind) -> None:
    with pytest.raises(MalformedBytes):
        VoteTemplate(kind, CHAIN_ID, bytes(32), 1, 0, bytes(32))
