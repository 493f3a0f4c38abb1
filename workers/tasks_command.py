"""`forgepool tasks`: which applications are watched, what they have asked for, and what is dead."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from broker.applications import ApplicationInPool, Watched
from broker.client import CALL_S, Admin
from broker.errors import FixRequest, NoAnswer
from broker.place import Place, at_a_place
from broker.task_options import (
    COMPAT,
    TaskFlags,
    configured_applications,
    typed_application,
    typed_chain,
    with_task_options,
)
from broker.telemetry import printable
from workers.offchain.application import Application, is_beginning
from workers.offchain.journal.journal_reports import (
    KnownTask,
    find_task,
    find_tasks,
    known_tasks,
    leave_wishes,
    parse_task_name,
)
from workers.offchain.journal.journal_reports import applications as known_applications
from workers.offchain.journal.journal_reports import forget as forget_application
from workers.offchain.journal.journal_tables import JOURNAL_NAME
from workers.offchain.offchain_errors import NoJournal, NoSuchTask
from workers.offchain.operators.operator_files import doubts, located, problems
from workers.offchain.operators.operator_table import Operator, operator_table
from workers.offchain.records import TaskState
from workers.offchain.stimuli import Wish
from workers.tasks_completion import (
    applications_with_tasks,
    dead_task_names,
    operator_names,
    task_names,
    watched_applications,
)

STATES = [str(state) for state in TaskState]
LINES = "\n\t"  # of operators' texts, all else that a terminal would obey is made visible
LOOK_AGAIN_S = 0.05
ASK_S = 2.0  # a pool that runs answers at once; the journal has the wish either way


def _typed_task(name: str) -> str:
    """The name of a task on the command line, which is wrong if that is malformed."""
    try:
        parse_task_name(name)
    except NoSuchTask as e:
        raise click.BadParameter(str(e)) from None
    return name


def _typed_beginning(text: str) -> str:
    """The beginning of an application's id, likewise."""
    if not is_beginning(text):
        raise click.BadParameter(f"{text!r} is no id, nor the beginning of one: digits of 0-9a-f")
    return text


@click.group()
def tasks() -> None:
    """Off-chain tasks of applications: list, show, retry or drop them; watch applications."""


@tasks.command(name="list")
@at_a_place
@click.option("--state", type=click.Choice(STATES), help="Only tasks in this state.")
@click.option("--application-id", "application", metavar="ID", type=_typed_beginning,
              shell_complete=applications_with_tasks,
              help="Only of this application; the id may be cut short.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_tasks(place: Place, state: str | None, application: str | None, as_json: bool) -> None:
    """List the tasks that the journal knows; works with and without a running pool."""
    count = 0
    for known in known_tasks(_journal(place)):
        if state not in (None, known.task.state):
            continue
        if application and not known.application.begins_with(application):
            continue
        count += 1
        click.echo(json.dumps(_row(known)) if as_json else printable(_line(known)))
    if not count and not as_json:
        click.echo("no such tasks" if state or application else "no tasks", err=True)


@tasks.command()
@at_a_place
@click.argument("name", metavar="TASK", type=_typed_task, shell_complete=task_names)
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
            click.echo(printable(f"{field:12} {value}"))
    for field in texts:
        if row[field]:
            click.echo(f"\n--- {field}\n{printable(row[field], keeping=LINES)}")


_TASKS = click.argument("names", metavar="TASK...", nargs=-1, required=True, type=_typed_task,
                        shell_complete=dead_task_names)  # fmt: skip


@tasks.command()
@at_a_place
@_TASKS
def retry(place: Place, names: tuple[str, ...]) -> None:
    """Try a dead or dropped TASK again, from the first attempt on."""
    _decide(place, names, Wish.RETRY)


@tasks.command()
@at_a_place
@_TASKS
def drop(place: Place, names: tuple[str, ...]) -> None:
    """Never try a dead TASK again, unless `tasks retry` says otherwise.

    What stands behind it in its group goes on when the application no longer asks for it: an
    outcome is never made up.
    """
    _decide(place, names, Wish.DROP)


def _decide(place: Place, names: Sequence[str], wish: Wish) -> None:
    journal = _journal(place)
    found = find_tasks(journal, names)
    verb = {Wish.RETRY: "is tried again", Wish.DROP: "is dropped"}[wish]
    with closing(Admin(place.endpoints, curve=place.curve)) as admin:
        try:
            admin.tasks_changed([], timeout_s=ASK_S)  # a pool that goes by no journal refuses
            runs = True
        except NoAnswer:
            runs = False
        leave_wishes(journal, found, wish)
        if runs:
            with suppress(NoAnswer):  # then the journal is looked into a little later
                keys = sorted({known.application.key for known in found})
                admin.tasks_changed(keys, timeout_s=ASK_S)
        else:
            verb += " when a pool runs here"
    for known in found:
        click.echo(f"{known.name} {verb}")


# -- applications and operators -------------------------------------------------------------------

_CHAIN = click.option("--chain-id", metavar="ID", type=typed_chain,
                      help="Chain of an id alone.  [default: tasks.chain_id]")  # fmt: skip


@tasks.command()
@at_a_place
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--wait", type=click.FloatRange(0), metavar="SECONDS",
              help="Wait until there are some and each has a worker.")  # fmt: skip
def applications(place: Place, as_json: bool, wait: float | None) -> None:
    """List the applications that the running pool watches, and who processes each."""
    until = time.monotonic() + (wait or 0)
    with closing(Admin(place.endpoints, curve=place.curve)) as admin:
        watched = admin.applications(timeout_s=max(CALL_S, wait or 0))
        while wait and not _all_owned(watched) and time.monotonic() < until:
            time.sleep(LOOK_AGAIN_S)
            watched = admin.applications()
    for each in watched:
        click.echo(json.dumps(_application_row(each)) if as_json else _application_line(each))
    if not watched and not as_json:
        click.echo("no application is watched; see `forgepool tasks watch --help`", err=True)
    sys.exit(1 if wait and not _all_owned(watched) else 0)


def _all_owned(watched: list[ApplicationInPool]) -> bool:
    return bool(watched) and all(each.owner and not each.awaited for each in watched)


@tasks.command()
@at_a_place
@click.argument("ids", metavar="APPLICATION...", nargs=-1, required=True, type=typed_application)
@click.option("--operator", "operators", metavar="NAME", multiple=True,
              shell_complete=operator_names,
              help="An operator that they may use; repeatable.")  # fmt: skip
@click.option("--any-operator", is_flag=True, help="They may use every operator of the pool.")
@_CHAIN
def watch(
    place: Place,
    ids: tuple[str, ...],
    operators: tuple[str, ...],
    any_operator: bool,
    chain_id: str | None,
) -> None:
    """Have the running pool process APPLICATION too, also after a restart.

    APPLICATION is an id, or CHAIN/APPLICATION. Said again, it replaces what it may use.
    """
    if operators and any_operator:
        raise click.UsageError("either --operator or --any-operator: both contradict each other")
    if not operators and not any_operator:
        raise click.UsageError("say what they may use: --operator NAME, or --any-operator")
    if not all(operators):
        raise click.UsageError("--operator is empty: an operator has a name")
    allowed = None if any_operator else list(operators)
    wanted = [Watched(_application(place, each, chain_id).key, allowed) for each in ids]
    with closing(Admin(place.endpoints, curve=place.curve)) as admin:
        admin.watch_applications(wanted)
    click.echo(f"{len(wanted)} watched")


@tasks.command()
@at_a_place
@click.argument("ids", metavar="APPLICATION...", nargs=-1, required=True, type=typed_application,
                shell_complete=watched_applications)  # fmt: skip
@_CHAIN
def unwatch(place: Place, ids: tuple[str, ...], chain_id: str | None) -> None:
    """Have the running pool process APPLICATION no more; its operators are ended."""
    keys = [_application(place, each, chain_id).key for each in ids]
    with closing(Admin(place.endpoints, curve=place.curve)) as admin:
        watched = {each.key for each in admin.applications()}
        # The broker takes it for done, as whoever asks twice needs it; a person has mistyped an id.
        if unknown := [id for id, key in zip(ids, keys, strict=True) if key not in watched]:
            raise FixRequest(
                f"not watched: {', '.join(unknown)}; see `forgepool tasks applications`"
            )
        admin.unwatch_applications(keys)
    click.echo(f"{len(keys)} not watched any more")


@tasks.command()
@at_a_place
@click.argument("ids", metavar="[APPLICATION...]", nargs=-1, type=typed_application,
                shell_complete=watched_applications)  # fmt: skip
def resume(place: Place, ids: tuple[str, ...]) -> None:
    """Have APPLICATION go on now that what stopped it is mended; without any, all of them.

    `forgepool tasks applications` says which ones do not go on, and why.
    """
    with closing(Admin(place.endpoints, curve=place.curve)) as admin:
        watched = [Application.of_key(each.key) for each in admin.applications()]
        meant = [each for each in watched if not ids or _names(each) & {*ids}]
        named = {name for each in meant for name in _names(each)}
        if unknown := [each for each in ids if each not in named]:
            raise FixRequest(
                f"not watched: {', '.join(unknown)}; see `forgepool tasks applications`"
            )
        admin.tasks_changed([each.key for each in meant])
    click.echo(f"{len(meant)} asked again")


@tasks.command()
@at_a_place
@click.argument("ids", metavar="APPLICATION...", nargs=-1, required=True, type=typed_application,
                shell_complete=applications_with_tasks)  # fmt: skip
def forget(place: Place, ids: tuple[str, ...]) -> None:
    """Take the tasks of APPLICATION, which the pool watches no more, out of the journal.

    They would be there if it were watched again: dead and dropped ones, outputs, its cursor.
    """
    journal = _journal(place)
    known = known_applications(journal)
    with closing(Admin(place.endpoints, curve=place.curve)) as admin:
        watched = {each.key for each in admin.applications()}
    meant = [a for a in known if _names(a) & {*ids}]
    named = {name for each in meant for name in _names(each)}
    if unknown := [each for each in ids if each not in named]:
        raise FixRequest(f"the journal has nothing of {', '.join(unknown)}")
    if still := [each for each in meant if each.key in watched]:
        raise FixRequest(f"still watched: {', '.join(map(str, still))}; unwatch it first")
    for each in meant:
        click.echo(f"{each}: {forget_application(journal, each)} tasks forgotten")


@tasks.command()
@at_a_place
@with_task_options
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def check(place: Place, task_flags: TaskFlags, as_json: bool) -> None:
    """Say what the settings and these flags come to, and what is wrong with the operators.

    Ends with status 1 if something is.
    """
    settings = task_flags.applied_to(place.settings.tasks)
    table = located(
        operator_table(settings.operators), os.environ.get("PATH", os.defpath), place.state_dir
    )
    found, doubtful = problems(table), doubts(table)
    named = configured_applications(settings)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "mode": settings.mode,
                    "node_service": settings.node_service,
                    "operators": {name: each.path for name, each in table.items()},
                    "operator_settings": {
                        name: msgspec.to_builtins(each.settings) for name, each in table.items()
                    },
                    "applications": {each.key: each.operators for each in named},
                    "problems": found,
                    "warnings": doubtful,
                }
            )
        )
    else:
        click.echo(f"mode         {settings.mode}")
        click.echo(f"node service {settings.node_service or 'none: no tasks are processed'}")
        for name, operator in sorted(table.items()):
            click.echo(f"operator     {name} = {operator.path}")
            if settings.mode != COMPAT:  # which bounds nothing
                click.echo(f"  {_bounds(operator, settings.concurrency)}")
        for each in named:
            allowed = "any operator" if each.operators is None else ", ".join(each.operators)
            click.echo(f"application  {Application.of_key(each.key)}: {allowed}")
        for doubt in doubtful:
            click.echo(f"warning: {doubt}", err=True)
        for problem in found:
            click.echo(f"problem: {problem}", err=True)
        if not table:
            click.echo("no operators: add [tasks.operators.NAME] or --operator", err=True)
    sys.exit(1 if found else 0)


def _bounds(operator: Operator, concurrency: int) -> str:
    """What a run of the operator may use, in a line."""
    settings = operator.settings
    last = operator.time_limit_s(sys.maxsize)
    limits = {
        name: value
        for name in ("memory_bytes", "cpu_s", "open_files", "file_bytes", "processes")
        if (value := getattr(settings, name)) is not None
    }
    told = [
        "no timeout" if last == math.inf else f"timeout {settings.timeout_s:g} to {last:g} s",
        f"at once {min(settings.concurrency or concurrency, concurrency)}",
        f"input {settings.input_bytes_max} bytes, output {settings.output_bytes_max} bytes",
        *(f"{name} {value}" for name, value in limits.items()),
    ]
    return ", ".join(told)


def _application(place: Place, text: str, chain_id: str | None) -> Application:
    return Application.parse(text, chain_id or place.settings.tasks.chain_id)


def _names(application: Application) -> set[str]:
    """How people may write it where it is known."""
    return {application.key, str(application), application.application_id}


def _application_row(each: ApplicationInPool) -> dict[str, Any]:
    application = Application.of_key(each.key)
    return {
        "chain": application.chain_id,
        "application": application.application_id,
        "operators": None,  # every one, if nothing else is said
        **msgspec.to_builtins(each),
    }


def _application_line(each: ApplicationInPool) -> str:
    text = f"{each.state:12} {Application.of_key(each.key)}"
    text += f"  {each.owner} epoch {each.epoch}" if each.owner else ""
    text += f"  waits for {', '.join(each.awaited)}" if each.awaited else ""
    allowed = "any operator" if each.operators is None else ", ".join(each.operators)
    text += f"  {allowed}  (by {', '.join(each.named_by)})"
    return text + (f"\n  does not go on: {printable(each.trouble)}" if each.trouble else "")


# -- small things ---------------------------------------------------------------------------------


def _journal(place: Place) -> Path:
    """The pool's journal; in compat mode one that is there is of another time."""
    if place.settings.tasks.mode == COMPAT:
        raise NoJournal(f"there is no journal of tasks. {NoJournal.advice}")
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
        "held_up_by": None if known.held_up_by is None else known.neighbour(known.held_up_by),
    }


def _line(known: KnownTask) -> str:
    task = known.task
    text = f"{task.state!s:10} {known.short_name}  {task.operator}"
    text += f"  group {task.group}" if task.group is not None else ""
    text += f"  {task.attempts} attempts" if task.attempts != 1 else "  1 attempt"
    text += f"  {task.why}" if task.why else ""
    text += "" if task.asked else "  (no longer asked for)"
    text += f"  held up by task {known.held_up_by}" if known.held_up_by is not None else ""
    return text + (f"  [{known.wish} wanted]" if known.wish else "")


def _time(unix_us: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_us / 1e6))
