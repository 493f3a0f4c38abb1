"""docs/watermarks.md: its example is a file of the format, and its lists are complete."""

import json
import re
from pathlib import Path

import pytest
from interchange_cases import CHAIN, bare

from signers.formats.networks import TEZOS
from signers.formats.signable import Kind
from signers.interchange.file_names import MarksFormat
from signers.interchange.forgepool_file import read_forgepool_file, write_forgepool_file
from signers.interchange.located_json import read_json
from signers.marks import store_layouts
from signers.marks.watermark import is_floor
from signers.marks.watermarks_command import watermarks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "watermarks.md").read_text()
TESTS = Path(__file__).parent


def test_the_example_of_our_format_is_read_and_written() -> None:
    (example,) = re.findall(r"```json\n(\{\n.*?)```", PAGE, re.S)
    one, two = read_forgepool_file(read_json(example.encode()), CHAIN, TEZOS)
    assert (one.mark.kind, one.mark.level, one.mark.round) == (Kind.ATTESTATION, 42, 1)
    assert (two.holder, is_floor(two.mark), two.mark.level) == (one.delegate, True, 40)
    written = write_forgepool_file([one, two._replace(delegate=None)], CHAIN, TEZOS)
    assert json.loads(written) == json.loads(example)
    assert bare(read_forgepool_file(read_json(written), CHAIN, TEZOS)) == bare([one, two])


@pytest.mark.parametrize("format", MarksFormat)
def test_every_format_is_described(format: MarksFormat) -> None:
    assert re.search(rf"^### {format.value}$|`--format {format.value}`", PAGE, re.M)


@pytest.mark.parametrize("command", watermarks.commands)
def test_every_tool_is_named(command: str) -> None:
    assert re.search(rf"`(watermarks )?{command}\b", PAGE)


def test_each_difference_from_octez_signer_has_its_test() -> None:
    table = PAGE[PAGE.index("### octez-signer\n\nWith") : PAGE.index("### Baker")]
    listed = re.findall(r"^\| (\d+) \|", table, re.M)
    tests = (TESTS / "test_octez_signer_rule.py").read_text()
    assert listed == re.findall(r"^def test_difference_(\d+)_", tests, re.M)


def test_each_difference_from_the_ledger_is_argued() -> None:
    tests = (TESTS / "test_watermark_traces.py").read_text()
    different = re.findall(r'\("(level-authorized-\d+)", \d\): ', tests)
    assert different == re.findall(r"^\| `(level-authorized-\d+)`", PAGE, re.M)


def test_each_difference_from_the_suite_of_eip_3076_is_argued() -> None:
    tests = (TESTS / "test_eip_3076.py").read_text()
    different = re.findall(r'\("(single_validator_\w+)", \d\): ', tests)
    assert different
    assert different == re.findall(r"^\| `(single_validator_\w+)`", PAGE, re.M)


def test_the_newest_layout_is_listed() -> None:
    layouts = PAGE[PAGE.index("## The layout of the store") :]
    assert re.findall(r"^\| (\d+) \|", layouts, re.M)[-1] == str(store_layouts.NEWEST)


def test_every_finding_of_the_doctor_is_explained() -> None:
    sources = (ROOT / "signers" / "interchange").glob("d*.py")
    text = "".join(source.read_text() for source in sources)
    codes = set(re.findall(r'Finding\(\s*"(\w+)"', text))
    codes |= set(re.findall(r'Standing\.\w+, "(\w+)"', text))
    assert {"behind", "unchecked", "file_higher"} <= codes
    for code in codes:
        assert re.search(rf"^\|.*`{code}`.*\|.*\|$", PAGE, re.M), code
