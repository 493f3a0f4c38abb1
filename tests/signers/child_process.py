"""Starting children of the store tests, talking to them, and ending each by its own pid."""

import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

HERE = Path(__file__).parent
ANSWER_S = 20.0


class Child:
    """A `store_child.py` of its own process."""

    def __init__(self, store_path: Path, *settings: str, under: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [*under, sys.executable, str(HERE / "store_child.py"), str(store_path), *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.answer() == "open"

    def tell(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n")

    def answer(self, wait_s: float = ANSWER_S) -> str | None:
        """The next line; None when it does not come in time."""
        ready, _, _ = select.select([self.process.stdout], [], [], wait_s)
        return self.process.stdout.readline().strip() if ready else None

    def ask(self, line: str) -> str:
        self.tell(line)
        answer = self.answer()
        assert answer is not None, f"no answer to {line!r}"
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()


class FailingCall:
    """While inside, one kind of system call of a child on one file fails."""

    def __init__(self, child: Child, call: str, error: str, path: str) -> None:
        self._command = [
            *("strace", "-p", str(child.process.pid), "-P", path),
            *("-e", f"trace={call}", "-e", f"inject={call}:error={error}"),
        ]

    def __enter__(self) -> None:
        self._strace = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        line = ""
        while not re.search(r"attached$", line.strip()):
            line = self._strace.stderr.readline()
            assert line, "strace ended before it attached"

    def __exit__(self, *_: object) -> None:
        self._strace.send_signal(signal.SIGINT)
        self._strace.communicate()


def has_strace() -> bool:
    return shutil.which("strace") is not None
