"""The commands `forgepool policy …` and `forgepool explain`: a policy, tried out without a pool."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from broker.config import STATE_DIR_ENV, default_state_dir, load_settings
from broker.errors import BrokerError
from signers.command_line import json_option, print_json
from signers.errors import SignersError
from signers.formats.signable import SIGNABLE_BYTES_MAX
from signers.formats.tagged_keys import network_of_hash
from signers.inspection.inspect_record import read_hex
from signers.policy.explain import explain as explain_request
from signers.policy.explain import explanation_json, explanation_text
from signers.policy.policy_changes import policy_changes
from signers.policy.policy_file import PolicyFile
from signers.policy.policy_toml import write_policy
from signers.policy.signatory_policy import CONFIG_BYTES_MAX, read_signatory
from workers.policy_place import open_policy, policy_option

DENIED, NO_ANSWER = 1, 2  # exit statuses of `explain`


def _state_dir_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--state-dir", type=click.Path(file_okay=False, path_type=Path), envvar=STATE_DIR_ENV,
        show_envvar=True, help="Where the pool lives.  [default: ~/.forgepool]",
    )(command)  # fmt: skip


def _config_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--config", type=click.Path(dir_okay=False, path_type=Path),
        help="Settings file.  [default: forgepool.toml in the state directory]",
    )(command)  # fmt: skip


@contextmanager
def _reporting(as_json: bool, status: int = 1) -> Iterator[None]:
    """Turn errors into one sentence and an exit status."""
    try:
        yield
    except (SignersError, BrokerError, OSError) as error:
        if as_json:
            print_json({"error": str(error), "code": getattr(error, "code", "os_error")})
        else:
            click.echo(f"forgepool: {error}", err=True)
        sys.exit(status)


def _policy_in_place(
    state_dir: Path | None, config: Path | None, policy_path: Path | None
) -> PolicyFile:
    chosen = state_dir or default_state_dir()
    return open_policy(chosen, load_settings(chosen, config), policy_path)


@click.group()
def policy() -> None:
    """Which key may sign what, for whom."""


@policy.command("check")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@policy_option
@_state_dir_option
@_config_option
@json_option
def check_policy(
    file: Path | None,
    policy_path: Path | None,
    state_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Check a policy, and say what would change if FILE took the place of the policy file.

    Without FILE the policy file itself is checked.
    """
    with _reporting(as_json):
        checked = (
            _policy_in_place(state_dir, config, policy_path)
            if file is None
            else PolicyFile(file, must_exist=True)
        ).policy
        changes = []
        if file is not None:
            in_place = _policy_in_place(state_dir, config, policy_path).policy
            changes = policy_changes(in_place, checked)
    if as_json:
        print_json({"rules": len(checked.rules), "keys": len(checked.of_key), "changes": changes})
        return
    click.echo(f"A policy of {len(checked.rules)} rules for {len(checked.of_key)} keys.")
    if file is not None:
        click.echo("\n".join(changes or ["It changes nothing."]))


@policy.command("import-signatory")
@click.argument("file", type=click.File("rb"))
def import_signatory(file: BinaryIO) -> None:
    """Print the policy of a Signatory or MavSign configuration in our words.

    FILE is its YAML, `-` for standard input. What has no counterpart is told on standard error.
    """
    with _reporting(as_json=False):
        text = file.read(CONFIG_BYTES_MAX + 1).decode(errors="replace")
        imported = read_signatory(text)
    for warning in imported.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(write_policy(imported.policy), nl=False)


@click.command()
@click.argument("hex_bytes", required=False, metavar="HEX")
@click.option("--key", required=True, metavar="HASH", help="The key that is to sign.")
@click.option(
    "--client", default="", metavar="NAME", help="Who asks; not given, nobody that a rule names."
)
@policy_option
@_state_dir_option
@_config_option
@json_option
def explain(
    hex_bytes: str | None,
    key: str,
    client: str,
    policy_path: Path | None,
    state_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Say what would happen to a request to sign, and why; no key and no mark is touched.

    HEX is what is to be signed, its watermark in front, as for `push sign`; without it, it is read
    from standard input.

    Ends with 0 when the policy allows it, 1 when it does not, 2 when there is no answer.
    """
    with _reporting(as_json, NO_ANSWER):
        network_of_hash(key)  # raises for what is no hash of a key
        text = hex_bytes if hex_bytes is not None else _read_standard_input()
        message = read_hex(text)
        rules = _policy_in_place(state_dir, config, policy_path).policy
        explained = explain_request(rules, key, message, client)
    if as_json:
        print_json(explanation_json(explained))
    else:
        click.echo(explanation_text(explained))
    sys.exit(0 if explained.is_allowed else DENIED)


def _read_standard_input() -> str:
    """Two digits a byte, and room to see that there are too many."""
    return sys.stdin.buffer.read(2 * SIGNABLE_BYTES_MAX + 16).decode(errors="replace")
