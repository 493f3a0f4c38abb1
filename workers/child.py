"""A child process of a worker, and the socket to it.

What is slow, or runs what others have written, must neither hold up signing nor be where keys are:
it has a process of its own, and nothing of the environment that opens a key. Nothing here blocks.
The worker's poll loop watches `fileno()`, wakes up at `deadline()`, and calls `exchange()` and
`restarted()`.

The child ends when its socket closes, so it never outlives its worker. When it dies, or its owner
gives it up, it is started again after a pause that grows with deaths in a row.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from math import inf

from signers.secret_environment import without_secrets
from workers.frames import BrokenFrame, take_frames

# One turn reads no more than this, so that big messages do not hold up signing.
READ_BYTES_PER_TURN = 1024 * 1024
READ_BYTES = 256 * 1024
RESTART_S_FIRST = 0.1
RESTART_S_MAX = 5.0
# A child that has lived for so long has not died of its start: the next pause is short again.
HEALTHY_AFTER_S = 10.0
CLOSE_S_MAX = 1.0


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    started: float
    unsent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


class Child:
    """One child after the other of the same kind. Use from one thread; call `start` first."""

    def __init__(self, module: str, *, close_s_max: float = CLOSE_S_MAX) -> None:
        """Args: what to run, with the descriptor of its end as the only argument."""
        self._module = module
        self._close_s_max = close_s_max
        self._selector = selectors.DefaultSelector()
        self._running: _Running | None = None
        self._ended: subprocess.Popen[bytes] | None = None  # the last one, until it is reaped
        self._restart_at = inf
        self._deaths_in_a_row = 0
        self.last_death = ""  # how the last one ended: "killed by signal SIGKILL"

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is no child."""
        return None if self._running is None else self._running.process.pid

    @property
    def unsent_bytes(self) -> int:
        """What the child has not read yet."""
        return 0 if self._running is None else len(self._running.unsent)

    def fileno(self) -> int:
        """A descriptor that is readable when `exchange` has something to do.

        It is a selector's own, so it stays the same when the child is replaced.
        """
        return self._selector.fileno()

    def deadline(self) -> float:
        """When `restarted` must be asked though `fileno()` is quiet; infinity: no need."""
        return self._restart_at

    def start(self, now: float) -> None:
        """Start the child. Raises OSError when the system has no process for us."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", self._module, str(theirs.fileno())]
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=without_secrets(os.environ),
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._running = _Running(process, ours, now)
        self._selector.register(ours, selectors.EVENT_READ)

    def send(self, frame: bytes) -> None:
        """Give the child a frame, if there is a child."""
        child = self._running
        if child is None:
            return
        child.unsent += frame
        try:
            self._write(child)
        except OSError:
            # It is dead. The socket is readable now, so `exchange` will find that out.
            child.unsent.clear()

    def exchange(self, now: float) -> tuple[list[bytes], str]:
        """Do what can be done without waiting: the messages that have come, and how it died.

        The second is empty unless the child has died just now, and a phrase that follows its name.
        """
        child, messages = self._running, list[bytes]()
        if child is None:
            return messages, ""
        try:
            self._write(child)
            ended = not self._read(child, messages)
        except (OSError, BrokenFrame) as error:
            return messages, self.give_up(now, f"cannot be talked to: {error}")
        return messages, self.give_up(now, "ended") if ended else ""

    def give_up(self, now: float, why: str) -> str:
        """The child is of no use any more; says which one it was."""
        child, self._running = self._running, None
        assert child is not None
        self._selector.unregister(child.channel)
        # It ends by itself now that its socket is closed; if it cannot, the restart kills it.
        child.channel.close()
        self._ended = child.process
        if now - child.started >= HEALTHY_AFTER_S:
            self._deaths_in_a_row = 0
        self.try_later(now)
        return f"(pid {child.process.pid}) {why}"

    def restarted(self, now: float) -> bool:
        """Start it again when its time has come; True when that was done just now."""
        if now < self._restart_at:
            return False
        if self._ended is not None:
            status = self._ended.poll()
            if status is None:
                self._ended.kill()
                self._restart_at = now + RESTART_S_FIRST
                return False
            self.last_death = describe_exit(status)
            self._ended = None
        try:
            self.start(now)
        except OSError:
            self.try_later(now)
            return False
        self._restart_at = inf
        return True

    def close(self) -> None:
        """End the child. Waits for at most `close_s_max` seconds, then kills it."""
        child, self._running = self._running, None
        self._selector.close()
        self._restart_at = inf
        if child is not None:
            child.channel.close()
            self._ended = child.process
        if self._ended is not None:
            try:
                self._ended.wait(self._close_s_max)
            except subprocess.TimeoutExpired:
                self._ended.kill()
                self._ended.wait()

    def try_later(self, now: float) -> None:
        """Have `restarted` start it after a pause."""
        pause = min(RESTART_S_FIRST * 2**self._deaths_in_a_row, RESTART_S_MAX)
        self._deaths_in_a_row += 1
        self._restart_at = now + pause

    def _write(self, child: _Running) -> None:
        while child.unsent:
            try:
                del child.unsent[: child.channel.send(child.unsent)]
            except BlockingIOError:
                break
        events = selectors.EVENT_READ
        if child.unsent:
            events |= selectors.EVENT_WRITE
        self._selector.modify(child.channel, events)

    def _read(self, child: _Running, messages: list[bytes]) -> bool:
        """Take what has come; False when the child has closed its end."""
        for _ in range(READ_BYTES_PER_TURN // READ_BYTES):
            try:
                piece = child.channel.recv(READ_BYTES)
            except BlockingIOError:
                return True
            if not piece:
                return False
            child.received += piece
            messages += take_frames(child.received)
        return True


def describe_exit(status: int) -> str:
    """How a process ended, in words: an exit status, or minus the signal that killed it."""
    if status < 0:
        return f"killed by signal {signal.Signals(-status).name}"
    return f"exit status {status}"
