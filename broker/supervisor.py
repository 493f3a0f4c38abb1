"""`forgepool serve`: starts broker, workers and services, restarts what dies, drains on SIGTERM.

Everything is spawned, never forked. Each child holds the read end of a pipe whose write end only
the supervisor has: when that closes, for whatever reason, the child drains and ends, so no orphan
outlives `serve`. The end of a child is known at once (a pidfd in the poll set) and told to the
broker, whatever the worker's lease still says.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from broker import wire
from broker.config import Endpoints
from broker.errors import EXIT_MISCONFIGURED, MalformedMessage
from broker.messages import AdminMessage, AwaitWorkers, Shutdown, Status, StatusWanted, WorkerEnded
from broker.restart_policy import RestartPolicy, how_it_ended
from broker.sockets import CurveIdentity, connect, receive, send

log = logging.getLogger("forgepool.supervisor")

LOOK_S = 0.5  # how often the broker is asked how the pool is
FIRST_LOOK_S = 0.05  # until it has answered for the first time
LOST_KILL_S = 4.0  # a worker of ours that is silent for so long is stopped or hangs: end it
SHUTDOWN_SENT_S = 1.0  # a broker that takes no message for so long is told by the closed pipe
CHILD_GRACE_S = 5.0  # after the drain a child gets this long before it is killed


@dataclass(slots=True)
class Child:
    """A process that should run."""

    name: str
    argv: list[str]
    is_worker: bool
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    start_at: float | None = 0.0


class Supervisor:
    """The children of one `serve`."""

    def __init__(
        self,
        broker: list[str],
        workers: dict[str, list[str]],
        endpoints: Endpoints,
        *,
        services: dict[str, list[str]] | None = None,
        drain_timeout_s: float | None = None,
        curve: CurveIdentity | None = None,
        parent_fd: int | None = None,
    ) -> None:
        """Args: the command line of each child, to which `--parent-fd N` is added.

        Services are clients of the broker that go as long as the pool.
        """
        self._broker = Child("broker", broker, is_worker=False)
        self._children = [self._broker]
        self._children += [Child(n, argv, is_worker=True) for n, argv in workers.items()]
        self._children += [Child(n, a, is_worker=False) for n, a in (services or {}).items()]
        self._endpoints = endpoints
        self._drain_timeout_s = drain_timeout_s
        self._parent_fd = parent_fd  # of whoever started us: when it closes, we drain
        self._pipe_read, self._pipe_write = os.pipe()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._admin = connect(self._context, zmq.DEALER, endpoints.admin, curve)
        self._unsent: list[AdminMessage] = []
        self._next_look = 0.0
        self._drain_started: float | None = None
        self._signals_seen = 0
        self._broker_is_up = False  # our broker has answered: workers may start
        self._timed_out = False  # the drain took longer than allowed
        self._hopeless = False  # our broker cannot run here; it has said why
        self.exit_status = 0

    # -- the loop ---------------------------------------------------------------------------------

    def run(self, on_status: Callable[[dict[str, object]], None] | None = None) -> int:
        """Supervise until a signal has drained the pool; returns the exit status."""
        wake, signals = socket.socketpair()
        for end in (wake, signals):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        if self._parent_fd is not None:
            poll.register(self._parent_fd, select.POLLIN)
        try:
            while not self._over():
                now = time.monotonic()
                for child in self._children:
                    if child.is_worker and not self._broker_is_up:
                        continue
                    if child.start_at is not None and child.start_at <= now:
                        self._start(child, now, poll)
                readable = {fd for fd, _ in poll.poll(self._wait_ms(now))}
                now = time.monotonic()
                if signals.fileno() in readable:
                    signals.recv(64)
                if self._parent_fd in readable:
                    poll.unregister(self._parent_fd)
                    self._drain("our parent is gone")
                for child in self._children:
                    if child.pidfd in readable:
                        self._ended(child, now, poll)
                self._talk_to_broker(now, on_status)
        finally:
            signal.set_wakeup_fd(-1)
            self._end_all()
        return self.exit_status

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals_seen += 1
        if self._signals_seen == 1:
            self._drain(f"{signal.Signals(number).name} (a second signal ends it now)")
        else:
            log.warning("ending_now signal=%s", number)

    def _drain(self, why: str) -> None:
        if self._drain_started is None:
            log.info("draining why=%r", why)
            self._drain_started = time.monotonic()
            self._unsent.append(Shutdown())

    def _over(self) -> bool:
        if self._signals_seen > 1:
            return True
        if self._hopeless:
            self.exit_status = 1
            return True
        if self._drain_started is None:
            return False
        if self._broker.process is None:
            return True
        taken = time.monotonic() - self._drain_started
        if self._unsent and taken > SHUTDOWN_SENT_S:
            self._close_pipe()  # the broker takes no messages: this tells it and the workers too
            if not any(c.process for c in self._children if c.is_worker):
                return True
        late = self._drain_timeout_s
        if late is not None and taken > late:
            log.warning("drain_timeout seconds=%s", late)
            self._timed_out, self.exit_status = True, 1
            return True
        return False

    def _wait_ms(self, now: float) -> int:
        starts = (
            c.start_at
            for c in self._children
            if c.start_at is not None and (self._broker_is_up or not c.is_worker)
        )
        times = [self._next_look, *starts]
        return max(0, int((min(times) - now) * 1000) + 1)

    # -- children ---------------------------------------------------------------------------------

    def _start(self, child: Child, now: float, poll: select.poll) -> None:
        child.start_at = None
        if self._drain_started is not None:
            return
        argv = [sys.executable, "-m", "broker.command", *child.argv]
        try:
            child.process = subprocess.Popen(
                [*argv, "--parent-fd", str(self._pipe_read)],
                pass_fds=[self._pipe_read],
                stdin=subprocess.DEVNULL,
            )
        except OSError as e:  # no process, no memory: try again as after a death
            child.start_at = child.policy.ended(now)
            log.error("cannot_start name=%s error=%s", child.name, e)
            return
        child.pidfd = os.pidfd_open(child.process.pid)
        poll.register(child.pidfd, select.POLLIN)
        child.policy.started(now)
        log.info("started name=%s pid=%d", child.name, child.process.pid)
        pids = [c.process.pid for c in self._children if c.is_worker and c.process is not None]
        if pids:
            self._unsent.append(AwaitWorkers(pids))

    def _ended(self, child: Child, now: float, poll: select.poll) -> None:
        assert child.process is not None
        status = child.process.wait()
        poll.unregister(child.pidfd)
        os.close(child.pidfd)
        how = how_it_ended(status)
        if child.is_worker:
            self._unsent.append(WorkerEnded(child.process.pid, how))
        child.process, child.pidfd = None, -1
        if self._drain_started is not None:
            log.info("ended name=%s how=%r", child.name, how)
            return
        if child is self._broker and status == EXIT_MISCONFIGURED:
            self._hopeless = True
            return
        if child is self._broker and status == 0:
            log.info("shut_down by=admin")
            self._drain_started = now
            return
        child.start_at = child.policy.ended(now)
        event = "crash_loop" if child.policy.crash_loops else "died"
        pause_s = child.start_at - now
        log.error("%s name=%s how=%r restart_in=%.2f", event, child.name, how, pause_s)

    def _kill(self, pid: object, why: str) -> None:
        for child in self._children:
            if child.process is not None and child.process.pid == pid:
                log.error("killing name=%s pid=%s why=%r", child.name, pid, why)
                child.process.kill()

    def _end_all(self) -> None:
        """The broker has drained, or somebody is in a hurry: the rest ends by the closed pipe."""
        self._close_pipe()
        if self._signals_seen > 1 or self._timed_out:
            for child in self._children:
                if child.process is not None:
                    child.process.kill()
        until = time.monotonic() + CHILD_GRACE_S
        for child in self._children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("killing name=%s why='it has not ended in time'", child.name)
                child.process.kill()
                child.process.wait()
        self._admin.close()
        self._context.term()

    def _close_pipe(self) -> None:
        """Every child holds the other end; when ours closes it drains and ends."""
        if self._pipe_write >= 0:
            os.close(self._pipe_write)
            os.close(self._pipe_read)
            self._pipe_write = -1

    # -- the broker -------------------------------------------------------------------------------

    def _talk_to_broker(
        self, now: float, on_status: Callable[[dict[str, object]], None] | None
    ) -> None:
        if now >= self._next_look:
            self._next_look = now + (LOOK_S if self._broker_is_up else FIRST_LOOK_S)
            if self._broker.process is not None:
                send(self._admin, [wire.encode(StatusWanted())])
        while self._unsent and send(self._admin, [wire.encode(self._unsent[0])]):
            self._unsent.pop(0)
        if self._unsent:
            self._next_look = min(self._next_look, now + 0.02)
        while (frames := receive(self._admin)) is not None:
            try:
                reply = wire.decode_reply(frames[-1])
            except MalformedMessage:
                continue
            if isinstance(reply, Status):
                self._look_at(reply.status)
                if on_status is not None:
                    on_status(reply.status)

    def _look_at(self, status: dict[str, object]) -> None:
        """Start workers once our broker answers; end a child that stands in the way.

        A stopped process must not stop the pool.
        """
        if self._broker.process is not None and status.get("pid") == self._broker.process.pid:
            self._broker_is_up = True
        workers = status.get("workers")
        for worker in workers if isinstance(workers, list) else ():
            if worker.get("stalled_by"):
                self._kill(worker["stalled_by"], "it holds the store's lock for too long")
            if worker.get("state") == "lost" and worker.get("silent_ms", 0) > LOST_KILL_S * 1000:
                self._kill(worker.get("pid"), "it gives no sign of life")
        if self._drain_started is not None and status.get("active"):
            log.info("drain_waits active=%s for=%s", status["active"], status.get("waits_for"))
