"""Records for tests of the event log: one event each, which carries its number on every topic."""

from __future__ import annotations

from broker.messages import Event
from broker.topics import LoggedClient, LoggedRequest, LogRecord

CLIENT, DELEGATE = "baker", "mv1a"


def an_event(number: int) -> Event:
    return Event(number.to_bytes(16), DELEGATE, "signed", b"signature %d" % number)


def a_record(number: int) -> LogRecord:
    """A turn with one event: number `number` on `all`, its client's and its delegate's topic."""
    return many_events(number, number)


def many_events(first: int, last: int) -> LogRecord:
    """A turn with the events first … last of one client and one delegate."""
    numbers = list(range(first, last + 1))
    requests = [LoggedRequest(n.to_bytes(16), b"fingerprint") for n in numbers]
    group = LoggedClient(CLIENT, first, [an_event(n) for n in numbers], numbers, requests)
    return LogRecord(1_700_000_000_000, first, [group])
