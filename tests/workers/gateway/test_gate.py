"""The gate's rules, as transcripts: a question in, a request for the pool, its end, the answer."""

from __future__ import annotations

import pytest

from broker.client_session import Refused
from broker.messages import Ack, Event, Request
from signers.backends.socket_protocol import (
    AskAuthorizedKeys,
    AskKnownKeys,
    AskNonce,
    AskNonceHash,
    AskPossessionProof,
    AskPublicKey,
    AskSupportsNonces,
    Sign,
    authentication_bytes,
)
from signers.formats import base58
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.tagged_keys import hash_text, tagged_hash
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey
from workers.gateway.answers import (
    AuthorizedKeys,
    Denial,
    KnownKeys,
    Nonce,
    NonceSupport,
    PossessionProof,
    PublicKeyText,
    Signature,
)
from workers.gateway.gate import ATTEMPTS_MAX, LEARNT_MAX, Ask, Gate, GateOptions
from workers.gateway.key_listing import KeyListing

SALT = bytes(range(16))
KEY, ALICE, BOB = (SecretKey(bytes([n]) * 32) for n in range(3))
KEY_HASH = KEY.public_key.hash(TEZOS)
TAGGED = tagged_hash(KEY_HASH)
TZ4 = "tz4TFJdv9Jd44FtBMAxi3KQT7AtazhVyaPa6"
LISTING = KeyListing({KEY_HASH: KEY.public_key.text(), TZ4: None}, TEZOS, (ALICE.public_key,))
ATT = bytes.fromhex(
    "13ed9d217cfc81eee810737b04018acef4db74d056b79edc43e6be46cae7e4c217c22a82f01500120000518d00000000"
    "03e7ea1f67dbb0bb6cfa372cb092cd9cf786b4f1b5e5139da95b915fb95e698d"
)
ATT_BLS = bytes.fromhex(
    "13ed9d217cfc81eee810737b04018acef4db74d056b79edc43e6be46cae7e4c217c22a82f0290000518d0000000003e7"
    "ea1f67dbb0bb6cfa372cb092cd9cf786b4f1b5e5139da95b915fb95e698d"
)
OTHER = ATT[:-1] + b"\x00"


def gate(**options: bool) -> Gate:
    return Gate(GateOptions(**options), SALT)


def asked(found: object) -> Ask:
    assert isinstance(found, Ask), found
    return found


def denied(found: object) -> tuple[int, str]:
    assert isinstance(found, Denial), found
    return found.status, found.code


def ends(ask: Ask, event: str, code: str = "", body: bytes = b"") -> Event:
    assert ask.request.delegate is not None
    return Event(ask.request.id, ask.request.delegate, event, body, code)


def by(key: SecretKey, data: bytes, tagged: bytes = TAGGED) -> Sign:
    """A request to sign that a client has authenticated."""
    message = authentication_bytes(tagged, data)
    signature = key.sign(message, blake2b_32(message))
    return Sign(tagged, data, signature)


def test_a_request_to_sign_becomes_one_of_the_pool_with_a_deadline() -> None:
    ask = asked(Gate(GateOptions(ttl_ms=1234), SALT).admit(Sign(TAGGED, ATT), LISTING))
    assert ask.request == Request(ask.request.id, "sign", ATT, KEY_HASH, ttl_ms=1234)
    assert ask.signable is not None
    assert (ask.signable.level, ask.signable.round) == (20877, 0)


def test_a_repeat_has_the_same_id_and_anything_else_another() -> None:
    g = gate()
    ids = [
        asked(g.admit(question, listing)).request.id
        for question, listing in [
            (Sign(TAGGED, ATT), LISTING),
            (Sign(TAGGED, OTHER), LISTING),
            (Sign(tagged_hash(TZ4), ATT_BLS), LISTING),
        ]
    ]
    assert len(set(ids)) == 3
    assert asked(g.admit(Sign(TAGGED, ATT, bytes(64), 2), LISTING)).request.id == ids[0]
    other_process = Gate(GateOptions(), bytes(16))
    assert asked(other_process.admit(Sign(TAGGED, ATT), LISTING)).request.id != ids[0]


def test_a_signature_is_passed_on_and_its_repeat_is_the_same_request() -> None:
    g = gate()
    ask = asked(g.admit(Sign(TAGGED, ATT), LISTING))
    answer = g.conclude(ask, ends(ask, "signed", body=b"s" * 64))
    assert answer == Signature(b"s" * 64, Curve.ED25519)
    assert asked(g.admit(Sign(TAGGED, ATT), LISTING)).request.id == ask.request.id


@pytest.mark.parametrize(
    ("event", "code", "status"),
    [
        ("refused", "watermark_conflict", 409),
        ("refused", "watermark_below", 409),
        ("refused", "signature_lost", 409),
        ("refused", "device_watermark", 409),
        ("refused", "no_mark", 403),
        ("refused", "sign_until", 403),
        ("refused", "key_disabled", 403),
        ("refused", "wrong_chain", 403),
        ("refused", "policy", 403),
        ("refused", "malformed", 400),
        ("refused", "unknown_delegate", 404),
        ("failed", "store_unavailable", 503),
        ("failed", "signer_timeout", 503),
        ("failed", "poison", 500),
        ("failed", "signer_wrong_signature", 500),
        ("failed", "store_replaced", 500),
        ("expired", "", 503),
        ("cancelled", "", 503),
        ("something_new", "", 500),
    ],
)
def test_any_other_end_is_denied_and_a_repeat_is_a_fresh_attempt(
    event: str, code: str, status: int
) -> None:
    g = gate()
    first = asked(g.admit(Sign(TAGGED, ATT), LISTING))
    answer = g.conclude(first, ends(first, event, code))
    assert isinstance(answer, Denial)
    assert answer.status == status
    assert answer.code
    second = asked(g.admit(Sign(TAGGED, ATT), LISTING))
    assert second.request.id != first.request.id
    # Who waited for the same end hears it too; that is no second failure.
    g.conclude(first, ends(first, event, code))
    assert asked(g.admit(Sign(TAGGED, ATT), LISTING)).request.id == second.request.id


@pytest.mark.parametrize(
    ("code", "status"),
    [("busy", 503), ("shutting_down", 503), ("no_answer", 503), ("outcome_unknown", 503),
     ("unknown_delegate", 404), ("malformed", 400), ("id_reused", 500), ("unknown_kind", 500)],
)  # fmt: skip
def test_what_the_broker_does_not_take_is_denied(code: str, status: int) -> None:
    g = gate()
    ask = asked(g.admit(Sign(TAGGED, ATT), LISTING))
    answer = g.conclude(ask, Refused(Ack(ask.request.id, "refused", code, "because")))
    assert denied(answer) == (status, code)


def test_the_number_of_questions_that_are_remembered_is_bounded() -> None:
    g = gate()
    first = asked(g.admit(Sign(TAGGED, ATT), LISTING))
    g.conclude(first, ends(first, "expired"))
    for n in range(ATTEMPTS_MAX):
        ask = asked(g.admit(Sign(TAGGED, ATT[:-4] + n.to_bytes(4)), LISTING))
        g.conclude(ask, ends(ask, "expired"))
    assert asked(g.admit(Sign(TAGGED, ATT), LISTING)).attempt == 0
    assert asked(g.admit(Sign(TAGGED, ATT[:-4] + b"\0\0\1\0"), LISTING)).attempt == 1


def test_keys_that_are_not_here_are_not_found() -> None:
    stranger = tagged_hash(BOB.public_key.hash(TEZOS))
    assert denied(gate().admit(Sign(stranger, ATT), LISTING)) == (404, "unknown_key")
    assert denied(gate().admit(AskPublicKey(stranger), LISTING)) == (404, "unknown_key")
    assert gate().admit(AskPublicKey(TAGGED), LISTING) == PublicKeyText(KEY.public_key.text())


def test_bytes_that_are_not_understood_are_never_asked_for() -> None:
    for data in (b"", b"\x13", ATT[:-1], ATT + b"\0", b"\x01" + ATT[1:], b"\x05\x01"):
        assert denied(gate().admit(Sign(TAGGED, data), LISTING)) == (400, "malformed")
    no_such_curve_there = KeyListing({}, MAVRYK)
    mldsa = bytes([4]) + bytes(20)
    assert denied(gate().admit(AskPublicKey(mldsa), no_such_curve_there)) == (400, "malformed")


@pytest.mark.parametrize(("network", "versions"), [(TEZOS, {None, 2, 3}), (MAVRYK, {None, 1})])
def test_a_bls_key_signs_by_the_scheme_that_its_client_checks_by(
    network: object, versions: set[int | None]
) -> None:
    key_hash = {TEZOS.name: TZ4, MAVRYK.name: "mv4exNvckxdb6QUqdaYycTabXyP4p2mNoios"}
    listing = KeyListing({key_hash[network.name]: None}, network)  # type: ignore[attr-defined, arg-type]
    for version in (None, 0, 1, 2, 3):
        found = gate().admit(Sign(tagged_hash(TZ4), ATT_BLS, None, version), listing)
        assert isinstance(found, Ask) == (version in versions), version


# -- authentication -------------------------------------------------------------------------------


def test_authorized_keys_are_named_only_where_they_are_needed() -> None:
    assert gate().admit(AskAuthorizedKeys(), LISTING) == AuthorizedKeys(None)
    required = gate(require_authentication=True)
    alice = ALICE.public_key.hash(TEZOS)
    assert required.admit(AskAuthorizedKeys(), LISTING) == AuthorizedKeys((alice,))


def test_who_is_not_authorized_gets_nothing() -> None:
    required = gate(require_authentication=True)
    for question in (
        Sign(TAGGED, ATT),
        by(BOB, ATT),
        Sign(TAGGED, OTHER, by(ALICE, ATT).authentication),  # for other bytes
        Sign(TAGGED, ATT, by(ALICE, ATT, tagged_hash(TZ4)).authentication),  # for another key
        Sign(TAGGED, ATT, ALICE.sign(ATT, blake2b_32(ATT))),  # of the bytes themselves
        Sign(TAGGED, ATT, bytes(96)),
    ):
        assert denied(required.admit(question, LISTING)) == (403, "not_authenticated")
    asked(required.admit(by(ALICE, ATT), LISTING))
    nobody = KeyListing(LISTING.public_keys, TEZOS, ())
    assert denied(required.admit(by(ALICE, ATT), nobody)) == (403, "not_authenticated")


def test_clients_do_not_share_what_each_was_allowed() -> None:
    required = gate(require_authentication=True)
    both = KeyListing(LISTING.public_keys, TEZOS, (ALICE.public_key, BOB.public_key))
    ids = {asked(required.admit(by(each, ATT), both)).request.id for each in (ALICE, BOB)}
    assert len(ids) == 2


# -- what else there is to ask --------------------------------------------------------------------


def test_known_keys_are_listed_only_where_that_is_allowed() -> None:
    assert denied(gate().admit(AskKnownKeys(), LISTING)) == (403, "not_allowed")
    found = gate(list_known_keys=True).admit(AskKnownKeys(), LISTING)
    assert found == KnownKeys((KEY_HASH, TZ4))


def test_a_public_key_that_no_file_lists_is_learnt_from_its_owner_once() -> None:
    g = gate()
    listing = KeyListing({KEY_HASH: None}, TEZOS)
    ask = asked(g.admit(AskPublicKey(TAGGED), listing))
    assert (ask.request.kind, ask.request.delegate) == ("tell_public_key", KEY_HASH)
    away = g.conclude(ask, ends(ask, "failed", "signer_unavailable"))
    assert denied(away) == (503, "signer_unavailable")
    again = asked(g.admit(AskPublicKey(TAGGED), listing))
    assert again.request.id != ask.request.id
    told = g.conclude(again, ends(again, "public_key_told", body=KEY.public_key.tagged()))
    assert told == PublicKeyText(KEY.public_key.text())
    assert g.admit(AskPublicKey(TAGGED), listing) == told


def test_the_number_of_public_keys_that_are_learnt_is_bounded() -> None:
    g = gate()
    hashes = [hash_text(b"\0" + n.to_bytes(20), TEZOS) for n in range(LEARNT_MAX + 1)]
    listing = KeyListing(dict.fromkeys(hashes), TEZOS)
    for key_hash in hashes:
        ask = asked(g.admit(AskPublicKey(tagged_hash(key_hash)), listing))
        g.conclude(ask, ends(ask, "public_key_told", body=KEY.public_key.tagged()))
    asked(g.admit(AskPublicKey(tagged_hash(hashes[0])), listing))
    assert isinstance(g.admit(AskPublicKey(tagged_hash(hashes[1])), listing), PublicKeyText)


def test_a_nonce_is_derived_by_the_pool_and_its_hash_is_of_octez_kind() -> None:
    """Derived with key #1 of Octez' vectors from level 20878 (``baking_nonces.ml``)."""
    nonce = bytes.fromhex("b3ec3e2c6bc491f12a0d412dc1835d7ffa03c7f837939a5e44d00760163e05dd")
    g, level = gate(), (20878).to_bytes(4)
    asks = [asked(g.admit(kind(TAGGED, level), LISTING)) for kind in (AskNonce, AskNonceHash)]
    assert {(a.request.kind, a.request.payload) for a in asks} == {("derive_nonce", level)}
    assert len({a.request.id for a in asks}) == 2, "they do not wait for one answer"
    answers = [g.conclude(ask, ends(ask, "nonce_derived", body=nonce)) for ask in asks]
    assert answers[0] == Nonce(nonce)
    assert isinstance(answers[1], Nonce)
    shown = base58.encode(base58.NONCE_HASH, answers[1].raw)
    assert shown == "nceVLghQFJDR2oiJpFzcPhfsnavqLiuRuUBefgBGsnZc2LjQaxNgP"
    refused = asked(g.admit(AskNonce(TAGGED, bytes(4)), LISTING))
    assert denied(g.conclude(refused, ends(refused, "refused", "policy"))) == (403, "policy")


def test_nonces_are_supported_where_the_pool_derives_one() -> None:
    g, question = gate(), AskSupportsNonces(TAGGED)
    no = asked(g.admit(question, LISTING))
    assert (no.request.kind, no.request.payload) == ("derive_nonce", b"")
    assert g.conclude(no, ends(no, "refused", "policy")) == NonceSupport(False)
    unknown = asked(g.admit(question, LISTING))
    assert unknown.request.id != no.request.id, "the policy may be another by now"
    assert denied(g.conclude(unknown, ends(unknown, "failed", "no_password")))[0] == 500
    yes = asked(g.admit(question, LISTING))
    assert g.conclude(yes, ends(yes, "nonce_derived", body=bytes(32))) == NonceSupport(True)
    stranger = AskSupportsNonces(tagged_hash(BOB.public_key.hash(TEZOS)))
    assert denied(g.admit(stranger, LISTING)) == (404, "unknown_key")


def test_who_asks_for_a_nonce_authenticates_as_for_a_signature() -> None:
    required = gate(require_authentication=True)
    level = bytes(4)
    assert denied(required.admit(AskNonce(TAGGED, level), LISTING)) == (403, "not_authenticated")
    proof = by(ALICE, level).authentication
    ask = asked(required.admit(AskNonceHash(TAGGED, level, proof), LISTING))
    assert ask.client == ALICE.public_key.hash(TEZOS)


# -- proofs of possession -------------------------------------------------------------------------

BLS = tagged_hash(TZ4)


def test_possession_is_proven_only_where_that_is_allowed() -> None:
    question = AskPossessionProof(BLS)
    assert denied(gate().admit(question, LISTING)) == (403, "not_allowed")
    g = gate(prove_possession=True)
    ask = asked(g.admit(question, LISTING))
    assert (ask.request.kind, ask.request.delegate, ask.request.payload) == (
        "prove_possession", TZ4, b"",
    )  # fmt: skip
    other = asked(g.admit(AskPossessionProof(BLS, b"p" * 48), LISTING))
    assert other.request.payload == b"p" * 48
    assert other.request.id != ask.request.id
    end = ends(ask, "possession_proven", body=b"s" * 96)
    assert g.conclude(ask, end) == PossessionProof(b"s" * 96)
    assert denied(g.admit(AskPossessionProof(TAGGED), LISTING)) == (400, "malformed")
    stranger = AskPossessionProof(bytes([3]) + bytes(20))
    assert denied(g.admit(stranger, LISTING)) == (404, "unknown_key")


def test_who_asks_for_a_proof_authenticates_for_just_that() -> None:
    required = gate(require_authentication=True, prove_possession=True)
    over = b"p" * 48

    def by_alice(message: bytes) -> bytes:
        return ALICE.sign(message, blake2b_32(message))

    for authentication in (
        None,
        by_alice(b"\x04\x01" + BLS + over),  # for a request to sign
        by_alice(b"\x04\x04" + BLS),  # for the key's own public key
        by_alice(b"\x04\x04" + TAGGED + over),
    ):
        question = AskPossessionProof(BLS, over, authentication)
        assert denied(required.admit(question, LISTING)) == (403, "not_authenticated")
    right = AskPossessionProof(BLS, over, by_alice(b"\x04\x04" + BLS + over))
    asked(required.admit(right, LISTING))
