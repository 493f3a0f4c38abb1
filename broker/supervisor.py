"""`forgepool serve`: starts broker, workers and services, restarts what dies, drains on SIGTERM.

SIGHUP has all workers read keys and policy again; from a terminal that was closed it drains.

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
from math import inf

import zmq

from broker import wire
from broker.config import Endpoints
from broker.errors import EXIT_MISCONFIGURED, EXIT_OCCUPIED, MalformedMessage
from broker.messages import (
    AdminMessage,
    AwaitWorkers,
    Problem,
    Reload,
    Reloaded,
    Shutdown,
    Status,
    StatusWanted,
    WorkerEnded,
)
from broker.restart_policy import RestartPolicy, Silence, how_it_ended
from broker.sockets import CurveIdentity, connect, receive, send

log = logging.getLogger("forgepool.supervisor")

LOOK_S = 0.5  # how often the broker is asked how the pool is
RESEND_S = 0.02  # how often what could not be sent is tried again
FIRST_LOOK_S = 0.05  # until it has answered for the first time
LOST_KILL_S = 4.0  # a worker of ours that is silent for so long is stopped or hangs: end it
DRAIN_NEWS_S = 5.0  # how often a drain says what it waits for
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
        self._resend_at = inf
        self._say_again = 0.0  # when a drain next says what it waits for
        self._drain_started: float | None = None
        self._signals_seen = 0
        self._broker_is_up = False  # our broker has answered: workers may start
        self._silence = Silence()  # of the broker
        self._timed_out = False  # the drain took longer than allowed
        self._hopeless = 0  # exit status of our broker when it cannot run here; it has said why
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
        # Under nohup no closed terminal is our business.
        self._has_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and has_terminal()
        signal.signal(signal.SIGHUP, self._on_hangup)
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
            log.warning("ending_now signal=%s; what is active is cut short", number)
            self.exit_status = 128 + number

    def _on_hangup(self, number: int, frame: object) -> None:
        """Somebody asks for a reload, or our terminal was closed, which ends what ran in it."""
        if self._has_terminal and not has_terminal():
            self._on_signal(number, frame)
        elif Reload() not in self._unsent:
            self._unsent.append(Reload())

    def _drain(self, why: str) -> None:
        if self._drain_started is None:
            log.info("draining why=%r", why)
            self._drain_started = time.monotonic()
            self._unsent.append(Shutdown())

    def _over(self) -> bool:
        if self._signals_seen > 1:
            return True
        if self._hopeless:
            self.exit_status = self._hopeless
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
        times = [self._next_look, self._resend_at, *starts]
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
        self._name_workers()

    def _name_workers(self) -> None:
        """Tell the broker which workers are ours."""
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
            self._unsent.append(WorkerEnded(child.process.pid, how, child.name))
        child.process, child.pidfd = None, -1
        if self._drain_started is not None:
            log.info("ended name=%s how=%r", child.name, how)
            return
        if child is self._broker and status in (EXIT_MISCONFIGURED, EXIT_OCCUPIED):
            self._hopeless = status
            return
        if child is self._broker and status == 0:
            log.info("shut_down by=admin")
            self._drain_started = now
            return
        child.start_at = child.policy.ended(now)
        event = "crash_loop" if child.policy.crash_loops else "died"
        pause_s = child.start_at - now
        log.error("%s name=%s how=%r restart_in=%.2f", event, child.name, how, pause_s)

    def _kill_worker(self, pid: object, why: str, name: object = None) -> None:
        """End a worker by its pid, which we know by hearsay: it must be one of ours."""
        for child in self._children:
            is_meant = name is None or child.name == name
            if child.is_worker and child.process and child.process.pid == pid and is_meant:
                self._kill(child, why)

    @staticmethod
    def _kill(child: Child, why: str) -> None:
        assert child.process is not None
        log.error("killing name=%s pid=%s why=%r", child.name, child.process.pid, why)
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
            pause_s = LOOK_S if self._broker_is_up else FIRST_LOOK_S
            self._next_look = now + pause_s
            self._ask_how_it_is(pause_s)
        while self._unsent and send(self._admin, [wire.encode(self._unsent[0])]):
            self._unsent.pop(0)
        self._resend_at = now + RESEND_S if self._unsent else inf
        while (frames := receive(self._admin)) is not None:
            try:
                reply = wire.decode_reply(frames[-1])
            except MalformedMessage:
                continue
            if isinstance(reply, Reloaded):
                _tell_of_reload(reply)
            if isinstance(reply, Problem):
                log.error("refused code=%s %s", reply.code, reply.text)
            if isinstance(reply, Status):
                self._look_at(reply.status, now)
                if on_status is not None:
                    on_status(reply.status)

    def _ask_how_it_is(self, pause_s: float) -> None:
        """A look; a broker that leaves too many of them unanswered is ended."""
        broker = self._broker.process
        if broker is None:
            return
        send(self._admin, [wire.encode(StatusWanted())])  # if it cannot be sent, that counts too
        if self._silence.asked(broker.pid, pause_s):
            self._kill(self._broker, "it does not answer")

    def _look_at(self, status: dict[str, object], now: float) -> None:
        """Start workers once our broker answers; end a child that stands in the way.

        A stopped process must not stop the pool.
        """
        broker = self._broker.process
        if broker is not None and status.get("pid") == broker.pid:
            self._broker_is_up = True
            if self._silence.answered(broker.pid):
                self._name_workers()  # what was said before may have gone to its predecessor
        workers = status.get("workers")
        for worker in workers if isinstance(workers, list) else ():
            if worker.get("stalled_by"):
                self._kill_worker(worker["stalled_by"], "it holds the store's lock for too long")
            if worker.get("state") == "lost" and worker.get("silent_ms", 0) > LOST_KILL_S * 1000:
                self._kill_worker(worker.get("pid"), "it gives no sign of life", worker.get("name"))
        active = status.get("active")
        if self._drain_started is not None and active and now >= self._say_again:
            self._say_again = now + DRAIN_NEWS_S
            log.info("drain_waits active=%s for=%s", active, status.get("waits_for"))


def has_terminal() -> bool:
    """Whether there is a terminal that this process belongs to."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _tell_of_reload(done: Reloaded) -> None:
    for change in done.changes:
        log.info("reload change=%r", change)
    for worker in done.workers:
        if worker.problem:
            log.error("reload_problem worker=%s %s", worker.name, worker.problem)
    if done.problem:
        log.error("reload_failed %s", done.problem)
    else:
        log.info("reloaded workers=%s", ",".join(worker.name for worker in done.workers))
