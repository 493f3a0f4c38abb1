"""`forgepool sandbox-apps`: the sandbox application host, and ways to try it by hand."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from broker.telemetry import log_to_stderr
from workers.loop_end import cancel_on_signals
from workers.sandbox_apps.sandbox_chain import sandbox_id

log = logging.getLogger("forgepool.sandbox_apps")

DEFAULT_ADDRESS = "127.0.0.1:8080"  # the port of `linera service`
DEFAULT_URL = f"http://{DEFAULT_ADDRESS}"
# The host is on this machine; one that takes longer hangs.
ANSWER_S_MAX = 30.0

_REQUEST_TASK = (
    "mutation($operator: String!, $input: String!) "
    "{ requestTask(operator: $operator, input: $input) }"
)


@click.group()
def sandbox_apps() -> None:
    """A sandbox for off-chain tasks: applications that ask for them, without any chain."""


@sandbox_apps.command()
@click.option("--listen", default=DEFAULT_ADDRESS, show_default=True, metavar="HOST:PORT")
@click.option(
    "--chains", type=click.IntRange(1, 100), default=1, show_default=True, help="How many."
)
@click.option(
    "--applications", type=click.IntRange(1, 100), default=1, show_default=True,
    help="How many that ask for tasks; each is on every chain.",
)  # fmt: skip
@click.option("--no-ids", is_flag=True, help="Tasks have no ids: outcomes must keep their order.")
@click.option(
    "--without-ids", type=click.IntRange(0, 100), default=0, show_default=True, metavar="N",
    help="The same for the last N of the applications.",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(0, 100), default=0, show_default=True,
    help="Worker chains; with any there is a controller application.",
)  # fmt: skip
@click.option(
    "--block-every", type=click.FloatRange(0.001, 3600), metavar="SECONDS",
    help="Make an empty block on every chain so often.",
)  # fmt: skip
@click.option("--read-only", is_flag=True, help="Refuse whatever would make a block.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Written when it listens.")
@click.option("--parent-pipe-fd", type=int, help="End when this pipe closes.")
@click.option("--verbose", is_flag=True, help="Log every request.")
def run(
    listen: str,
    chains: int,
    applications: int,
    no_ids: bool,
    without_ids: int,
    workers: int,
    block_every: float | None,
    read_only: bool,
    ready_file: Path | None,
    parent_pipe_fd: int | None,
    verbose: bool,
) -> None:
    """Serve applications that ask for off-chain tasks, as a node service of Linera does.

    Whoever reaches it may ask for tasks and switch faults on: there is no access control. Prints
    one JSON line when it listens. Ends on SIGTERM or Ctrl-C; nothing is kept.
    """
    from workers.sandbox_apps.plan import Plan

    if without_ids > applications:
        raise click.UsageError(f"--without-ids {without_ids}: --applications is {applications}")
    log_to_stderr("sandbox-apps", verbose=verbose)
    plan = Plan.of(
        chains=chains, applications=applications, workers=workers, without_ids=without_ids
    )
    host = plan.host(ids=not no_ids, read_only=read_only)
    address, port = _address(listen)
    try:
        asyncio.run(
            _serve(host, plan.described(), address, port, block_every, ready_file, parent_pipe_fd)
        )
    except OSError as error:  # the port is taken, no such host, no place for the ready file
        raise click.ClickException(str(error)) from None


_URL = click.option("--url", default=DEFAULT_URL, show_default=True, help="Of the sandbox.")
_CHAIN = click.option(
    "--chain-id", default=sandbox_id("chain", 0), metavar="ID",
    help="[default: the sandbox's first chain]",
)  # fmt: skip
_APPLICATION = click.option(
    "--application-id", default=sandbox_id("application", 0), metavar="ID",
    help="[default: the sandbox's first application]",
)  # fmt: skip


@sandbox_apps.command("request-task")
@click.argument("operator")
@click.argument("input_text", metavar="INPUT")
@_URL
@_CHAIN
@_APPLICATION
def request_task(
    operator: str, input_text: str, url: str, chain_id: str, application_id: str
) -> None:
    """Let an application ask for a run of OPERATOR with INPUT; `-` reads it from standard input.

    Prints the hash of the block that the request is in.
    """
    given = sys.stdin.buffer.read() if input_text == "-" else os.fsencode(input_text)
    try:
        input_text = given.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"INPUT is no UTF-8 ({error}): a task's input is text") from None
    body = {"query": _REQUEST_TASK, "variables": {"operator": operator, "input": input_text}}
    click.echo(_posted(url, chain_id, application_id, body))


@sandbox_apps.command()
@_URL
@_CHAIN
@_APPLICATION
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def results(url: str, chain_id: str, application_id: str, as_json: bool) -> None:
    """Print the outcomes that an application has stored, oldest first, one a line."""
    data = _posted(url, chain_id, application_id, {"query": "query { results }"})
    stored: list[str] = data["results"]
    if as_json:
        click.echo(json.dumps(stored, ensure_ascii=False))
        return
    for result in stored:
        click.echo(result.removesuffix("\n"))


async def _serve(
    host: Any,
    described: dict[str, Any],
    address: str,
    port: int,
    block_every: float | None,
    ready_file: Path | None,
    parent_pipe_fd: int | None,
) -> None:
    from workers.sandbox_apps.host_server import HostServer

    server = HostServer(host)
    bound = await server.start(address, port)
    working = asyncio.create_task(_make_blocks(host, block_every))
    cancel_on_signals(working, parent_pipe_fd)
    try:
        _announce({"url": f"http://{address}:{bound}", "pid": os.getpid()} | described, ready_file)
        log.info("listening host=%s port=%d", address, bound)
        await working
    except asyncio.CancelledError:
        log.info("ending requests=%d", len(host.requests.since()))
    finally:
        await server.stop()


async def _make_blocks(host: Any, every_s: float | None) -> None:
    """Make empty blocks, each so long after the one before; without an interval none."""
    if every_s is None:
        await asyncio.Event().wait()
        return
    while True:
        await asyncio.sleep(every_s)
        for chain_id in host.network.chains:
            host.add_blocks(chain_id)


def _announce(described: dict[str, Any], ready_file: Path | None) -> None:
    """Say in one line, and in the ready file, where the host listens and what is on it."""
    line = json.dumps(described)
    if ready_file is not None:
        partial = ready_file.with_name(f"{ready_file.name}.{os.getpid()}")
        partial.write_text(line + "\n")
        partial.replace(ready_file)
    print(line, flush=True)


def _address(text: str) -> tuple[str, int]:
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"--listen {text}: HOST:PORT is due, such as {DEFAULT_ADDRESS}")
    return address.strip("[]"), int(port)


def _posted(url: str, chain_id: str, application_id: str, body: dict[str, Any]) -> Any:
    """What an application says, or the hash of its block. Ends the command when it complains."""
    import httpx

    path = f"{url.rstrip('/')}/chains/{chain_id}/applications/{application_id}"
    try:
        with httpx.Client(trust_env=False, verify=False, timeout=ANSWER_S_MAX) as client:
            response = client.post(path, json=body)
        reply = msgspec.json.decode(response.content, type=dict[str, Any])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise click.ClickException(f"{url}: {error}. Is `sandbox-apps run` running?") from None
    except msgspec.DecodeError:
        raise click.ClickException(f"{url} is no node service") from None
    complaint = reply.get("error") or reply.get("errors")
    if complaint or response.status_code != 200:
        raise click.ClickException(f"status {response.status_code}: {complaint}")
    return reply["data"]
