"""`forgepool sandbox`: the sandbox node in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import click

from broker.telemetry import stderr_lines
from signers.formats.networks import Network, Protocol, network_by_name
from workers.sandbox.chain import Chain
from workers.sandbox.constants import UnknownConstant, sandbox_constants
from workers.sandbox.dialect import PROTOCOLS
from workers.sandbox.genesis import Genesis
from workers.sandbox.genesis_files import BadGenesis, genesis_of, read_accounts, read_bakers
from workers.sandbox.node import SandboxNode
from workers.sandbox.rpc import RpcServer
from workers.sandbox.services import services_of

log = logging.getLogger("workers.sandbox")

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8732

_NETWORK = click.Choice(sorted(PROTOCOLS))
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--network", type=click.Choice(sorted(PROTOCOLS)), default="mavryk", show_default=True
)
@click.option("--protocol", help="boreas (default) or atlas on mavryk; ushuaia on tezos.")
@click.option("--bakers", type=_FILE, required=True, help="JSON list of {public_key, stake}.")
@click.option("--accounts", type=_FILE, help="JSON list of {public_key or address, balance}.")
@click.option("--seed", help="Decides chain id and rights; without it every chain is another.")
@click.option("--host", default=LOOPBACK, show_default=True, help="Whoever reaches it may inject.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True)
@click.option("--minimal-block-delay", type=click.IntRange(1, 3600), default=1, show_default=True)
@click.option("--delay-increment", type=click.IntRange(0, 3600), default=1, show_default=True)
@click.option("--committee-size", type=click.IntRange(1, 65535), help="Slots per level.")
@click.option("--consensus-threshold", type=click.IntRange(0, 65535), help="Slots of a quorum.")
@click.option("--constant", multiple=True, metavar="NAME=JSON", help="Change another constant.")
@click.option(
    "--start-in",
    type=click.IntRange(0, 3600),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Let the activation block date so far ahead, so that bakers can get ready for round 0.",
)
@click.option(
    "--start-at", type=click.IntRange(1), metavar="UNIX_SECONDS",
    help="Date the activation block exactly: with the same seed, bakers and accounts that is the "
    "same chain on another node.",
)  # fmt: skip
@click.option("--ready-file", type=click.Path(path_type=Path), help="Written when it listens.")
@click.option("--parent-pipe-fd", type=int, help="End when this pipe closes.")
@click.option("--slow-ms", multiple=True, metavar="PATH=MS", help="Delay calls; for tests.")
@click.option("--cors-origin", help="Let browsers of this origin in.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info",
    show_default=True, help="What is logged on standard error.",
)  # fmt: skip
def sandbox(**options: Any) -> None:
    """Run a small Tenderbake chain with the RPC of an Octez or Mavryk node.

    It bakes nothing by itself: bakers inject. Prints one JSON line when it listens, and ends on
    SIGTERM or SIGINT.
    """
    logging.basicConfig(handlers=[stderr_lines("sandbox")], level=options["log_level"].upper())
    try:
        genesis = _genesis(options)
        slow_s = dict(map(_slow, options["slow_ms"]))
    except (BadGenesis, UnknownConstant) as error:
        raise click.UsageError(str(error)) from None
    try:
        asyncio.run(_serve(genesis, slow_s, options))
    except OSError as error:  # the port is taken, no such host, no place for the ready file
        raise click.ClickException(str(error)) from None


async def _serve(genesis: Genesis, slow_s: dict[str, float], options: dict[str, Any]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if options["parent_pipe_fd"] is not None:
        _end_with_parent(options["parent_pipe_fd"], ended)
    node = SandboxNode(Chain(genesis))
    server = RpcServer(
        services_of(node),
        node.streams,
        node.dialect.protocol_prefix,
        time.time,
        chain_id=node.chain_id,
        slow_s=slow_s,
        cors_origin=options["cors_origin"],
    )
    port = await server.start(options["host"], options["port"])
    _announce(node, port, options)
    await ended.wait()
    log.info("ending level=%d", node.chain.head.level)
    await server.stop()


def _announce(node: SandboxNode, port: int, options: dict[str, Any]) -> None:
    """Say in one line, and in the ready file, where the node listens and which chain it is."""
    host = options["host"]
    line = json.dumps(
        {
            "url": f"http://{host}:{port}",
            "host": host,
            "port": port,
            "pid": os.getpid(),
            "network": node.rules.network.name,
            "protocol": node.protocol_hash,
            "chain_id": node.chain_id,
            "seed": options["seed"],
        }
    )
    print(line, flush=True)
    log.info("listening host=%s port=%d chain_id=%s", host, port, node.chain_id)
    ready_file: Path | None = options["ready_file"]
    if ready_file is not None:
        partial = ready_file.with_name(f"{ready_file.name}.{os.getpid()}")
        partial.write_text(line + "\n")
        partial.replace(ready_file)


def _end_with_parent(fd: int, ended: asyncio.Event) -> None:
    """End when the other end of a pipe is closed, which the parent's death does as well."""

    def read() -> None:
        if not os.read(fd, 64):
            asyncio.get_running_loop().remove_reader(fd)
            ended.set()

    asyncio.get_running_loop().add_reader(fd, read)


def _genesis(options: dict[str, Any]) -> Genesis:
    network = network_by_name(options["network"])
    name = options["protocol"] or PROTOCOLS[network.name][0]
    if name not in PROTOCOLS[network.name]:
        raise BadGenesis(f"{network.name} has {' or '.join(PROTOCOLS[network.name])}, not {name}")
    options["seed"] = options["seed"] or secrets.token_hex(8)
    accounts: Path | None = options["accounts"]
    return genesis_of(
        network,
        _protocol(network, name),
        sandbox_constants(name, _changes(options)),
        seed=options["seed"],
        timestamp=options["start_at"] or int(time.time()) + options["start_in"],
        bakers=read_bakers(options["bakers"].read_bytes()),
        accounts=read_accounts(accounts.read_bytes()) if accounts else [],
    )


def _protocol(network: Network, name: str) -> Protocol:
    return next(each for each in network.protocols if each.name.lower() == name)


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "minimal_block_delay": str(options["minimal_block_delay"]),
        "delay_increment_per_round": str(options["delay_increment"]),
    }
    if options["committee_size"] is not None:
        changes["consensus_committee_size"] = options["committee_size"]
    if options["consensus_threshold"] is not None:
        on_tezos = options["network"] == "tezos"
        threshold = "consensus_threshold_size" if on_tezos else "consensus_threshold"
        changes[threshold] = options["consensus_threshold"]
    for change in options["constant"]:
        name, _, value = change.partition("=")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            raise UnknownConstant(f"{change}: the value is not JSON") from None
    return changes


def _slow(option: str) -> tuple[str, float]:
    path, _, milliseconds = option.rpartition("=")
    if not path.startswith("/") or not milliseconds.isdecimal():
        raise BadGenesis(f"--slow-ms {option}: a path and milliseconds are due")
    return path, int(milliseconds) / 1000
