"""Our ends of a child's pipes: what goes in and what comes out, as the event loop sees fit."""

from __future__ import annotations

import os
from collections.abc import Callable

from workers.offchain.operators.descriptors import READABLE, WRITABLE, Descriptors

READ_BYTES = 64 * 1024  # what a pipe of Linux holds, if nobody has made it larger
REST_READS_MAX = 17  # of the 1 MiB to which anybody may make it larger, and its end


class Feed:
    """Writes bytes into a pipe, and closes it."""

    def __init__(
        self,
        pipe: int,
        content: bytes,
        descriptors: Descriptors,
        on_end: Callable[[OSError | None], object] = lambda _: None,
    ) -> None:
        """
        Args:
            on_end: is told why the rest could not be written; None: there is none, or it is not
                wanted any more.
        """
        self._pipe, self._rest, self._descriptors = pipe, memoryview(content), descriptors
        self._watched = self._closed = False
        self._on_end = on_end

    def write(self) -> None:
        """Write what fits, and the rest whenever there is room for it."""
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._pipe, self._rest) :]
        except BlockingIOError:
            if not self._watched:
                self._watched = True
                self._descriptors.watch(self._pipe, WRITABLE, self.write)
        except OSError as error:  # nobody reads it any more
            self.close(error)
        else:
            self.close()

    def close(self, error: OSError | None = None) -> None:
        """Write no more."""
        if self._watched:
            self._watched = False
            self._descriptors.forget(self._pipe)
        if not self._closed:
            self._closed = True
            os.close(self._pipe)
            self._on_end(error)


class Tap:
    """Reads a pipe until everybody has closed its other end."""

    def __init__(
        self,
        pipe: int,
        take: Callable[[bytes], None],
        descriptors: Descriptors,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        """
        Args:
            on_end: is called when nothing more will come.
        """
        self._pipe, self._take, self._descriptors = pipe, take, descriptors
        self._watched = self.has_ended = False
        self._on_end = on_end

    def listen(self) -> None:
        """Read as bytes come, from now on."""
        if not self._watched and not self.has_ended:
            self._watched = True
            self._descriptors.watch(self._pipe, READABLE, self.read)

    def read_rest(self) -> None:
        """Take what is there, which the pipe has held: what comes in while we read can wait."""
        for _ in range(REST_READS_MAX):
            if not self.read():
                break

    def read(self) -> bool:
        """Take some of what is there; whether there was anything."""
        if self.has_ended:
            return False
        try:
            chunk = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return False
        if chunk:
            self._take(chunk)
        else:
            self.close()
        return bool(chunk)

    def close(self) -> None:
        """Read no more."""
        if not self.has_ended:
            if self._watched:
                self._descriptors.forget(self._pipe)
            self.has_ended = True
            os.close(self._pipe)
            self._on_end()
