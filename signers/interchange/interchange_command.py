"""The commands `forgepool watermarks export`, `import` and `diff`."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from signers.command_line import (
    confirm,
    json_option,
    place_of,
    print_json,
    reporting,
    state_dir_option,
    yes_option,
)
from signers.formats import base58
from signers.formats.networks import network_by_name
from signers.interchange import marks_report
from signers.interchange.file_names import MarksFormat
from signers.interchange.marks_comparison import Standing, compare
from signers.interchange.marks_export import export_marks
from signers.interchange.marks_import import import_marks, preview_import
from signers.interchange.marks_source import MarksSource, WantedChain, read_source
from signers.interchange.recorded_mark import WrongChain
from signers.marks.store_copies import StoreView, read_store

_FORMATS = click.Choice([format.value for format in MarksFormat])
_SOURCE = click.Path(exists=True, path_type=Path)


def format_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--format` and `--chain-id`."""
    command = click.option(
        "--chain-id", metavar="NetX…", help="The chain of files whose names do not tell it."
    )(command)
    return click.option(
        "--format", "format_name", type=_FORMATS, help="[default: as names and content tell]"
    )(command)


@click.command("export")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=_FORMATS,
    default=MarksFormat.FORGEPOOL.value,
    show_default=True,
    help="Whose files to write.",
)
@state_dir_option
@json_option
def export_watermarks(
    destination: Path, format_name: str, state_dir: Path | None, as_json: bool
) -> None:
    """Write all marks to DESTINATION; safe while the pool signs.

    A file in forgepool's own format; in the others a directory, where the files of that signer
    get their usual names. What is there already is never replaced.
    """
    with reporting(as_json):
        view = read_store(place_of(state_dir).store_path)
        files = export_marks(view, MarksFormat(format_name), destination)
    if as_json:
        print_json({"files": [str(file) for file in files], "commit": view.content.seq})
        return
    click.echo("\n".join(f"Wrote {file} as of commit {view.content.seq}." for file in files))
    click.echo("It knows nothing of what is signed from now on.")


@click.command("import")
@click.argument("source", type=_SOURCE)
@format_option
@click.option("--enter-unknown", is_flag=True, help="Enter keys that the store does not know.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@state_dir_option
@json_option
@yes_option
def import_watermarks(
    source: Path,
    format_name: str | None,
    chain_id: str | None,
    enter_unknown: bool,
    dry_run: bool,
    state_dir: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Take over marks of another signer from SOURCE, a file or its directory.

    Nothing is lowered, and what was raised stays. Marks of another chain are refused.
    """
    path = place_of(state_dir).store_path
    with reporting(as_json):
        found = read_marks(source, format_name, chain_id, read_store(path))
        steps = preview_import(path, found.recorded, enter_unknown=enter_unknown)
    if not dry_run:
        if not yes:
            click.echo("\n".join(marks_report.import_lines(steps)), err=True)
        confirm("These marks cannot be lowered again. Go on?", yes)
        with reporting(as_json):
            steps = import_marks(
                path, found.recorded, enter_unknown=enter_unknown, command="watermarks import"
            )
    if as_json:
        print_json(
            {
                **_source_record(found),
                "dry_run": dry_run,
                "marks": marks_report.import_records(steps),
            }
        )
        return
    click.echo("\n".join([*found.passed_over, *marks_report.import_lines(steps)]))
    if dry_run:
        click.echo("Nothing was changed.")


@click.command("diff")
@click.argument("source", type=_SOURCE)
@format_option
@state_dir_option
@json_option
def diff_watermarks(
    source: Path,
    format_name: str | None,
    chain_id: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Compare the marks of the store with those in SOURCE; ends with 1 when they differ."""
    with reporting(as_json):
        view = read_store(place_of(state_dir).store_path)
        found = read_marks(source, format_name, chain_id, view)
    compared = compare(view.content.marks, found.recorded)
    if as_json:
        records = marks_report.difference_records(compared)
        print_json({**_source_record(found), "marks": records})
    else:
        click.echo("\n".join([*found.passed_over, *marks_report.difference_lines(compared)]))
    sys.exit(any(each.standing is not Standing.SAME for each in compared))


def read_marks(
    source: Path, format_name: str | None, chain_id: str | None, view: StoreView
) -> MarksSource:
    """Read the marks of a source that are of a store's chain.

    Raises MalformedMarks, WrongChain, UnknownFormat, MalformedBytes, OSError.
    """
    network = network_by_name(view.identity.network)
    wanted = WantedChain(network, view.identity.chain_id, is_asserted=chain_id is not None)
    if chain_id is not None:
        chain = network.chain_id(chain_id)
        if base58.decode(base58.CHAIN_ID, chain) != wanted.chain_id:
            raise WrongChain(f"the store is of {wanted.text}, not of {chain}")
    return read_source(source, wanted, None if format_name is None else MarksFormat(format_name))


def _source_record(found: MarksSource) -> dict[str, object]:
    return {
        "format": found.format.value,
        "files": [str(file) for file in found.files],
        "passed_over": found.passed_over,
    }
