"""Commands of the broker's side: serve, broker, push, watch, cancel, status."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from broker.access import own_identity
from broker.client import Admin, Client, RequestRefused, Watcher
from broker.client_session import Refused
from broker.config import (
    STATE_DIR_ENV,
    Endpoints,
    Settings,
    default_state_dir,
    load_settings,
    resolve_endpoints,
)
from broker.errors import EXIT_MISCONFIGURED, BrokerError, FixRequest, Misconfigured
from broker.messages import BLOCK_READY, BlockReady, Event, Vote, VoteBatch
from broker.server import Broker, BrokerLock
from broker.sockets import CurveIdentity
from broker.supervisor import Supervisor
from broker.telemetry import log_to_stderr
from broker.topic_reader import EventsLost


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pool of a command lives."""

    state_dir: Path
    settings: Settings
    endpoints: Endpoints
    config: Path | None

    @property
    def curve(self) -> CurveIdentity | None:
        return own_identity(self.settings.curve)


def at_a_place(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--state-dir` and `--config`, and turn our errors into clear messages."""

    def run(state_dir: Path | None, config: Path | None, **options: Any) -> None:
        chosen = state_dir or default_state_dir()
        try:
            settings = load_settings(chosen, config)
            place = Place(chosen, settings, resolve_endpoints(chosen, settings.endpoints), config)
            command(place, **options)
        except Misconfigured as e:
            click.echo(f"forgepool: {e}", err=True)
            sys.exit(EXIT_MISCONFIGURED)
        except BrokerError as e:
            _fail(str(e))
        except KeyboardInterrupt:
            sys.exit(130)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    run = click.option(
        "--config", type=click.Path(dir_okay=False, path_type=Path),
        help="Settings file.  [default: forgepool.toml in the state directory]",
    )(run)  # fmt: skip
    return click.option(
        "--state-dir", type=click.Path(file_okay=False, path_type=Path), envvar=STATE_DIR_ENV,
        show_envvar=True, help="Where the pool lives.  [default: ~/.forgepool]",
    )(run)  # fmt: skip


def _fail(message: str) -> NoReturn:
    click.echo(f"forgepool: {message}", err=True)
    sys.exit(1)


def parent_fd_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--parent-fd", type=int, hidden=True)(command)


# -- serve, broker --------------------------------------------------------------------------------


@click.command()
@at_a_place
@click.option("--workers", "-w", type=click.IntRange(0, 1024), help="Worker processes.")
@click.option("--node", help="URL of the node's RPC, for forging blocks.")
@click.option("--base-dir", type=click.Path(path_type=Path), help="Key store.")
@click.option("--gateway/--no-gateway", default=None,
              help="Serve octez-signer clients too.  [default: if configured]")  # fmt: skip
@click.option("--password-filename", type=click.Path(dir_okay=False, path_type=Path),
              envvar="FORGEPOOL_PASSWORD_FILENAME", show_envvar=True,
              help="Passwords of encrypted keys, one a line.")  # fmt: skip
@click.option("--drain-timeout", type=float, help="Seconds to wait for active work at the end.")
@parent_fd_option
@click.option("--verbose", is_flag=True)
def serve(
    place: Place,
    workers: int | None,
    node: str | None,
    base_dir: Path | None,
    gateway: bool | None,
    password_filename: Path | None,
    drain_timeout: float | None,
    parent_fd: int | None,
    verbose: bool,
) -> None:
    """Run a whole pool: the broker and its workers, restarted when they die.

    SIGTERM or Ctrl-C cancels what is pending, waits for what is active, and ends with status 0;
    a second one ends it now.
    """
    log_to_stderr("supervisor", verbose=verbose)
    BrokerLock(place.state_dir).release()  # another pool here? say so before anything starts
    where = ["--state-dir", str(place.state_dir.absolute())]
    if place.config is not None:
        where += ["--config", str(place.config.absolute())]
    worker, signer = ["worker", *where], ["gateway", *where]
    if node or place.settings.node:
        worker += ["--node", node or place.settings.node]
    if base_dir:
        worker += ["--base-dir", str(base_dir.absolute())]
        signer += ["--base-dir", str(base_dir.absolute())]
    if password_filename:
        worker += ["--password-filename", str(password_filename.absolute())]
    if verbose:
        where.append("--verbose")
    if gateway is None:
        gateway = place.settings.gateway is not None
    count = place.settings.workers if workers is None else workers
    timeout = place.settings.drain_timeout_s if drain_timeout is None else drain_timeout
    supervisor = Supervisor(
        ["broker", *where],
        {f"w{i}": [*worker, "--name", f"w{i}"] for i in range(count)},
        place.endpoints,
        services={"gateway": signer} if gateway else {},
        drain_timeout_s=timeout,
        curve=place.curve,
        parent_fd=parent_fd,
    )
    sys.exit(supervisor.run())


@click.command()
@at_a_place
@parent_fd_option
@click.option("--verbose", is_flag=True)
def broker(place: Place, parent_fd: int | None, verbose: bool) -> None:
    """Run the broker alone; workers join it with `forgepool worker`."""
    log_to_stderr("broker", verbose=verbose)
    wanted_to_end = []
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGTERM, lambda *_: wanted_to_end.append(True))
    if parent_fd is None:
        signal.signal(signal.SIGINT, lambda *_: wanted_to_end.append(True))
    else:  # Ctrl-C reaches the whole foreground group; the supervisor decides what it means
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    running = Broker(
        place.state_dir,
        place.endpoints,
        place.settings,
        ended=lambda: bool(wanted_to_end),
        wakers=[woken.fileno(), *([parent_fd] if parent_fd is not None else [])],
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
    if kind == "sign":
        try:
            body = bytes.fromhex(text.strip())
        except ValueError as e:
            raise FixRequest(f"--payload is not hex: {e}") from None
    elif kind == "block":
        body = msgspec.msgpack.encode(_json(text))
    else:
        try:
            body = msgspec.msgpack.encode(msgspec.json.decode(text, type=VoteBatch))
        except msgspec.DecodeError as e:
            raise FixRequest(f"--payload: {e}") from None
    ok = True
    with Client(place.endpoints, client, curve=place.curve) as connection:
        connection.wait_live()
        ttl_ms = int(ttl * 1000)
        if kind in ("attestations", "preattestations"):
            id = connection.push_votes(
                f"forge_and_sign_{kind}",
                msgspec.msgpack.decode(body, type=VoteBatch),
                [_vote(text) for text in delegate],
                ttl_ms=ttl_ms,
            )
        else:
            if len(delegate) != 1:
                raise FixRequest(f"{kind} takes one --delegate")
            name = "sign" if kind == "sign" else "forge_and_sign_block"
            id = connection.push_one(name, delegate[0], body, ttl_ms=ttl_ms)
        try:
            for event in connection.wait(id, ttl + 15):
                _print_event(event, as_json)
                ok = ok and event.event.endswith(("_ready", "signed"))
        except RequestRefused as e:
            _fail(str(e))
    sys.exit(0 if ok else 1)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise FixRequest(f"--payload is not JSON: {e}") from None


def _vote(text: str) -> Vote:
    delegate, _, slot = text.partition(":")
    return Vote(delegate, int(slot or 0))


def _print_event(event: Event | EventsLost | Refused, as_json: bool) -> None:
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
        fields["header"] = block.header.hex()
        fields["operations"] = [[o.hex() for o in p] for p in block.operations]
    elif event.body:
        fields["body"] = event.body.hex()
    if event.code or event.text:
        fields |= {"code": event.code, "text": event.text}
    if as_json:
        click.echo(json.dumps(fields))
    else:
        click.echo(" ".join(f"{k}={v}" if k != "event" else str(v) for k, v in fields.items()))


@click.command()
@at_a_place
@click.argument("topic", default="all")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event.")
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
def watch(place: Place, topic: str, as_json: bool, count: int | None) -> None:
    """Print the events of a topic: all, d/<delegate> or c/<client>."""
    watcher = Watcher(place.endpoints, topic, curve=place.curve)
    seen = 0
    try:
        for event in watcher:
            _print_event(event, as_json)
            sys.stdout.flush()
            seen += 1
            if count is not None and seen >= count:
                return
    finally:
        watcher.close()


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
        raise FixRequest("say what: --delegate, --client, --id, or --all")
    admin = Admin(place.endpoints, curve=place.curve)
    try:
        id = bytes.fromhex(id_hex) if id_hex else None
        done = admin.cancel(client=client, id=id, delegate=delegate)
        click.echo(f"cancelled={done.count} still_active={done.active}")
    except ValueError as e:
        raise FixRequest(f"--id is not hex: {e}") from None
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
@click.option("--json", "as_json", is_flag=True)
@click.option("--wait", type=float, metavar="SECONDS", help="Wait until a worker signs.")
def status(place: Place, as_json: bool, wait: float | None) -> None:
    """Show how the pool is."""
    admin = Admin(place.endpoints, curve=place.curve)
    try:
        until = time.monotonic() + (wait or 0)
        found = admin.status(timeout_s=max(2.0, wait or 0))
        while wait and not any(w["signs"] for w in _workers(found)):
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
        if name != "workers":
            click.echo(f"{name:14} {value}")
    for worker in workers:
        note = worker["why_not"] or worker["note"]
        click.echo(
            f"worker {worker['name']:8} pid {worker['pid']:<8} {worker['state']:8} "
            f"active {worker['active']:<6} waiting {worker['ready']:<6} {note}".rstrip()
        )


def _workers(found: dict[str, object]) -> list[dict[str, Any]]:
    workers = found.get("workers")
    return workers if isinstance(workers, list) else []
