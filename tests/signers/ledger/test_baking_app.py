"""The emulated app against what the real one says.

Keys, commands and refusals: ledger-app-tezos-baking 2.5.1 ``test/`` (seed of 24 times "zebra", path
44'/1729'/0'/0'). Signatures: computed from its keys.
"""

from __future__ import annotations

import pytest

from signers.formats.hashes import blake2b_20
from signers.formats.signable import Kind
from signers.keyring.curve import Curve
from signers.ledger.apdu import (
    HARDENED,
    Derivation,
    Instruction,
    command,
    encode_path,
    full_path,
    read_public_key,
    read_signature,
    setup_command,
    sign_commands,
)
from signers.ledger_emulator.baking_app import App, BakingApp, Finger
from signers.ledger_emulator.derivation import NotDerivable, derive, seed_of
from signers.ledger_emulator.device_marks import MarkOfChain
from tests.signers.ledger.conftest import ZEBRAS
from tests.signers.ledger.test_apdu import ED, P256, SECP, VOTE

PATH = full_path((HARDENED, HARDENED))
DIGEST = "ce3dfda30808ce7fc1581d057d820f20ebd6552b52bd86021ee222cf673e9f14"
ANSWERS = {
    Derivation.ED25519: (
        "7e185a5b7f2a94514f684d8ff92cdc616026baf3fb46acd9533bad0efdc65f57"
        "a568b2cd2fb65ed9af5d7dca469384e5ecfa7eadec2c9365a79ef80de52a0e00"
    ),
    Derivation.SECP256K1: (
        "60d3201d7b2975b79358bdb968470f5d0d0b3d2f73eba28f6b2c6e36de45c3ce"
        "423c329186e1d291e64dbbefaccec065056d011aa715441af4bd9fb8fb728aa1"
    ),
    Derivation.P256: (
        "23b38b168e62f3045da1c458d102b121577c59dc368d7c7b5b5686aea550b49f"
        "217bb0c5c77e996afad76bdff7500345e93435de036784f1a31e9376d2704ab0"
    ),
}


class Cable:
    """Commands to an app that has the key of the path set up, unless said otherwise."""

    def __init__(self, derivation: Derivation = Derivation.ED25519, *, is_set_up: bool = True):
        self.app = BakingApp(ZEBRAS)
        self.derivation = derivation
        if is_set_up:
            self.asks(setup_command(derivation, PATH, bytes(4), 0, 0))

    def asks(self, apdu: bytes) -> tuple[bytes, str]:
        answer = self.app.exchange(apdu)
        return answer[:-2], answer[-2:].hex()

    def signs(self, message: bytes, *, with_hash: bool = True) -> tuple[bytes, str]:
        choose, data = sign_commands(self.derivation, PATH, message, with_hash=with_hash)
        assert self.asks(choose) == (b"", "9000")
        return self.asks(data)


def vote(level: int, round: int, kind: str = "13", *, chain: bytes = bytes(4)) -> bytes:
    tag = {"12": "14", "13": "15"}[kind]
    return (
        bytes.fromhex(kind) + chain + bytes(32) + bytes.fromhex(tag) + bytes(2)
        + level.to_bytes(4) + round.to_bytes(4) + bytes(32)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("derivation", "answer"),
    [(Derivation.ED25519, ED), (Derivation.SECP256K1, SECP), (Derivation.P256, P256)],
)
def test_keys_are_those_of_the_apps_tests(derivation: Derivation, answer: str) -> None:
    get = command(Instruction.GET_PUBLIC_KEY, 0, derivation, encode_path(PATH))
    assert Cable(is_set_up=False).asks(get) == (bytes.fromhex(answer), "9000")


@pytest.mark.parametrize(
    ("curve", "secret"),
    [
        (Curve.ED25519, "edsk2tUyhVvGj9B1S956ZzmaU4bC9J7t8xVBH52fkAoZL25MHEwacd"),
        (Curve.SECP256K1, "spsk2Pfx9chqXVbz2tW7ze4gGU4RfaiK3nSva77bp69zHhFho2zTze"),
        (Curve.P256, "p2sk2zPCmKo6zTSjPbDHnLiHtPAqVRFrExN3oTvKGbu3C99Jyeyura"),
    ],
)
def test_secrets_are_derived_as_the_apps_tests_have_them(curve: Curve, secret: str) -> None:
    assert derive(seed_of(ZEBRAS), curve, PATH).secret_text() == secret


def test_an_ed25519_path_is_hardened() -> None:
    with pytest.raises(NotDerivable):
        derive(seed_of(ZEBRAS), Curve.ED25519, (*PATH, 1))
    assert derive(seed_of(ZEBRAS), Curve.P256, (*PATH, 1)).public_key.curve is Curve.P256


@pytest.mark.parametrize("derivation", ANSWERS)
def test_a_preattestation_is_signed_as_the_real_app_does(derivation: Derivation) -> None:
    cable = Cable(derivation)
    answer, status = cable.signs(VOTE)
    assert status == "9000"
    assert answer[:32].hex() == DIGEST
    assert read_signature(answer[32:], derivation).hex() == ANSWERS[derivation]
    assert cable.asks(command(Instruction.QUERY_MAIN_WATERMARK)) == (
        bytes.fromhex("0000000100000002"), "9000",
    )  # fmt: skip
    assert cable.signs(VOTE) == (b"", "6a80"), "the same again is refused"


def test_without_the_hash_command_the_signature_comes_alone() -> None:
    answer, _ = Cable().signs(VOTE, with_hash=False)
    assert answer.hex() == ANSWERS[Derivation.ED25519]


def test_a_key_that_is_not_set_up_signs_no_vote() -> None:
    assert Cable(is_set_up=False).signs(VOTE) == (b"", "6982")


# Main level 1 at the start, then two messages; levels are counted from there.
@pytest.mark.parametrize(
    ("first", "second", "ok"),
    [
        (("13", 0, 0), ("12", 0, 1), True),
        (("13", 1, 0), ("12", 0, 1), False),
        (("12", 1, 1), ("13", 1, 1), True),
        (("12", 1, 1), ("12", 1, 1), False),
        (("13", 1, 1), ("12", 1, 1), False),
        (("13", 1, 1), ("13", 1, 1), False),
    ],
)
def test_the_apps_own_pairs_of_duties(
    first: tuple[str, int, int], second: tuple[str, int, int], ok: bool
) -> None:
    cable = Cable()
    cable.asks(setup_command(Derivation.ED25519, PATH, bytes(4), 1, 0))
    statuses = [cable.signs(vote(1 + lvl, rnd, kind))[1] for kind, lvl, rnd in (first, second)]
    assert statuses == ["9000", "9000" if ok else "6a80"]


def test_blocks_and_votes_of_one_place() -> None:
    mark = MarkOfChain(level=5, round=1)
    assert not mark.permits(Kind.BLOCK, 5, 1)
    assert mark.permits(Kind.BLOCK, 5, 2)
    mark.raise_to(Kind.BLOCK, 5, 2)
    for kind in (Kind.PREATTESTATION, Kind.ATTESTATION):
        assert mark.permits(kind, 5, 2)
        mark.raise_to(kind, 5, 2)
        assert not mark.permits(kind, 5, 2)
        assert not mark.permits(Kind.BLOCK, 5, 2)


def test_other_chains_share_the_test_mark() -> None:
    cable, main = Cable(), bytes.fromhex("7a06a770")
    cable.asks(setup_command(Derivation.ED25519, PATH, main, 10, 20))
    assert cable.signs(vote(11, 0, chain=main))[1] == "9000"
    assert cable.signs(vote(11, 0, chain=b"test"))[1] == "6a80"
    assert cable.signs(vote(21, 0, chain=b"test"))[1] == "9000"
    marks, _ = cable.asks(command(Instruction.QUERY_ALL_WATERMARKS))
    assert marks == bytes.fromhex("0000000b00000000" + "0000001500000000" + "7a06a770")


@pytest.mark.parametrize(
    ("apdu", "status"),
    [
        ("8002", "6c00"),
        ("800200000311", "6c00"),
        ("7000000000", "6e00"),
        ("8005000000", "6d00"),
        ("8002010011048000002c800006c18000000080000000", "6b00"),
        ("8002000911048000002c800006c18000000080000000", "6b00"),
        ("800200000100", "6a80"),
        ("80020000058000002c80", "6a80"),
        ("8000000001ff", "6a80"),
        ("80020000060180000000ff", "6c00"),
        ("8006000004ffffffff", "6a80"),
        ("8002000011048000002c800007b18000000080000000", "9001"),
        ("800f810000", "917e"),
    ],
)
def test_what_is_wrong_is_said_as_the_real_app_does(apdu: str, status: str) -> None:
    assert Cable(is_set_up=False).asks(bytes.fromhex(apdu)) == (b"", status)


def test_a_message_is_one_packet() -> None:
    cable = Cable()
    choose, data = sign_commands(Derivation.ED25519, PATH, VOTE, with_hash=True)
    cable.asks(choose)
    assert cable.asks(data[:2] + b"\1" + data[3:])[1] == "9405"
    assert cable.asks(data)[1] == "9405"
    assert cable.signs(VOTE)[1] == "9000"


def test_the_device_around_the_app() -> None:
    cable, version = Cable(), command(Instruction.VERSION)
    name = bytes.fromhex("b001000000")
    assert cable.asks(version) == (bytes([1, 2, 5, 1]), "9000")
    assert b"Tezos Baking" in cable.asks(name)[0]
    cable.app.app = App.WALLET
    assert cable.asks(version) == (bytes([0, 2, 5, 1]), "9000")
    cable.app.app = App.DASHBOARD
    assert cable.asks(version) == (b"", "6e00")
    assert cable.asks(name)[0].startswith(bytes.fromhex("0105424f4c4f53"))
    cable.app.is_locked = True
    assert cable.asks(name) == (b"", "5515")


def test_the_finger_decides() -> None:
    cable = Cable(is_set_up=False)
    cable.app.finger = Finger.REJECTS
    assert cable.asks(setup_command(Derivation.ED25519, PATH, bytes(4), 0, 0)) == (b"", "6985")
    assert cable.asks(command(Instruction.QUERY_AUTH_KEY_WITH_CURVE)) == (bytes(2), "9000")
    cable.app.finger = Finger.ACCEPTS
    assert cable.asks(setup_command(Derivation.ED25519, PATH, bytes(4), 0, 0))[1] == "9000"
    authorised = bytes.fromhex("048000002c800006c18000000080000000")
    assert cable.asks(command(Instruction.QUERY_AUTH_KEY)) == (authorised, "9000")
    assert cable.asks(command(Instruction.DEAUTHORIZE)) == (b"", "9000")
    assert cable.asks(command(Instruction.QUERY_AUTH_KEY)) == (b"\0", "9000")


def test_hmac_is_upstreams() -> None:
    data = encode_path(PATH) + bytes.fromhex("0123456789abcdef")
    assert Cable().asks(command(Instruction.HMAC, data=data))[0].hex() == (
        "dde436940ab1602029a49dc77e6263b633fa3567c4d8479820d4f77072369ac1"
    )


def operation(*contents: bytes) -> bytes:
    return b"\3" + bytes(32) + b"".join(contents)


def test_of_operations_a_self_delegation_alone_is_signed() -> None:
    raw = read_public_key(bytes.fromhex(ED), Derivation.ED25519)
    own, other, fees = b"\0" + blake2b_20(raw), bytes(21), bytes([1, 1, 1, 1])
    reveal = b"\x6b" + own + fees + b"\0" + raw + b"\0"
    to_self = b"\x6e" + own + fees + b"\xff" + own
    cable = Cable()
    assert cable.signs(operation(reveal, to_self))[1] == "9000"
    assert cable.signs(operation(reveal))[1] == "9000"
    assert cable.signs(operation(b"\x6e" + own + fees + b"\xff" + other))[1] == "6982"
    assert cable.signs(operation(b"\x6e" + own + fees + b"\0"))[1] == "6982"
    assert cable.signs(operation(b"\x6e" + other + fees + b"\xff" + other))[1] == "9405"
    transaction = b"\x6c" + own + fees + b"\1" + b"\0" + own + b"\0"
    assert cable.signs(operation(transaction))[1] == "9405"
    cable.app.finger = Finger.REJECTS
    assert cable.signs(operation(reveal))[1] == "9000", "a reveal is not asked for"
    assert cable.signs(operation(to_self))[1] == "6985"
    assert cable.signs(b"\5\1\2")[1] == "9405"
