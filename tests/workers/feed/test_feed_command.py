"""`forgepool quarantine feed` on a wrong command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.errors import EXIT_MISCONFIGURED
from workers.quarantine_command import quarantine

URL = "http://127.0.0.1:8732"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "127.0.0.1:8732"], "http://HOST:PORT"),
        (["--from", URL, "--into", "ftp://127.0.0.1"], "http://HOST:PORT"),
        (["--from", ""], "--from is empty"),
        (["--from", URL, "--peer", "p" * 129], "--peer"),
        (["--from", URL, "--peer", ""], "--peer ''"),
        (["--from", URL, "--client", "a b"], "--client 'a b'"),
    ],
    ids=["from", "into", "no node", "long peer", "no peer", "client"],
)
def test_what_cannot_be_followed_is_said(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(quarantine, ["feed", *arguments, "--state-dir", str(tmp_path)])
    assert done.exit_code == EXIT_MISCONFIGURED
    assert says in done.stderr
