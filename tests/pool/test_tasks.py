"""Off-chain tasks through a whole pool: real workers, processors, operators and sandbox."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from pool_process import MARKER, PoolProcess, a_pool, forgepool, until

from broker.applications import OFFCHAIN_CLIENT
from broker.client import Watcher
from broker.messages import CLIENT_TOPIC, Event

pytestmark = pytest.mark.process


COMMAND = """mutation($c: ControllerCommand!) {
    executeControllerCommand(admin: "0x00", command: $c) }"""


class Sandbox:
    """`forgepool sandbox-apps` beside a pool."""

    def __init__(self, pool: PoolProcess, *options: str) -> None:
        out = pool.directory / "sandbox.json"
        with out.open("wb") as stdout:
            pool.start(
                *forgepool("sandbox-apps", "run", "--listen", "127.0.0.1:0", *options),
                stdout=stdout,
            )
        text = until(lambda: out.read_text() if out.read_text().endswith("\n") else "")
        told = json.loads(text)
        self.url: str = told["url"]
        self.chain: str = told["chains"][0]
        self.applications: list[str] = told["applications"]
        self.controller: str = told.get("controller", "")
        self.workers: list[str] = [each["controller"] for each in told.get("workers", [])]

    def post(self, path: str, value: object) -> Any:
        request = urllib.request.Request(self.url + path, json.dumps(value).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def query(self, text: str, application: int = 0, **variables: str) -> Any:
        path = f"/chains/{self.chain}/applications/{self.applications[application]}"
        return self.post(path, {"query": text, "variables": variables})["data"]

    def request(self, operator: str, text: str, application: int = 0) -> None:
        self.query(
            "mutation($o: String!, $i: String!) { requestTask(operator: $o, input: $i) }",
            application,
            o=operator,
            i=text,
        )

    def assign(self, service_id: str, *workers: str) -> None:
        """Have the controller on the chain give a service to these workers of its."""
        chain, application = self.controller.split("/")
        given = {"service_id": service_id, "workers": [each.split("/")[0] for each in workers]}
        self.post(
            f"/chains/{chain}/applications/{application}",
            {"query": COMMAND, "variables": {"c": {"UpdateService": given}}},
        )

    def results(self, application: int = 0) -> list[str]:
        found: list[str] = self.query("{ results }", application)["results"]
        return found

    def key(self, application: int = 0) -> str:
        return self.chain + self.applications[application]


def with_operators(pool: PoolProcess, sandbox: Sandbox, **paths: Path) -> None:
    """Settings with these operators, which are known as the pool's by their environment."""
    text = f'[tasks]\nnode_service = "{sandbox.url}"\nchain_id = "{sandbox.chain}"\n'
    for name, path in paths.items():
        text += f'[tasks.operators.{name}]\npath = "{path}"\nenv = ["{MARKER}"]\ngrace_s = 0.2\n'
    pool.configure(text)


def gated(pool: PoolProcess) -> tuple[Path, Path, Path]:
    """An operator that notes its process and waits for a file: itself, its notes, the file."""
    path, notes, gate = (pool.directory / name for name in ("gated", "notes", "gate"))
    path.write_text(
        f"#!/bin/sh\necho $$ >> {notes}\nwhile [ ! -e {gate} ]; do sleep 0.02; done\nexec cat\n"
    )
    path.chmod(0o700)
    return path, notes, gate


def noted(notes: Path) -> list[int]:
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


@contextmanager
def watching(pool: PoolProcess, topic: str) -> Iterator[Callable[[str], list[Event]]]:
    """Gives the events of a name that have come so far."""
    seen: list[Event] = []
    with closing(Watcher(pool.endpoints, topic)) as watcher:

        def of(name: str) -> list[Event]:
            seen.extend(news for news in watcher.poll(0.01) if isinstance(news, Event))
            return [event for event in seen if event.event == name]

        until(lambda: watcher.poll(0.01) or watcher.live)
        yield of


def owner(pool: PoolProcess) -> dict[str, Any]:
    (only,) = (w for w in pool.run("tasks", "applications", "--json").stdout.splitlines())
    found: dict[str, Any] = json.loads(only)
    return found


def test_a_killed_worker_s_tasks_are_done_by_another_and_once(template: PoolProcess) -> None:
    """T40, T48: its operator is ended, the application moves, and one result is stored."""
    with a_pool(template) as pool:
        sandbox = Sandbox(pool)
        path, notes, gate = gated(pool)
        with_operators(pool, sandbox, gated=path, cat=Path("/bin/cat"))
        pool.serve(2, "--application-id", sandbox.applications[0])
        with watching(pool, CLIENT_TOPIC + OFFCHAIN_CLIENT) as events:
            sandbox.request("gated", "slow")
            sandbox.request("cat", "fast")
            until(lambda: noted(notes) and sandbox.results() == ["fast"])
            (operator,) = noted(notes)
            first = owner(pool)
            pool.signal(pool.signing_pids()[first["owner"]], signal.SIGKILL)
            until(lambda: not psutil.pid_exists(operator), what="the end of its operator")
            until(lambda: len(noted(notes)) == 2, what="the task on another worker")
            second = owner(pool)
            assert second["epoch"] > first["epoch"]
            gate.touch()
            until(lambda: len(events("task_outcome")) == 2)
            assert sandbox.results() == ["fast", "slow"]
            (told,) = (e for e in events("task_outcome") if b"gated" in e.body)
            body = msgspec.msgpack.decode(told.body)
            assert (told.delegate, body["operator"]) == (sandbox.key(), "gated")
        assert pool.run("tasks", "list", "--json").stdout == ""
        assert pool.terminate() == 0


def test_applications_are_watched_and_let_go_while_the_pool_runs(template: PoolProcess) -> None:
    """What was said on the command line outlives the broker; T22 through the whole pool."""
    with a_pool(template) as pool:
        sandbox = Sandbox(pool, "--applications", "2")
        path, notes, _ = gated(pool)
        with_operators(pool, sandbox, gated=path, cat=Path("/bin/cat"))
        pool.serve(2)
        for number in range(2):
            sandbox.request("cat", f"a{number}", number)
        pool.run("tasks", "watch", *sandbox.applications, "--any-operator")
        until(lambda: [sandbox.results(n) for n in range(2)] == [["a0"], ["a1"]])

        sandbox.post("/sandbox/faults", [{"kind": "read_only", "field": "processTaskOutcome"}])
        sandbox.request("cat", "stopped", 1)
        until(lambda: "read-only mode" in pool.run("status").stdout, what="why it is stopped")
        listed = pool.run("tasks", "applications").stdout.splitlines()
        assert sum("does not go on: configuration: " in line for line in listed) == 1
        mistyped = pool.run("tasks", "resume", "ab" * 32, check=False)
        assert (mistyped.returncode, mistyped.stdout) == (1, "")
        pool.run("tasks", "resume", sandbox.applications[1])
        until(lambda: sandbox.results(1) == ["a1", "stopped"])

        pool.signal(pool.broker_pid, signal.SIGKILL)
        sandbox.request("cat", "b", 0)  # nobody needs the broker for this
        until(lambda: sandbox.results(0) == ["a0", "b"])
        pool.wait_for_signing(2)
        listed = pool.run("tasks", "applications", "--json").stdout.splitlines()
        rows = [json.loads(each) for each in listed]
        assert {each["key"] for each in rows} == {sandbox.key(0), sandbox.key(1)}
        assert {each["application"] for each in rows} == set(sandbox.applications)
        assert {(each["chain"], each["operators"]) for each in rows} == {(sandbox.chain, None)}

        sandbox.request("gated", "never", 1)
        (operator,) = until(lambda: noted(notes))
        pool.run("tasks", "unwatch", sandbox.applications[1])
        until(lambda: not psutil.pid_exists(operator), what="the end of its operator")
        watched = pool.run("tasks", "forget", sandbox.applications[0], check=False)
        assert (watched.returncode, "still watched" in watched.stderr) == (1, True)
        until(lambda: "waiting" in pool.run("tasks", "list").stdout)
        assert " 1 tasks forgotten" in pool.run("tasks", "forget", sandbox.applications[1]).stdout
        assert pool.run("tasks", "list").stdout == ""
        sandbox.request("cat", "c", 0)
        until(lambda: sandbox.results(0) == ["a0", "b", "c"])
        assert sandbox.results(1) == ["a1", "stopped"]


def test_a_dead_letter_is_shown_and_tried_again(template: PoolProcess) -> None:
    with a_pool(template) as pool:
        sandbox = Sandbox(pool)
        mended = pool.directory / "mended"
        moody = pool.directory / "moody"
        moody.write_text(f"#!/bin/sh\n[ -e {mended} ] && exec cat\necho 'no luck' >&2\nexit 65\n")
        moody.chmod(0o700)
        missing = pool.directory / "missing"
        with_operators(pool, sandbox, moody=moody, missing=missing)
        pool.serve(1, "--application-id", sandbox.applications[0])
        with watching(pool, f"d/{sandbox.key()}") as events:
            sandbox.request("moody", "x")
            (dead,) = until(lambda: events("task_dead"))
            assert dead.code == "permanent"
            line = pool.run("tasks", "list", "--state", "dead").stdout
            name = line.split()[1]
            assert "moody" in line
            shown = pool.run("tasks", "show", name).stdout
            assert "no luck" in shown
            assert "dead=1" in pool.run("status").stdout
            mended.touch()
            assert "is tried again" in pool.run("tasks", "retry", name).stdout
            assert f"operator_in_doubt operator 'missing': {missing} does not exist" in pool.log()
            until(lambda: sandbox.results() == ["x"])
            until(lambda: events("task_outcome"))
        gone = pool.run("tasks", "drop", name, check=False)
        assert gone.returncode == 1
        assert "there is no task" in gone.stderr


def test_a_controller_on_the_chain_moves_an_application_between_pools(
    template: PoolProcess,
) -> None:
    """T46, T47 through whole pools: each registers itself, and one takes over from the other."""
    with a_pool(template) as first, a_pool(template) as second:
        sandbox = Sandbox(first, "--workers", "2")
        for pool, worker in zip((first, second), sandbox.workers, strict=True):
            with_operators(pool, sandbox, cat=Path("/bin/cat"))
            pool.serve(1, "--controller-id", worker)
        for pool in (first, second):
            pool.wait_for_log("controller_told registration")
        where = {"application_id": sandbox.applications[0], "chain_id": sandbox.chain}
        service = sandbox.post("/sandbox/services", {**where, "name": "cat"})["service_id"]
        sandbox.request("cat", "x")
        sandbox.assign(service, sandbox.workers[0])
        until(lambda: sandbox.results() == ["x"])
        assert sandbox.key() in first.run("tasks", "applications", "--json").stdout
        sandbox.assign(service, sandbox.workers[1])
        until(lambda: sandbox.key() in second.run("tasks", "applications", "--json").stdout)
        sandbox.request("cat", "y")
        until(lambda: sandbox.results() == ["x", "y"])
        until(lambda: sandbox.key() not in first.run("tasks", "applications", "--json").stdout)
