"""The `forgepool` command: finds sub-commands by entry point and loads only the one typed."""

from __future__ import annotations

import gc
from importlib import import_module

import click

from broker.registered_commands import registered_commands


class CommandsByName(click.Group):
    """A click group whose members are the entry points of `forgepool.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(registered_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = registered_commands().get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        gc.disable()  # what is imported stays: looks for garbage in it are a tenth of the time
        try:
            command: click.Command = getattr(import_module(module), name)
        finally:
            gc.enable()
        return command


@click.group(cls=CommandsByName, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="forgepool", prog_name="forgepool")
def main() -> None:
    """Forge, sign and verify for many delegates at once; never sign two conflicting things.

    `init` and `keys` make a pool, `serve` runs it, `status` and `watch` show it.

    Tab completion for bash: `eval "$(_FORGEPOOL_COMPLETE=bash_source forgepool)"` (zsh and fish
    alike).
    """


if __name__ == "__main__":
    main(prog_name="forgepool")
