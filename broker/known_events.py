"""Which events of off-chain tasks are in the log already.

A worker whose acknowledgement was lost says them again, also to the next broker, and so does the
next owner of a worker's applications.
"""

from __future__ import annotations

# Each worker repeats one message of 256 events at most: enough for 256 workers at once. 100 bytes
# each. An older repeat is published again, under the same id.
EVENT_IDS_MAX = 65_536


class KnownEvents:
    """The ids of the last events."""

    def __init__(self) -> None:
        self._ids: dict[bytes, None] = {}

    def is_new(self, id: bytes) -> bool:
        """Whether it is seen for the first time; it is known from now on."""
        if id in self._ids:
            return False
        self._ids[id] = None
        if len(self._ids) > EVENT_IDS_MAX:
            del self._ids[next(iter(self._ids))]
        return True
