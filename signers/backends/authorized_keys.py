"""A remote signer's list of clients, remembered for a little while."""

from collections.abc import Callable

# Clients of Octez ask before every signature, which doubles the way to a signer that is far. Who
# may sign seldom changes, and after any refusal the signer is asked anew.
REMEMBERED_S = 30.0


class AuthorizedKeys:
    """The hashes of the keys that a signer lets sign; None: it asks nobody who he is."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: tuple[float, list[bytes] | None] | None = None

    def get(self, ask: Callable[[], list[bytes] | None]) -> list[bytes] | None:
        """Return what is remembered, or ask."""
        known = self._known  # several threads may be here: one question too many does no harm
        if known is None or self._clock() - known[0] > REMEMBERED_S:
            known = self._known = (self._clock(), ask())
        return known[1]

    def forget(self) -> None:
        """Ask the next time."""
        self._known = None
