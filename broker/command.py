"""The `forgepool` command: finds sub-commands by entry point and loads only the one typed."""

from __future__ import annotations

from importlib.metadata import entry_points

import click

GROUP = "forgepool.commands"


class CommandsByName(click.Group):
    """A click group whose members are the entry points of `forgepool.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry_points(group=GROUP).names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = entry_points(group=GROUP, name=cmd_name)
        if not found:
            return None
        command: click.Command = next(iter(found)).load()
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
