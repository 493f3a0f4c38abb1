"""Commands are found as `importlib.metadata` finds them, without the time that it takes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from broker.registered_commands import GROUP, registered_commands


def install(directory: Path, distribution: str, text: str) -> None:
    metadata = directory / f"{distribution}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "entry_points.txt").write_text(text)


def test_they_are_those_that_importlib_finds() -> None:
    expected = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    assert "serve" in expected
    assert registered_commands() == expected


def test_other_groups_are_none_of_ours_and_the_first_on_the_path_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    install(first, "one", f"[console_scripts]\nx = a:x\n\n[{GROUP}]\npush = a:push\n")
    install(second, "two", f"[{GROUP}]\npush = b:push\npull=b:pull\n[other.commands]\ny = b:y\n")
    install(second, "three", "[other.commands]\nz = c:z\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nowhere"), str(first), str(second)])
    assert registered_commands() == {"push": "a:push", "pull": "b:pull"}


def test_a_command_is_found_without_what_takes_long_to_import() -> None:
    asked = (
        "import sys; from broker.command import main;"
        "main(['keys', '--help'], standalone_mode=False);"
        "print({'httpcore', 'importlib.metadata', 'aiohttp'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
