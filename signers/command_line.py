"""What the commands `init`, `keys` and `watermarks` share: options, questions, errors."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from signers.errors import SignersError
from signers.keyring.key_administration import Place

LEVEL = click.IntRange(0, 2**31 - 1)


def state_dir_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--state-dir`."""
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="FORGEPOOL_STATE_DIR",
        show_envvar=True,
        help="Where the pool lives.  [default: ~/.forgepool]",
    )(command)


def base_dir_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--base-dir`."""
    return click.option(
        "--base-dir",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="FORGEPOOL_BASE_DIR",
        show_envvar=True,
        help="The keys: an Octez or Mavryk client directory.  [default: <state-dir>/keys]",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def place_of(state_dir: Path | None, base_dir: Path | None = None) -> Place:
    """Return where the pool of a command lives."""
    chosen = state_dir or Path.home() / ".forgepool"
    return Place(chosen, base_dir or chosen / "keys")


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turn errors into one sentence and the exit status 1."""
    try:
        yield
    except (SignersError, OSError) as error:
        if as_json:
            print_json({"error": str(error), "code": getattr(error, "code", "os_error")})
        else:
            click.echo(f"forgepool: {error}", err=True)
        sys.exit(1)


def print_json(value: Any) -> None:
    """Print one JSON value as a line."""
    click.echo(msgspec.json.encode(value))


def confirm(question: str, yes: bool) -> None:
    """Ask, unless the answer was given with the command; anything but yes ends it."""
    if yes:
        return
    if not sys.stdin.isatty():  # what is piped in is a secret, not an answer
        raise click.UsageError(f"{question} Nobody is there to answer: give --yes if so.")
    click.confirm(question, abort=True, err=True)
