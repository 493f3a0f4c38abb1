"""Below the process: each signature leaves after the WAL that holds its mark was synced.

The kernel's own record (strace) of a process that commits and then releases is read line by
line. The same reading must object when the process commits without fsync, or it proves nothing.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from child_process import HERE, Child
from watermark_cases import ALICE

pytestmark = pytest.mark.process

SIGNATURES = 5
CALLS = "trace=write,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync"

# 4242 pwrite64(5</dir/watermarks.db-wal>, "..."..., 24, 32) = 24
_CALL = re.compile(r"^\d+ +(\w+)\(\d+<([^>]*)>(.*)\) += (-?\d+)")
# 4242 fdatasync(5</dir/watermarks.db-wal> <unfinished ...>
_BEGUN = re.compile(r"^(\d+) +(\w+)\(\d+<([^>]*)>(.*?) <unfinished \.\.\.>$")
# 4242 <... fdatasync resumed>)   = 0
_ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>.*\) += (-?\d+)")


class Call(NamedTuple):
    """A system call, at the moment it returned."""

    name: str
    file: str
    arguments: str
    result: int


def calls(trace: str) -> Iterator[Call]:
    begun: dict[str, tuple[str, str, str]] = {}
    for line in trace.splitlines():
        if match := _CALL.match(line):
            yield Call(match[1], match[2], match[3], int(match[4]))
        elif match := _BEGUN.match(line):
            begun[match[1]] = (match[2], match[3], match[4])
        elif match := _ENDED.match(line):
            yield Call(*begun.pop(match[1]), int(match[3]))


def released_too_early(trace: str) -> tuple[int, list[str]]:
    """Count the signatures of a trace, and list those that left before their mark was synced."""
    signatures, early = 0, []
    recorded = synced = False
    for call in calls(trace):
        if call.file.endswith("-wal") and call.name.startswith("pwrite"):
            recorded, synced = True, False
        elif call.file.endswith("-wal") and call.name in ("fsync", "fdatasync"):
            synced = call.result == 0
        elif "advance" in call.arguments:  # what the child writes stands for a signature
            signatures += 1
            if not (recorded and synced):
                early.append(call.arguments)
            recorded = synced = False
    return signatures, early


def traced(store_path: Path, trace: Path, *settings: str) -> str:
    strace = ("strace", "-f", "-y", "-e", CALLS, "-o", str(trace))
    with Child(store_path, *settings, under=strace) as child:
        for level in range(SIGNATURES):
            assert child.ask(f"sign {ALICE} {level} a") == "advance"
    return trace.read_text()


def test_a_signature_leaves_after_its_mark_is_on_the_disk(store_path: Path, tmp_path: Path) -> None:
    """Scenario 50: the mark is durable before the answer."""
    assert released_too_early(traced(store_path, tmp_path / "trace")) == (SIGNATURES, [])


def test_the_same_check_objects_to_commits_without_fsync(store_path: Path, tmp_path: Path) -> None:
    signatures, early = released_too_early(traced(store_path, tmp_path / "trace", "synchronous=0"))
    assert signatures == SIGNATURES
    assert len(early) == SIGNATURES


def unsynced_at_answer(trace: str, answer: str) -> list[set[str]]:
    """Which files of the store hold writes that were not synced, at each write of the answer."""
    unsynced: set[str] = set()
    found = []
    for call in calls(trace):
        of_store = call.file.endswith((".db", ".db-wal"))
        if of_store and call.name.startswith("pwrite"):
            unsynced.add(call.file)
        elif of_store and call.name in ("fsync", "fdatasync") and call.result == 0:
            unsynced.discard(call.file)
        elif answer in call.arguments:
            found.append(set(unsynced))
    return found


@pytest.mark.parametrize("synchronous", ["2", "0"])
def test_a_key_is_disabled_on_the_disk_before_the_command_answers(
    tmp_path: Path, synchronous: str
) -> None:
    """Also while a pool has the store open, when nothing else would bring it to the disk."""
    place = {"FORGEPOOL_STATE_DIR": str(tmp_path), "PYTHONPATH": str(HERE)}
    forgepool = [sys.executable, "-m", "broker.command"]
    make = ["init", "--network", "mavryk", "--chain-id", "NetXdQprcVkpaWU"]
    for words in (make, ["keys", "generate", "alice"]):
        subprocess.run([*forgepool, *words], env=place, check=True, capture_output=True)
    trace = tmp_path / "trace"
    program = (
        "import sys; from signers.keyring.keys_command import keys;"
        "from signers.marks import store_file;"
        "settings = dict(store_file.SETTINGS) | {'synchronous': int(sys.argv[1])};"
        "store_file.SETTINGS = tuple(settings.items()); keys(['disable', 'alice'])"
    )
    with Child(tmp_path / "watermarks.db"):
        subprocess.run(
            ["strace", "-f", "-y", "-e", CALLS, "-o", str(trace), sys.executable, "-c", program,
             synchronous],
            env=place, check=True, capture_output=True,
        )  # fmt: skip
    (unsynced,) = unsynced_at_answer(trace.read_text(), "disabled mv1")
    assert bool(unsynced) == (synchronous == "0")


def test_a_new_store_and_its_name_are_synced_before_it_is_announced(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "state" / "watermarks.db"
    path.parent.mkdir()
    program = (
        "import sys; from pathlib import Path; from watermark_cases import CHAIN;"
        "from signers.marks.watermark_store import WatermarkStore;"
        "WatermarkStore.create(Path(sys.argv[1]), network='mavryk', chain_id=CHAIN);"
        "sys.stdout.write('announced')"
    )
    subprocess.run(
        [
            *("strace", "-f", "-y", "-e", f"{CALLS},link,linkat", "-o", str(trace)),
            *(sys.executable, "-c", program, str(path)),
        ],
        env={"PYTHONPATH": str(HERE)},
        check=True,
    )
    lines = trace.read_text().splitlines()
    (named,) = [at for at, line in enumerate(lines) if " link" in line and "watermarks.db" in line]
    (announced,) = [at for at, line in enumerate(lines) if "announced" in line]
    assert any("watermarks.db.new-" in line and "sync(" in line for line in lines[:named])
    assert any("sync(" in line and f"<{path.parent}>" in line for line in lines[named:announced])
