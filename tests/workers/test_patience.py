"""Nodes that are away: what the log says, and that nobody gives up."""

from __future__ import annotations

import asyncio
import logging

import pytest

from workers.node import patience
from workers.node.patience import NODE_NEWS_S, Complaint, insist
from workers.node.transport import Node
from workers.preparation.preparation_errors import NodeUnavailable

AWAY = NodeUnavailable("GET /version: refused")


def test_a_node_that_stays_away_becomes_an_error_that_names_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaint = Complaint("node_asked_again", "http://10.0.0.7:8732")
    for tenths in range(int(NODE_NEWS_S * 25)):
        complaint.tell(AWAY, 1_000 + tenths / 10)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "ERROR"]
    assert "node_in_trouble node=http://10.0.0.7:8732 for_s=20 reason=GET" in caplog.text
    assert patience.ADVICE in caplog.text


def test_a_node_that_comes_and_goes_is_a_warning_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaint = Complaint("stream_broken", "http://10.0.0.7:8732")
    for second in range(int(NODE_NEWS_S * 3)):
        complaint.tell(AWAY, 1_000.0 + second)
        complaint.settled()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


def test_it_is_asked_until_it_answers_and_its_secrets_are_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = 0

    async def ask(deadline: float) -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise AWAY
        return "told"

    async def main() -> str:
        node = Node("https://user:password@10.0.0.7:8732/token")
        try:
            return await insist(node, ask)
        finally:
            await node.aclose()

    caplog.set_level(logging.DEBUG)
    assert asyncio.run(main()) == "told"
    assert "node_asked_again node=https://10.0.0.7:8732 reason=GET" in caplog.text
    assert "password" not in caplog.text
    assert "token" not in caplog.text
