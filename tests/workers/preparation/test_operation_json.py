"""The mempool's JSON back to bytes, against real operations of several networks."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.formats import micheline
from signers.formats.networks import network_by_name
from tests.workers.preparation.wallet import Wallet, as_pending
from workers.node.answers import PendingOperation
from workers.node.micheline_json import from_json
from workers.node.operation_json import operation_bytes

REAL = json.loads((Path(__file__).parent / "vectors" / "operations.json").read_text())
# Kinds that are rare in blocks are the node's to forge.
LEFT_TO_THE_NODE = {
    "origination",
    "activate_account",
    "smart_rollup_add_messages",
    "reveal",  # of protocols before the proof of possession
}
MAVRYK, TEZOS = network_by_name("mavryk"), network_by_name("tezos")


def pending(record: dict, **changes: object) -> PendingOperation:
    return msgspec.convert({"hash": record["hash"], **record["json"]} | changes, PendingOperation)


@pytest.mark.parametrize("record", REAL, ids=lambda record: record["id"])
def test_a_real_operation_is_written_exactly_or_left_to_the_node(record: dict) -> None:
    written = operation_bytes(pending(record), TEZOS)
    if LEFT_TO_THE_NODE & set(record["kinds"]):
        assert written is None
    else:
        assert written is not None
        assert written.hex() == record["operation"]


def test_bytes_with_another_hash_are_never_used() -> None:
    first, second = REAL[:2]
    assert operation_bytes(pending(first), TEZOS) is not None
    assert operation_bytes(pending(first, hash=second["hash"]), TEZOS) is None
    # A fee that the writer misread would show in the same way.
    contents = [{**first["json"]["contents"][0], "fee": "977"}]
    assert operation_bytes(pending(first, contents=contents), TEZOS) is None


def test_operations_of_mavryk_are_written_with_its_addresses() -> None:
    wallet = Wallet(1)
    branch = bytes(32)
    batch = wallet.managers(
        branch, wallet.reveal_content(counter=7), wallet.transaction_content(counter=8)
    )
    vote = wallet.vote(branch, level=7, round_=1, payload_hash=bytes(32), slot=3)
    for signed in (batch, vote, wallet.transaction(branch)):
        shown = as_pending(signed)
        assert operation_bytes(msgspec.convert(shown, PendingOperation), MAVRYK) == signed
        if "source" in shown["contents"][0]:
            assert shown["contents"][0]["source"].startswith("mv1")
            assert operation_bytes(msgspec.convert(shown, PendingOperation), TEZOS) is None


def test_an_operation_without_signature_ends_in_zeros() -> None:
    shown = {
        "hash": "ooc251M9sKC1y3tEyCD6TfGNztWLiEJWJf6AZnkExuc7ubcZdki",
        "branch": REAL[0]["json"]["branch"],
        "contents": [{"kind": "seed_nonce_revelation", "level": 8, "nonce": "07" * 32}],
    }
    assert operation_bytes(msgspec.convert(shown, PendingOperation), MAVRYK) is None
    unsigned = bytes.fromhex("01" + "00000008" + "07" * 32)
    signed = bytes.fromhex(REAL[0]["operation"])[:32] + unsigned + bytes(64)
    shown = as_pending(signed)
    assert "signature" not in shown
    assert operation_bytes(msgspec.convert(shown, PendingOperation), MAVRYK) == signed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["kind", "source", "fee", "counter", "parameters", "slot", "nonce", "destination", "value"]
)
kinds = st.sampled_from(["transaction", "reveal", "attestation", "ballot", "delegation", "what"])


@given(st.dictionaries(field_names, json_values), kinds)
def test_no_json_of_a_node_breaks_the_writer(content: dict, kind: str) -> None:
    operation = PendingOperation(REAL[0]["hash"], REAL[0]["json"]["branch"], [content])
    assert operation_bytes(operation, MAVRYK) is None
    operation.contents[0]["kind"] = kind
    assert operation_bytes(operation, MAVRYK) is None


expressions = st.recursive(
    st.integers(-(2**80), 2**80).map(lambda number: {"int": str(number)})
    | st.text("abc é", max_size=5).map(lambda text: {"string": text})
    | st.binary(max_size=5).map(lambda raw: {"bytes": raw.hex()}),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(
            lambda name, arguments, annotations: (
                {"prim": name}
                | ({"args": arguments} if arguments else {})
                | ({"annots": annotations} if annotations else {})
            ),
            st.sampled_from(["Pair", "Unit", "Elt", "DUP", "mutez"]),
            st.lists(inner, max_size=4),
            st.lists(st.sampled_from(["%a", ":b"]), max_size=2),
        )
    ),
    max_leaves=12,
)


@given(expressions)
def test_an_expression_survives_the_way_there_and_back(expression: object) -> None:
    assert micheline.to_json(from_json(expression)) == expression


@pytest.mark.parametrize(
    "nonsense",
    [None, 1, "x", {}, {"int": 1}, {"int": "x"}, {"bytes": "zz"}, {"prim": "NOPE"}, [{"prim": 1}]],
)
def test_what_is_no_expression_is_refused(nonsense: object) -> None:
    with pytest.raises(MalformedBytes):
        from_json(nonsense)


def test_an_expression_of_any_depth_is_read_or_refused() -> None:
    node: object = {"prim": "Unit"}
    for _ in range(10_000):
        node = [node]
    with pytest.raises(MalformedBytes, match="deeper"):
        from_json(node)
