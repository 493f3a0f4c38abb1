"""Every message that we send, byte for byte, as it is in `golden/`.

A message that changes is a change of the contract with node services: it must be meant.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.offchain.actions import TaskOutcome
from workers.offchain.node_service import node_queries
from workers.offchain.node_service.notifications import (
    CONNECTION_INIT,
    PING,
    PONG,
    subscribe,
    unsubscribe,
)

GOLDEN = Path(__file__).parent / "golden"
NOW_US = 1787088540000000
CHAIN = "a1" * 32

MESSAGES = {
    "next_actions_first": node_queries.next_actions(None, NOW_US),
    "next_actions_cursor": node_queries.next_actions('page "7"\n', 2**64 - 1),
    "task_outcome_id": node_queries.task_outcome(TaskOutcome("echo", "hello", "42")),
    "task_outcome_no_id": node_queries.task_outcome(TaskOutcome("echo", "\x1b \x00 \x7f ü\u2028")),
    "local_worker_state": node_queries.local_worker_state(),
    "register_worker": node_queries.register_worker("0x" + "00" * 32, ["echo", "ls"]),
    "start_local_service": node_queries.start_local_service("5e" * 32),
    "chain_tip": node_queries.chain_tip(CHAIN),
    "chain_owners": node_queries.chain_owners(CHAIN),
    "seed_next_actions_first": node_queries.seed_next_actions(None, NOW_US),
    "seed_next_actions_cursor": node_queries.seed_next_actions('page "7"\n', NOW_US),
    "seed_task_outcome_id": node_queries.seed_task_outcome(TaskOutcome("echo", "hello", "42")),
    "seed_task_outcome_no_id": node_queries.seed_task_outcome(TaskOutcome("echo", "hello")),
    "ws_connection_init": CONNECTION_INIT.encode(),
    "ws_ping": PING.encode(),
    "ws_pong": PONG.encode(),
    "ws_subscribe": subscribe("1", CHAIN, legacy=False).encode(),
    "ws_complete": unsubscribe("1", legacy=False).encode(),
    "ws_start_legacy": subscribe("1", CHAIN, legacy=True).encode(),
    "ws_stop_legacy": unsubscribe("1", legacy=True).encode(),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_are_as_agreed(name: str) -> None:
    assert MESSAGES[name] == (GOLDEN / f"{name}.json").read_bytes().removesuffix(b"\n")


def test_there_is_no_golden_message_that_nobody_sends() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(MESSAGES)


def test_an_outcome_without_an_id_sends_none() -> None:
    assert b"id" not in node_queries.task_outcome(TaskOutcome("echo", "hello"))


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        # async-graphql, value/src/lib.rs: decimal digits behind \u, at least four.
        ("\x1b[0m", '"\\u0027[0m"'),
        ("\x1f", '"\\u0031"'),
        ("\x7f", '"\\u0127"'),
        ("\x9f", '"\\u0159"'),
        ("\x00", '"\\u0000"'),
        ('\r\n\t"\\', '"\\r\\n\\t\\"\\\\"'),
        ("é\u2028😀", '"é\u2028😀"'),
    ],
)
def test_literals_are_those_of_the_source_system(text: str, literal: str) -> None:
    assert node_queries.seed_literal(text) == literal
