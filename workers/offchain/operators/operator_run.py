"""One run of an operator: from its start until nothing of it is left.

It gets its input and is listened to at the same time. Whatever ends it, the end has the same
steps: its output is read to the end (for a second at most, if a process that it has left behind
holds the pipe), then everything in its process group is killed, and only then is the result told.
When it was ended by force, or something else held its pipes, the whole machine is searched for what
it has started (`orphans`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from workers.offchain.ends import RunEnd, RunResult
from workers.offchain.operators.child_process import ChildProcess
from workers.offchain.operators.descriptors import Descriptors
from workers.offchain.operators.exit_class import exit_class
from workers.offchain.operators.new_runs import NewRuns
from workers.offchain.operators.operator_table import Operator
from workers.offchain.operators.orphans import end_orphans
from workers.offchain.operators.pipes import Feed, Tap
from workers.offchain.operators.process_table import living_members, process_row
from workers.offchain.operators.scratch import RunDirectory, Scratch

log = logging.getLogger("forgepool.operators")

STDERR_BYTES_KEPT = 64 * 1024  # the last of it, for whoever must find out why
STDERR_BYTES_MAX = 64 * 1024 * 1024  # what says more than that will not stop by itself
DRAIN_S = 1.0  # after the operator's end, while another process holds its pipes
# Until the members of a killed group are gone, which takes the system some milliseconds. What
# takes longer than the last of these hangs in the kernel.
GONE_PAUSES_S = (0.001, 0.004, 0.02, 0.1, 0.5, 1.0, 3.0)

Verdict = tuple[RunEnd, str]  # how a run was ended by us, and a sentence on why
OnEnd = Callable[[RunResult], None]
OnSlow = Callable[[float], None]


class RunTerms(Struct, frozen=True):
    """What a run is started with."""

    operator: Operator
    command: Sequence[str]
    content: bytes  # for its standard input
    attempt: int
    environment: Mapping[str, str]
    token: str
    directory: RunDirectory
    on_end: OnEnd
    on_slow: OnSlow


class OperatorRun:
    """A run that goes on."""

    def __init__(
        self, terms: RunTerms, descriptors: Descriptors, new_runs: NewRuns, scratch: Scratch
    ) -> None:
        """Start it. Raises OSError when it cannot be started."""
        self._child = ChildProcess(
            terms.command,
            descriptors,
            self._see_end,
            environment=terms.environment,
            directory=terms.directory.path,
        )
        self.pid = self._child.pid
        self._terms, self._scratch = terms, scratch
        self._settings = terms.operator.settings
        self._loop = asyncio.get_running_loop()
        self.started_at = self._heard_at = self._loop.time()
        self._seconds, self._status = 0.0, 0  # when it has ended
        self._output, self._stderr, self._stderr_bytes = bytearray(), bytearray(), 0
        self._verdict: Verdict | None = None
        self._is_drained: asyncio.Event | None = None  # while that is waited for
        self._thorough_end: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._new_runs = new_runs
        new_runs.add(self.pid, self._attend)
        assert self._child.stderr is not None, "it is there unless the child was told otherwise"
        self._taps = (
            Tap(self._child.stdout, self._take_output, descriptors, self._see_silence),
            Tap(self._child.stderr, self._take_stderr, descriptors, self._see_silence),
        )
        # What it does not read is not needed: only its exit status says how it went.
        self._feed = Feed(self._child.stdin, terms.content, descriptors)
        self._feed.write()

    def _attend(self) -> None:
        """Listen to it, and look at the clock: it is none of those that are over at once."""
        for tap in self._taps:
            tap.listen()
        settings = self._settings
        limit_s = self._terms.operator.time_limit_s(self._terms.attempt)
        if limit_s < math.inf:
            self._at(limit_s, self._end, (RunEnd.TIMEOUT, f"took longer than {limit_s:g} s"))
        if settings.slow_after_s:
            self._at(settings.slow_after_s, self._terms.on_slow, settings.slow_after_s)
        if settings.idle_timeout_s:
            self._at(settings.idle_timeout_s, self._check_idle)

    def _at(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Call so long after the start, if it still goes on then."""
        self._timers.append(self._loop.call_at(self.started_at + seconds, call, *arguments))

    # -- what it says -----------------------------------------------------------------------------

    def _take_output(self, chunk: bytes) -> None:
        self._heard_at = self._loop.time()
        allowed = self._settings.output_bytes_max
        if len(self._output) + len(chunk) <= allowed:
            self._output += chunk
        else:
            self._end((RunEnd.OUTPUT_TOO_LARGE, f"wrote more than {allowed} bytes"), at_once=True)

    def _take_stderr(self, chunk: bytes) -> None:
        self._heard_at = self._loop.time()
        self._stderr += chunk
        del self._stderr[:-STDERR_BYTES_KEPT]
        self._stderr_bytes += len(chunk)
        if self._stderr_bytes > STDERR_BYTES_MAX:
            text = f"wrote more than {STDERR_BYTES_MAX} bytes to its standard error"
            self._end((RunEnd.OUTPUT_TOO_LARGE, text), at_once=True)

    def _check_idle(self) -> None:
        allowed_s = self._settings.idle_timeout_s
        if self._loop.time() < self._heard_at + allowed_s:
            self._at(self._heard_at + allowed_s - self.started_at, self._check_idle)
        else:
            self._end((RunEnd.TIMEOUT, f"said nothing for {allowed_s:g} s"))

    # -- how it ends ------------------------------------------------------------------------------

    def cancel(self, *, at_once: bool = False) -> None:
        """End it, because nobody wants its outcome any more; that is its result, whatever else.

        Args:
            at_once: without a chance to tidy up.
        """
        cancelled = (RunEnd.CANCELLED, "was not wanted any more")
        self._end(cancelled, at_once=at_once)
        self._verdict = cancelled

    def _end(self, verdict: Verdict, *, at_once: bool = False) -> None:
        """Ask its group to end, and kill it when the grace is over, or at once."""
        was_asked, self._verdict = self._verdict is not None, self._verdict or verdict
        if self._child.has_ended:
            self._end_of_drain()
        elif at_once:
            self._child.signal_group(signal.SIGKILL)
        elif not was_asked:
            self._child.signal_group(signal.SIGTERM)
            self._child.signal_group(signal.SIGCONT)  # what is stopped would not hear it
            until_s = self._loop.time() + self._settings.grace_s - self.started_at
            self._at(until_s, self._child.signal_group, signal.SIGKILL)

    def _see_end(self) -> None:
        """It has ended. That is all, in most cases: then this is the end of the run, too."""
        self._seconds = self._loop.time() - self.started_at
        self._new_runs.forget(self.pid)
        for timer in self._timers:
            timer.cancel()
        self._feed.close()
        for tap in self._taps:
            tap.read_rest()
        if self._verdict is None and not self._open_taps():
            self._child.signal_group(signal.SIGKILL)  # its number is its group's until we reap it
            self._status = self._child.reap()
            if not self._child.group_exists() and self._scratch.take_back(self._terms.directory):
                self._terms.on_end(self._result())
                return
        self._thorough_end = self._loop.create_task(self._end_thoroughly())

    async def _end_thoroughly(self) -> None:
        """Wait for what it has left behind, or end it, whatever it takes."""
        name = self._terms.operator.name
        try:
            if left := await self._end_rest():
                log.error("operator_not_gone operator=%s pids=%s", name, left)
        except OSError as error:  # out of descriptors, most likely
            log.error("operator_not_searched operator=%s pid=%d error=%s", name, self.pid, error)
        finally:  # also when our own process is told to end in the middle
            for tap in self._taps:
                tap.close()
            if not self._child.is_reaped:
                self._status = self._child.end_and_reap()
        await self._scratch.give_back(self._terms.directory)
        self._terms.on_end(self._result())

    async def _end_rest(self) -> list[int]:
        """End everything else that it has started, and return what did not end."""
        if self._child.is_reaped:
            return await self._group_is_gone()
        await self._drain()
        itself = process_row(self.pid)  # has ended, and keeps its number until it is reaped
        leaders = [] if itself is None else [itself.identity]
        return await asyncio.to_thread(end_orphans, {self._terms.token}, leaders)

    async def _drain(self) -> None:
        """Let others that hold its pipes finish what it has said."""
        for tap in self._taps:
            tap.listen()
        if self._verdict is None and self._open_taps():
            self._is_drained = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_drained.wait(), DRAIN_S)
        for tap in self._taps:
            tap.close()

    def _see_silence(self) -> None:
        if not self._open_taps():
            self._end_of_drain()

    def _end_of_drain(self) -> None:
        if self._is_drained is not None:
            self._is_drained.set()

    def _open_taps(self) -> list[Tap]:
        return [tap for tap in self._taps if not tap.has_ended]

    async def _group_is_gone(self) -> list[int]:
        for pause_s in GONE_PAUSES_S:
            if not self._child.group_exists() or not living_members(self.pid):
                return []
            await asyncio.sleep(pause_s)
        return living_members(self.pid)

    def _result(self) -> RunResult:
        output = ""
        end, text = self._verdict or exit_class(self._status, self._settings)
        if end is RunEnd.OUTPUT:
            try:
                output = self._output.decode(errors="replace" if self._settings.lossy else "strict")
            except UnicodeDecodeError as error:
                end, text = RunEnd.INVALID_UTF8, f"its output is not UTF-8: {error.reason}"
                text += f" at byte {error.start}"
        stderr = self._stderr.decode(errors="replace")
        return RunResult(end, output, text, stderr, self._seconds)
