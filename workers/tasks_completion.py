"""What Tab completes in `forgepool tasks`: names of tasks, applications and operators.

A shell waits for it, and shows nothing of what goes wrong: then there is nothing to choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import islice

import click

from broker.access import own_identity
from broker.client import Admin
from broker.config import Settings, default_state_dir, load_settings, resolve_endpoints
from broker.errors import BrokerError
from workers.offchain.application import Application
from workers.offchain.journal.journal_reports import STOPPED, known_tasks
from workers.offchain.journal.journal_tables import JOURNAL_NAME

ASK_S = 0.5  # a pool that runs here answers at once; nobody waits longer for a word
OFFERED_MAX = 200  # a shell asks before it shows more than a hundred

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completing(names: Callable[[click.Context, Settings], Iterable[str]]) -> Complete:
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        try:
            state_dir = context.params.get("state_dir") or default_state_dir()
            settings = load_settings(state_dir, context.params.get("config"))
            context.params["state_dir"] = state_dir
            fit = (each for each in names(context, settings) if each.startswith(incomplete))
            return list(islice(dict.fromkeys(fit), OFFERED_MAX))
        except (BrokerError, OSError):
            return []

    return complete


@_completing
def task_names(context: click.Context, _: Settings) -> Iterable[str]:
    """Tasks of the journal, as `tasks list` names them."""
    return (each.short_name for each in known_tasks(context.params["state_dir"] / JOURNAL_NAME))


@_completing
def dead_task_names(context: click.Context, _: Settings) -> Iterable[str]:
    """The same of those that wait for a decision."""
    tasks = known_tasks(context.params["state_dir"] / JOURNAL_NAME)
    return (each.short_name for each in tasks if each.task.state in STOPPED)


@_completing
def applications_with_tasks(context: click.Context, _: Settings) -> Iterable[str]:
    """Ids of the applications that the journal has tasks of."""
    tasks = known_tasks(context.params["state_dir"] / JOURNAL_NAME)
    return (each.application.application_id for each in tasks)


@_completing
def watched_applications(context: click.Context, settings: Settings) -> Iterable[str]:
    """Those that the running pool watches; without their chain where nobody needs it."""
    endpoints = resolve_endpoints(context.params["state_dir"], settings.endpoints)
    with closing(Admin(endpoints, curve=own_identity(settings.curve))) as admin:
        watched = admin.applications(timeout_s=ASK_S)
    for each in watched:
        application = Application.of_key(each.key)
        is_on_ours = application.chain_id == settings.tasks.chain_id
        yield application.application_id if is_on_ours else str(application)


@_completing
def operator_names(_: click.Context, settings: Settings) -> Iterable[str]:
    """Operators of the settings."""
    return settings.tasks.operators
