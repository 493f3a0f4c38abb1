"""What people may use is in docs/sandbox.md: every option, every path."""

import re
from pathlib import Path
from typing import Any

import pytest

from workers.sandbox import services
from workers.sandbox.command import sandbox
from workers.sandbox.node import SandboxNode

PAGE = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text()


def test_every_option_is_described() -> None:
    options = {option for parameter in sandbox.params for option in parameter.opts}
    assert options
    assert {option for option in options if f"`{option}" not in PAGE} == set()


class Recorder:
    """Stands where services announce their paths."""

    def __init__(self) -> None:
        self.paths: set[str] = set()

    def serve(self, method: str, path: str, service: Any) -> None:
        self.paths.add(path)


@pytest.mark.parametrize("network_index", [0, 1])
def test_every_path_is_listed(new_bakery: Any, network_index: int) -> None:
    from signers.formats.networks import MAVRYK, TEZOS

    recorder = Recorder()
    node = SandboxNode(new_bakery((MAVRYK, TEZOS)[network_index]).chain)
    for each in services._SERVICES:
        each(node).add_to(recorder)  # type: ignore[arg-type]
    listed = set(re.findall(r"`(/[^`]*)`", PAGE))
    names = {"chain": "C", "block": "B", "contract": "A", "pkh": "D", "level": "L"}
    names |= {"pass": "P", "index": "N"}
    parents = ("/chains/C/blocks/B", "/context/contracts/A", "/context/delegates/D")
    for path in recorder.paths:
        shown = re.sub(r"\{(\w+)\}", lambda match: names[match[1]], path)
        short = shown
        for parent in parents:
            short = short.removeprefix(parent) or short
        assert {shown, short, shown.removeprefix(parents[0])} & listed, shown
