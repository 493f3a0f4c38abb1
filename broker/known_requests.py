"""Which request ids the broker knows: open ones, and those that ended lately.

A client that heard nothing pushes again under the same id. While the request is open nothing else
happens; after its end its events are published again. What is forgotten here is safe to do again,
because the watermark store gives the identical signature to identical bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

import msgspec

from broker.delegate_queue import OpenRequest
from broker.messages import Request

# About 300 bytes each. At the bound the oldest is forgotten.
ENDED_REQUESTS_MAX = 100_000

_encode = msgspec.msgpack.Encoder().encode

Key = tuple[str, bytes]  # client, request id


def fingerprint(request: Request) -> bytes:
    """Sixteen bytes that tell whether two requests ask for the same thing.

    The time to live is left out: who pushes again has less of it left.
    """
    asked = _encode((request.kind, request.delegate, request.votes, request.payload))
    return blake2b(asked, digest_size=16).digest()


class EndedRequest:
    """What is kept of a request whose tasks have ended, or that an older epoch's log names."""

    __slots__ = ("fingerprint", "records")

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.records: list[int] = []  # numbers of the log records that hold its events


class KnownRequests:
    """Open and lately ended requests by client and id."""

    def __init__(self, ended_max: int = ENDED_REQUESTS_MAX) -> None:
        self.open: dict[Key, OpenRequest] = {}
        self.ended: OrderedDict[Key, EndedRequest] = OrderedDict()
        self._ended_max = ended_max

    def close(self, request: OpenRequest) -> None:
        """All tasks of an open request have ended."""
        key = (request.client, request.message.id)
        del self.open[key]
        request.tasks = []  # they refer back to it: a cycle would wait for the garbage collector
        for record in request.records:
            self.note_logged(key, request.fingerprint, record)

    def note_logged(self, key: Key, fingerprint: bytes, record: int) -> None:
        """Log record `record` holds events of a request."""
        known = self.ended.get(key)
        if known is None:
            known = self.ended[key] = EndedRequest(fingerprint)
            if len(self.ended) > self._ended_max:
                self.ended.popitem(last=False)
        known.records.append(record)
