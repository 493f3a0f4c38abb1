"""What the sandbox was asked, for assertions: each request with its time and its end."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec import Struct

# The oldest are forgotten.
REQUESTS_MAX = 10_000
# Longer questions are recorded without their variables, lest the record outgrow the memory.
KEPT_BYTES_MAX = 16 * 1024


class RecordedRequest(Struct):
    """A request to a GraphQL endpoint."""

    number: int  # counts from 1
    unix_us: int  # when it came
    chain_id: str  # empty: to the node service itself
    application_id: str
    query: str
    variables: Any  # of a question that is not too long
    seconds: float | None = None  # until its end; None: it goes on
    status: int | None = None  # None: none was sent
    fault: str = ""  # the kind of the fault that it met


class RequestsLog:
    """The newest requests, oldest first."""

    def __init__(self) -> None:
        self._requests: deque[RecordedRequest] = deque(maxlen=REQUESTS_MAX)
        self._count = 0

    def add(
        self, unix_us: int, chain_id: str, application_id: str, query: str, variables: Any
    ) -> RecordedRequest:
        """Note a request; its end is filled in later."""
        self._count += 1
        request = RecordedRequest(self._count, unix_us, chain_id, application_id, query, variables)
        self._requests.append(request)
        return request

    def since(self, number: int = 0) -> list[RecordedRequest]:
        """The requests after a number."""
        return [each for each in self._requests if each.number > number]

    def asking(self, field: str, application_id: str = "") -> list[RecordedRequest]:
        """The requests that name a field in their query."""
        return [
            each
            for each in self._requests
            if field in each.query and application_id in ("", each.application_id)
        ]
