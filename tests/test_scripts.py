"""The scripts that are written in shell tell what they do instead of doing it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("script", ["check", "setup", "real-clients"])
def test_help_is_the_comment_at_the_top_and_nothing_is_done(script: str, flag: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / script, flag], capture_output=True, text=True, env={"PATH": "/bin"}
    )
    comment = (ROOT / "scripts" / script).read_text().split("set -euo")[0].splitlines()[1:]
    assert done.stdout.splitlines() == [line.removeprefix("# ") for line in comment]
    assert (done.returncode, done.stderr) == (0, "")
