"""What services beside the pool say of themselves: the newest report of each, for `status`.

Pure: reports and the time go in.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.messages import REPORT_S

FORGOTTEN_S = 4 * REPORT_S  # one that has not reported for so long is gone
SERVICES_MAX = 32  # each is at most 64 numbers with their names: 6 KiB

Numbers = Mapping[str, int]


class ServiceReports:
    """The newest report of each service, by its client name."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, Numbers]] = {}

    def take(self, client: str, numbers: Numbers, now: float) -> None:
        """Keep a report in place of the one before; the oldest gives way to one too many."""
        self._reports.pop(client, None)
        self._reports[client] = now, numbers
        if len(self._reports) > SERVICES_MAX:
            del self._reports[next(iter(self._reports))]

    def newest(self, now: float) -> dict[str, Numbers]:
        """The numbers of the services that are there."""
        while self._reports:
            client, (at, _) = next(iter(self._reports.items()))
            if now - at < FORGOTTEN_S:
                break
            del self._reports[client]
        return {client: numbers for client, (_, numbers) in sorted(self._reports.items())}
