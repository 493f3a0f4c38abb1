"""A child process with pipes, in a process group of its own, watched by an event loop.

Its end is seen on a pidfd, without threads and without SIGCHLD. Until we reap it, its number names
its process group and nothing else: the system gives it to nobody, so that a signal to the group
cannot reach a stranger.

It stays in our session. A session of its own would cost as much as the start itself, and where the
kernel shares out the processor by session (sched(7), autogroup) our niceness would mean nothing to
it any more.

It is started with posix_spawn(3), which costs half of our time that `subprocess` takes, and has no
current directory for the child: we are in it ourselves for that moment. So nothing in this process
may open a relative path while another thread could start a child.

Needs Linux 5.3 (pidfd_open).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from workers.offchain.operators.descriptors import READABLE, Descriptors

# Python ignores these, and programs do not expect to be born so (subprocess: restore_signals).
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
# Our own process may ignore these. A child that ignores SIGTERM from birth could not be ended in
# peace.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def make_parent() -> None:
    """Prepare this process for children that are strangers' programs; call it in the main thread.

    They get nothing that we have inherited open; Python opens nothing that they would get (PEP
    446). And we hear how they have ended: whoever ignores SIGCHLD does not (wait(2)).
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name in os.listdir("/proc/self/fd"):
        if (descriptor := int(name)) > 2:
            with contextlib.suppress(OSError):  # the one by which we have looked
                fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)


class ChildProcess:
    """A process that was started with pipes; our ends of them belong to who has started it."""

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
            command: a path, and arguments.
            on_end: is called when it has ended, once, and must see to it that it is reaped.

        Raises:
            OSError: it could not be started.
        """
        pipes = _pipes(3 if keep_stderr else 2)
        theirs, ours = [pipes[0][0]], [pipes[0][1]]
        for from_it, into in pipes[1:]:
            theirs.append(into)
            ours.append(from_it)
        try:
            for pipe in ours:
                os.set_blocking(pipe, False)
            self.pid = _start(command, environment, directory, theirs, own_group=own_group)
        except OSError:
            _close(ours)
            raise
        finally:
            _close(theirs)
        self.stdin, self.stdout = ours[:2]
        self.stderr = ours[2] if keep_stderr else None
        self._descriptors, self._on_end = descriptors, on_end
        self.has_ended = self.is_reaped = False
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # out of descriptors: nobody would see it end
            os.kill(self.pid, signal.SIGKILL)
            self.reap()
            _close(ours)
            raise
        descriptors.watch(self._pidfd, READABLE, self._see_end)

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
        _, status = os.waitpid(self.pid, 0)
        self.is_reaped = True
        return os.waitstatus_to_exitcode(status)

    def end_and_reap(self) -> int:
        """Kill its group; its exit status."""
        self.signal_group(signal.SIGKILL)
        return self.reap()

    def leave_alone(self) -> None:
        """Let it go on for as long as it likes."""
        if self.has_ended:
            self.reap()
        else:
            self._on_end = self.reap


def _start(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    directory: str | None,
    pipes: Sequence[int],
    *,
    own_group: bool,
) -> int:
    """Start a process whose first descriptors are these; its number. Raises OSError."""
    if "/" not in command[0]:  # it was looked for where programs are, and is not to be found here
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    spawn = partial(os.posix_spawn, setpgroup=0) if own_group else os.posix_spawn
    here = None if directory is None else os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        if directory is not None:
            os.chdir(directory)
        return spawn(
            command[0],
            list(command),
            os.environ if environment is None else environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, pipe, n) for n, pipe in enumerate(pipes)],
            setsigdef=IGNORED_BY_PYTHON + (ENDING if own_group else ()),
        )
    finally:
        if here is not None:
            os.fchdir(here)
            os.close(here)


def _pipes(count: int) -> list[tuple[int, int]]:
    """Some pipes, or none. Raises OSError."""
    made: list[tuple[int, int]] = []
    try:
        while len(made) < count:
            made.append(os.pipe())
    except OSError:
        for pipe in made:
            _close(pipe)
        raise
    return made


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
