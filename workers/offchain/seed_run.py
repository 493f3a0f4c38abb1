"""Runs operators as the source system does: everything inherited, nothing bounded.

The input is written to the end before any output is read: an operator that answers while it reads
waits for us as we wait for it, once both pipes are full (`cat` from 197,000 bytes on). One that
does not read its input fails, if it ends before we have written it. A run that is cancelled is
left alone. Source: Linera, `linera-service/src/task_processor.rs` (`execute_task`); the texts of
errors are those of Rust's standard library.
"""

from __future__ import annotations

import asyncio
import errno
import os

from workers.offchain.child_process import ChildProcess
from workers.offchain.commands import Run
from workers.offchain.descriptors import Descriptors
from workers.offchain.ends import RunEnd, RunResult
from workers.offchain.exit_class import seed_exit_text
from workers.offchain.operator_run import OnSlow
from workers.offchain.operator_table import OperatorTable
from workers.offchain.pipes import Feed, Tap


class SeedRun:
    """A run that goes on."""

    def __init__(self, operator: str, path: str, content: bytes, descriptors: Descriptors) -> None:
        """Start it. Raises OSError when it cannot be started."""
        self._descriptors = descriptors
        if not path:  # Python would join it to each directory of PATH, and find directories
            raise FileNotFoundError(errno.ENOENT, path)
        self._child = ChildProcess([path], descriptors, own_group=False, keep_stderr=False)
        self.pid = self._child.pid
        self._operator = operator
        self._feed = Feed(self._child.stdin, content, descriptors)
        self._tap: Tap | None = None
        self._loop = asyncio.get_running_loop()
        self.started_at = self._loop.time()
        self._work = self._loop.create_task(self._perform())

    def cancel(self) -> None:
        self._work.cancel()

    async def finish(self) -> RunResult:
        await asyncio.wait([self._work])
        if self._work.cancelled():
            self._feed.close()
            if self._tap is not None:
                self._tap.close()
            self._child.leave_alone()
            return RunResult(RunEnd.CANCELLED, text="was left alone")
        return self._work.result()

    async def _perform(self) -> RunResult:
        error = await self._feed.done
        if error is not None:
            self._child.leave_alone()
            return self._failed(seed_error_text(error))
        output = bytearray()
        self._tap = Tap(self._child.stdout, output.extend, self._descriptors)
        self._tap.listen()
        await self._tap.ended
        await self._child.ended
        status = self._child.reap()
        if status != 0:
            return self._failed(seed_exit_text(self._operator, status))
        return RunResult(RunEnd.OUTPUT, output.decode(errors="replace"), seconds=self._seconds())

    def _failed(self, text: str) -> RunResult:
        return RunResult(RunEnd.TRANSIENT, text=text, seconds=self._seconds())

    def _seconds(self) -> float:
        return self._loop.time() - self.started_at


class SeedLauncher:
    """Starts operators in the source system's way."""

    def __init__(self, table: OperatorTable) -> None:
        self._table = table
        self._descriptors = Descriptors()

    def launch(self, order: Run, token: str, on_slow: OnSlow) -> SeedRun | RunResult:
        operator = self._table.get(order.operator)
        if operator is None:
            return RunResult(RunEnd.TRANSIENT, text=f"unsupported operator: {order.operator}")
        try:
            # A JSON reader of Rust refuses half a surrogate pair; ours does not.
            content = order.input.encode("utf-8", "surrogatepass")
            return SeedRun(order.operator, operator.path, content, self._descriptors)
        except OSError as error:
            return RunResult(RunEnd.TRANSIENT, text=seed_error_text(error))

    def close(self) -> None:
        self._descriptors.close()


def seed_error_text(error: OSError) -> str:
    return f"{os.strerror(error.errno or 0)} (os error {error.errno})"
