"""Calls and replies of the octez-signer protocol over HTTP, as clients send and know them.

The keys are the first of each curve in Octez' and Mavryk's ``key_encoding_vectors.ml``, the message
is that of Signatory's ``request_test.go`` (a preattestation).
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.backends.socket_protocol import (
    AskAuthorizedKeys,
    AskKnownKeys,
    AskPossessionProof,
    AskPublicKey,
    Sign,
)
from signers.backends.socket_protocol import Request as Question
from signers.formats import base58
from signers.formats.tagged_keys import tagged_hash
from signers.keyring.curve import Curve
from workers.gateway.answers import (
    AuthorizedKeys,
    Denial,
    KnownKeys,
    PossessionProof,
    PublicKeyText,
    Signature,
)
from workers.gateway.http_protocol import (
    BODY_BYTES_MAX,
    AskHealth,
    Call,
    Health,
    check_head,
    read_call,
    write_answer,
)

TZ1 = "tz1SodoUsWVe1Yey9eMFbqRUtNpBWfir5NRr"
MV1 = "mv1FB775BsnzapSCHxv6qf7W3PgA54G32vX1"
TZ4 = "tz4TFJdv9Jd44FtBMAxi3KQT7AtazhVyaPa6"
BLPK = "BLpk1ur5XXicWYMMzCVZZWyLZhybtyX8Zot2uCzDCZW8KcC5BdZiLVXRZvZzi4GuZYL9SarUvKpE"
PRE = (
    "12ed9d217c2f50673bab6b20dfb0a88ca93b4a0c72a34c807af5dffbece2cba3d2b509835f14006000000002000000"
    "041f1ebb39759cc957216f88fb4d005abc206fb00a53f8d57ac01be00c084cba97"
)
SIGNATURE = bytes.fromhex(
    "d53848de8dbf9ee77ddb41f179f6bb9760f10fe682b25345355f72750a5ac9e4"
    "18fd052f8f37905833e8e5ede2f035cced921aca3aaadfd09a8fdddf370deb0f"
)
EDSIG = (
    "edsigu1hgjBLcPsnpMMNzmcAiR2uUAQ1fAXHEoWJZjw8K9g3TuBLMGSYJuyWdrSW32ddcDHF5imnNPZ8dBWcJAmA2fYPyqgc"
    "4Ld"
)
NAMES = frozenset({"localhost", "signer.example"})
HEADERS = {"host": "127.0.0.1:6732", "content-type": "application/json"}


def call(method: str, target: str, **headers: str) -> Call:
    path, _, query = target.partition("?")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(method, path, query, HEADERS | named)


def asked(method: str, target: str, body: str = "") -> Question | AskHealth | Denial:
    """What a call is read as, its head included."""
    made = call(method, target)
    return check_head(made, NAMES) or read_call(made, body.encode())


def status_of(method: str, target: str, body: str = "", **headers: str) -> int:
    made = call(method, target, **headers)
    denial = check_head(made, NAMES) or read_call(made, body.encode())
    assert isinstance(denial, Denial), denial
    return denial.status


@pytest.mark.parametrize(
    ("method", "target", "body", "question"),
    [
        ("POST", f"/keys/{TZ1}", f'"{PRE}"', Sign(tagged_hash(TZ1), bytes.fromhex(PRE))),
        ("POST", f"/keys/{MV1}", f' "{PRE.upper()}"\n', Sign(tagged_hash(MV1), bytes.fromhex(PRE))),
        (
            "POST",
            f"/keys/{TZ4}?authentication={EDSIG}&version=3",
            f'"{PRE}"',
            Sign(tagged_hash(TZ4), bytes.fromhex(PRE), SIGNATURE, 3),
        ),
        ("GET", f"/keys/{TZ1}", "", AskPublicKey(tagged_hash(TZ1))),
        ("GET", f"//keys/{TZ1}/", "", AskPublicKey(tagged_hash(TZ1))),
        ("GET", "/authorized_keys", "", AskAuthorizedKeys()),
        ("GET", "/known_keys", "", AskKnownKeys()),
        ("GET", f"/bls_prove_possession/{TZ4}", "", AskPossessionProof(tagged_hash(TZ4))),
        (
            "GET",
            f"/bls_prove_possession/{TZ4}?bls_pk={BLPK}",
            "",
            AskPossessionProof(tagged_hash(TZ4), base58.decode(base58.BLS_PUBLIC_KEY, BLPK)),
        ),
        ("GET", "/livez", "", AskHealth(even_alone=True)),
        ("GET", "/readyz", "", AskHealth(even_alone=False)),
        ("GET", "/healthz", "", AskHealth(even_alone=False)),
    ],
)
def test_what_clients_ask(method: str, target: str, body: str, question: object) -> None:
    assert asked(method, target, body) == question


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", f"/keys/{TZ1}", PRE, 400),  # no JSON string
        ("POST", f"/keys/{TZ1}", f'"0x{PRE}"', 400),
        ("POST", f"/keys/{TZ1}", f'"{PRE[1:]}"', 400),
        ("POST", f"/keys/{TZ1}", f'"{PRE[:2]} {PRE[2:]}"', 400),
        ("POST", f"/keys/{TZ1}", f'["{PRE}"]', 400),
        ("POST", f"/keys/{TZ1}", f'"{PRE}" x', 400),
        ("POST", f"/keys/{TZ1}", "", 400),
        ("POST", f"/keys/{TZ1}?version=4", f'"{PRE}"', 400),
        ("POST", f"/keys/{TZ1}?version=", f'"{PRE}"', 400),
        ("POST", f"/keys/{TZ1}?authentication=edsig", f'"{PRE}"', 400),
        ("GET", f"/keys/{TZ1[:-1]}x", "", 400),
        ("GET", "/keys/KT1", "", 400),
        ("GET", f"/bls_prove_possession/{TZ4}?bls_pk=edpk", "", 400),
        ("GET", "/", "", 404),
        ("GET", "/keys", "", 404),
        ("GET", f"/keys/{TZ1}/nonce", "", 404),
        ("GET", "/version", "", 404),
        ("PUT", f"/keys/{TZ1}", "", 405),
        ("POST", "/authorized_keys", "", 405),
        ("OPTIONS", f"/keys/{TZ1}", "", 405),
    ],
)
def test_what_is_not_understood(method: str, target: str, body: str, status: int) -> None:
    assert status_of(method, target, body) == status


@pytest.mark.parametrize(
    "host", ["127.0.0.1:6732", "10.0.0.3", "[::1]:6732", "localhost", "LOCALHOST:80",
             "signer.example:6732"],
)  # fmt: skip
def test_hosts_that_can_only_mean_us(host: str) -> None:
    assert check_head(call("GET", "/authorized_keys", host=host), NAMES) is None


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:6732", "127.0.0.1.evil.example", "localhost.evil"]
)
def test_a_name_that_was_made_to_lead_here_is_refused(host: str) -> None:
    assert status_of("GET", "/authorized_keys", host=host) == 403


def test_a_web_page_is_refused_whatever_it_sends() -> None:
    body = f'"{PRE}"'
    assert status_of("POST", f"/keys/{TZ1}", body, origin="http://127.0.0.1:6732") == 403
    assert status_of("GET", "/authorized_keys", origin="null") == 403


def test_types_and_lengths_are_told_by_the_head() -> None:
    target = f"/keys/{TZ1}"
    assert status_of("POST", target, content_type="text/plain") == 415
    assert status_of("POST", target, content_type="application/octet-stream") == 415
    assert (
        check_head(call("POST", target, content_type="application/json; charset=x"), NAMES) is None
    )
    assert status_of("GET", target, accept="application/octet-stream") == 406
    octez = "application/json, application/bson, application/octet-stream"
    assert check_head(call("GET", target, accept=octez), NAMES) is None
    assert check_head(call("GET", target, accept="*/*;q=0.8"), NAMES) is None
    assert status_of("POST", target, content_length=str(BODY_BYTES_MAX + 1)) == 413


texts = st.text(max_size=60)


@given(
    st.sampled_from(["GET", "POST"]),
    texts.map("/".__add__) | texts.map("/keys/".__add__) | st.just(f"/keys/{TZ1}"),
    texts | texts.map("authentication=".__add__) | texts.map("version=".__add__),
    st.dictionaries(st.sampled_from(["host", "accept", "content-type", "content-length"]), texts),
    st.binary(max_size=80),
)
def test_whatever_is_sent_is_a_question_or_denied(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    made = Call(method, path, query, HEADERS | headers)
    found = check_head(made, NAMES) or read_call(made, body)
    assert isinstance(found, Denial | Question | AskHealth)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (Signature(SIGNATURE, Curve.ED25519), {"signature": EDSIG}),
        (PublicKeyText("edpk…"), {"public_key": "edpk…"}),
        (AuthorizedKeys(None), {}),
        (AuthorizedKeys(()), {"authorized_keys": []}),
        (AuthorizedKeys((TZ1,)), {"authorized_keys": [TZ1]}),
        (KnownKeys((TZ1, MV1)), {"known_keys": [TZ1, MV1]}),
        (
            PossessionProof(bytes(96)),
            {"bls_prove_possession": base58.encode(base58.BLS_SIGNATURE, bytes(96))},
        ),
        (Health(is_ready=True), {"ready": True}),
    ],
)
def test_answers_are_those_of_octez(answer: object, body: object) -> None:
    reply = write_answer(answer)  # type: ignore[arg-type]
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert json.loads(reply.body) == body


def test_a_denial_is_a_trace_under_its_status() -> None:
    reply = write_answer(Denial(409, "watermark_conflict", "it has signed another"))
    assert reply.status == 409
    [error] = json.loads(reply.body)
    assert error == {
        "kind": "temporary",
        "id": "failure",
        "msg": "watermark_conflict: it has signed another",
    }
    assert "Retry-After" not in reply.headers
    assert "Retry-After" in write_answer(Denial(503, "busy", "", may_repeat=True)).headers
    assert write_answer(Denial(405, "", "", allow="GET")).headers["Allow"] == "GET"
    assert write_answer(Health(is_ready=False)).status == 503
