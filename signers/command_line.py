"""What the commands `init`, `keys` and `watermarks` share: options, questions, errors."""

import sys
import tomllib
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
    """Return where the pool of a command lives; the keys are where its settings say."""
    chosen = state_dir or Path.home() / ".forgepool"
    return Place(chosen, base_dir or _base_dir_of_settings(chosen) or chosen / "keys")


def _base_dir_of_settings(state_dir: Path) -> Path | None:
    """Read `base_dir` as the pool does; what else is in that file, the pool checks."""
    file = state_dir / "forgepool.toml"
    try:
        settings = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file}: {error}") from None
    base_dir = settings.get("base_dir", "")
    if not isinstance(base_dir, str):
        raise click.ClickException(f"{file}: base_dir is not a text")
    return Path(base_dir) if base_dir else None


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
