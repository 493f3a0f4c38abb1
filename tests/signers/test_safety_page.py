"""docs/safety.md names the code that keeps its promises: the names must lead somewhere."""

import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "safety.md").read_text()
NAMES = sorted(set(re.findall(r"`(signers(?:\.\w+)+)`", PAGE)))
FILES = sorted(set(re.findall(r"`(tests/[\w/.]+)`", PAGE)))


def test_the_page_names_code() -> None:
    assert len(NAMES) > 10
    assert FILES


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_is_there(name: str) -> None:
    pkgutil.resolve_name(name)  # imports what it must, or raises


@pytest.mark.parametrize("file", FILES)
def test_the_tests_that_the_page_names_are_there(file: str) -> None:
    assert (ROOT / file).exists()


def test_the_first_screen_says_what_matters_most() -> None:
    first_screen = "\n".join(PAGE.splitlines()[:40])
    for words in ("One key, one store, one host", "will be slashed", "Moving a pool"):
        assert words in first_screen


def test_every_code_of_the_store_has_advice() -> None:
    from signers.marks import store_errors, watermark

    codes = {
        value.code
        for value in vars(store_errors).values()
        if isinstance(value, type) and value.__module__ == store_errors.__name__
    } - {"store_exists"}
    codes |= {watermark.BELOW, watermark.CONFLICT, watermark.WRONG_CHAIN, watermark.KEY_DISABLED}
    codes |= {watermark.SIGNATURE_LOST, watermark.SIGN_UNTIL}
    for code in codes:
        assert f"`{code}`" in PAGE
