"""Runs operators as the source system does: everything inherited, nothing bounded.

The input is written to the end before any output is read: an operator that answers while it reads
waits for us as we wait for it, once both pipes are full (`cat` from 197,000 bytes on). One that
does not read its input fails, if it ends before we have written it. A run that is cancelled is
left alone. Source: Linera, `linera-service/src/task_processor.rs` (`execute_task`); the texts of
errors are those of Rust's standard library.
"""

from __future__ import annotations

import asyncio
import os

from workers.offchain.commands import Run
from workers.offchain.ends import RunEnd, RunResult
from workers.offchain.operators.child_process import ChildProcess, make_parent
from workers.offchain.operators.descriptors import Descriptors
from workers.offchain.operators.exit_class import seed_exit_text
from workers.offchain.operators.operator_run import OnEnd, OnSlow
from workers.offchain.operators.operator_table import OperatorTable
from workers.offchain.operators.pipes import Feed, Tap


class SeedRun:
    """A run that goes on."""

    def __init__(
        self, operator: str, path: str, content: bytes, descriptors: Descriptors, on_end: OnEnd
    ) -> None:
        """Start it. Raises OSError when it cannot be started."""
        self._operator, self._descriptors, self._on_end = operator, descriptors, on_end
        self._child = ChildProcess(
            [path], descriptors, self._see_end, own_group=False, keep_stderr=False
        )
        self.pid = self._child.pid
        self._loop = asyncio.get_running_loop()
        self.started_at = self._loop.time()
        self._output = bytearray()
        self._tap = Tap(self._child.stdout, self._output.extend, descriptors, self._see_end)
        self._over = False
        self._feed = Feed(self._child.stdin, content, descriptors, self._see_input_end)
        self._feed.write()

    def cancel(self, *, at_once: bool = False) -> None:
        self._leave_alone(RunEnd.CANCELLED, "was left alone")

    def _see_input_end(self, error: OSError | None) -> None:
        if error is None:
            self._tap.listen()
        else:
            self._leave_alone(RunEnd.TRANSIENT, seed_error_text(error))

    def _leave_alone(self, end: RunEnd, text: str) -> None:
        if not self._over:
            self._over = True
            self._feed.close()
            self._tap.close()
            self._child.leave_alone()
            self._tell(end, text=text)

    def _see_end(self) -> None:
        """Either it or its output has ended, which is no end without the other."""
        if not self._over and self._child.has_ended and self._tap.has_ended:
            self._over = True
            status = self._child.reap()
            if status == 0:
                self._tell(RunEnd.OUTPUT, output=self._output.decode(errors="replace"))
            else:
                self._tell(RunEnd.TRANSIENT, text=seed_exit_text(self._operator, status))

    def _tell(self, end: RunEnd, *, output: str = "", text: str = "") -> None:
        seconds = self._loop.time() - self.started_at
        # Not at once: the run may be ending while it is still being started, or cancelled.
        self._loop.call_soon(self._on_end, RunResult(end, output, text, seconds=seconds))


class SeedLauncher:
    """Starts operators in the source system's way."""

    def __init__(self, table: OperatorTable) -> None:
        self._table = table
        self._descriptors = Descriptors()
        make_parent()

    def launch(self, order: Run, token: str, on_end: OnEnd, on_slow: OnSlow) -> SeedRun | RunResult:
        operator = self._table.get(order.operator)
        if operator is None:
            return RunResult(RunEnd.TRANSIENT, text=f"unsupported operator: {order.operator}")
        try:
            # A JSON reader of Rust refuses half a surrogate pair; ours does not.
            content = order.input.encode("utf-8", "surrogatepass")
            return SeedRun(order.operator, operator.path, content, self._descriptors, on_end)
        except OSError as error:
            return RunResult(RunEnd.TRANSIENT, text=seed_error_text(error))

    def close(self) -> None:
        self._descriptors.close()


def seed_error_text(error: OSError) -> str:
    return f"{os.strerror(error.errno or 0)} (os error {error.errno})"
