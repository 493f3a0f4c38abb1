"""`forgepool sandbox-apps`: by hand, by its controls, and how its process ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from tests.offchain.served_applications import Served, served, until
from workers.sandbox_apps.command import sandbox_apps

RUN = "from workers.sandbox_apps.command import sandbox_apps; sandbox_apps()"
WAIT_S = 20


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A sandbox process, and the line that it printed when it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "run", "--listen", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # aiohttp reads the system's certificates when it is imported; nothing here needs them.
        env=os.environ | {"SSL_CERT_FILE": os.devnull},
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def by_hand(*arguments: str, input: str | None = None) -> str:
    done = CliRunner().invoke(sandbox_apps, arguments, input=input)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["request-task", "echo", "-"], "no UTF-8"),
        (["run", "--applications", "1", "--without-ids", "5"], "--without-ids 5"),
    ],
    ids=["input", "without-ids"],
)
def test_wrong_words_are_told_in_a_sentence(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(sandbox_apps, arguments, input=b"\xff\xfe")
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.process
def test_a_sandbox_is_tried_by_hand(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with running("--ready-file", str(ready), "--block-every", "0.01") as (process, described):
        assert json.loads(ready.read_text()) == described
        url = ("--url", described["url"])
        block = by_hand("request-task", "echo", "by argument", *url)
        assert len(block.strip()) == 64
        by_hand("request-task", "echo", "-", *url, input="by pipe\n")
        assert by_hand("results", *url) == ""
        where = f"/chains/{described['chains'][0]}/applications/{described['applications'][0]}"
        outcome = {"id": "1", "operator": "echo", "output": "done\n"}
        query = "query($outcome: TaskOutcome!) { processTaskOutcome(outcome: $outcome) }"
        with httpx.Client(base_url=described["url"], trust_env=False, verify=False) as client:
            body = {"query": query, "variables": {"outcome": outcome}}
            assert client.post(where, json=body).status_code == 200
            while _height(client, described) < 10:  # blocks come by themselves
                pass
        assert by_hand("results", *url) == "done\n"
        assert json.loads(by_hand("results", "--json", *url)) == ["done\n"]
        wrong = ("results", "--application-id", "00" * 32, *url)
        refused = CliRunner().invoke(sandbox_apps, wrong)
        assert (refused.exit_code, "not registered" in refused.output) == (1, True)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0
        assert "ending" in log
        assert "Traceback" not in log
        gone = CliRunner().invoke(sandbox_apps, ["results", *url])
        assert (gone.exit_code, "Is `sandbox-apps run` running?" in gone.output) == (1, True)


def _height(client: httpx.Client, described: dict[str, Any]) -> int:
    chains = client.get("/sandbox/state").json()["chains"]
    height: int = chains[described["chains"][0]]["next_height"]
    return height


@pytest.mark.parametrize("listen", ["80", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", ":80"])
def test_an_address_that_is_none_says_how_it_is_written(listen: str) -> None:
    refused = CliRunner().invoke(sandbox_apps, ["run", "--listen", listen])
    assert refused.exit_code == 2
    assert "HOST:PORT is due" in refused.output


def controlling(steps: Callable[[Served, httpx.AsyncClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with (
            served(workers=1) as each,
            httpx.AsyncClient(base_url=each.url, trust_env=False, verify=False) as client,
        ):
            await steps(each, client)

    asyncio.run(run())


def test_everything_is_controlled_over_http() -> None:
    async def steps(each: Served, client: httpx.AsyncClient) -> None:
        fault = {"kind": "delay", "seconds": 0.01, "field": "taskCount"}
        due = (await client.post("/sandbox/faults", json=[fault, {"kind": "conflict"}])).json()
        assert [entry["kind"] for entry in due] == ["delay", "conflict"]
        assert len((await client.get("/sandbox/faults")).json()) == 2
        assert (await client.delete("/sandbox/faults")).json() == []
        switches = (await client.post("/sandbox/switches", json={"refuse_streams": True})).json()
        assert (switches["refuse_streams"], switches["copies_of_new_block"]) == (True, 1)
        blocks = {"chain_id": each.chain, "count": 3}
        assert (await client.post("/sandbox/blocks", json=blocks)).json() == {"next_height": 3}
        news = {"chain_id": each.chain, "reasons": [{"NewRound": {}}]}
        assert (await client.post("/sandbox/notifications", json=news)).json() == {"told": 1}
        assert (await client.delete("/sandbox/streams")).json() == {"dropped": 0}
        answers = {
            "application_id": each.application.application_id,
            "next": [{"set_cursor": "a"}],
            "every": {"callback_in_us": 1},
        }
        assert (await client.post("/sandbox/answers", json=answers)).json() == {"waiting": 1}
        assert (await each.node.next_actions(each.application, None, 5, 10)).set_cursor == "a"
        assert (await each.node.next_actions(each.application, None, 5, 10)).request_callback == 6
        service = {"application_id": "0a", "chain_id": each.chain, "name": "n"}
        answer = await client.post("/sandbox/services", json=service)
        assert len(answer.json()["service_id"]) == 64
        state = (await client.get("/sandbox/state")).json()
        assert state["chains"][each.chain]["next_height"] == 3
        await until(lambda: each.host.requests.since(1)[0].seconds is not None)
        [request] = (await client.get("/sandbox/requests", params={"since": 1})).json()
        assert (request["number"], request["status"]) == (2, 200)

    controlling(steps)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", b'[{"kind":"unheard"}]'),
        ("faults", b"nonsense"),
        ("switches", b'{"unheard":true}'),
        ("switches", b'{"copies_of_new_block":-1}'),
        ("blocks", b'{"chain_id":"unheard"}'),
        ("blocks", b'{"chain_id":"x","count":0}'),
        ("notifications", b'{"chain_id":"unheard","reasons":[]}'),
        ("answers", b'{"application_id":"unheard"}'),
        ("services", b'{"application_id":"a","chain_id":"unheard","name":"n"}'),
    ],
)
def test_a_control_that_makes_no_sense_says_why(path: str, body: bytes) -> None:
    async def steps(each: Served, client: httpx.AsyncClient) -> None:
        answer = await client.post(f"/sandbox/{path}", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]

    controlling(steps)


def test_the_pages_of_a_node_service_are_there() -> None:
    async def steps(each: Served, client: httpx.AsyncClient) -> None:
        assert (await client.get("/ready")).text == "ready!"
        where = f"/chains/{each.chain}/applications/{each.application.application_id}"
        for path in ("/", where):
            page = await client.get(path)
            assert page.headers["content-type"].startswith("text/html")
        answer = await client.post(where, json={"query": "query { taskCount }"})
        assert answer.headers["content-type"] == "application/octet-stream"
        error = await client.post("/chains/x/applications/y", content=b"")
        assert error.headers["content-type"].startswith("text/plain")
        assert (await client.post(where, content=b"x" * 3_000_000)).status_code == 413
        chains = await client.post("/", json={"query": "{ chains { list default } }"})
        assert chains.json()["data"]["chains"]["default"] == each.chain

    controlling(steps)
