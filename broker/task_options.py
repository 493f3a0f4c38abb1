"""What `serve`, `broker` and `worker` are told of off-chain tasks on their command lines.

Flags weigh more than the settings file. `serve` passes them on as they are, so that broker and
workers come to the same settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from broker.applications import Watched, application_ids, application_key, checked_id
from broker.config import ApplicationSettings, OperatorSettings, TaskSettings, service_url
from broker.errors import Misconfigured

ANY_OPERATOR = "*"
COMPAT = "compat"
OUR_VARIABLES = "FORGEPOOL_"  # begins the names of what every operator is told


@dataclass(frozen=True, slots=True)
class TaskFlags:
    """The flags as they were given; empty: not given."""

    application_ids: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    node_service: str = ""
    chain_id: str = ""
    controller_id: str = ""
    controller_owner: str = ""
    mode: str = ""

    def arguments(self) -> list[str]:
        """The same flags for another process."""
        single = {
            "--node-service": self.node_service,
            "--chain-id": self.chain_id,
            "--controller-id": self.controller_id,
            "--controller-owner": self.controller_owner,
            "--task-mode": self.mode,
        }
        flags = [(name, value) for name, value in single.items() if value]
        flags += [("--application-id", each) for each in self.application_ids]
        flags += [("--operator", each) for each in self.operators]
        # In one word: a value may begin with a dash.
        return [f"{name}={value}" for name, value in flags]

    def applied_to(self, settings: TaskSettings) -> TaskSettings:
        """The settings with these flags, checked as a whole.

        Raises:
            Misconfigured: a value is malformed, or two contradict each other.
        """
        given = {
            "node_service": self.node_service,
            "chain_id": self.chain_id,
            "controller": self.controller_id,
            "controller_owner": self.controller_owner,
            "mode": self.mode,
        }
        tasks = msgspec.structs.replace(settings, **{n: v for n, v in given.items() if v})
        named = {each: ApplicationSettings([ANY_OPERATOR]) for each in self.application_ids}
        tasks = msgspec.structs.replace(
            tasks,
            applications=tasks.applications | named,
            operators=_with_operators(tasks, self.operators),
        )
        check_tasks(tasks)
        if not (tasks.applications or tasks.operators or tasks.controller):
            # A worker that somebody has added without the pool's flags would ask the default node
            # service, and find no operator, for tasks that the other workers can perform.
            return msgspec.structs.replace(tasks, node_service="")
        return tasks


def _with_operators(tasks: TaskSettings, texts: Iterable[str]) -> dict[str, OperatorSettings]:
    """The table with the operators of the flags; bounds that it has for one stay."""
    table = dict(tasks.operators)
    seen: set[str] = set()
    for text in texts:
        name, path = parse_operator(text)
        if tasks.mode != COMPAT:
            if not name or not path:
                raise Misconfigured(f"--operator {text!r}: an operator is NAME=PATH, or a NAME")
            if name in seen:
                raise Misconfigured(f"--operator {text!r}: {name} was given before")
        seen.add(name)
        known = table.get(name)
        table[name] = msgspec.structs.replace(known, path=path) if known else OperatorSettings(path)
    return table


def parse_operator(text: str) -> tuple[str, str]:
    """Name and path of ``NAME=PATH``; without ``=`` the name is the path.

    Source: Linera's `linera service --operators`, which takes anything.
    """
    name, equals, path = text.partition("=")
    return (name, path) if equals else (text, text)


def _seen_from_here(text: str) -> str:
    """An operator of the command line, with the path that a shell would execute.

    Settings are seen from the state directory, and a name without a slash is looked for in PATH.
    """
    name, path = parse_operator(text)
    return f"{name}={Path(path).absolute()}" if "/" in path else text


def check_tasks(tasks: TaskSettings) -> None:
    """Look at what no single setting shows.

    Raises:
        Misconfigured: naming the setting.
    """
    service_url(tasks.node_service)
    if tasks.chain_id:
        checked_id(tasks.chain_id, "chain")
    if tasks.controller and tasks.applications:
        raise Misconfigured(
            "either a controller says which applications are ours, or we do: give a controller id, "
            "or application ids, not both"
        )
    if tasks.controller_owner and not tasks.controller:
        raise Misconfigured(
            f"the controller's owner is {tasks.controller_owner!r}, and there is no controller: "
            "give its id too (--controller-id, tasks.controller)"
        )
    if tasks.mode != COMPAT:
        for name, settings in tasks.operators.items():
            _check_operator(f"operator {name!r}", settings)
    if tasks.retry_max_s < tasks.retry_delay_s:
        raise Misconfigured(
            f"tasks.retry_max_s is {tasks.retry_max_s}, less than the first pause, "
            f"tasks.retry_delay_s = {tasks.retry_delay_s}"
        )
    for watched in configured_applications(tasks):
        for name in watched.operators or ():
            if name not in tasks.operators:
                raise Misconfigured(
                    f"application {watched.key[64:]} may use operator {name!r}, which "
                    "[tasks.operators] does not have"
                )


def _check_operator(what: str, settings: OperatorSettings) -> None:
    if settings.timeout_max_s is not None and settings.timeout_max_s < settings.timeout_s:
        raise Misconfigured(f"{what}: timeout_max_s is less than timeout_s")
    for name in settings.env:
        if not _is_variable(name):
            raise Misconfigured(f"{what}: env: {name!r} is no name of a variable")
    for name, value in settings.set_env.items():
        if not _is_variable(name) or "\0" in value:
            raise Misconfigured(f"{what}: set_env: {name!r} cannot be a variable with that value")
        if name.startswith(OUR_VARIABLES):
            raise Misconfigured(f"{what}: set_env: {name} is the pool's to set")


def _is_variable(name: str) -> bool:
    return bool(name) and "=" not in name and "\0" not in name


def configured_applications(tasks: TaskSettings) -> list[Watched]:
    """The applications that the settings name, the controller among them.

    Raises:
        Misconfigured: an id is malformed, or an application stands there twice.
    """
    named: dict[str, Watched] = {}
    for text, each in tasks.applications.items():
        key = application_key(text, tasks.chain_id)
        if key in named:
            raise Misconfigured(f"application {text} is named twice")
        every = ANY_OPERATOR in each.operators
        named[key] = Watched(key, None if every else list(each.operators))
    if tasks.controller:
        key = application_key(tasks.controller, tasks.chain_id)
        named[key] = Watched(key)
    return list(named.values())


def controller_key(tasks: TaskSettings) -> str:
    """The controller's key; empty: there is none. Raises Misconfigured."""
    return application_key(tasks.controller, tasks.chain_id) if tasks.controller else ""


def typed_application(text: str) -> str:
    """An application's id on a command line, which is wrong if that is malformed."""
    try:
        application_ids(text)
    except Misconfigured as e:
        raise click.BadParameter(str(e)) from None
    return text


def typed_chain(text: str) -> str:
    """A chain's id, likewise."""
    try:
        return checked_id(text, "chain")
    except Misconfigured as e:
        raise click.BadParameter(str(e)) from None


def with_task_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of off-chain tasks, as one parameter `task_flags`."""

    def run(
        *arguments: Any,
        application_id: tuple[str, ...],
        operator: tuple[str, ...],
        node_service: str | None,
        chain_id: str | None,
        controller_id: str | None,
        controller_owner: str | None,
        task_mode: str | None,
        **others: Any,
    ) -> None:
        single = {
            "--node-service": node_service,
            "--chain-id": chain_id,
            "--controller-id": controller_id,
            "--controller-owner": controller_owner,
            "--task-mode": task_mode,
        }
        for name, value in single.items():
            if value == "":  # a variable that is not set, most likely
                raise click.UsageError(f"{name} is empty: leave it out, or say what it is")
        here = tuple(map(_seen_from_here, operator))
        flags = TaskFlags(application_id, here, *(each or "" for each in single.values()))
        command(*arguments, task_flags=flags, **others)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--task-mode", type=click.Choice(["hardened", COMPAT]),
                     help="How tasks are processed.  [default: hardened]"),
        click.option("--controller-owner", metavar="OWNER",
                     help="As whom to register there.  [default: the chain's only owner]"),
        click.option("--controller-id", metavar="ID", type=typed_application,
                     help="The application that says on the chain which ones are ours."),
        click.option("--chain-id", metavar="ID", type=typed_chain,
                     help="The chain of applications that are named without one."),
        click.option("--node-service", metavar="URL",
                     help="Node service of the applications' chains."),
        click.option("--operator", metavar="NAME=PATH", multiple=True,
                     help="A program that applications may have run, seen from here; repeatable."),
        click.option("--application-id", metavar="ID", multiple=True, type=typed_application,
                     help="Process this application's off-chain tasks; repeatable."),
    ):  # fmt: skip
        run = option(run)
    return run
