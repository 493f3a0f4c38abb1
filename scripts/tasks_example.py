"""Off-chain tasks, from the request to the outcome on the chain: a sandbox, a pool, two operators.

Everything that runs here is what an operator runs: `forgepool sandbox-apps`, `init`, `serve`, each
in its own process. Two applications ask for the same tasks; those of the second have no ids, so
that their outcomes must come in order. What is told at the end, the sandbox has counted.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
from demo import Demo, DemoFailed, counted, wait_for
from rich.console import Console

from broker.applications import OFFCHAIN_CLIENT
from broker.client import Watcher
from broker.config import Endpoints, resolve_endpoints
from broker.errors import BrokerError
from broker.messages import CLIENT_TOPIC, Event

OPERATORS = Path(__file__).parent / "operators"
APPLICATIONS = {"with ids": 0, "without ids": 1}
# A task takes a second at most, if the machine has nothing else to do; a killed worker some more.
TIME_S_PER_TASK, TIME_SLACK_S = 4, 60
REQUEST = "mutation($o: String!, $i: String!) { requestTask(operator: $o, input: $i) }"


class Sandbox:
    """The sandbox's applications, as their users and as everybody who looks on sees them."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.url: str = told["url"]
        self.chain: str = told["chains"][0]
        self.applications: list[str] = told["applications"]
        self._client = httpx.Client(base_url=self.url, timeout=20, trust_env=False)

    def request(self, application: str, operator: str, text: str) -> None:
        path = f"/chains/{self.chain}/applications/{application}"
        body = {"query": REQUEST, "variables": {"o": operator, "i": text}}
        answer = self._client.post(path, json=body)
        if answer.status_code != 200:
            raise DemoFailed(f"the sandbox refused a request: {answer.text}")

    def results(self) -> list[list[str]]:
        """The outcomes that each application has stored, oldest first."""
        state = self._client.get("/sandbox/state").json()
        of = state["chains"][self.chain]["applications"]
        return [of[application]["results"] for application in self.applications]

    def submissions(self) -> int:
        asked = self._client.get("/sandbox/requests").json()
        return sum("processTaskOutcome" in each["query"] for each in asked)

    def close(self) -> None:
        self._client.close()


class Seen:
    """What the pool has told of, each event once."""

    def __init__(self, sandbox: Sandbox, console: Console) -> None:
        self._names = {
            sandbox.chain + sandbox.applications[number]: name
            for name, number in APPLICATIONS.items()
        }
        self._console = console
        self._ids: set[bytes] = set()
        self.count: Counter[str] = Counter()

    def take(self, event: Event) -> None:
        if event.id in self._ids:  # they come at least once
            return
        self._ids.add(event.id)
        self.count[event.event] += 1
        body = msgspec.msgpack.decode(event.body)
        self._console.print(
            f"{event.event:13} {self._names[event.delegate]:11} {body['serial']:3}"
            f" {body['operator']:8} attempt {body['attempt']} {event.code} {event.text}".rstrip(),
            highlight=False,
        )


def start_everything(demo: Demo, workers: int) -> Sandbox:
    """The sandbox, and a pool that processes both applications."""
    ready, pool = demo.directory / "sandbox.ready", demo.directory / "pool"
    demo.start(
        "sandbox", "sandbox-apps", "run", "--listen", "127.0.0.1:0", "--applications", "2",
        "--without-ids", "1", "--ready-file", str(ready),
    )  # fmt: skip
    sandbox = Sandbox(wait_for(demo, ready))
    where = ["--state-dir", str(pool)]
    # Every pool has a store for signatures, and so a chain that it would sign for.
    demo.run("init", *where, "--network", demo.network, "--chain-id", "ghostnet")
    shop = demo.directory / "shop"
    shop.mkdir()
    (pool / "forgepool.toml").write_text(f"""\
[tasks]
node_service = "{sandbox.url}"
chain_id = "{sandbox.chain}"
retry_delay_s = 0.3
retry_max_s = 1

[tasks.operators.reverse]
path = {json.dumps(str(OPERATORS / "reverse"))}

[tasks.operators.flaky]
path = {json.dumps(str(OPERATORS / "flaky"))}
timeout_s = 30
set_env = {{ SHOP = {json.dumps(str(shop))} }}
""")
    applications = [f"--application-id={each}" for each in sandbox.applications]
    demo.start("serve", "serve", *where, "--workers", str(workers), *applications)
    return sandbox


def kill_the_owner(demo: Demo) -> str:
    """SIGKILL to the worker that processes the first application."""
    where = ["--state-dir", str(demo.directory / "pool")]
    told = demo.run("tasks", "applications", *where, "--json").splitlines()
    owner = next(each["owner"] for each in map(json.loads, told) if each["owner"])
    (pid,) = (w["pid"] for w in demo.pool_status()["workers"] if w["name"] == owner)
    os.kill(pid, signal.SIGKILL)
    return f"killed {owner} (pid {pid}) with SIGKILL"


def watch(demo: Demo, sandbox: Sandbox, options: dict[str, Any], console: Console) -> Seen:
    """Request the tasks, and show what happens until the chain has all outcomes."""
    wanted = options["tasks"] * len(APPLICATIONS)
    until = time.monotonic() + TIME_SLACK_S + TIME_S_PER_TASK * wanted
    killed = not options["kill_a_worker"]
    seen = Seen(sandbox, console)
    endpoints = resolve_endpoints(demo.directory / "pool", Endpoints())
    with closing(Watcher(endpoints, CLIENT_TOPIC + OFFCHAIN_CLIENT)) as watcher:
        while not watcher.live and time.monotonic() < until:
            demo.check_children()
            watcher.poll(0.1)
        for number in range(options["tasks"]):
            for application in sandbox.applications:
                sandbox.request(application, *task(number))
        while seen.count["task_outcome"] < wanted:
            for news in watcher.poll(0.2):
                if isinstance(news, Event):
                    seen.take(news)
            demo.check_children()
            if not killed and seen.count["task_outcome"] >= wanted // 3:
                killed = True
                console.print(kill_the_owner(demo), style="bold")
            if time.monotonic() > until:
                raise DemoFailed(
                    f"only {seen.count['task_outcome']} of {wanted} outcomes in time; logs:"
                    f" {demo.directory}"
                )
    return seen


def task(number: int) -> tuple[str, str]:
    """Which operator is to do what, for the Nth request."""
    return ("reverse", "flaky")[number % 2], f"thing {number}"


def is_outcome(number: int, text: str) -> bool:
    operator, wanted = task(number)
    return text == wanted[::-1] if operator == "reverse" else text.startswith(f"{wanted} (order ")


def summary(demo: Demo, sandbox: Sandbox, tasks: int, seen: Seen) -> dict[str, Any]:
    """What the applications have stored, beside what they had asked for."""
    results = sandbox.results()
    stored = [
        [number for text in of_one for number in range(tasks) if is_outcome(number, text)]
        for of_one in results
    ]
    counts = [Counter(numbers) for numbers in stored]
    orders = [text for of_one in results for text in of_one if "(order " in text]
    return {
        "tasks": tasks * len(APPLICATIONS),
        "outcomes": sum(len(of_one) for of_one in results),
        "lost": sum(number not in count for count in counts for number in range(tasks)),
        "stored_twice": sum(n - 1 for count in counts for n in count.values()),
        "in_order": stored[APPLICATIONS["without ids"]] == list(range(tasks)),
        "submissions": sandbox.submissions(),
        "operators_started": seen.count["task_started"],
        "retries": seen.count["task_retry"],
        "dead": seen.count["task_dead"],
        "ordered_twice": len(list((demo.directory / "shop").iterdir())) - len(orders),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--tasks", default=10, show_default=True, type=click.IntRange(1, 1000), help="Of each of the two applications.")  # fmt: skip  # noqa: E501
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--kill-a-worker", is_flag=True, help="SIGKILL one in mid-run.")
@click.option("--keep", is_flag=True, help="Keep the run's directory (logs, journal).")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON, in the last line.")
def main(**options: Any) -> None:
    """Watch a pool run operators for on-chain applications, and see what the sandbox counted."""
    logging.disable()
    console = Console(stderr=options["as_json"])
    directory = Path(tempfile.mkdtemp(prefix="forgepool-tasks-"))
    demo = Demo(directory, "tezos")
    failed = True
    try:
        console.print(f"starting sandbox, broker, {options['workers']} workers in {directory}")
        with closing(start_everything(demo, options["workers"])) as sandbox:
            seen = watch(demo, sandbox, options, console)
            found = summary(demo, sandbox, options["tasks"], seen)
        failed = bool(found["lost"] or found["stored_twice"] or found["ordered_twice"])
        failed = failed or not found["in_order"]
        if options["as_json"]:
            print(json.dumps(found))
        else:
            console.print(counted(found))
    except (DemoFailed, BrokerError) as e:
        console.print(f"tasks-example: {e}")
    except KeyboardInterrupt:
        console.print("interrupted")
    finally:
        demo.end()
        if not failed and not options["keep"]:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(prog_name="scripts/tasks-example")
