"""How much the votes of other keys suffer from one key whose signer is dead, hangs, flaps or lies.

Part of `scripts/bench backends`. One worker, so that all keys share it. The signer is the test
server in a process of its own; its key is asked to vote all the time, the others are measured one
vote at a time, before (idle: the sick key is not asked) and with each kind of trouble, interleaved.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from broker.client import Client
from broker.config import Endpoints
from broker.errors import NoAnswer

SERVER = Path(__file__).parents[1] / "tests" / "signers" / "signer_server.py"
TROUBLES = ("dead", "hanging", "flapping", "lying")
_COMMANDS = {"hanging": "hangs", "lying": "lies", "dead": "stop"}

ROUNDS_MIN = 5
VOTES = 1500  # of each run: some seconds
# How often the sick key is asked: a baker asks three times in some seconds.
ASK_EVERY_S = 0.1
FLAP_EVERY_S = 0.3


class SickSigner:
    """The test server, with one key of the pool."""

    def __init__(self, secret: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SERVER), "honest", secret],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@contextmanager
def _asking(endpoints: Endpoints, requests: Iterator[Any]) -> Iterator[None]:
    """Ask the sick key for votes, one after the other, meanwhile; some must fail."""
    enough = threading.Event()
    failed: list[str] = []

    def ask() -> None:
        with Client(endpoints, "sick") as client:
            while not enough.wait(ASK_EVERY_S):
                request = next(requests)
                client.push(request)
                try:
                    events = client.wait(request.id, 1.0)
                except NoAnswer:
                    failed.append("no answer")  # its time limit is longer than that
                else:
                    failed.extend(each.code for each in events if each.code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
    if not failed:
        raise SystemExit("the sick signer was never sick")


@contextmanager
def _in_trouble(signer: SickSigner, trouble: str) -> Iterator[None]:
    enough = threading.Event()

    def flap() -> None:
        while not enough.wait(FLAP_EVERY_S):
            signer.tell("closes")
            enough.wait(FLAP_EVERY_S)
            signer.tell("honest")

    thread = threading.Thread(target=flap)
    if trouble == "flapping":
        thread.start()
    else:
        signer.tell(_COMMANDS[trouble])
    try:
        yield
    finally:
        enough.set()
        if trouble == "flapping":
            thread.join()
        signer.tell("start" if trouble == "dead" else "honest")


def measure_back_ends(
    running_pool: Callable[..., AbstractContextManager[Any]],
    percentile: Callable[[list[float], float], float],
    rounds: int,
) -> dict[str, Any]:
    """The p99 of other keys' votes with each kind of trouble, against idle."""
    signers: list[SickSigner] = []
    sick: list[str] = []

    def move_one_key(state_dir: Path) -> None:
        secrets_path = state_dir / "keys" / "secret_keys"
        secrets = json.loads(secrets_path.read_text())
        hashes = json.loads((state_dir / "keys" / "public_key_hashs").read_text())
        [key_hash] = [h["value"] for h in hashes if h["name"] == secrets[0]["name"]]
        signers.append(SickSigner(secrets[0]["value"].partition(":")[2]))
        secrets[0]["value"] = f"{signers[0].address}/{key_hash}"
        secrets_path.write_text(json.dumps(secrets))
        sick.append(key_hash)

    idle: dict[str, list[float]] = {trouble: [] for trouble in TROUBLES}
    found: dict[str, list[float]] = {trouble: [] for trouble in TROUBLES}
    try:
        with running_pool(1, 64, move_one_key) as pool:
            pool.delegates.remove(sick[0])
            requests = pool.batches([sick])
            pool.latencies_s(VOTES)
            for _ in range(max(rounds, ROUNDS_MIN)):
                for trouble in TROUBLES:
                    idle[trouble].append(percentile(pool.latencies_s(VOTES), 0.99))
                    with _in_trouble(signers[0], trouble), _asking(pool.endpoints, requests):
                        found[trouble].append(percentile(pool.latencies_s(VOTES), 0.99))
    finally:
        for signer in signers:
            signer.end()
    return {
        trouble: {
            "idle_p99_ms": statistics.median(idle[trouble]) * 1e3,
            "p99_ms": statistics.median(found[trouble]) * 1e3,
            "p99_ratio": statistics.median(found[trouble]) / statistics.median(idle[trouble]),
        }
        for trouble in TROUBLES
    }
