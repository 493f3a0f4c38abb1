"""Starts operators, each with its own directory, environment and limits."""

from __future__ import annotations

import errno
import math
import resource
import shutil
import time
from collections.abc import Mapping
from typing import Protocol

from workers.offchain.commands import Run
from workers.offchain.ends import RunEnd, RunResult
from workers.offchain.operators.child_process import make_parent
from workers.offchain.operators.descriptors import Descriptors
from workers.offchain.operators.new_runs import NewRuns
from workers.offchain.operators.operator_files import LIMITER
from workers.offchain.operators.operator_run import OnEnd, OnSlow, OperatorRun, RunTerms
from workers.offchain.operators.operator_table import Operator, OperatorTable, limit_arguments
from workers.offchain.operators.run_environment import run_environment
from workers.offchain.operators.scratch import Scratch

# The file cannot be executed, today or tomorrow. Other errors are the system's, of this moment.
CANNOT_EXECUTE = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.ENOEXEC,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)


class LiveRun(Protocol):
    """A run that goes on."""

    pid: int
    started_at: float

    def cancel(self, *, at_once: bool = False) -> None:
        """End it, with a grace or at once; its result is CANCELLED."""


class Launcher(Protocol):
    """What starts runs: `OperatorLauncher`, or `SeedLauncher` as the source system does it."""

    def launch(self, order: Run, token: str, on_end: OnEnd, on_slow: OnSlow) -> LiveRun | RunResult:
        """Start a run, or say why not; only one that was started tells of its end."""

    def close(self) -> None:
        """Leave nothing of ours on disk; no run goes on any more."""


class OperatorLauncher:
    """Starts operators in the hardened way."""

    def __init__(
        self,
        table: OperatorTable,
        scratch: Scratch,
        inherited: Mapping[str, str],
        origin: str,
    ) -> None:
        """
        Args:
            table: located operators.
            inherited: our environment, of which they get what is allowed.
            origin: whose serials the orders have, see `run_environment.idempotency_key`.
        """
        self._table, self._scratch = table, scratch
        self._inherited, self._origin = dict(inherited), origin
        self._descriptors, self._new_runs = Descriptors(), NewRuns()
        self._limiter = shutil.which(LIMITER) or LIMITER
        make_parent()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # of no child, unless it wants to

    def launch(
        self, order: Run, token: str, on_end: OnEnd, on_slow: OnSlow
    ) -> OperatorRun | RunResult:
        operator = self._table.get(order.operator)
        if operator is None:
            return RunResult(RunEnd.UNKNOWN_OPERATOR, text=f"no operator {order.operator!r}")
        try:
            content = order.input.encode()
        except UnicodeEncodeError:
            text = "its input holds half a surrogate pair, which UTF-8 cannot"
            return RunResult(RunEnd.INVALID_UTF8, text=text)
        allowed = operator.settings.input_bytes_max
        if len(content) > allowed:
            text = f"its input has {len(content)} bytes, {allowed} are allowed"
            return RunResult(RunEnd.INPUT_TOO_LARGE, text=text)
        try:
            directory = self._scratch.take()
        except OSError as error:
            return RunResult(RunEnd.NOT_STARTED, text=f"no directory for it: {error}")
        terms = RunTerms(
            operator,
            self._command(operator),
            content,
            order.attempt,
            run_environment(
                order,
                operator.settings,
                self._inherited,
                token=token,
                directory=directory.path,
                deadline_unix_s=_deadline(operator.time_limit_s(order.attempt)),
                origin=self._origin,
            ),
            token,
            directory,
            on_end,
            on_slow,
        )
        try:
            return OperatorRun(terms, self._descriptors, self._new_runs, self._scratch)
        except OSError as error:
            if not self._scratch.take_back(directory):  # somebody has removed it
                return RunResult(RunEnd.NOT_STARTED, text=f"no directory for it: {error}")
            return _not_started(operator, error)

    def _command(self, operator: Operator) -> list[str]:
        """The path and nothing else; in front of it what sets limits, and then is gone."""
        limits = limit_arguments(operator.settings)
        return [self._limiter, *limits, operator.path] if limits else [operator.path]

    def close(self) -> None:
        self._descriptors.close()
        self._scratch.close()


def _deadline(limit_s: float) -> int | None:
    return None if limit_s == math.inf else int(time.time() + limit_s)


def _not_started(operator: Operator, error: OSError) -> RunResult:
    """Why an operator could not be started: because of its file, or of the system."""
    text = f"{operator.path}: {error.strerror}"
    if error.errno == errno.ENOENT:
        text += " (or what its first line names as its interpreter)"
    end = RunEnd.CANNOT_START if error.errno in CANNOT_EXECUTE else RunEnd.NOT_STARTED
    return RunResult(end, text=text)
