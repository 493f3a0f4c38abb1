"""What encrypted keys cost: the CPU of opening one, and the votes of other keys meanwhile.

Part of `scripts/bench unlock`. In a pool of two workers, plain keys vote one at a time: while there
is no encrypted key, and while the workers open those that have just been put into the directory.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from broker.client import Admin
from signers.keyring.encrypted_key import EncryptedKey
from signers.keyring.keys import SecretKey
from signers.keyring.passwords import PASSWORD_ENV

PASSWORD = b"bench"
KEYS_TIMED = 40
KEYS_IN_POOL = 400  # some ten seconds of a core
VOTES_PER_LOOK = 50
VOTES_IDLE = 1500


def _opening() -> dict[str, float]:
    """CPU milliseconds of a key, and keys a second of one thread and of one for each core."""
    keys = [EncryptedKey.seal(SecretKey.generate(), PASSWORD) for _ in range(KEYS_TIMED)]

    def open_one(key: EncryptedKey) -> float:
        start = time.thread_time()
        assert key.open(PASSWORD, None) is not None
        return time.thread_time() - start

    def per_s(threads: int) -> tuple[float, float]:
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            cpu_s = statistics.median(pool.map(open_one, keys))
        return KEYS_TIMED / (time.perf_counter() - start), cpu_s

    alone, cpu_s = per_s(1)
    together, _ = per_s(os.cpu_count() or 1)
    return {
        "cpu_ms_per_key": cpu_s * 1e3,
        "keys_per_s_one_thread": alone,
        "keys_per_s_all_cores": together,
        "cpu_s_of_10000_keys": cpu_s * 10_000,
    }


def measure_unlock(
    running_pool: Callable[..., AbstractContextManager[Any]],
    percentile: Callable[[list[float], float], float],
    rounds: int,
) -> dict[str, Any]:
    """The cost of a key, and plain keys' latencies while others are opened, against before."""
    found: dict[str, Any] = _opening()
    os.environ[PASSWORD_ENV] = PASSWORD.decode()  # the pool's processes inherit it
    with_all: list[str] = []

    def add_encrypted(state_dir: Path) -> None:
        hashes = state_dir / "keys" / "public_key_hashs"
        plain = hashes.read_text()
        subprocess.run(
            [sys.executable, "-m", "broker.command", "keys", "generate", "sealed", "--encrypted",
             "--count", str(KEYS_IN_POOL), "--state-dir", str(state_dir)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with_all.append(hashes.read_text())
        hashes.write_text(plain)

    idle: list[float] = []
    opening: list[float] = []
    per_s: list[float] = []
    with running_pool(2, 64, add_encrypted) as pool:
        admin = Admin(pool.endpoints)
        hashes = pool.state_dir / "keys" / "public_key_hashs"
        plain = hashes.read_text()
        pool.latencies_s(VOTES_IDLE)
        for _ in range(rounds):
            idle += pool.latencies_s(VOTES_IDLE)
            _replace(hashes, with_all[0])
            _wait(admin, lambda told: told["total"] == KEYS_IN_POOL)
            start, first = time.perf_counter(), _told(admin)["opened"]
            while (told := _told(admin))["opened"] < KEYS_IN_POOL:
                opening += pool.latencies_s(VOTES_PER_LOOK)
            per_s.append((told["opened"] - first) / (time.perf_counter() - start))
            _replace(hashes, plain)
            _wait(admin, lambda told: told["total"] == 0)
        admin.close()
    for name, latencies in (("idle", idle), ("opening", opening)):
        found[name] = {
            "votes": len(latencies),
            "p50_ms": percentile(latencies, 0.5) * 1e3,
            "p99_ms": percentile(latencies, 0.99) * 1e3,
        }
    found["keys_per_s_in_pool"] = statistics.median(per_s)
    return found


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def _told(admin: Admin) -> dict[str, int]:
    told: Any = admin.status()["encrypted_keys"]
    return dict(told)


def _wait(admin: Admin, condition: Callable[[dict[str, int]], bool]) -> None:
    until = time.monotonic() + 30
    while not condition(_told(admin)):
        if time.monotonic() > until:
            raise SystemExit("the pool did not take the keys over")
        time.sleep(0.05)
