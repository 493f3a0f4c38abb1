"""docs/forging.md names every field and every code, docs/baker.md every option."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from workers.baker.command import baker
from workers.preparation.block_request import ExtraOperation, ForgeBlock, Fresh, Reproposal
from workers.preparation.preparation_errors import PreparationError

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("shape", [ForgeBlock, Fresh, Reproposal, ExtraOperation])
def test_every_field_of_a_request_is_documented(shape: type) -> None:
    page = (DOCS / "forging.md").read_text()
    assert [field for field in shape.__struct_fields__ if f"`{field}`" not in page] == []


def test_every_code_is_documented() -> None:
    def tree(error: type[PreparationError]) -> list[type[PreparationError]]:
        return [error, *(each for child in error.__subclasses__() for each in tree(child))]

    page = (DOCS / "forging.md").read_text()
    assert [each.code for each in tree(PreparationError) if f"| `{each.code}` |" not in page] == []


def test_every_option_of_the_baker_is_documented() -> None:
    page = (DOCS / "baker.md").read_text()
    options = [
        name
        for option in baker.params
        if isinstance(option, click.Option) and not option.hidden
        for name in option.opts
    ]
    assert [name for name in options if f"`{name}`" not in page] == []
