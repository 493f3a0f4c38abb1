"""What replies of a node service mean: the table of classes, and any bytes at all."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.offchain.actions import ProcessorActions, Task
from workers.offchain.ends import SubmitEnd, SubmitResult
from workers.offchain.node_service.node_replies import (
    TEXT_MAX,
    read_chain_owners,
    read_chain_tip,
    read_local_worker_state,
    read_next_actions,
    read_submission,
)
from workers.offchain.offchain_errors import (
    ApplicationRefused,
    MalformedActions,
    NodeServiceFailed,
    OffchainError,
    UnreadableReply,
)

HASH = "0f" * 32
CONFLICT = "A different block was already committed at this height. The committed certificate hash"


@pytest.mark.parametrize(
    ("status", "body", "end"),
    [
        (200, {"data": HASH}, SubmitEnd.COMMITTED),
        (200, {"data": HASH, "errors": []}, SubmitEnd.COMMITTED),
        (200, {"data": {"processTaskOutcome": True}}, SubmitEnd.NO_EFFECT),
        (200, {"data": {"processTaskOutcome": []}, "errors": None}, SubmitEnd.NO_EFFECT),
        (200, {"data": None, "errors": [{"message": "no"}]}, SubmitEnd.REJECTED),
        (200, {"data": HASH, "errors": [{"message": "no"}]}, SubmitEnd.REJECTED),
        (200, {"data": None}, SubmitEnd.AMBIGUOUS),
        (200, {"data": 1}, SubmitEnd.AMBIGUOUS),
        (200, {}, SubmitEnd.AMBIGUOUS),
        (200, [], SubmitEnd.AMBIGUOUS),
        (500, {"error": f"{CONFLICT} is {HASH}"}, SubmitEnd.CONFLICT),
        (500, {"error": "no quorum of validators"}, SubmitEnd.AMBIGUOUS),
        (503, "", SubmitEnd.TRANSIENT),
        (429, "", SubmitEnd.TRANSIENT),
        (408, "", SubmitEnd.TRANSIENT),
        (502, "", SubmitEnd.AMBIGUOUS),
        (504, "", SubmitEnd.AMBIGUOUS),
        (204, "", SubmitEnd.AMBIGUOUS),
        (307, "", SubmitEnd.AMBIGUOUS),
        (400, {"error": "malformed chain ID: x"}, SubmitEnd.CONFIGURATION),
        (401, "", SubmitEnd.CONFIGURATION),
        (403, {"error": "scheduling operations is disabled"}, SubmitEnd.CONFIGURATION),
        (404, "", SubmitEnd.CONFIGURATION),
        (405, "", SubmitEnd.CONFIGURATION),
        (413, "length limit exceeded", SubmitEnd.OUTCOME_TOO_LARGE),
    ],
)
def test_a_submission_has_the_class_of_its_reply(status: int, body: object, end: SubmitEnd) -> None:
    assert read_submission(status, json.dumps(body).encode()).end is end


def test_the_certificate_and_the_words_are_kept() -> None:
    assert read_submission(200, b'{"data":"%b"}' % HASH.encode()) == SubmitResult(
        SubmitEnd.COMMITTED, certificate=HASH
    )
    refused = (
        b'{"data":null,"errors":[{"message":"task \\"1\\" unknown","path":[]},{"message":"b"}]}'
    )
    assert read_submission(200, refused).text == 'task "1" unknown; b'
    assert read_submission(500, b'{"error":"no key"}').text == "status 500: no key"
    assert read_submission(500, b"panic").text == "status 500: panic"
    assert read_submission(503, b"").text == "status 503"
    long = read_submission(500, json.dumps({"error": "x" * 10_000}).encode())
    assert len(long.text) < TEXT_MAX + 20


@pytest.mark.parametrize(
    ("value", "actions"),
    [
        ({"execute_tasks": []}, ProcessorActions([])),
        (
            {
                "request_callback": 2**64 - 1,
                "set_cursor": "",
                "execute_tasks": [
                    {"id": "42", "operator": "echo", "input": '{"x":1}', "later": 1},
                    {"id": None, "operator": "echo", "input": ""},
                    {"operator": "echo", "input": "é"},
                ],
                "later": {},
            },
            ProcessorActions(
                [Task("echo", '{"x":1}', "42"), Task("echo", ""), Task("echo", "é")],
                2**64 - 1,
                "",
            ),
        ),
        ({"request_callback": None, "set_cursor": None, "execute_tasks": []}, ProcessorActions([])),
    ],
)
def test_actions_are_read(value: object, actions: ProcessorActions) -> None:
    body = json.dumps({"data": {"nextActions": value}}, ensure_ascii=False).encode()
    assert read_next_actions(200, body) == actions


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (500, {"error": "the application has trapped"}, NodeServiceFailed, "has trapped"),
        (200, {"data": None, "errors": [{"message": "no field"}]}, ApplicationRefused, "no field"),
        (200, {"data": None, "errors": "odd"}, ApplicationRefused, "odd"),
        (200, {"data": None, "errors": [{"message": 5}]}, ApplicationRefused, "5"),
        (200, {"data": HASH}, UnreadableReply, "nextActions is not in the reply"),
        (200, {"data": {}}, UnreadableReply, "nextActions is not in the reply"),
        (200, "text", UnreadableReply, "no GraphQL reply"),
        (200, {"data": {"nextActions": None}}, MalformedActions, "nextActions"),
        (200, {"data": {"nextActions": {}}}, MalformedActions, "execute_tasks"),
        (
            200,
            {"data": {"nextActions": {"execute_tasks": [{"operator": "a"}]}}},
            MalformedActions,
            "input",
        ),
        (
            200,
            {"data": {"nextActions": {"execute_tasks": [], "request_callback": "5"}}},
            MalformedActions,
            "request_callback",
        ),
        (
            200,
            {"data": {"nextActions": {"execute_tasks": [], "request_callback": 2**64}}},
            MalformedActions,
            "64 bits",
        ),
        (
            200,
            {"data": {"nextActions": {"execute_tasks": [], "request_callback": -1}}},
            MalformedActions,
            "request_callback",
        ),
    ],
)
def test_an_answer_that_is_none_says_why(
    status: int, body: object, error: type[OffchainError], words: str
) -> None:
    with pytest.raises(error, match=words):
        read_next_actions(status, json.dumps(body).encode())


def test_the_state_of_a_worker_is_read() -> None:
    state = {
        "local_worker": {"owner": "0x00", "capabilities": ["ls"]},
        "local_services": [
            {"application_id": "a", "name": "n", "chain_id": "c", "requirements": []}
        ],
        "local_pending_services": [
            ["s", ["c", {"owners_to_remove": ["0x01"], "start_block_height": 7}]]
        ],
        "local_chains": ["d"],
        "local_message_policy": [],
    }
    read = read_local_worker_state(200, json.dumps({"data": {"localWorkerState": state}}).encode())
    assert read.local_worker is not None
    assert read.local_worker.capabilities == ["ls"]
    assert [each.application_id for each in read.local_services] == ["a"]
    [(service, (chain, pending))] = read.local_pending_services
    assert (service, chain, pending.start_block_height) == ("s", "c", 7)


def test_the_tip_of_a_chain_is_read() -> None:
    assert read_chain_tip(200, b'{"data":{"chain":{"tipState":{"nextBlockHeight":8}}}}') == 8
    with pytest.raises(UnreadableReply):
        read_chain_tip(200, b'{"data":{"chain":null}}')


def test_the_owners_of_a_chain_are_read() -> None:
    ownership = {"super_owners": ["b"], "owners": {"a": 100, "b": 1}, "multi_leader_rounds": 2}
    chain = {"executionState": {"system": {"ownership": ownership}}}
    assert read_chain_owners(200, json.dumps({"data": {"chain": chain}}).encode()) == ["a", "b"]


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["data", "errors", "error", "message", "nextActions", "execute_tasks", "operator",
             "request_callback", "chain", "tipState", "nextBlockHeight", "localWorkerState",
             "ownership", "owners"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


_BODIES = (
    st.binary(max_size=50)
    | _VALUES.map(lambda value: json.dumps(value).encode())
    # Numbers of any length, which Python itself does not like to write.
    | st.sampled_from(["data", "errors", "error"]).map(
        lambda key: b'{"%b":%b}' % (key.encode(), b"9" * 5000)
    )
)


@given(st.sampled_from([200, 204, 400, 413, 500]), _BODIES)
def test_any_bytes_give_a_value_or_an_error(status: int, body: bytes) -> None:
    assert isinstance(read_submission(status, body).end, SubmitEnd)
    readers = (read_next_actions, read_local_worker_state, read_chain_tip, read_chain_owners)
    for read in readers:
        with contextlib.suppress(OffchainError):
            read(status, body)
