"""`forgepool baker` with a whole pool and a sandbox node, each in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from signers.keyring.keystore import Keystore

pytestmark = pytest.mark.process
COMMAND = [sys.executable, "-m", "broker.command"]
END_S = 10.0


def run(*arguments: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


@contextmanager
def running(*arguments: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in the background; SIGTERM at the end, and it must obey."""
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        finally:
            process.kill()
            process.stdout.close()


def statistics(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/sandbox/statistics", timeout=5) as answer:
        return json.load(answer)


def test_a_baker_bakes_with_a_pool_and_ends_in_order(tmp_path: Path) -> None:
    pool = ["--state-dir", str(tmp_path / "pool")]
    run("keys", "generate", "baker", *pool, "--network", "mavryk", "--count", "3")
    entries = list(Keystore(tmp_path / "pool" / "keys").entries())
    bakers = [{"public_key": entry.public_key, "stake": "4000000000000"} for entry in entries]
    (tmp_path / "bakers.json").write_text(json.dumps(bakers))
    sandbox = ["sandbox", "--port", "0", "--bakers", str(tmp_path / "bakers.json"), "--start-in"]
    with running(*sandbox, "3", log=tmp_path / "sandbox.log") as node:
        ready = json.loads(node.stdout.readline())
        run("init", *pool, "--network", "mavryk", "--chain-id", ready["chain_id"])
        run("keys", "enable", *pool, "--fresh", "--yes", *(entry.name for entry in entries))
        serve = ["serve", *pool, "--workers", "1", "--node", ready["url"]]
        baker = ["baker", *pool, "--node", ready["url"], "--json"]
        with (
            running(*serve, log=tmp_path / "serve.log"),
            running(*baker, log=tmp_path / "baker.log") as baking,
        ):
            end = time.monotonic() + 30
            while statistics(ready["url"])["head"]["level"] < 4:
                assert time.monotonic() < end, (tmp_path / "baker.log").read_text()
                time.sleep(0.1)
            baking.send_signal(signal.SIGTERM)
            counts = json.loads(baking.stdout.read())
            assert baking.wait(END_S) == 0
        seen = statistics(ready["url"])
    assert counts["block_ready"] >= 3
    # Of levels 2 and 3; the baker may have been ended before it voted for the block at 4.
    assert counts["preattestation_ready"] >= 6
    assert counts["attestation_ready"] >= 6
    assert seen["conflicting_signatures"] == 0
    assert seen["refused"] == {"operations": {}, "blocks": {}}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "no node is configured"),
        (["--node", "http://127.0.0.1:9"], "holds no key, and no --delegate is given"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, arguments: list[str], why: str) -> None:
    done = subprocess.run(
        [*COMMAND, "baker", "--state-dir", str(tmp_path), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "FORGEPOOL_BASE_DIR": str(tmp_path / "keys")},
    )
    assert done.returncode == 78
    assert why in done.stderr
