"""docs/protocol.md names everything that is on the wire, and its bytes are what it says."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import msgpack
import msgspec
import pytest

from broker import errors, known_requests, messages
from broker.messages import AdminMessage, BrokerMessage, ClientMessage, ReplyMessage, WorkerMessage
from signers.backends import backend
from signers.errors import Alarm, Unavailable
from signers.marks import store_errors
from signers.pkcs11 import token_errors
from workers.preparation import block_request, preparation_errors

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text()
NAMED = set(re.findall(r"`([^`\s]+)`", TEXT))  # what stands in code font, word for word

STRUCTS = sorted(
    (s for s in vars(messages).values() if isinstance(s, type) and issubclass(s, msgspec.Struct)),
    key=lambda s: s.__name__,
)
STRUCTS.remove(msgspec.Struct)
BLOCK_STRUCTS = [
    block_request.ForgeBlock,
    block_request.Fresh,
    block_request.Reproposal,
    block_request.ExtraOperation,
]


@pytest.mark.parametrize("struct", STRUCTS + BLOCK_STRUCTS, ids=lambda s: s.__name__)
def test_every_field_of_every_message_is_described(struct: type[msgspec.Struct]) -> None:
    missing = [name for name in struct.__struct_fields__ if name not in NAMED]
    if issubclass(struct, messages.Item | messages.Held | messages.Assignment):
        missing = [name for name in missing if f"`{name}`" not in TEXT]
    assert missing == []


@pytest.mark.parametrize(
    "message",
    [*ClientMessage.__args__, *AdminMessage.__args__, *ReplyMessage.__args__],
    ids=lambda m: m.__name__,
)
def test_every_type_of_a_message_is_described(message: type[msgspec.Struct]) -> None:
    assert message.__struct_config__.tag in NAMED


@pytest.mark.parametrize("union", [WorkerMessage, BrokerMessage])
def test_every_message_of_workers_stands_under_its_number(union: type) -> None:
    for message in union.__args__:
        assert f"| {message.__struct_config__.tag} `{message.__name__}` |" in TEXT


def test_every_kind_event_status_and_topic_is_described() -> None:
    words = {*messages.URGENCY, *messages.READY_EVENT.values()}
    words |= {messages.EVENT_REFUSED, messages.FAILED, messages.CANCELLED, messages.EXPIRED}
    words |= {messages.ACCEPTED, messages.DUPLICATE, messages.REFUSED, messages.ALL_TOPIC}
    assert words - NAMED == set()
    for prefix in (messages.CLIENT_TOPIC, messages.DELEGATE_TOPIC, messages.LIVE_TOPIC):
        assert f"`{prefix}<" in TEXT


def test_every_bound_is_given_in_numbers() -> None:
    for number in (
        messages.REQUESTS_PER_PUSH_MAX,
        messages.VOTES_PER_REQUEST_MAX,
        messages.TTL_MS_MAX,
        messages.TTL_MS_DEFAULT,
        known_requests.ENDED_REQUESTS_MAX,
        block_request.CONSENSUS_OPERATIONS_MAX,
        block_request.PASS_OPERATIONS_MAX,
        block_request.OPERATION_BYTES_MAX,
    ):
        assert f"{number:,}" in TEXT
    assert f"{messages.PAYLOAD_BYTES_MAX >> 20} MiB" in TEXT
    assert f"{messages.MESSAGE_BYTES_MAX >> 20} MiB" in TEXT
    assert f"{messages.TOPIC_LETTERS_MAX} letters" in TEXT


# -- codes ----------------------------------------------------------------------------------------


CODE = re.compile(r"^[a-z]+(_[a-z]+)*$")


def codes_in(path: Path) -> set[str]:
    """Constants that stand before a sentence: `("no_node", text)`, `Refusal(NO_MARK, f"…")`."""
    tree = ast.parse(path.read_text())
    constants = {
        node.target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    found = set()
    for node in ast.walk(tree):
        parts = node.elts if isinstance(node, ast.Tuple) else getattr(node, "args", [])
        for code, text in pairwise(parts) if isinstance(parts, list) else ():
            value = constants.get(getattr(code, "id", ""), getattr(code, "value", None))
            is_sentence = (
                isinstance(text, ast.JoinedStr)
                or getattr(text, "id", "") in ("text", "OUTCOME_UNKNOWN")
                or (
                    isinstance(text, ast.Call) and getattr(text.func, "id", "") in ("str", "_story")
                )
                or (isinstance(text, ast.Constant) and " " in str(text.value))
            )
            if is_sentence and isinstance(value, str) and CODE.match(value):
                found.add(value)
    return found


def test_every_code_in_the_sources_is_described() -> None:
    files = [
        *ROOT.glob("broker/*.py"),
        *ROOT.glob("workers/*.py"),
        ROOT / "signers/marks/watermark.py",
    ]
    found = set().union(*map(codes_in, files))
    assert {"poison", "busy", "no_node", "signer_timeout", "watermark_conflict"} <= found
    found.remove("no_answer")  # our client library's word for a broker that is silent
    assert found - NAMED == set()


def test_every_code_of_an_error_that_travels_is_described() -> None:
    travelling = [errors.MalformedMessage, errors.IdReused, errors.Busy, errors.ShuttingDown]
    travelling += [each for each in vars(preparation_errors).values() if is_error(each)]
    travelling += [
        each
        for each in vars(store_errors).values()
        if is_error(each) and issubclass(each, Alarm | Unavailable) and "store" in each.code
    ]
    travelling += [
        each
        for module in (backend, token_errors)
        for each in vars(module).values()
        if is_error(each) and each.__module__ == module.__name__
    ]
    assert len(travelling) > 30
    assert {error.code for error in travelling} - NAMED == set()


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


# -- bytes ----------------------------------------------------------------------------------------


def shown(name: str) -> bytes:
    """The bytes of one of the page's hexadecimal blocks."""
    (block,) = re.findall(rf"```{name}\n(.*?)```", TEXT, re.DOTALL)
    return bytes.fromhex("".join(block.split()))


def test_the_bytes_are_what_the_page_says_they_are() -> None:
    payload, push = shown("payload"), msgpack.unpackb(shown("push"))
    (request,) = push["requests"]
    assert (len(payload), len(shown("push"))) == (167, 320)
    assert request["payload"] == payload
    assert msgpack.unpackb(payload)["level"] == 7
    assert push["type"] == "push"
    assert push["client"] == "me"
    assert request["kind"] == messages.FORGE_AND_SIGN_ATTESTATIONS
    assert request["ttl_ms"] == 4000
    ((delegate, slot),) = request["votes"]
    assert slot == 3
    acks = msgpack.unpackb(shown("acks"))
    assert acks["acks"] == [{"id": bytes(range(16)), "status": "accepted"}]
    epoch, first, (event,) = msgpack.unpackb(shown("event"))
    assert (epoch, first) == (acks["epoch"], 1)
    assert event["id"] == request["id"]
    assert event["delegate"] == delegate
    assert event["event"] == messages.ATTESTATION_READY
    assert len(event["body"]) == 139
