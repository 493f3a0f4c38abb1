"""Where the policy of a pool lies: by the option, by the setting, or in the state directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from broker.config import Settings
from signers.policy.policy_file import PolicyFile

POLICY_NAME = "policy.toml"


def policy_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--policy`."""
    return click.option(
        "--policy", "policy_path", type=click.Path(dir_okay=False, path_type=Path),
        help="The policy file.  [default: policy.toml in the state directory, if it is there]",
    )(command)  # fmt: skip


def open_policy(state_dir: Path, settings: Settings, given: Path | None) -> PolicyFile:
    """Read the policy of a pool; a file that somebody has named must exist.

    Raises UnreadablePolicy, OSError.
    """
    named = given
    if named is None and settings.policy:
        named = state_dir / settings.policy
    return PolicyFile(named or state_dir / POLICY_NAME, must_exist=named is not None)
