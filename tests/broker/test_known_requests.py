"""What the broker remembers of a request: while it is open, and for a while after its end."""

from __future__ import annotations

import msgspec
import pytest
from pool_script import sign, votes

from broker.delegate_queue import OpenRequest
from broker.known_requests import KnownRequests, fingerprint
from broker.messages import Request, Vote

CLIENT = "baker"


def opened(known: KnownRequests, request: Request, *records: int) -> OpenRequest:
    """An open request, of which some records hold events already."""
    entry = OpenRequest(CLIENT, request, fingerprint(request), 0, 0.0, 60.0)
    entry.records = list(records)
    known.open[CLIENT, request.id] = entry
    return entry


def test_a_request_that_has_ended_is_known_by_its_records() -> None:
    known = KnownRequests()
    request = sign("a")
    known.close(opened(known, request, 3, 5))
    assert known.open == {}
    ended = known.ended[CLIENT, request.id]
    assert (ended.fingerprint, ended.records) == (fingerprint(request), [3, 5])


def test_a_closed_request_refers_to_its_tasks_no_more() -> None:
    known = KnownRequests()
    entry = opened(known, sign("a"), 1)
    entry.tasks = [object()]  # type: ignore[list-item]
    known.close(entry)
    assert entry.tasks == []


def test_what_the_log_names_is_known_and_grows_with_each_record() -> None:
    known = KnownRequests()
    key = (CLIENT, bytes(16))
    known.note_logged(key, b"print", 7)
    known.note_logged(key, b"print", 9)
    assert known.ended[key].records == [7, 9]
    assert known.ended[key].fingerprint == b"print"


def test_at_the_bound_the_oldest_is_forgotten() -> None:
    known = KnownRequests(ended_max=3)
    keys = [(CLIENT, bytes([i]) * 16) for i in range(5)]
    for number, key in enumerate(keys):
        known.note_logged(key, b"print", number)
        assert len(known.ended) <= 3
    assert list(known.ended) == keys[2:]


def test_ids_are_scoped_to_their_client() -> None:
    known = KnownRequests()
    known.note_logged(("baker", bytes(16)), b"one", 1)
    known.note_logged(("other", bytes(16)), b"two", 2)
    assert [e.fingerprint for e in known.ended.values()] == [b"one", b"two"]


# -- what is the same request ---------------------------------------------------------------------


def test_less_time_left_is_the_same_request() -> None:
    request = sign("a", ttl_ms=5000)
    for again in (
        msgspec.structs.replace(request, ttl_ms=100),
        msgspec.structs.replace(request, ttl_ms=None, deadline_unix_ms=1),
    ):
        assert fingerprint(again) == fingerprint(request)
    assert len(fingerprint(request)) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"payload": b"other"},
        {"kind": "forge_and_sign_block"},
        {"delegate": "b"},
        {"votes": [Vote("a", 0)]},
    ],
)
def test_anything_else_is_another_request(change: dict[str, object]) -> None:
    request = sign("a")
    assert fingerprint(msgspec.structs.replace(request, **change)) != fingerprint(request)


@pytest.mark.parametrize("other", [Vote("a", 1), Vote("a", 0, "1"), Vote("c", 0)])
def test_another_vote_makes_another_batch(other: Vote) -> None:
    batch = votes("a", "b")
    assert batch.votes is not None
    changed = msgspec.structs.replace(batch, votes=[other, batch.votes[1]])
    assert fingerprint(changed) != fingerprint(batch)
