"""Base58check: known texts, and everything that is not one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.base58 import Prefix
from signers.formats.hashes import blake2b_20
from signers.formats.networks import MAVRYK, TEZOS

ALL_PREFIXES = [value for value in vars(base58).values() if isinstance(value, Prefix)]

# Octez and Mavryk src/lib_crypto/test/key_encoding_vectors.ml, one row per curve.
KEYS = [
    (
        "edpkufnz668CdgnVC4X5KRvJoXCMgicr29Tjmr5vxGzvMdipwkTZmM",
        "tz1SodoUsWVe1Yey9eMFbqRUtNpBWfir5NRr",
        "mv1FB775BsnzapSCHxv6qf7W3PgA54G32vX1",
    ),
    (
        "sppk7aFpmJLm3ZxMd3F4osvGBq77R1NeSpiJVnof3Wiv4mt84EBE9aX",
        "tz2SSuN7FRcAurZPSAQS1swNWE8xxf71MTjt",
        "mv2e9yeos5chx1A3iZzhb27Ww2dSmzFE85QB",
    ),
    (
        "p2pk66Y3178eHvgWFA4CDsgGPhbkWtwrYCVUKJnsAi41eGP7MbHKv24",
        "tz3ZxowXGSjiVq227GQcwKdz87rKhq62rY4t",
        "mv3NLHF7ap3556oFFayUB9L1H8iJGDYvcm24",
    ),
    (
        "BLpk1ur5XXicWYMMzCVZZWyLZhybtyX8Zot2uCzDCZW8KcC5BdZiLVXRZvZzi4GuZYL9SarUvKpE",
        "tz4TFJdv9Jd44FtBMAxi3KQT7AtazhVyaPa6",
        "mv4exNvckxdb6QUqdaYycTabXyP4p2mNoios",
    ),
]
PUBLIC_KEYS = [
    base58.ED25519_PUBLIC_KEY,
    base58.SECP256K1_PUBLIC_KEY,
    base58.P256_PUBLIC_KEY,
    base58.BLS_PUBLIC_KEY,
]


@pytest.mark.parametrize(("public_key", "tezos", "mavryk"), KEYS)
def test_a_key_hash_is_named_by_its_network_and_curve(
    public_key: str, tezos: str, mavryk: str
) -> None:
    kind, raw = base58.read(PUBLIC_KEYS, public_key)
    curve = PUBLIC_KEYS.index(kind)
    assert base58.encode(TEZOS.key_hash_prefixes[curve], blake2b_20(raw)) == tezos
    assert base58.encode(MAVRYK.key_hash_prefixes[curve], blake2b_20(raw)) == mavryk
    assert base58.encode(kind, raw) == public_key


def test_the_chain_id_of_mainnet_reads() -> None:
    assert base58.decode(base58.CHAIN_ID, "NetXdQprcVkpaWU") == bytes.fromhex("7a06a770")


@pytest.mark.parametrize("prefix", ALL_PREFIXES, ids=lambda prefix: prefix.name)
def test_every_kind_reads_back_and_begins_alike_for_all_payloads(prefix: Prefix) -> None:
    texts = [base58.encode(prefix, bytes([byte]) * prefix.payload_bytes) for byte in (0, 90, 255)]
    for byte, text in zip((0, 90, 255), texts, strict=True):
        assert base58.read(ALL_PREFIXES, text) == (prefix, bytes([byte]) * prefix.payload_bytes)
    assert len({len(text) for text in texts}) == 1


@given(st.sampled_from(ALL_PREFIXES), st.data())
def test_one_changed_letter_is_noticed(prefix: Prefix, data: st.DataObject) -> None:
    if prefix.payload_bytes > 100:
        prefix = base58.BLOCK_HASH
    text = base58.encode(
        prefix, data.draw(st.binary(min_size=prefix.payload_bytes, max_size=prefix.payload_bytes))
    )
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(
        st.sampled_from(sorted(set("123456789ABCDEFGHJKLMNPQRSTUVWXYZ") - {text[at]}))
    )
    with pytest.raises(MalformedBytes):
        base58.decode(ALL_PREFIXES, text[:at] + other + text[at + 1 :])


@given(st.text(max_size=200))
def test_any_text_gives_a_payload_or_malformed(text: str) -> None:
    try:
        kind, payload = base58.read(ALL_PREFIXES, text)
    except MalformedBytes:
        return
    assert base58.encode(kind, payload) == text


def test_a_text_of_another_kind_is_refused() -> None:
    block = base58.encode(base58.BLOCK_HASH, bytes(32))
    with pytest.raises(MalformedBytes, match=r"^this text is not an operation hash$"):
        base58.decode(base58.OPERATION_HASH, block)


def test_a_text_too_long_is_refused_unread() -> None:
    with pytest.raises(MalformedBytes, match="longer than"):
        base58.decode(base58.BLOCK_HASH, "z" * 1_000_000)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (TEZOS.key_hash_prefixes + MAVRYK.key_hash_prefixes, "a public key hash"),
        ((*TEZOS.key_hash_prefixes, base58.CONTRACT), "a public key hash or contract"),
        ((base58.ED25519_SEED, base58.ED25519_LONG_SECRET, base58.P256_SECRET), "a secret key"),
        ((base58.ENCRYPTED_BLS, base58.ENCRYPTED_ED25519), "an encrypted secret key"),
        ((base58.ED25519_SEED,), "an Ed25519 secret key"),
        ((base58.MLDSA_PUBLIC_KEY,), "an ML-DSA public key"),
        ((base58.P256_SIGNATURE, base58.GENERIC_SIGNATURE), "a signature"),
    ],
)
def test_what_was_expected_is_named_once(kinds: tuple[Prefix, ...], expected: str) -> None:
    block = base58.encode(base58.BLOCK_HASH, bytes(32))
    with pytest.raises(MalformedBytes) as caught:
        base58.read(kinds, block)
    assert str(caught.value) == f"this text is not {expected}"


def test_a_payload_of_the_wrong_length_is_not_written() -> None:
    with pytest.raises(MalformedBytes):
        base58.encode(base58.BLOCK_HASH, bytes(31))


@pytest.mark.parametrize("text", ["mainnet", "NetX0", "NetXdQprcVkpaWV"])
def test_a_text_that_is_nothing_is_told_as_what_was_expected(text: str) -> None:
    with pytest.raises(MalformedBytes, match=r"is not a chain id: .*(checksum|alphabet)"):
        base58.decode(base58.CHAIN_ID, text)
