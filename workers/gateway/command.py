"""`forgepool gateway`: the octez-signer protocol in front of the pool."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import resource
import signal
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from broker.access import own_identity
from broker.config import (
    STATE_DIR_ENV,
    Gateway,
    default_state_dir,
    load_settings,
    resolve_endpoints,
)
from broker.errors import EXIT_MISCONFIGURED, BrokerError, Misconfigured
from broker.messages import REPORT_S
from broker.telemetry import log_to_stderr
from workers.gateway.addresses import Address, check_socket_path, read_address
from workers.gateway.client_directory import AUTHORIZED_FILE, ClientDirectory
from workers.gateway.desk import Desk
from workers.gateway.gate import Gate, GateOptions
from workers.gateway.http_listener import CONNECTIONS_MAX, HttpListener
from workers.gateway.pool_clients import CLIENTS_MAX, PoolClients
from workers.gateway.socket_listener import SocketListener
from workers.pool import Pool

log = logging.getLogger("forgepool.gateway")

HTTP_DEFAULT = "127.0.0.1:6732"  # as octez-signer
# What is open at the end gets so long; its client asks again, and is then told the same.
# `serve` kills who takes longer than 5 s.
END_S_MAX = 2.0
# Both kinds of connections, a dozen for each authenticated client, and what a process has anyway;
# many systems allow 1,024 unless they are asked.
FILES_MAX = 2 * CONNECTIONS_MAX + 12 * CLIENTS_MAX + 128
# The broker takes 64 letters; behind a dot the key hash of a client may follow.
_CLIENT_NAME = re.compile(r"[A-Za-z0-9._-]{1,27}")


@click.command()
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path),
              envvar=STATE_DIR_ENV, show_envvar=True,
              help="Where the pool lives.  [default: ~/.forgepool]")  # fmt: skip
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path),
              help="Settings file.  [default: forgepool.toml in the state directory]")  # fmt: skip
@click.option("--base-dir", type=click.Path(file_okay=False, path_type=Path),
              envvar="FORGEPOOL_BASE_DIR", show_envvar=True,
              help="Client directory, read for its public files only.  "
                   "[default: <state-dir>/keys]")  # fmt: skip
@click.option("--http", metavar="HOST:PORT",
              help=f"Listen for HTTP.  [default: {HTTP_DEFAULT}, if nothing else is given]")  # fmt: skip  # noqa: E501
@click.option("--https", metavar="HOST:PORT", help="Listen for HTTPS.")
@click.option("--tcp", metavar="HOST:PORT", help="Listen for the socket protocol.")
@click.option("--unix", metavar="PATH", help="Listen for the socket protocol on a Unix socket.")
@click.option("--certificate", type=click.Path(dir_okay=False), help="PEM, for --https.")
@click.option("--key", type=click.Path(dir_okay=False), help="PEM, for --https.")
@click.option("--require-authentication", "-A", is_flag=True, default=None,
              help=f"Sign only for the keys of <base-dir>/{AUTHORIZED_FILE}.")  # fmt: skip
@click.option("--allow-unauthenticated", is_flag=True, default=None,
              help="Sign for anybody, also on addresses that other machines reach.")  # fmt: skip
@click.option("--host-name", "host_names", multiple=True, metavar="NAME",
              help="Name under which clients may call; repeatable.  [default: localhost]")  # fmt: skip  # noqa: E501
@click.option("--allow-list-known-keys", "list_known_keys", is_flag=True, default=None,
              help="List the keys to whoever asks.")  # fmt: skip
@click.option("--allow-to-prove-possession", "prove_possession", is_flag=True, default=None,
              help="Prove the possession of BLS keys.")  # fmt: skip
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1, 3600), metavar="SECONDS",
              help="How long a request may take.  [default: 7]")  # fmt: skip
@click.option("--client", default="gateway", show_default=True,
              help="Name towards the broker, which policies may name.")  # fmt: skip
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--verbose", is_flag=True)
def gateway(
    state_dir: Path | None,
    config: Path | None,
    base_dir: Path | None,
    client: str,
    parent_fd: int | None,
    verbose: bool,
    **chosen: Any,
) -> None:
    """Serve the octez-signer protocol: bakers and wallets that speak it sign with the pool.

    Holds no secret key. Ends on SIGTERM or Ctrl-C.
    """
    log_to_stderr("gateway", verbose=verbose)
    place = state_dir or default_state_dir()
    try:
        settings = load_settings(place, config)
        options = _merge(settings.gateway or Gateway(), chosen)
        _check(options)
        if not _CLIENT_NAME.fullmatch(client):
            raise Misconfigured(f"--client {client!r}: 1 to 27 of A–Z a–z 0–9 . _ - are due")
        endpoints = resolve_endpoints(place, settings.endpoints)
        curve = own_identity(settings.curve)
        # Who comes in by the broker's own certificate may have any name, others that of theirs.
        tells_apart = curve is None or curve.server == curve.public
        pool = PoolClients(
            lambda name: Pool(endpoints, name, curve=curve), client, tells_apart=tells_apart
        )
        keys = base_dir or Path(settings.base_dir or place / "keys")
        _allow_open_files()
        asyncio.run(_serve(options, pool, keys, parent_fd))
    except Misconfigured as e:
        click.echo(f"forgepool gateway: {e}", err=True)
        sys.exit(EXIT_MISCONFIGURED)
    except BrokerError as e:
        click.echo(f"forgepool gateway: {e}", err=True)
        sys.exit(1)


def _allow_open_files() -> None:
    """Raise our own limit of open files, as far as the system lets us, to what our bounds need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < FILES_MAX:
        log.warning("few_open_files allowed=%d needed=%d: see `ulimit -Hn`", wanted, FILES_MAX)


def _merge(configured: Gateway, chosen: dict[str, Any]) -> Gateway:
    """What the file says, with what the command line says in its place."""
    given = {name: value for name, value in chosen.items() if value not in (None, ())}
    if "host_names" in given:
        given["host_names"] = list(given["host_names"])
    return msgspec.structs.replace(configured, **given)


def _check(options: Gateway) -> None:
    """Refuse what would sign for strangers. Raises Misconfigured."""
    for text in (options.http, options.https, options.tcp):
        if not text or read_address(text).is_loopback or options.require_authentication:
            continue
        if not options.allow_unauthenticated:
            raise Misconfigured(
                f"{text} can be reached from other machines, and whoever reaches it could sign: "
                "give --require-authentication (or --allow-unauthenticated, if a firewall "
                "keeps strangers out)"
            )
        log.warning("unauthenticated_listener at=%s: whoever reaches it can sign", text)
    if options.https and not (options.certificate and options.key):
        raise Misconfigured("--https needs --certificate and --key")


async def _serve(
    options: Gateway, pool: PoolClients, base_dir: Path, parent_fd: int | None
) -> None:
    directory = ClientDirectory(base_dir)
    gate = Gate(
        GateOptions(
            require_authentication=options.require_authentication,
            list_known_keys=options.list_known_keys,
            prove_possession=options.prove_possession,
            ttl_ms=int(options.timeout_s * 1000),
        ),
        os.urandom(16),
    )
    desk = Desk(gate, directory, pool.push)
    over = asyncio.Event()
    directory.listing()
    pool.start(desk.hear, on_end=over.set)
    http = HttpListener(desk, options.host_names, lambda: pool.is_live)
    sockets = SocketListener(desk, directory)
    try:
        await _listen(options, http, sockets)
        _set_on_signals(over, parent_fd)
        reporting = asyncio.create_task(_report(desk, (http, sockets), pool))
        await over.wait()
        reporting.cancel()
        http.stop_listening()
        sockets.stop_listening()
        await desk.drain(END_S_MAX)
    finally:
        await http.close()
        await sockets.close()
        pool.close()
    log.info("gateway_ended")
    if pool.has_failed:
        raise PoolLost("the pool's client has failed; the log says why")


async def _report(
    desk: Desk, listeners: Sequence[HttpListener | SocketListener], pool: PoolClients
) -> None:
    """Tell `status` how the gateway is, and the log once in a while."""
    while True:
        numbers = {
            "connections": sum(listener.connections for listener in listeners),
            "open": desk.open,
            **desk.tally.numbers(),
        }
        pool.report(numbers)
        if desk.tally.is_to_be_told(time.monotonic()):
            log.info("counts %s", " ".join(f"{name}={each}" for name, each in numbers.items()))
        await asyncio.sleep(REPORT_S)


async def _listen(options: Gateway, http: HttpListener, sockets: SocketListener) -> None:
    if not (options.http or options.https or options.tcp or options.unix):
        options = msgspec.structs.replace(options, http=HTTP_DEFAULT)
    try:
        if options.http:
            _tell("http", await http.start(read_address(options.http)))
        if options.https:
            tls = _tls(options.certificate, options.key)
            _tell("https", await http.start(read_address(options.https), tls))
        if options.tcp:
            _tell("tcp", await sockets.start_tcp(read_address(options.tcp)))
        if options.unix:
            await sockets.start_unix(check_socket_path(options.unix))
            log.info("listening at=unix:%s", options.unix)
    except OSError as e:
        raise Misconfigured(f"cannot listen: {e.strerror or e}") from None


def _tell(scheme: str, address: Address) -> None:
    log.info("listening at=%s://%s", scheme, address)


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as e:
        raise Misconfigured(f"{certificate}, {key}: {e}") from None
    return context


def _set_on_signals(over: asyncio.Event, parent_fd: int | None) -> None:
    """Be told of SIGTERM, of SIGINT, and of the end of the parent's pipe."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    if parent_fd is None:
        loop.add_signal_handler(signal.SIGINT, over.set)
        return
    # Ctrl-C reaches the whole foreground group; the supervisor decides what it means.
    loop.add_signal_handler(signal.SIGINT, lambda: None)

    def read() -> None:
        if not os.read(parent_fd, 64):
            loop.remove_reader(parent_fd)
            over.set()

    loop.add_reader(parent_fd, read)


class PoolLost(BrokerError):
    """The connection to the pool has failed in a way that only a restart helps."""

    code = "pool_lost"
    advice = "Start the gateway again; `serve` does so by itself."
