"""docs/cli.md describes every command, option, setting and environment variable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from broker.command import GROUP
from broker.config import (
    ApplicationSettings,
    Curve,
    Endpoints,
    Gateway,
    OperatorSettings,
    QuarantineSettings,
    Settings,
    SignerSettings,
    TaskSettings,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TEXT = (DOCS / "cli.md").read_text()
SECTIONS = {
    title.split(" NAME")[0].split(" [")[0].rstrip(): content
    for title, content in re.findall(r"^### forgepool (.*)\n((?:.*\n)*?)(?=^##)", TEXT, re.M)
}
PAGES = {"baker": "baker.md", "inspect": "inspect.md", "sandbox": "sandbox.md"}


def commands() -> Iterator[tuple[str, click.Command]]:
    for entry in entry_points(group=GROUP):
        command = entry.load()
        if isinstance(command, click.Group):
            yield from ((f"{entry.name} {name}", each) for name, each in command.commands.items())
        else:
            yield entry.name, command


def section(command: str) -> str:
    """What the page says of a command, or the page of its own that it points to."""
    (title,) = [title for title in SECTIONS if re.match(rf"{command}( [A-Z]+.*)?$", title)]
    page = PAGES.get(command)
    return SECTIONS[title] if page is None else (DOCS / page).read_text()


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=str)
def test_every_option_of_every_command_is_described(name: str, command: click.Command) -> None:
    options = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
    }
    described = set(re.findall(r"`(--?[A-Za-z-]+)", section(name)))
    assert options - described == set()


def test_the_page_describes_no_command_that_does_not_exist() -> None:
    existing = dict(commands())
    named = {re.sub(r" [A-Z].*", "", title) for title in SECTIONS}
    assert named == set(existing)


def test_every_setting_is_described() -> None:
    settings = TEXT[TEXT.index("## Settings") :]
    for struct in (
        Settings, Endpoints, Curve, Gateway, SignerSettings, QuarantineSettings, TaskSettings,
        OperatorSettings, ApplicationSettings,
    ):  # fmt: skip
        for name in struct.__struct_fields__:
            assert re.search(rf"`\[?((curve|quarantine|tasks)\.)?{name}[.\]`]", settings), name


def test_every_environment_variable_is_described() -> None:
    used = {
        name
        for package in ("broker", "workers", "signers")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"FORGEPOOL_[A-Z0-9_]*[A-Z0-9]", path.read_text())
    }
    assert {name for name in used if f"`{name}`" not in TEXT} - {"FORGEPOOL_COMPLETE"} == set()
