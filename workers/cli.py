"""Commands of the workers' side: worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from broker.access import own_identity
from broker.config import STATE_DIR_ENV, default_state_dir, load_settings, resolve_endpoints
from broker.errors import EXIT_MISCONFIGURED, BrokerError
from broker.telemetry import log_to_stderr
from signers.errors import SignersError
from signers.keyring.passwords import BadPasswordFile
from workers.process import EXIT_STORE, WorkerOptions, WorkerProcess


@click.command()
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path),
              envvar=STATE_DIR_ENV, show_envvar=True,
              help="Where the pool lives.  [default: ~/.forgepool]")  # fmt: skip
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path),
              help="Settings file.  [default: forgepool.toml in the state directory]")  # fmt: skip
@click.option("--base-dir", type=click.Path(file_okay=False, path_type=Path),
              envvar="FORGEPOOL_BASE_DIR", show_envvar=True,
              help="Key store: a client directory.  [default: <state-dir>/keys]")  # fmt: skip
@click.option("--password-filename", type=click.Path(dir_okay=False, path_type=Path),
              envvar="FORGEPOOL_PASSWORD_FILENAME", show_envvar=True,
              help="Passwords of encrypted keys, one a line.")  # fmt: skip
@click.option("--broker", "address", metavar="ADDR",
              help="The broker's workers socket.  [default: the state directory's]")  # fmt: skip
@click.option("--name", help="Place on the ring, kept over restarts.  [default: from the pid]")
@click.option("--node", help="URL of the node's RPC, for forging blocks.")
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--verbose", is_flag=True)
def worker(
    state_dir: Path | None,
    config: Path | None,
    base_dir: Path | None,
    password_filename: Path | None,
    address: str | None,
    name: str | None,
    node: str | None,
    parent_fd: int | None,
    verbose: bool,
) -> None:
    """Add a worker to the pool of this host: it forges and signs with the host's one store."""

    chosen = state_dir or default_state_dir()
    name = name or f"worker-{os.getpid()}"
    log_to_stderr(name, verbose=verbose)
    try:
        settings = load_settings(chosen, config)
        endpoints = resolve_endpoints(chosen, settings.endpoints)
        url = node or settings.node
        options = WorkerOptions(
            name=name,
            broker=address or endpoints.workers,
            store=chosen / "watermarks.db",
            base_dir=base_dir or Path(settings.base_dir or chosen / "keys"),
            password_file=password_filename
            or (Path(settings.password_filename) if settings.password_filename else None),
            nodes={"default": url} if url else {},
            parent_fd=parent_fd,
            curve=own_identity(settings.curve),
        )
        status = WorkerProcess(options).run()
    except BadPasswordFile as e:
        click.echo(f"forgepool worker: {e}", err=True)
        sys.exit(EXIT_MISCONFIGURED)
    except SignersError as e:
        click.echo(f"forgepool worker: {e}", err=True)
        sys.exit(EXIT_STORE)
    except BrokerError as e:
        click.echo(f"forgepool worker: {e}", err=True)
        sys.exit(1)
    sys.exit(status)
