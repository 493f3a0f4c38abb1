"""What people are shown of the quarantine's events."""

from __future__ import annotations

import msgspec

from broker.messages import Event
from broker.quarantine.notices import notices, read_body
from broker.quarantine.records import ClearedBody
from broker.quarantine.turn import PeerEvent, Turn, Wanted


def test_notices_are_read_as_they_were_written() -> None:
    turn = Turn.empty()
    turn.peers = [PeerEvent("p1", "no_rights", -20, 1, -20, "disconnect")]
    turn.wanted = [Wanted(b"\x01\x02", ("p1",), 2)]
    peer, wanted = (read_body(event) for _, event, _ in notices(turn))
    assert (peer["peer"], peer["score"], peer["standing"]) == ("p1", -20, "disconnect")
    assert wanted == {"hash": "0102", "sources": ("p1",), "ask": 2, "level": 0}


def test_what_was_cleared_is_named_by_its_kind() -> None:
    body = msgspec.msgpack.encode(ClearedBody(2, b"\xff", 7, 1))
    said = read_body(Event(b"", "", "cleared", body))
    assert said == {"kind": "attestation", "hash": "ff", "level": 7, "round": 1}


def test_any_other_body_is_shown_as_it_is() -> None:
    assert read_body(Event(b"", "", "peer", b"\xc1")) == {"body": "c1"}
    assert read_body(Event(b"", "", "cleared")) == {}
