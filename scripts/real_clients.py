"""Real clients on real chains: start a baked sandbox chain for each network, and try them on it.

The chain is the demo's: `forgepool sandbox`, `serve` and `baker`, each in its own process. Every
client runs in an environment of its own, which `scripts/real-clients` has set up, and tells its
steps a line each: first with keys of its own, then with a key that the pool holds and a
`forgepool gateway` signs with. The exit status is 0 when all of them went well.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from demo import CHILD_END_S, STARTUP_S, Demo, DemoFailed, start_everything

from signers.formats import base58
from signers.formats.networks import network_by_name
from signers.formats.tagged_keys import hash_text
from workers.sandbox.accounts import SandboxKey

ENVIRONMENTS = Path(".venv-clients")
WALLETS = Path("scripts/real_clients")
DELEGATES = 3
ACCOUNTS_EACH = 2
# Taquito takes the block two below the head as its branch.
FIRST_LEVEL = 3
# Both chains start in 20 s on a busy machine, a client needs up to a minute.
TIME_MAX_S = 300.0


# What a key of the pool may sign besides blocks and votes is said by its policy.
RULE = """
[[rule]]
name = "{name}"
keys = ["{key}"]
kinds = ["consensus"]
operations = ["any"]
clients = ["gateway*"]
"""


@dataclass(frozen=True)
class Client:
    """A client library, the chain it is tried on, and the script that uses it."""

    name: str
    network: str
    block_seconds: int
    wallet: str
    remote_wallet: str
    authenticates: bool  # towards the gateway

    def command(self, wallet: str) -> list[str]:
        script = str(WALLETS / wallet)
        if wallet.endswith(".cjs"):
            return ["node", script]
        return [str(ENVIRONMENTS / self.name / "bin" / "python"), script, self.name]


_PYTHON = ("python_wallet.py", "python_remote_wallet.py", True)
CLIENTS = (
    Client("pytezos", "tezos", 1, *_PYTHON),
    Client("taquito", "tezos", 1, "taquito_wallet.cjs", "taquito_remote_wallet.cjs", False),
    # It sleeps up to two seconds between looks at the head, and never looks back.
    Client("pymavryk", "mavryk", 2, *_PYTHON),
)


@contextlib.contextmanager
def baked_chain(network: str, block_seconds: int) -> Iterator[tuple[Demo, list[SandboxKey]]]:
    """A chain that grows, and the keys of accounts on it; its logs stay when something fails."""
    demo = Demo(Path(tempfile.mkdtemp(prefix="forgepool-clients-")), network)
    options = {
        "hostile": False,
        "delegates": DELEGATES,
        "workers": 1,
        "seed": None,
        "block_seconds": block_seconds,
    }
    well = False
    try:
        yield demo, start_everything(demo, options)
        well = True
    finally:
        demo.end()
        if well:
            shutil.rmtree(demo.directory, ignore_errors=True)
        else:
            print(f"logs of the {network} chain: {demo.directory}", file=sys.stderr)


def wait_for_level(demo: Demo, level: int, until: float) -> None:
    header = f"{demo.url}/chains/main/blocks/head/header"
    while httpx.get(header).json()["level"] < level:
        demo.check_children()
        if time.monotonic() > until:
            raise DemoFailed(f"the chain did not reach level {level}")
        time.sleep(0.1)


@contextlib.contextmanager
def a_gateway(demo: Demo, client: Client, keys: list[SandboxKey]) -> Iterator[str]:
    """Give the pool the first key, and serve it to anybody, or to whom the second authorizes."""
    pool = ["--state-dir", str(demo.directory / "pool")]
    remote, authorized = keys
    secret = f"unencrypted:{remote.secret_key_text}"
    with (demo.directory / "pool" / "policy.toml").open("a") as policy:
        policy.write(RULE.format(name=client.name, key=hash_of(remote, demo.network)))
    demo.run("keys", "import", client.name, secret, *pool, "--fresh", "--yes")
    element = {"name": client.name, "value": authorized.public_key_text}
    (demo.directory / "pool" / "keys" / "authorized_keys").write_text(json.dumps([element]))
    address = f"127.0.0.1:{free_port()}"
    options = ["--require-authentication"] if client.authenticates else []
    process = demo.start(f"gateway-{client.name}", "gateway", *pool, "--http", address, *options)
    try:
        wait_for_gateway(demo, f"http://{address}")
        yield f"http://{address}"
    finally:
        demo.children.remove(process)
        process.terminate()
        process.wait(CHILD_END_S)


def hash_of(key: SandboxKey, network: str) -> str:
    return hash_text(key.address, network_by_name(network))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for_gateway(demo: Demo, url: str) -> None:
    until = time.monotonic() + STARTUP_S
    while True:
        demo.check_children()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        if time.monotonic() > until:
            raise DemoFailed(f"no gateway that is ready in {STARTUP_S} s")
        time.sleep(0.1)


def try_remotely(client: Client, demo: Demo, keys: list[SandboxKey], until: float) -> bool:
    """Let one client do its steps with a key of the pool; return whether all went well."""
    remote, other = keys
    chain_id = httpx.get(f"{demo.url}/chains/main/chain_id").json()
    with a_gateway(demo, client, keys) as gateway:
        given = {
            "url": demo.url,
            "gateway": gateway,
            "key": remote.public_key_text,
            "remote": hash_of(remote, demo.network),
            "secret_key": other.secret_key_text,
            "chain": base58.decode(base58.CHAIN_ID, chain_id).hex(),
        }
        return run_wallet(client, client.remote_wallet, given, until)


def try_client(client: Client, url: str, keys: list[SandboxKey], until: float) -> bool:
    """Let one client do its steps; return whether all went well."""
    given = {"url": url, "secret_keys": [key.secret_key_text for key in keys]}
    return run_wallet(client, client.wallet, given, until)


def run_wallet(client: Client, wallet: str, given: dict[str, object], until: float) -> bool:
    environment = os.environ | {"NODE_PATH": str(ENVIRONMENTS / "taquito" / "node_modules")}
    began = time.monotonic()
    try:
        done = subprocess.run(
            client.command(wallet),
            input=json.dumps(given).encode(),
            env=environment,
            timeout=until - began,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{client.name}: FAILED, not done in time", flush=True)
        return False
    verdict = "all steps went well" if done.returncode == 0 else "FAILED"
    print(f"{client.name}: {verdict}, {time.monotonic() - began:.0f} s", flush=True)
    return done.returncode == 0


def try_chain(network: str, clients: list[Client], until: float) -> None:
    """Start a chain and try its clients one after the other, each with accounts of its own.

    Raises DemoFailed when the chain or one of them failed.
    """
    with baked_chain(network, clients[0].block_seconds) as (demo, keys):
        wait_for_level(demo, FIRST_LEVEL, until)
        well = True
        for number, client in enumerate(clients):
            theirs = keys[number * ACCOUNTS_EACH : (number + 1) * ACCOUNTS_EACH]
            well &= try_client(client, demo.url, theirs, until)
            well &= try_remotely(client, demo, theirs, until)
        if not well:
            raise DemoFailed("a client failed")


def end(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, end)  # so that the chain's processes are ended as well
    chosen = [client for client in CLIENTS if client.name in sys.argv[1:]]
    until = time.monotonic() + TIME_MAX_S
    status = 0
    try:
        for network in dict.fromkeys(client.network for client in chosen):
            try:
                try_chain(network, [each for each in chosen if each.network == network], until)
            except DemoFailed as error:
                print(f"{network}: {error}", file=sys.stderr)
                status = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
