"""Where the pool of a command lives: what the commands of all packages have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from broker.access import own_identity
from broker.config import (
    STATE_DIR_ENV,
    Endpoints,
    QuarantineSettings,
    Settings,
    default_state_dir,
    load_settings,
    quarantine_endpoints,
    resolve_endpoints,
)
from broker.errors import (
    EXIT_MISCONFIGURED,
    EXIT_OCCUPIED,
    AlreadyRunning,
    BrokerError,
    Misconfigured,
)
from broker.sockets import CurveIdentity


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

    @property
    def quarantine(self) -> QuarantineSettings:
        return self.settings.quarantine or QuarantineSettings()

    @property
    def quarantine_endpoints(self) -> Endpoints:
        """Where its quarantine listens. Raises Misconfigured."""
        return quarantine_endpoints(self.state_dir, self.quarantine)


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
        except AlreadyRunning as e:
            click.echo(f"forgepool: {e}", err=True)
            sys.exit(EXIT_OCCUPIED)
        except BrokenPipeError:
            raise  # whoever reads our output has enough: click ends without a word
        except (BrokerError, OSError) as e:
            click.echo(f"forgepool: {e}", err=True)
            sys.exit(1)
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
