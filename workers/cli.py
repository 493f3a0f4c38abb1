"""Commands of the workers' side: worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from broker.access import own_identity
from broker.config import (
    BASE_DIR_ENV,
    STATE_DIR_ENV,
    STORE_NAME,
    default_state_dir,
    load_settings,
    node_url,
    resolve_endpoints,
)
from broker.errors import EXIT_MISCONFIGURED, BrokerError, Misconfigured
from broker.task_options import TaskFlags, with_task_options
from broker.telemetry import log_to_stderr
from signers.errors import SignersError
from signers.keyring.passwords import BadPasswordFile
from signers.policy.policy_toml import UnreadablePolicy
from workers.policy_place import open_policy, policy_option
from workers.process import EXIT_STORE, WorkerOptions, WorkerProcess


@click.command()
@click.option("--state-dir", type=click.Path(file_okay=False, path_type=Path),
              envvar=STATE_DIR_ENV, show_envvar=True,
              help="Where the pool lives.  [default: ~/.forgepool]")  # fmt: skip
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path),
              help="Settings file.  [default: forgepool.toml in the state directory]")  # fmt: skip
@click.option("--base-dir", type=click.Path(file_okay=False, path_type=Path),
              envvar=BASE_DIR_ENV, show_envvar=True,
              help="Key store: a client directory.  [default: <state-dir>/keys]")  # fmt: skip
@click.option("--password-filename", type=click.Path(dir_okay=False, path_type=Path),
              envvar="FORGEPOOL_PASSWORD_FILENAME", show_envvar=True,
              help="Passwords of encrypted keys, one a line.")  # fmt: skip
@policy_option
@click.option("--broker", "address", metavar="ADDR",
              help="The broker's workers socket.  [default: the state directory's]")  # fmt: skip
@click.option("--name", help="Place on the ring, kept over restarts.  [default: from the pid]")
@click.option("--node", help="URL of the node's RPC, for forging blocks.")
@with_task_options
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--verbose", is_flag=True, help="Log more.")
def worker(
    state_dir: Path | None,
    config: Path | None,
    base_dir: Path | None,
    password_filename: Path | None,
    policy_path: Path | None,
    address: str | None,
    name: str | None,
    node: str | None,
    task_flags: TaskFlags,
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
        url = node_url(node or settings.node)
        options = WorkerOptions(
            name=name,
            broker=address or endpoints.workers,
            store=chosen / STORE_NAME,
            base_dir=base_dir or Path(settings.base_dir or chosen / "keys"),
            password_file=password_filename
            or (Path(settings.password_filename) if settings.password_filename else None),
            nodes={"default": url} if url else {},
            policy=open_policy(chosen, settings, policy_path),
            watches_files=settings.reload == "watch",
            parent_fd=parent_fd,
            curve=own_identity(settings.curve),
            signers=settings.signers,
            tasks=task_flags.applied_to(settings.tasks),
        )
        status = WorkerProcess(options).run()
    except BadPasswordFile as e:
        click.echo(f"forgepool worker: {e}", err=True)
        sys.exit(EXIT_MISCONFIGURED)
    except UnreadablePolicy as e:
        click.echo(f"forgepool worker: the policy: {e}", err=True)
        sys.exit(EXIT_MISCONFIGURED)
    except SignersError as e:
        click.echo(f"forgepool worker: {e}", err=True)
        sys.exit(EXIT_STORE)
    except BrokerError as e:
        click.echo(f"forgepool worker: {e}", err=True)
        sys.exit(EXIT_MISCONFIGURED if isinstance(e, Misconfigured) else 1)
    sys.exit(status)
