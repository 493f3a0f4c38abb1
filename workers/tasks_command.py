"""`forgepool tasks`: which applications are watched, what they have asked for, and what is dead."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from broker.client import Admin
from broker.errors import NoAnswer
from broker.place import Place, at_a_place
from workers.offchain.journal_reports import KnownTask, find_task, known_tasks, leave_wish
from workers.offchain.journal_tables import JOURNAL_NAME
from workers.offchain.records import TaskState
from workers.offchain.stimuli import Wish

STATES = [str(state) for state in TaskState]
ASK_S = 2.0  # a pool that runs answers at once; the journal has the wish either way


@click.group()
def tasks() -> None:
    """Off-chain tasks of applications: list, show, retry or drop them; watch applications."""


@tasks.command(name="list")
@at_a_place
@click.option("--state", type=click.Choice(STATES), help="Only tasks in this state.")
@click.option("--application-id", "application", metavar="ID", default="",
              help="Only of this application; the id may be cut short.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_tasks(place: Place, state: str | None, application: str, as_json: bool) -> None:
    """List the tasks that the journal knows; works with and without a running pool."""
    count = 0
    for known in known_tasks(_journal(place)):
        if state not in (None, known.task.state) or not known.is_of(application):
            continue
        count += 1
        click.echo(json.dumps(_row(known)) if as_json else _line(known))
    if not count and not as_json:
        click.echo("no such tasks" if state or application else "no tasks", err=True)


@tasks.command()
@at_a_place
@click.argument("name", metavar="TASK")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(place: Place, name: str, as_json: bool) -> None:
    """Show all that is known of TASK, as `tasks list` names it: APPLICATION:NUMBER."""
    known = find_task(_journal(place), name)
    row = _row(known) | {
        "input": known.task.input,
        "output": known.task.output,
        "stderr": known.task.stderr,
    }
    if as_json:
        click.echo(json.dumps(row))
        return
    texts = ("stderr", "input", "output")
    for field, value in row.items():
        if field not in texts and value not in (None, ""):
            click.echo(f"{field:12} {value}")
    for field in texts:
        if row[field]:
            click.echo(f"\n--- {field}\n{row[field]}")


@tasks.command()
@at_a_place
@click.argument("name", metavar="TASK")
def retry(place: Place, name: str) -> None:
    """Try a dead TASK again, from the first attempt on."""
    _decide(place, name, Wish.RETRY)


@tasks.command()
@at_a_place
@click.argument("name", metavar="TASK")
def drop(place: Place, name: str) -> None:
    """Never try a dead TASK again.

    What stands behind it in its group goes on when the application no longer asks for it: an
    outcome is never made up.
    """
    _decide(place, name, Wish.DROP)


def _decide(place: Place, name: str, wish: Wish) -> None:
    journal = _journal(place)
    known = find_task(journal, name)
    leave_wish(journal, known, wish)
    verb = {Wish.RETRY: "is tried again", Wish.DROP: "is dropped"}[wish]
    admin = Admin(place.endpoints, curve=place.curve)
    try:
        admin.tasks_changed([known.application.key], timeout_s=ASK_S)
    except NoAnswer:
        click.echo(f"{known.name} {verb} when a pool runs here")
    else:
        click.echo(f"{known.name} {verb}")
    finally:
        admin.close()


def _journal(place: Place) -> Path:
    return place.state_dir / JOURNAL_NAME


def _row(known: KnownTask) -> dict[str, Any]:
    task = known.task
    return {
        "task": known.name,
        "state": str(task.state),
        "operator": task.operator,
        "group": task.group,
        "attempts": task.attempts,
        "why": task.why,
        "not_before": _time(task.not_before_unix_us) if task.not_before_unix_us else None,
        "changed": _time(known.changed_unix_us),
        "still_asked": task.asked,
        "wish": None if known.wish is None else str(known.wish),
    }


def _line(known: KnownTask) -> str:
    task = known.task
    text = f"{task.state!s:10} {known.short_name}  {task.operator}"
    text += f"  group {task.group}" if task.group is not None else ""
    text += f"  {task.attempts} attempts" if task.attempts != 1 else "  1 attempt"
    text += f"  {task.why}" if task.why else ""
    text += "" if task.asked else "  (no longer asked for)"
    return text + (f"  [{known.wish} wanted]" if known.wish else "")


def _time(unix_us: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_us / 1e6))
