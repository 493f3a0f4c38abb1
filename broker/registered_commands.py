"""Which commands are registered, and where: the entry points of what is installed.

`importlib.metadata` says the same, after it has imported Python's email package: a tenth of what a
worker imports at its start, and more of what a short command does.

Source: "Entry points specification" of the Python Packaging User Guide.
"""

from __future__ import annotations

import sys
from pathlib import Path

GROUP = "forgepool.commands"


def registered_commands() -> dict[str, str]:
    """Return each command's place, as in `broker.cli:serve`, by its name.

    Of two with the same name the one that Python would import first counts.
    """
    found: dict[str, str] = {}
    for directory in sys.path:
        for file in Path(directory).glob("*.dist-info/entry_points.txt"):
            for name, place in _of_our_group(file.read_text(encoding="utf-8")):
                found.setdefault(name, place)
    return found


def _of_our_group(text: str) -> list[tuple[str, str]]:
    _, _, group = text.partition(f"[{GROUP}]\n")
    lines, _, _ = group.partition("\n[")
    pairs = [line.partition("=") for line in lines.splitlines() if "=" in line]
    return [(name.strip(), place.strip()) for name, _, place in pairs]
