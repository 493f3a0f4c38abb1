"""A child process with pipes, in a process group of its own, watched by an event loop.

Its end is seen on a pidfd, without threads and without SIGCHLD. Until we reap it, its number names
its process group and nothing else: the system gives it to nobody, so that a signal to the group
cannot reach a stranger.

It stays in our session. A session of its own would cost as much as the start itself, and where the
kernel shares out the processor by session (sched(7), autogroup) our niceness would mean nothing to
it any more.

Needs Linux 5.3 (pidfd_open).
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from io import FileIO
from types import FrameType
from typing import cast

from workers.offchain.operators.descriptors import READABLE, Descriptors


def make_parent() -> None:
    """Prepare this process for children that are strangers' programs; call it in the main thread.

    They inherit what we ignore: an operator that ignores SIGTERM from birth could not be ended in
    peace, so from now on we hear such signals and do nothing. And no child leaves a core dump.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


class ChildProcess:
    """A process that was started with pipes."""

    def __init__(
        self,
        command: Sequence[str],
        descriptors: Descriptors,
        on_end: Callable[[], object],
        *,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
        own_group: bool = True,
        keep_stderr: bool = True,
    ) -> None:
        """Start it. An absent environment or directory is ours.

        Args:
            on_end: is called when it has ended, once, and must see to it that it is reaped.

        Raises:
            OSError: it could not be started.
        """
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if keep_stderr else None,
            env=environment,
            cwd=directory,
            process_group=0 if own_group else None,
        )
        self.pid = self._process.pid
        self.stdin = cast(FileIO, self._process.stdin)
        self.stdout = cast(FileIO, self._process.stdout)
        self.stderr = cast("FileIO | None", self._process.stderr)
        self._descriptors, self._on_end = descriptors, on_end
        self.has_ended = False
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # out of descriptors: nobody would see it end
            self._process.kill()
            self.reap()
            raise
        for pipe in self.pipes:
            os.set_blocking(pipe.fileno(), False)
        descriptors.watch(self._pidfd, READABLE, self._see_end)

    @property
    def pipes(self) -> list[FileIO]:
        return [p for p in (self.stdin, self.stdout, self.stderr) if p is not None]

    def _see_end(self) -> None:
        self._descriptors.forget(self._pidfd)
        os.close(self._pidfd)
        self.has_ended = True
        self._on_end()

    def signal_group(self, number: int) -> None:
        """Send a signal to everything in the group; only before it is reaped."""
        assert not self.is_reaped, "the number may be somebody else's by now"
        # Nobody is there any more; or what is left has taken another user's rights.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def group_exists(self) -> bool:
        """Whether there is a group of this number; ours, if it was not reaped long ago."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True

    def reap(self) -> int:
        """Its exit status, -N after signal N; from then on its number may be another one's."""
        status = self._process.wait()
        for pipe in self.pipes:
            pipe.close()
        return status

    @property
    def is_reaped(self) -> bool:
        return self._process.returncode is not None

    def end_and_reap(self) -> int:
        """Kill its group, unless it was reaped already; its exit status."""
        if not self.is_reaped:
            self.signal_group(signal.SIGKILL)
        return self.reap()

    def leave_alone(self) -> None:
        """Let it go on for as long as it likes, without our ends of its pipes."""
        for pipe in self.pipes:
            pipe.close()
        if self.has_ended:
            self.reap()
        else:
            self._on_end = self.reap
