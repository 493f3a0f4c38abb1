"""The command `forgepool watermarks doctor`."""

import sys
import time
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
from signers.errors import SignersError
from signers.interchange.diagnosis import ChainHead, Diagnosis, Finding, Proposal, diagnose
from signers.interchange.interchange_command import format_option, read_marks
from signers.interchange.marks_import import import_marks
from signers.interchange.recorded_mark import RecordedMark, highest
from signers.keyring import key_administration as administration
from signers.keyring.key_administration import Place
from signers.marks.store_copies import StoreView, read_administration, read_store

_COMMAND = "watermarks doctor"
# What `--apply` puts right, if it is done.
_CURED = ("behind", "file_higher")


@click.command("doctor")
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path), metavar="[SOURCE]...")
@click.option("--node", metavar="URL", help="The RPC of a node that follows the chain.")
@format_option
@click.option("--apply", "is_applied", is_flag=True, help="Do what is proposed.")
@state_dir_option
@json_option
@yes_option
def doctor(
    sources: tuple[Path, ...],
    node: str | None,
    format_name: str | None,
    chain_id: str | None,
    is_applied: bool,
    state_dir: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Compare the store with the chain's head and with marks of elsewhere.

    Proposes the floor and the imports that a store needs after a restore, and does nothing
    without --apply. Ends with 1 when there is something to do or to look at.
    """
    place = place_of(state_dir)
    with reporting(as_json):
        view = read_store(place.store_path)
        log = read_administration(place.store_path)
    unchecked: list[Finding] = []
    recorded = _marks_of(sources, format_name, chain_id, view, unchecked)
    head = _head_of(node, unchecked)
    found = diagnose(view, log, head, recorded, int(time.time()))
    findings = [*unchecked, *found.findings]
    is_done = False
    if is_applied and _steps(found.proposal):
        if not yes:
            click.echo("\n".join(_lines(findings, found)), err=True)
        confirm("Is everything else with these keys stopped for good? This stays so. Go on?", yes)
        with reporting(as_json):
            _apply(place, found.proposal)
        is_done = True
    if as_json:
        print_json(_record(findings, found, head, is_done))
    else:
        click.echo("\n".join(_lines(findings, found)))
        if is_done:
            click.echo("Done.")
        elif _steps(found.proposal):
            click.echo("Nothing was changed; --apply does it.")
    sys.exit(any(f.is_concern and not (is_done and f.code in _CURED) for f in findings))


def _marks_of(
    sources: tuple[Path, ...],
    format_name: str | None,
    chain_id: str | None,
    view: StoreView,
    unchecked: list[Finding],
) -> list[RecordedMark]:
    recorded: list[RecordedMark] = []
    for source in sources:
        try:
            found = read_marks(source, format_name, chain_id, view).recorded
            recorded = highest([*recorded, *found])
        except (SignersError, OSError) as error:
            unchecked.append(Finding("unchecked", f"not checked: {error}"))
    if not sources:
        text = "not checked: the marks of other signers (give their files)"
        unchecked.append(Finding("unchecked", text, is_concern=False))
    return recorded


def _head_of(node: str | None, unchecked: list[Finding]) -> ChainHead | None:
    if node is None:
        text = "not checked: the head of the chain (give --node URL)"
        unchecked.append(Finding("unchecked", text, is_concern=False))
        return None
    # To load an HTTP client takes as long as all the rest, and only `--node` needs it.
    from signers.interchange.chain_head import NodeUnavailable, read_head

    try:
        return read_head(node)
    except NodeUnavailable as error:
        unchecked.append(Finding("unchecked", f"not checked: the head of the chain: {error}"))
        return None


def _apply(place: Place, proposal: Proposal) -> None:
    import_marks(place.store_path, proposal.marks, enter_unknown=False, command=_COMMAND)
    if proposal.floor is not None:
        administration.give_marks(place, proposal.holders, proposal.floor, _COMMAND)


def _steps(proposal: Proposal) -> list[str]:
    steps = []
    if proposal.marks:
        steps.append(f"raise {len(proposal.marks)} marks to those of the files")
    if proposal.floor is not None:
        steps.append(f"floor {proposal.floor} for {', '.join(proposal.holders)}")
    return steps


def _lines(findings: list[Finding], found: Diagnosis) -> list[str]:
    lines = [f"{'!' if each.is_concern else '-'} {each.text}" for each in findings]
    steps = [f"proposed: {step}" for step in _steps(found.proposal)]
    return [*lines, *(steps or ["proposed: nothing"])]


def _record(
    findings: list[Finding], found: Diagnosis, head: ChainHead | None, is_done: bool
) -> dict[str, object]:
    return {
        "head": None if head is None else {"level": head.level, "at": head.at},
        "findings": [each._asdict() for each in findings],
        "proposal": {
            "marks": [
                {"holder": each.holder, "kind": each.mark.kind.name.lower(), "place": each.place}
                for each in found.proposal.marks
            ],
            "floor": found.proposal.floor,
            "holders": found.proposal.holders,
        },
        "applied": is_done,
    }
