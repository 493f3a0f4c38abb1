"""The client library by itself: what it does while there is no broker."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from broker.client import Client, RequestRefused
from broker.client_session import Refused
from broker.config import Settings, resolve_endpoints
from broker.messages import SIGN

TTL_MS = 100
END_S = 20.0


def test_without_a_broker_a_request_ends_at_its_deadline_all_the_same() -> None:
    with tempfile.TemporaryDirectory(prefix="forgepool-") as state_dir:
        endpoints = resolve_endpoints(Path(state_dir), Settings().endpoints)
        with Client(endpoints, "baker") as client:
            id = client.push_one(SIGN, "mv1a", b"bytes", ttl_ms=TTL_MS)
            [news] = client.poll(END_S)
            assert isinstance(news, Refused)
            assert (news.ack.id, news.ack.code) == (id, "no_answer")
            id = client.push_one(SIGN, "mv1a", b"bytes", ttl_ms=TTL_MS)
            with pytest.raises(RequestRefused, match="no_answer"):
                client.wait(id, END_S)
