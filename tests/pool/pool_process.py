"""A real pool for tests: `forgepool serve` in a directory of its own, ended by its own pids.

Every process of the pool inherits a marker in its environment; whatever still carries it when the
test is over has leaked, is killed and fails the test. Nothing here sleeps for a fixed time:
`until` waits for a condition, generously, because the machine may be busy.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import psutil
from click.testing import CliRunner
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from broker.client import Admin, Client
from broker.client_session import Refused
from broker.command import main
from broker.config import Endpoints, load_settings, resolve_endpoints
from broker.errors import NoAnswer
from broker.messages import (
    FORGE_AND_SIGN_ATTESTATIONS,
    FORGE_AND_SIGN_PREATTESTATIONS,
    Ack,
    Event,
    Vote,
    VoteBatch,
)
from signers.formats import base58
from signers.formats.hashes import blake2b_32

CHAIN = bytes.fromhex("7a06a770")
CHAIN_ID = base58.encode(base58.CHAIN_ID, CHAIN)
BRANCH = base58.encode(base58.BLOCK_HASH, blake2b_32(b"branch"))

MARKER = "FORGEPOOL_TEST_POOL"
# What the tests sign besides blocks and votes does nothing on chain.
POLICY = """\
[default]
kinds = ["consensus"]
operations = ["failing_noop"]
"""
READY_S = 30.0
END_S = 20.0
ANSWER_S = 20.0

T = TypeVar("T")


def until(
    condition: Callable[[], T], wait_s: float = ANSWER_S, what: str = "", *, pause_s: float = 0.01
) -> T:
    """The first true value of a condition that is looked at again and again."""
    end = time.monotonic() + wait_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not in {wait_s} s: {what or condition}"
        time.sleep(pause_s)
    return found


def forgepool(*arguments: str) -> list[str]:
    """The command line of a `forgepool` command."""
    return [sys.executable, "-m", "broker.command", *arguments]


class Key(NamedTuple):
    """A delegate of the pool: its hash and the public key that checks its signatures."""

    key_hash: str
    public_key: str

    def has_signed(self, watermark: int, operation: bytes) -> bool:
        """Whether a signed operation carries this key's signature over watermark and bytes."""
        return self.has_signed_bytes(bytes([watermark]) + CHAIN + operation[:-64], operation[-64:])

    def has_signed_bytes(self, message: bytes, signature: bytes) -> bool:
        raw = base58.decode(base58.ED25519_PUBLIC_KEY, self.public_key)
        try:
            VerifyKey(raw).verify(blake2b_32(message), signature)
        except BadSignatureError:
            return False
        return True


def batch(level: int, round: int = 0, content: str = "a", chain_id: str = CHAIN_ID) -> VoteBatch:
    """What the votes of one level and round have in common; other content, another payload."""
    payload_hash = base58.encode(base58.PAYLOAD_HASH, blake2b_32(content.encode()))
    return VoteBatch(chain_id, BRANCH, level, round, payload_hash)


def noop(text: str) -> bytes:
    """Bytes for `sign` that no mark forbids: a failing no-op with a text, watermark included."""
    content = text.encode()
    return b"\x03" + bytes(32) + b"\x11" + len(content).to_bytes(4) + content


class PoolProcess:
    """One pool: its state directory, its processes, and ways to talk to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "pool"
        self.log_path = directory / "log"
        # aiohttp reads the system's certificates when it is imported; nothing here needs them.
        self.environment = os.environ | {MARKER: directory.name, "SSL_CERT_FILE": os.devnull}
        self.chain_id = CHAIN_ID
        self._level = 10
        self.keys: list[Key] = []
        self.serving: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    # -- setting up -------------------------------------------------------------------------------

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on this pool to its end."""
        done = subprocess.run(
            forgepool(*arguments, "--state-dir", str(self.state_dir)),
            env=self.environment, capture_output=True, text=True, timeout=READY_S,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    def on_files(self, *arguments: str) -> str:
        """Run a command on this pool's files in this process of ours; return what it prints.

        For what a test only builds on: to start Python costs more than what the command does.
        """
        done = CliRunner().invoke(
            main, [*arguments, "--state-dir", str(self.state_dir)], env=self.environment
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    def make(self, delegates: int) -> None:
        """Make the store, fresh keys in it, and a policy that lets them sign `noop` too."""
        self.run("init", "--network", "mavryk", "--chain-id", self.chain_id)
        self.set_policy(POLICY)
        self.run("keys", "generate", "baker", "--count", str(delegates))
        self.read_keys()

    def copy(self, other: PoolProcess) -> None:
        """Become a pool with the keys and the store of another that has never run."""
        shutil.copytree(other.state_dir, self.state_dir)
        self.keys = other.keys

    def read_keys(self) -> None:
        listed = json.loads(self.on_files("keys", "list", "--json"))
        self.keys = [Key(each["key_hash"], each["public_key"]) for each in listed]

    def configure(self, toml: str) -> None:
        (self.state_dir / "forgepool.toml").write_text(toml)

    def set_policy(self, toml: str) -> None:
        """Put a policy in place, whole at once."""
        new = self.state_dir / "policy.new"
        new.write_text(toml)
        new.replace(self.state_dir / "policy.toml")

    @property
    def delegates(self) -> list[str]:
        return [key.key_hash for key in self.keys]

    @property
    def store(self) -> Path:
        return self.state_dir / "watermarks.db"

    @property
    def endpoints(self) -> Endpoints:
        return resolve_endpoints(self.state_dir, load_settings(self.state_dir).endpoints)

    # -- processes --------------------------------------------------------------------------------

    def start(
        self, *command: str, under: Sequence[str] = (), stdout: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process of the pool; it is ended with the pool."""
        with self.log_path.open("ab") as log:
            child = subprocess.Popen(
                [*under, *command], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=stdout or log, stderr=log,
            )  # fmt: skip
        self._children.append(child)
        return child

    def start_command(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start(*forgepool(*arguments, "--state-dir", str(self.state_dir)))

    def serve(
        self, workers: int = 2, *options: str, delays_ms: dict[str, int] | None = None
    ) -> None:
        """Start the pool and wait until all its workers sign."""
        if delays_ms is not None:
            delays = ",".join(f"{key}={ms}" for key, ms in delays_ms.items())
            self.environment["FORGEPOOL_SIGN_DELAY_MS"] = delays
        self.serving = self.start_command("serve", "--workers", str(workers), *options)
        self.wait_for_signing(workers)

    def wait_for_signing(self, workers: int) -> None:
        # Processes start meanwhile: to ask all the time would take the CPU from them.
        signing = lambda: len(self.signing_pids()) >= workers  # noqa: E731
        until(signing, READY_S, f"{workers} signing workers", pause_s=0.05)

    def status(self) -> dict[str, Any]:
        """How the pool says it is; empty while it does not answer."""
        admin = Admin(self.endpoints)
        try:
            return admin.status(timeout_s=2.0)
        except NoAnswer:
            return {}
        finally:
            admin.close()

    def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.status().get("workers", [])
        return found

    def signing_pids(self) -> dict[str, int]:
        """The workers that sign now, by name."""
        return {w["name"]: w["pid"] for w in self.workers() if w["signs"] and w["state"] == "ready"}

    def active_on(self) -> dict[int, int]:
        """Which worker processes have how much that is active."""
        return {w["pid"]: w["active"] for w in self.workers() if w["active"]}

    def wait_for_active(self, count: int = 1) -> dict[int, int]:
        """Wait until exactly so many tasks are active; says on which worker processes."""
        return until(
            lambda: active if sum((active := self.active_on()).values()) == count else None,
            what=f"{count} active tasks",
        )

    @property
    def broker_pid(self) -> int:
        return int((self.state_dir / "broker.lock").read_text())

    def pids(self) -> set[int]:
        """All processes of this pool that run now."""
        return {p.pid for p in psutil.process_iter() if self._is_ours(p)}

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return (
                process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(MARKER) == self.directory.name
            )
        except psutil.Error:
            return False

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one process, which must be of this pool."""
        process = psutil.Process(pid)  # knows a pid that was given to another process meanwhile
        assert self._is_ours(process), f"{pid} is no process of this pool"
        process.send_signal(number)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_for_log(self, text: str, wait_s: float = ANSWER_S) -> None:
        until(lambda: text in self.log(), wait_s, f"{text!r} in the log")

    def terminate(self, wait_s: float = END_S) -> int:
        """Drain and end the pool; returns the exit status of `serve`."""
        assert self.serving is not None
        self.serving.terminate()
        return self.serving.wait(wait_s)

    def wait_for_end(self, wait_s: float = END_S) -> None:
        until(lambda: not self.pids(), wait_s, "the end of all processes")

    def end(self) -> list[str]:
        """End everything that still runs; returns what had to be killed."""
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        for child in self._children:
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                break
        end = time.monotonic() + 2.0  # children of `serve` that are on their way out
        while self.pids() and time.monotonic() < end:
            time.sleep(0.01)
        leaked = []
        for pid in self.pids():
            process = psutil.Process(pid)
            leaked.append(f"{pid}: {' '.join(process.cmdline()[1:])}")
            process.kill()
        for child in self._children:
            child.wait(END_S)
        return leaked

    # -- talking to it ----------------------------------------------------------------------------

    @contextmanager
    def client(self, name: str = "baker") -> Iterator[Client]:
        """A client whose subscription is live."""
        with Client(self.endpoints, name) as client:
            client.wait_live(READY_S)
            yield client

    def marks(self) -> dict[tuple[str, str], tuple[int, int, str]]:
        """Level, round and digest by holder and kind, as another process than the workers reads."""
        shown = json.loads(self.on_files("watermarks", "show", "--json"))
        return {
            (mark["holder"], mark["kind"]): (mark["level"], mark["round"], mark["digest"])
            for mark in shown["marks"]
            if mark["level"] is not None
        }

    def next_level(self) -> int:
        """A level at which this pool has not been asked for anything yet."""
        self._level += 1
        return self._level

    def attest(
        self,
        client: Client,
        level: int,
        delegates: Iterable[str] | None = None,
        *,
        round: int = 0,
        content: str = "a",
        ttl_ms: int = 30_000,
        kind: str = FORGE_AND_SIGN_ATTESTATIONS,
    ) -> bytes:
        """Ask for the attestations of some delegates (all of them); returns the request's id."""
        chosen = self.delegates if delegates is None else delegates
        votes = [Vote(delegate, slot) for slot, delegate in enumerate(chosen)]
        return client.push_votes(
            kind, batch(level, round, content, self.chain_id), votes, ttl_ms=ttl_ms
        )

    def preattest(self, client: Client, level: int, **options: Any) -> bytes:
        return self.attest(client, level, kind=FORGE_AND_SIGN_PREATTESTATIONS, **options)

    def sign_at(self, client: Client, level: int, wait_s: float = ANSWER_S) -> list[Event]:
        """Attest a level with all delegates until all have; for pools that are in trouble.

        A failed vote may be repeated with the same bytes, and so may one whose end is not known.
        """
        missing, found = set(self.delegates), []
        end = time.monotonic() + wait_s
        while missing:
            assert time.monotonic() < end, f"{len(missing)} votes not signed in {wait_s} s"
            id = self.attest(client, level, sorted(missing), ttl_ms=2000)
            for news in wait_for_all(client, id, 15.0):
                if isinstance(news, Event) and news.event == "attestation_ready":
                    found.append(news)
                    missing.discard(news.delegate)
        return found


def wait_for_all(client: Client, id: bytes, wait_s: float = ANSWER_S) -> list[Event | Refused]:
    """All news of one request until nothing more is to come; news of others is dropped."""
    end = time.monotonic() + wait_s
    found: list[Event | Refused] = []
    while client.session.wants(id) or client.session.news:
        assert time.monotonic() < end, f"request {id.hex()} has not ended in {wait_s} s"
        for news in client.poll(0.1):
            match news:
                case Event(id=of) | Refused(ack=Ack(id=of)) if of == id:
                    found.append(news)
    return found


def names(events: Iterable[Event]) -> list[str]:
    """The events' names, sorted."""
    return sorted(event.event for event in events)


@contextmanager
def an_empty_pool() -> Iterator[PoolProcess]:
    """A pool without keys and store; fails when it leaves a process behind."""
    # Not pytest's own directory: its name may be too long for a socket's path.
    directory = Path(tempfile.mkdtemp(prefix="forgepool-"))
    pool = PoolProcess(directory)
    try:
        yield pool
    finally:
        leaked = pool.end()
        print(pool.log())  # pytest shows it when the test has failed
        shutil.rmtree(directory, ignore_errors=True)
    assert not leaked, f"left behind: {leaked}"


@contextmanager
def a_pool(template: PoolProcess) -> Iterator[PoolProcess]:
    """A pool with the keys and the store of a template, not started yet."""
    with an_empty_pool() as pool:
        pool.copy(template)
        yield pool
