"""Commands of the broker's side: serve, broker, push, watch, cancel, status."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from broker import task_event_body
from broker.applications import OFFCHAIN_CLIENT
from broker.client import CALL_S, Admin, Client, RequestRefused, Watcher
from broker.client_session import SILENCE_AFTER_DEADLINE_S, Refused
from broker.config import (
    BASE_DIR_ENV,
    STORE_NAME,
    node_url,
)
from broker.errors import (
    NoAnswer,
    NoStore,
)
from broker.messages import BLOCK_READY, CLIENT_TOPIC, BlockReady, Event, Vote, VoteBatch
from broker.place import Place, at_a_place
from broker.process_signals import end_on_signals
from broker.reload import reload_lines
from broker.server import Broker, ServiceLock
from broker.supervisor import Supervisor
from broker.task_options import TaskFlags, with_task_options
from broker.task_routing import task_lines
from broker.telemetry import log_to_stderr, printable
from broker.topic_reader import EventsLost

log = logging.getLogger("forgepool.supervisor")

LINE_LETTERS = 100  # a wide terminal; a service reports up to 64 numbers


def _fail(message: str) -> NoReturn:
    click.echo(f"forgepool: {message}", err=True)
    sys.exit(1)


def parent_fd_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--parent-fd", type=int, hidden=True)(command)


# -- serve, broker --------------------------------------------------------------------------------


@click.command()
@at_a_place
@click.option(
    "--workers", "-w", type=click.IntRange(0, 1024), help="Worker processes.  [default: 2]"
)
@click.option("--node", help="URL of the node's RPC, for forging blocks.")
@click.option("--base-dir", type=click.Path(file_okay=False, path_type=Path),
              envvar=BASE_DIR_ENV, show_envvar=True,
              help="Key store: a client directory.  [default: <state-dir>/keys]")  # fmt: skip
@click.option("--gateway/--no-gateway", default=None,
              help="Serve octez-signer clients too.  [default: if configured]")  # fmt: skip
@click.option("--quarantine/--no-quarantine", default=None,
              help="Verify what the network sends too.  [default: if configured]")  # fmt: skip
@click.option("--password-filename", type=click.Path(dir_okay=False, path_type=Path),
              envvar="FORGEPOOL_PASSWORD_FILENAME", show_envvar=True,
              help="Passwords of encrypted keys, one a line.")  # fmt: skip
@click.option(
    "--policy",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Which key may sign what.  [default: policy.toml in the state directory]",
)
@click.option("--drain-timeout", type=click.FloatRange(0), metavar="SECONDS",
              help="Wait so long for active work at the end.  [default: as long as it takes]",
              )  # fmt: skip
@with_task_options
@parent_fd_option
@click.option("--verbose", is_flag=True, help="Log more.")
def serve(
    place: Place,
    workers: int | None,
    node: str | None,
    base_dir: Path | None,
    gateway: bool | None,
    quarantine: bool | None,
    password_filename: Path | None,
    policy: Path | None,
    drain_timeout: float | None,
    task_flags: TaskFlags,
    parent_fd: int | None,
    verbose: bool,
) -> None:
    """Run a whole pool: the broker and its workers, restarted when they die.

    SIGTERM or Ctrl-C cancels what is pending, waits for what is active, and ends with status 0;
    a second one ends it now, with status 128 and its number. SIGHUP is `forgepool reload`.
    """
    log_to_stderr("supervisor", verbose=verbose)
    count = place.settings.workers if workers is None else workers
    task_flags.applied_to(place.settings.tasks)  # what is wrong with them is said once, and here
    if count and not (place.state_dir / STORE_NAME).exists():
        raise NoStore(place.state_dir)
    if not count:
        log.warning("no_workers why='--workers 0': nothing is signed until others join")
    ServiceLock(place.state_dir).release()  # another pool here? say so before anything starts
    where = ["--state-dir", str(place.state_dir.absolute())]
    if place.config is not None:
        where += ["--config", str(place.config.absolute())]
    worker, signer = ["worker", *where, *task_flags.arguments()], ["gateway", *where]
    services = {}
    if url := node_url(node or place.settings.node):
        worker += ["--node", url]
    if base_dir:
        worker += ["--base-dir", str(base_dir.absolute())]
        signer += ["--base-dir", str(base_dir.absolute())]
    if password_filename:
        worker += ["--password-filename", str(password_filename.absolute())]
    if policy:
        worker += ["--policy", str(policy.absolute())]
    if verbose:
        where.append("--verbose")
    if gateway if gateway is not None else place.settings.gateway is not None:
        services["gateway"] = signer
    if quarantine if quarantine is not None else place.settings.quarantine is not None:
        services["quarantine"] = ["quarantine", "run", *where]
    timeout = place.settings.drain_timeout_s if drain_timeout is None else drain_timeout
    supervisor = Supervisor(
        ["broker", *where, *task_flags.arguments()],
        {f"w{i}": [*worker, "--name", f"w{i}"] for i in range(count)},
        place.endpoints,
        services=services,
        drain_timeout_s=timeout,
        curve=place.curve,
        parent_fd=parent_fd,
    )
    sys.exit(supervisor.run())


@click.command()
@at_a_place
@with_task_options
@parent_fd_option
@click.option("--verbose", is_flag=True, help="Log more.")
def broker(place: Place, task_flags: TaskFlags, parent_fd: int | None, verbose: bool) -> None:
    """Run the broker alone; workers join it with `forgepool worker`."""
    log_to_stderr("broker", verbose=verbose)
    ended, wakers = end_on_signals(parent_fd)
    tasks = task_flags.applied_to(place.settings.tasks)
    running = Broker(
        place.state_dir,
        place.endpoints,
        msgspec.structs.replace(place.settings, tasks=tasks),
        ended=ended,
        wakers=wakers,
        parent_fd=parent_fd,
    )
    try:
        running.run()
    finally:
        running.close()


# -- clients --------------------------------------------------------------------------------------


@click.command()
@at_a_place
@click.argument("kind", type=click.Choice(["attestations", "preattestations", "block", "sign"]))
@click.option("--delegate", "-d", multiple=True, required=True, metavar="HASH[:SLOT]",
              help="Who signs; for votes repeatable, with the committee slot.")  # fmt: skip
@click.option("--payload", default="-", metavar="JSON|HEX|-",
              help="JSON of the batch or block, or hex of the bytes; - reads stdin.")  # fmt: skip
@click.option("--ttl", type=click.FloatRange(0.001, 86400), default=30.0, show_default=True,
              help="Seconds until the request expires.")  # fmt: skip
@click.option("--client", help="Client name (scope of the request).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
def push(
    place: Place,
    kind: str,
    delegate: tuple[str, ...],
    payload: str,
    ttl: float,
    client: str | None,
    as_json: bool,
) -> None:
    """Push one request and print its events; exits with 1 if one of them is not a success."""
    text = sys.stdin.read() if payload == "-" else payload
    if not text.strip():
        raise click.UsageError("--payload is empty: give it, or pipe it in")
    if len(delegate) != 1 and kind in ("block", "sign"):
        raise click.UsageError(f"{kind} takes one --delegate")
    votes = [_vote(each) for each in delegate] if kind.endswith("attestations") else []
    if kind == "sign":
        try:
            body = bytes.fromhex(text.strip())
        except ValueError as e:
            raise click.UsageError(f"--payload is not hex: {e}") from None
    elif kind == "block":
        body = msgspec.msgpack.encode(_json(text))
    else:
        try:
            body = msgspec.msgpack.encode(msgspec.json.decode(text, type=VoteBatch))
        except msgspec.DecodeError as e:
            raise click.UsageError(f"--payload is no batch of votes: {e}") from None
    ok = True
    with Client(place.endpoints, client, curve=place.curve) as connection:
        connection.wait_live()
        ttl_ms = int(ttl * 1000)
        if votes:
            id = connection.push_votes(
                f"forge_and_sign_{kind}",
                msgspec.msgpack.decode(body, type=VoteBatch),
                votes,
                ttl_ms=ttl_ms,
            )
        else:
            name = "sign" if kind == "sign" else "forge_and_sign_block"
            id = connection.push_one(name, delegate[0], body, ttl_ms=ttl_ms)
        # Who wants to cancel it needs both.
        click.echo(f"forgepool: pushed id={id.hex()} client={connection.name}", err=True)
        try:
            for event in connection.wait(id, ttl + SILENCE_AFTER_DEADLINE_S + 5):
                _print_event(event, as_json)
                ok = ok and event.event.endswith(("_ready", "signed"))
        except RequestRefused as e:
            _fail(str(e))
    sys.exit(0 if ok else 1)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise click.UsageError(f"--payload is not JSON: {e}") from None


def _vote(text: str) -> Vote:
    delegate, _, slot = text.partition(":")
    if not (slot or "0").isdecimal():
        raise click.UsageError(f"--delegate {text}: the slot behind the colon is a number")
    return Vote(delegate, int(slot or 0))


def _print_event(
    event: Event | EventsLost | Refused,
    as_json: bool,
    read_body: Callable[[Event], dict[str, object]] = task_event_body.read_body,
) -> None:
    if isinstance(event, EventsLost):
        click.echo(f"events_lost topic={event.topic} first={event.first} last={event.last}")
        return
    if isinstance(event, Refused):
        click.echo(f"refused id={event.ack.id.hex()} code={event.ack.code} {event.ack.text}")
        return
    fields: dict[str, object] = {
        "event": event.event,
        "delegate": event.delegate,
        "id": event.id.hex(),
    }
    if event.event == BLOCK_READY:
        block = msgspec.msgpack.decode(event.body, type=BlockReady)
        fields["hash"] = block.hash
        if as_json:
            fields["header"] = block.header.hex()
            fields["operations"] = [[o.hex() for o in p] for p in block.operations]
        else:
            fields["operations"] = "+".join(str(len(p)) for p in block.operations)
    else:
        fields = fields | read_body(event) | fields
    if event.code or event.text:
        fields |= {"code": event.code, "text": event.text}
    if as_json:
        click.echo(json.dumps(fields))
    else:
        line = " ".join(f"{k}={v}" if k != "event" else str(v) for k, v in fields.items())
        click.echo(printable(line))


@click.command()
@at_a_place
@click.argument("topic", default="all")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
@click.option("--quarantine", is_flag=True, help="Of the quarantine, which has its own events.")
def watch(place: Place, topic: str, as_json: bool, count: int | None, quarantine: bool) -> None:
    """Print the events of a topic: all, d/<delegate> or c/<client>.

    With --quarantine those of the quarantine; its own words are on c/quarantine there.
    """
    _check_topic(topic, quarantine=quarantine)
    endpoints, read_body, nobody = place.endpoints, task_event_body.read_body, NoAnswer.at_all
    if quarantine:
        from broker.quarantine import admin_client, notices

        endpoints, read_body = place.quarantine_endpoints, notices.read_body
        nobody = admin_client.nobody_answered
    watcher = Watcher(endpoints, topic, curve=place.curve)
    seen = 0
    complain_at = time.monotonic() + CALL_S
    try:
        while True:
            for event in watcher.poll(1.0):
                _print_event(event, as_json, read_body)
                sys.stdout.flush()
                seen += 1
                if count is not None and seen >= count:
                    return
            if watcher.live:
                complain_at = math.inf
            elif time.monotonic() > complain_at:
                complain_at = math.inf
                click.echo(f"forgepool: {nobody()} Still waiting.", err=True)
    finally:
        watcher.close()


def _check_topic(topic: str, *, quarantine: bool) -> None:
    """Nobody ever speaks on a topic that is misspelled. Raises click.UsageError."""
    of, _, name = topic.partition("/")
    if topic == "all":
        return
    if of not in ("c", "d") or not name:
        raise click.UsageError(f"no topic {topic!r}; there are all, d/<delegate>, c/<client>")
    if of == "c" and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise click.UsageError(f"no client {name!r}: a name has 1 to 64 letters A-Z a-z 0-9 . _ -")
    if of == "d" and not re.fullmatch(r"[A-Za-z0-9]{36}|[0-9a-f]{128}", name):
        raise click.UsageError(
            f"no delegate {name!r}: a key's hash has 36 letters, an application's key 128 digits"
        )
    if topic == "c/quarantine" and not quarantine:
        raise click.UsageError("the quarantine has a stream of its own: add --quarantine")
    if topic == CLIENT_TOPIC + OFFCHAIN_CLIENT and quarantine:
        raise click.UsageError("off-chain tasks are the pool's: watch it without --quarantine")


@click.command()
@at_a_place
@click.option("--delegate", help="Only this delegate's.")
@click.option("--client", help="Only what this client pushed.")
@click.option("--id", "id_hex", metavar="HEX", help="Only this request (needs --client).")
@click.option("--all", "everything", is_flag=True, help="Everything that is pending.")
def cancel(
    place: Place, delegate: str | None, client: str | None, id_hex: str | None, everything: bool
) -> None:
    """Cancel pending work; what is active runs to its end."""
    if not (delegate or client or id_hex or everything):
        raise click.UsageError("say what: --delegate, --client, --id, or --all")
    if id_hex and not client:
        raise click.UsageError("--id needs --client: an id is known by its client")
    try:
        id = bytes.fromhex(id_hex) if id_hex else None
    except ValueError as e:
        raise click.UsageError(f"--id is not hex: {e}") from None
    admin = Admin(place.endpoints, curve=place.curve)
    try:
        done = admin.cancel(client=client, id=id, delegate=delegate)
        click.echo(f"cancelled={done.count} still_active={done.active}")
    finally:
        admin.close()


@click.command()
@at_a_place
@click.option("--now", is_flag=True, help="Do not wait for what is active.")
def shutdown(place: Place, now: bool) -> None:
    """End the pool: cancel what is pending, wait for what is active."""
    admin = Admin(place.endpoints, curve=place.curve)
    try:
        admin.shutdown(now=now)
    finally:
        admin.close()
    click.echo("the pool drains" if not now else "the pool ends")


@click.command()
@at_a_place
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def reload(place: Place, dry_run: bool, as_json: bool) -> None:
    """Have all workers go by the keys and the policy as they are on the disk now.

    All do or none does: when one of them cannot read them, nothing changes and the status is 1.
    """
    admin = Admin(place.endpoints, curve=place.curve)
    try:
        done = admin.reload(dry_run=dry_run)
    finally:
        admin.close()
    if as_json:
        click.echo(msgspec.json.encode(done))
    else:
        click.echo("\n".join(reload_lines(done, dry_run=dry_run)))
        if done.problem:
            _fail("the reload has failed, see above")
    sys.exit(1 if done.problem else 0)


@click.command()
@at_a_place
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option("--wait", type=click.FloatRange(0), metavar="SECONDS",
              help="Wait until a worker signs.")  # fmt: skip
def status(place: Place, as_json: bool, wait: float | None) -> None:
    """Show how the pool is."""
    admin = Admin(place.endpoints, curve=place.curve)
    try:
        until = time.monotonic() + (wait or 0)
        found = admin.status(timeout_s=max(2.0, wait or 0))
        while wait and not any(w["signs"] and w["keys"] for w in _workers(found)):
            if found["undecided"] == 0:
                _fail("\n  ".join(["no worker can sign", *map(_why_not, _workers(found))]))
            if time.monotonic() > until:
                _fail(f"no worker signs after {wait} s")
            time.sleep(0.05)
            found = admin.status()
    finally:
        admin.close()
    if as_json:
        click.echo(json.dumps(found))
        return
    workers = _workers(found)
    for name, value in found.items():
        if name not in ("workers", "services", "tasks") and value is not None:
            click.echo(f"{name:14} {_as_text(value)}")
    for name, numbers in _services(found).items():
        click.echo("\n".join(service_lines(name, numbers)))
    for line in task_lines(found.get("tasks")):
        click.echo(printable(line))
    if not workers:
        click.echo("no worker has joined: nothing is signed")
    for worker in workers:
        note = "; ".join(each for each in (worker["why_not"], worker["note"]) if each)
        click.echo(
            f"worker {worker['name']:8} pid {worker['pid']:<8} {worker['state']:8} "
            f"active {worker['active']:<6} waiting {worker['ready']:<6} {printable(note)}".rstrip()
        )
        for problem in (worker["encrypted_keys"] or {}).get("problems", ()):
            click.echo(f"  key not opened: {problem}")


def _why_not(worker: Mapping[str, Any]) -> str:
    return f"{worker['name']} {worker['why_not']}"


def _as_text(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return " ".join(f"{name}={each}" for name, each in value.items()) or "-"
        case list():
            return " ".join(map(str, value)) or "-"
        case _:
            return str(value) or "-"


def service_lines(name: str, numbers: Mapping[str, int]) -> list[str]:
    """What a service reports, for people: in lines of a terminal, without what is 0."""
    shown = _as_text({each: number for each, number in numbers.items() if number})
    first = f"service {name:7} "
    indent = " " * len(first)
    return textwrap.wrap(
        first + shown, LINE_LETTERS, subsequent_indent=indent, break_on_hyphens=False
    )


def _services(found: dict[str, object]) -> dict[str, Any]:
    services = found.get("services")
    return services if isinstance(services, dict) else {}


def _workers(found: dict[str, object]) -> list[dict[str, Any]]:
    workers = found.get("workers")
    return workers if isinstance(workers, list) else []
