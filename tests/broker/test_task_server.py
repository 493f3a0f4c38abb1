"""Off-chain tasks at the broker's real sockets, log and file, with workers played by the test."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import click
import msgspec
import pytest
import zmq
from click.testing import CliRunner, Result
from task_script import A, B, C, event

from broker import wire
from broker.applications import ApplicationHold, Watched
from broker.cli import status
from broker.client import Admin
from broker.config import (
    ApplicationSettings,
    OperatorSettings,
    Settings,
    TaskSettings,
    resolve_endpoints,
)
from broker.errors import UnreadableWatchList
from broker.event_log import EventLog
from broker.messages import (
    Applications,
    ApplicationsHeld,
    AwaitWorkers,
    BrokerMessage,
    Done,
    Heartbeat,
    KeysKnown,
    LookAgain,
    Problem,
    ReplyMessage,
    Shutdown,
    TaskEvents,
    TaskEventsAck,
    UnwatchApplications,
    WatchApplications,
    Welcome,
    WorkerEnded,
    WorkerHello,
    WorkerMessage,
)
from broker.server import Broker
from broker.sockets import connect
from broker.task_routing import task_lines
from broker.watch_list_file import FILE_NAME, read_watch_list
from workers.tasks_command import applications

PATIENCE_S = 20.0
BEAT_S = 0.1
ECHO = {"echo": OperatorSettings("/bin/cat")}


class Pool:
    """A broker, an administrator, and workers; each wait turns the broker."""

    def __init__(self, state_dir: Path, opened: ExitStack, settings: Settings) -> None:
        endpoints = resolve_endpoints(state_dir, settings.endpoints)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        opened.callback(self.context.term)
        self.opened = opened
        self.broker = opened.enter_context(closing(Broker(state_dir, endpoints, settings)))
        self.admin = self.connected(self.broker.endpoints.admin)
        self.workers: list[Worker] = []

    def connected(self, address: str) -> zmq.Socket[bytes]:
        return self.opened.enter_context(closing(connect(self.context, zmq.DEALER, address, None)))

    def ask(self, message: object) -> ReplyMessage:
        self.admin.send(wire.encode(message))
        self.until(lambda: bool(self.admin.poll(0)))
        return wire.decode_reply(self.admin.recv())

    def until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            for worker in self.workers:
                worker.hear()
            if condition():
                return
            self.broker.turn()
        raise AssertionError("it has not come about")


class Worker:
    """A worker on a socket; it takes what it is told, unless it is `deaf`."""

    def __init__(self, pool: Pool, name: str, *, incarnation: int = 1) -> None:
        self.pool, self.name = pool, name
        self.pid = 5_000 + len(pool.workers)
        self.socket = pool.connected(pool.broker.endpoints.workers)
        self.lists: list[Applications] = []
        self.heard: list[BrokerMessage] = []
        self.letting_go: dict[str, int] = {}
        self.deaf = False
        self.beat_at = 0.0
        pool.workers.append(self)
        self.says(
            WorkerHello(1, name, incarnation, self.pid, "", "host", 1000, "", [], runs_tasks=True)
        )

    @property
    def has(self) -> dict[str, int]:
        return {share.key: share.epoch for share in self.lists[-1].shares} if self.lists else {}

    def says(self, message: WorkerMessage) -> None:
        self.socket.send(wire.encode(message))

    def hear(self) -> None:
        while not self.deaf and self.socket.poll(0):
            message = wire.decode_broker_message(self.socket.recv())
            self.heard.append(message)
            if isinstance(message, Applications):
                before = self.has
                self.lists.append(message)
                self.letting_go |= before.items() - self.has.items()
                self.tells()
            elif isinstance(message, Welcome):
                self.tells()
        if not self.deaf and time.monotonic() >= self.beat_at:
            self.beat_at = time.monotonic() + BEAT_S
            self.says(Heartbeat(1))

    def tells(self) -> None:
        epoch, number = (self.lists[-1].epoch, self.lists[-1].number) if self.lists else ("", 0)
        held = (self.letting_go | self.has).items()
        self.says(ApplicationsHeld(epoch, number, [ApplicationHold(k, e) for k, e in held]))

    def lets_go(self) -> None:
        self.letting_go = {}
        self.tells()


@pytest.fixture
def state_dir() -> Iterator[Path]:
    # Not pytest's own directory: its name may be too long for a socket's path.
    with tempfile.TemporaryDirectory(prefix="forgepool-") as name:
        yield Path(name)


@pytest.fixture
def start(state_dir: Path) -> Iterator[Callable[..., Pool]]:
    """Starts a broker on the one state directory, after the one before has been closed."""
    with ExitStack() as brokers:

        def begin(**tasks: object) -> Pool:
            brokers.close()
            return Pool(state_dir, brokers, Settings(tasks=TaskSettings(**tasks)))

        yield begin


def watch(pool: Pool, *keys: str, replace: bool = False) -> None:
    answer = pool.ask(WatchApplications([Watched(key) for key in keys], replace))
    assert isinstance(answer, Done)


def test_a_watched_application_reaches_a_worker_and_the_disk_before_it_is_done(
    start: Callable[..., Pool], state_dir: Path
) -> None:
    pool = start(operators=ECHO)
    worker = Worker(pool, "w0")
    answer = pool.ask(WatchApplications([Watched(A, ["echo"])]))
    assert isinstance(answer, Done)
    assert read_watch_list(state_dir).watched == {A: ["echo"]}
    pool.until(lambda: A in worker.has)
    assert read_watch_list(state_dir).epochs >= worker.has[A]
    assert worker.lists[-1].shares[0].operators == ["echo"]


def test_lists_replace_each_other_and_what_comes_back_has_a_new_epoch(
    start: Callable[..., Pool],
) -> None:
    """T24 and T25, and of T23 what is the broker's."""
    pool = start()
    worker = Worker(pool, "w0")
    watch(pool, A, C)
    pool.until(lambda: worker.has.keys() == {A, C})
    kept, taken = worker.has[A], worker.has[C]
    watch(pool, A, B, replace=True)
    pool.until(lambda: worker.has.keys() == {A, B})
    assert worker.has[A] == kept
    assert isinstance(pool.ask(UnwatchApplications([A, B])), Done)
    pool.until(lambda: not worker.has)
    watch(pool, C)  # while its old run is still let go of
    pool.until(lambda: worker.has.keys() == {C})
    assert worker.has[C] > taken


def test_a_silent_workers_applications_go_to_another_which_waits(
    start: Callable[..., Pool],
) -> None:
    """T48: its lease ends; when its process has ended too, nobody need wait."""
    pool = start(submit_limit_s=100)
    watch(pool, A)
    first = Worker(pool, "w0")
    pool.until(lambda: A in first.has)
    first.deaf = True
    other = Worker(pool, "w1")
    # Either at once, when the ring prefers it and the silent one cannot say no, or at the lease's
    # end: in both cases only then.
    pool.until(lambda: A in other.has)
    [share] = other.lists[-1].shares
    assert share.epoch > first.has[A]
    assert 90_000 < share.wait_ms <= 100_001
    lists = len(other.lists)
    assert isinstance(pool.ask(WorkerEnded(first.pid, "killed by signal 9")), Done)
    pool.until(lambda: len(other.lists) > lists)
    assert other.lists[-1].shares == [msgspec.structs.replace(share, wait_ms=0)]


def test_the_settings_of_a_restarted_broker_and_its_file_come_together(
    start: Callable[..., Pool], state_dir: Path
) -> None:
    pool = start()
    worker = Worker(pool, "w0")
    watch(pool, A)
    pool.until(lambda: A in worker.has)
    before = worker.has[A]
    again = start(applications={B: ApplicationSettings(["*"])})
    worker = Worker(again, "w0", incarnation=2)
    again.until(lambda: worker.has.keys() == {A, B})
    assert worker.has[A] > before
    assert isinstance(again.ask(UnwatchApplications([B])), Problem)


def test_events_are_logged_and_acknowledged_and_known_again_after_a_restart(
    start: Callable[..., Pool], state_dir: Path
) -> None:
    pool = start()
    worker = Worker(pool, "w0")
    worker.says(TaskEvents(1, [event(1), event(2)]))
    pool.until(lambda: TaskEventsAck(1) in worker.heard)
    again = start()
    worker = Worker(again, "w0", incarnation=2)
    worker.says(TaskEvents(3, [event(2), event(3)]))
    again.until(lambda: TaskEventsAck(3) in worker.heard)
    start()  # closes it
    log = EventLog(state_dir / "events", "look")
    ids = [e.id for _, record in log.load() for group in record.clients for e in group.events]
    log.close()
    assert ids == [event(number).id for number in (1, 2, 3)]


def test_a_drain_waits_until_it_is_let_go_of_and_says_so_on_the_disk(
    start: Callable[..., Pool], state_dir: Path
) -> None:
    pool = start()
    worker = Worker(pool, "w0")
    watch(pool, A)
    pool.until(lambda: A in worker.has)
    assert not read_watch_list(state_dir).settled
    assert isinstance(pool.ask(Shutdown()), Done)
    pool.until(lambda: bool(worker.letting_go))
    assert not pool.broker.turn()
    worker.lets_go()
    ended: list[bool] = []
    pool.until(lambda: ended.append(pool.broker.turn()) or ended[-1])  # type: ignore[func-returns-value]
    start()
    assert read_watch_list(state_dir).settled


def test_a_damaged_watch_list_stops_what_needs_it_and_is_left_alone(
    start: Callable[..., Pool], state_dir: Path
) -> None:
    """Delegates are signed for all the same: the broker starts, and workers keep what they have."""
    (state_dir / FILE_NAME).write_bytes(b"\0" * 100)
    pool = start()
    worker = Worker(pool, "w0")
    worker.letting_go = {A: 3}  # from before
    refused = pool.ask(WatchApplications([Watched(B)]))
    assert isinstance(refused, Problem)
    assert refused.code == UnreadableWatchList.code
    assert FILE_NAME in refused.text
    assert isinstance(pool.ask(UnwatchApplications([A])), Problem)
    assert not worker.lists
    (line,) = task_lines(pool.broker._core.status(time.monotonic())["tasks"])
    assert FILE_NAME in line
    assert isinstance(pool.ask(Shutdown()), Done)
    pool.until(lambda: bool(worker.lists))
    assert not worker.has
    worker.lets_go()
    pool.until(pool.broker.turn)
    assert (state_dir / FILE_NAME).read_bytes() == b"\0" * 100


def test_the_client_library_and_status_speak_of_applications(
    start: Callable[..., Pool], state_dir: Path
) -> None:
    pool = start(operators=ECHO)
    worker = Worker(pool, "w0")
    watch(pool, A)
    pool.until(lambda: A in worker.has)
    asked: list[object] = []

    def ask() -> None:
        with closing(Admin(pool.broker.endpoints)) as admin:
            admin.watch_applications([Watched(A, ["echo"]), Watched(B)])
            admin.unwatch_applications([B])
            admin.tasks_changed([A])
            asked.append(admin.applications())
        asked.append(CliRunner().invoke(status, ["--state-dir", str(state_dir)]))

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(ask)
        pool.until(done.done)
        done.result()
    [[application], shown] = asked
    assert (application.key, application.operators) == (A, ["echo"])
    assert (application.state, application.owner, application.epoch) == ("owned", "w0", 1)
    assert application.named_by == ["operator"]
    assert any(message == LookAgain([A]) for message in worker.heard)
    assert "applications   1 owned=1 handing_over=0 unowned=0" in shown.output
    assert f"application {A[:8]}…/{A[64:72]}… owned" in shown.output


def told(pool: Pool, command: click.Command, *arguments: str) -> Result:
    """What a command says to the running pool."""
    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(CliRunner().invoke, command, arguments)
        pool.until(asking.done)
        return asking.result()


def test_waiting_for_one_that_signs_ends_when_none_of_ours_can(
    start: Callable[..., Pool], state_dir: Path
) -> None:
    pool = start()
    first, second = Worker(pool, "w0"), Worker(pool, "w1")
    assert isinstance(pool.ask(AwaitWorkers([first.pid, second.pid])), Done)
    where = ("--state-dir", str(state_dir))
    for worker in (first, second):
        worker.says(KeysKnown([]))
    done = told(pool, status, "--wait", str(10 * PATIENCE_S), *where)
    assert done.exit_code == 1
    assert "no worker can sign" in done.stderr
    assert "w1 " in done.stderr

    waiting = ("--wait", str(10 * PATIENCE_S), *where)
    watch(pool, A, B)
    assert told(pool, applications, *waiting).exit_code == 0
    assert told(pool, applications, "--wait", "0.1", *where).stdout.count("owned") == 2
    watch(pool, replace=True)
    assert told(pool, applications, "--wait", "0.1", *where).exit_code == 1
