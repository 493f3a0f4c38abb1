"""The demo: a sandbox chain, a pool of workers, a baker for a dozen delegates, and transfers.

Everything that runs here is what an operator runs: `forgepool init`, `keys`, `sandbox`, `serve`,
`baker`, each in its own process. What is told at the end, the chain has counted.

With `--hostile` a third of the delegates are outsiders, with a pool and a node of their own. What
their node says reaches ours only through the quarantine, by `hostile_network`, which adds whatever
may harm: late, twice, corrupted, forged, and signed twice by the outsiders' own keys.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
from foul_play import Outsiders
from hostile_network import HostileNetwork
from rich.console import Console
from rich.live import Live
from rich.table import Table

from broker.errors import BrokerError
from broker.quarantine.turn import OUTCOMES
from signers.formats import base58
from signers.formats.networks import network_by_name
from signers.keyring.keystore import Keystore, KeystoreEntry
from workers.sandbox.accounts import SandboxKey, accounts_json, make_transfer, sandbox_keys

STAKE = 6_000_000_000  # mutez (mumav)
BALANCE = 1_000_000_000
ACCOUNTS = 20
# What the delegates' keys are of, in turn; on Mavryk a BLS key does not bake.
CURVES = {
    "mavryk": ("ed25519", "secp256k1", "p256"),
    "tezos": ("ed25519", "secp256k1", "p256", "bls"),
}
# One of so many delegates is an outsider in a hostile network, and so is his stake: fewer than
# could keep a block from its quorum, more than the others have to spare.
OUTSIDE_SHARE = 3
NODES = {"pool": "sandbox", "outside": "sandbox-outside"}
# When the chain begins: two pools and two nodes take longer to start.
START_AHEAD_S, HOSTILE_START_AHEAD_S = 6, 10
STARTUP_S = 30.0
LISTED_MAX = 4  # names in one line of the summary
SETTLE_S = 5.0  # for what the quarantine is about to judge when the last block has come
CHILD_END_S = 20.0
# The chain may lose a round now and then on a busy machine; more than this is a failure.
TIME_FACTOR, TIME_SLACK_S = 4, 60


class DemoFailed(Exception):
    """The demo could not do what it should; the text says what to look at."""


@dataclass
class Demo:
    """The processes of one run, in a directory of their own."""

    directory: Path
    network: str
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    url: str = ""
    keys: dict[str, list[KeystoreEntry]] = field(default_factory=dict)  # by group
    hostile: HostileNetwork | None = None
    pipe: tuple[int, int] = field(default_factory=os.pipe)  # its end tells them that we are gone

    def run(self, *arguments: str) -> str:
        """Run a forgepool command to its end."""
        command = [sys.executable, "-m", "broker.command", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoFailed(f"forgepool {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a forgepool command that goes on; its log is NAME.log in the directory."""
        parent = "--parent-pipe-fd" if arguments[0].startswith("sandbox") else "--parent-fd"
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "broker.command", *arguments, parent, str(self.pipe[0])],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=[self.pipe[0]],
                start_new_session=True,  # Ctrl-C is ours: we end them in order
            )
        self.children.append(process)
        return process

    def check_children(self) -> None:
        if self.hostile is not None and self.hostile.failure:
            raise DemoFailed(f"the hostile network has failed: {self.hostile.failure}")
        for process in self.children:
            if process.poll() is not None:
                raise DemoFailed(f"{process.args[3]} ended; see the logs in {self.directory}")  # type: ignore[index]

    def statistics(self, levels: int = 0) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/sandbox/statistics", params={"levels": levels}, timeout=10)
        found: dict[str, Any] = answer.json()
        return found

    def pool_status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.run("status", "--state-dir", str(self.directory / "pool"), "--json")
        )
        return found

    def end(self) -> None:
        if self.hostile is not None:
            self.hostile.end()
        for process in reversed(self.children):
            process.terminate()
            try:
                process.wait(CHILD_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start_everything(demo: Demo, options: dict[str, Any]) -> list[SandboxKey]:
    """Keys, chain, store, pool, baker; returns the accounts that make transfers."""
    seed = options["seed"] or secrets.token_hex(8)
    outside = max(1, options["delegates"] // OUTSIDE_SHARE) if options["hostile"] else 0
    groups = {"pool": options["delegates"] - outside} | ({"outside": outside} if outside else {})
    bakers = []
    for group, count in groups.items():
        demo.keys[group] = make_keys(demo, group, count)
        bakers += [
            {"public_key": entry.public_key, "stake": str(STAKE)} for entry in demo.keys[group]
        ]
    accounts = sandbox_keys(seed, "account", ACCOUNTS)
    (demo.directory / "bakers.json").write_text(json.dumps(bakers))
    (demo.directory / "accounts.json").write_text(
        json.dumps(accounts_json(accounts, BALANCE, network_by_name(demo.network)))
    )
    ahead = HOSTILE_START_AHEAD_S if outside else START_AHEAD_S
    chain = [
        "--network", demo.network, "--seed", seed, "--port", "0",
        "--bakers", str(demo.directory / "bakers.json"),
        "--accounts", str(demo.directory / "accounts.json"),
        "--start-at", str(int(time.time()) + ahead),
        "--minimal-block-delay", str(options["block_seconds"]),
    ]  # fmt: skip
    nodes = {group: NODES[group] for group in groups}
    for node in nodes.values():
        demo.start(node, "sandbox", *chain, "--ready-file", str(demo.directory / f"{node}.ready"))
    urls = {}
    for group, node in nodes.items():
        ready = wait_for(demo, demo.directory / f"{node}.ready")
        urls[group] = ready["url"]
        start_pool(demo, group, ready, options)
    demo.url = urls["pool"]
    for group, url in urls.items():
        where = ["--state-dir", str(demo.directory / group)]
        demo.run("status", *where, "--wait", str(STARTUP_S))
        demo.start(f"baker-{group}", "baker", *where, "--node", url)
    if outside:
        keys = demo.directory / "outside" / "keys"
        outsiders = Outsiders.of(keys, ready["chain_id"], network_by_name(demo.network))
        demo.hostile = HostileNetwork(
            urls["pool"], urls["outside"], demo.directory / "pool", outsiders, ready["chain_id"],
            seed,
        )  # fmt: skip
        demo.hostile.start()
    return accounts


def make_keys(demo: Demo, group: str, count: int) -> list[KeystoreEntry]:
    """The keys of a group's delegates, of all curves in turn."""
    curves = CURVES[demo.network]
    where = ["--state-dir", str(demo.directory / group), "--network", demo.network]
    for curve, some in zip(curves, shares(count, curves), strict=True):
        if some:
            name = f"{group}-{curve}"
            demo.run("keys", "generate", name, *where, "--curve", curve, "--count", str(some))
    return list(Keystore(demo.directory / group / "keys").entries())


def start_pool(demo: Demo, group: str, node: dict[str, Any], options: dict[str, Any]) -> None:
    """Store, broker and workers of a group; ours has a quarantine when the network is hostile."""
    where = ["--state-dir", str(demo.directory / group)]
    demo.run("init", *where, "--network", demo.network, "--chain-id", node["chain_id"])
    names = [entry.name for entry in demo.keys[group]]
    demo.run("keys", "enable", *where, "--fresh", "--yes", *names)
    ours = group == "pool"
    workers = options["workers"] if ours else 1
    more = ["--quarantine"] if ours and options["hostile"] else []
    demo.start(
        f"serve-{group}", "serve", *where, "--workers", str(workers), "--node", node["url"], *more
    )


def shares(count: int, among: Sequence[object]) -> list[int]:
    """Divide a number as evenly as it goes."""
    return [len(range(place, count, len(among))) for place in range(len(among))]


def wait_for(demo: Demo, file: Path) -> dict[str, Any]:
    until = time.monotonic() + STARTUP_S
    while not file.exists():
        demo.check_children()
        if time.monotonic() > until:
            raise DemoFailed(f"the sandbox did not start; see {demo.directory}/sandbox.log")
        time.sleep(0.05)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


class Transfers:
    """Each account sends a little to the next one, as soon as its last transfer is in a block."""

    def __init__(self, demo: Demo, accounts: list[SandboxKey]) -> None:
        self._demo = demo
        self._accounts = accounts
        self._network = network_by_name(demo.network)
        self._client = httpx.Client(base_url=demo.url, timeout=10)
        self._turn = itertools.count()
        self.refused = 0

    def send_some(self, count: int) -> None:
        head = self._client.get("/chains/main/blocks/head/hash").json()
        branch = base58.decode(base58.BLOCK_HASH, head)
        for _ in range(count):
            i = next(self._turn) % len(self._accounts)
            source, target = self._accounts[i], self._accounts[(i + 1) % len(self._accounts)]
            address = source.address_text(self._network)
            path = f"/chains/main/blocks/head/context/contracts/{address}/counter"
            counter = int(self._client.get(path).json()) + 1
            transfer = make_transfer(
                self._network, source, branch=branch, counter=counter,
                destination=target.address, amount=1 + counter,
            )  # fmt: skip
            answer = self._client.post("/injection/operation", json=transfer.hex())
            # The last transfer of this account still waits: the mempool takes one of each.
            self.refused += answer.status_code != 200

    def close(self) -> None:
        self._client.close()


def kill_a_worker(demo: Demo) -> str:
    """SIGKILL to one worker of the pool, as an out-of-memory killer would."""
    worker = demo.pool_status()["workers"][0]
    os.kill(worker["pid"], signal.SIGKILL)
    return f"killed {worker['name']} (pid {worker['pid']}) with SIGKILL"


# -- what is shown --------------------------------------------------------------------------------


def latencies_ms(levels: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """From the block's arrival to each attestation's, and from the block's due time to its own."""
    votes, blocks = [], []
    for level in levels:
        if "round" not in level:
            continue
        arrived = {
            (a["kind"], a["round"], a["delegate"]): a["at"] for a in level.get("arrivals", [])
        }
        block = arrived.get(("block", level["round"], level["baker"]))
        if block is None:
            continue
        blocks.append((block - level["timestamp"]) * 1000)
        votes += [
            (at - block) * 1000
            for (kind, round_, _), at in arrived.items()
            if kind in ("preattestation", "attestation") and round_ == level["round"]
        ]
    return votes, blocks


def percentile(values: list[float], share: float) -> float | None:
    return (
        round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 2) if values else None
    )


def summary(demo: Demo, blocks: int) -> dict[str, Any]:
    """What the chain has counted, and how the pool's tasks ended."""
    chain = demo.statistics(levels=min(1000, blocks + 5))
    events = demo.pool_status()["events"]
    votes, due = latencies_ms(chain["levels"])
    found = {
        "blocks": chain["blocks"],
        "rounds_over_zero": chain["rounds_over_zero"],
        "preattestations": chain["preattestations"]["seen"],
        "attestations": chain["attestations"]["seen"],
        "attestations_included": chain["attestations"]["included"],
        "operations_included": chain["operations"]["included"],
        "refused": events.get("refused", 0),
        "failed": events.get("failed", 0),
        "chain_refused": chain["refused"],
        "conflicting_signatures": chain["conflicting_signatures"],
        "vote_p50_ms": percentile(votes, 0.5),
        "vote_p99_ms": percentile(votes, 0.99),
        "block_p50_ms": round(statistics.median(due), 2) if due else None,
        "network": chain["network"],
        "chain_id": chain["chain_id"],
    }
    return found if demo.hostile is None else found | hostile_summary(demo, chain)


def hostile_summary(demo: Demo, chain: dict[str, Any]) -> dict[str, Any]:
    """What of the network got through, what did not, and what was found out about whom."""
    hostile = demo.hostile
    assert hostile is not None
    ours = {entry.key_hash for entry in demo.keys["pool"]}
    bakers = [level["baker"] in ours for level in chain["levels"] if "round" in level]
    twice = Counter(conflict["delegate"] in ours for conflict in chain["conflicts"])
    quarantine = settled(hostile)
    kinds = chain["operations"]["included_by_kind"]
    return {
        # Of the outsiders the chain counts what the network made them sign.
        "conflicting_signatures": twice[True],
        "conflicting_signatures_by_outsiders": twice[False],
        "blocks_by_us": sum(bakers),
        "blocks_by_outsiders": len(bakers) - sum(bakers),
        "pushed": quarantine["received"],
        **{outcome: quarantine["outcomes"].get(outcome, 0) for outcome in OUTCOMES},
        "held": quarantine["held"],
        "held_for_a_while": dict(hostile.waited),
        "lost": balance(quarantine),
        "reasons": dict(sorted(quarantine["reasons"].items())),
        "slashable": dict(hostile.offences),
        "evidence_accepted": hostile.evidence["accepted"],
        "evidence_refused": hostile.evidence["refused"],
        "evidence_in_blocks": sum(n for kind, n in kinds.items() if kind.endswith("_evidence")),
        "peers_banned": sorted(hostile.banned),
    }


def settled(hostile: HostileNetwork) -> dict[str, Any]:
    """The quarantine's own numbers, once nothing is being judged."""
    until = time.monotonic() + SETTLE_S
    while True:
        found = hostile.quarantine_status()
        if "outcomes" in found and (not found["in_flight"] or time.monotonic() > until):
            return found
        if time.monotonic() > until:
            raise DemoFailed("the quarantine does not know the chain; see serve-pool.log")
        time.sleep(0.2)


def balance(quarantine: dict[str, Any]) -> int:
    """What went in and is nowhere: none, at any time."""
    out = sum(quarantine["outcomes"].values())
    return int(quarantine["received"] - out - quarantine["held"] - quarantine["in_flight"])


def progress(demo: Demo, chain: dict[str, Any], wanted: int, note: str) -> Table:
    pool = demo.pool_status()
    quarantine = demo.hostile.quarantine_status() if demo.hostile is not None else {}
    votes, _ = latencies_ms(chain["levels"])
    table = Table.grid(padding=(0, 2))
    head = chain["head"]
    table.add_row(
        "block",
        f"{chain['blocks']} of {wanted}",
        f"head {head['hash'][:12]}… round {head['round']}",
    )
    seen = (chain["preattestations"]["seen"], chain["attestations"]["seen"])
    table.add_row(
        "votes",
        "{} preattestations, {} attestations".format(*seen),
        f"median {percentile(votes, 0.5)} ms after the block" if votes else "",
    )
    table.add_row(
        "operations",
        f"{chain['operations']['included']} in blocks",
        f"{chain['operations']['waiting']} waiting",
    )
    workers = ", ".join(f"{w['name']} {w['state']} (pid {w['pid']})" for w in pool["workers"])
    table.add_row("pool", workers, f"open tasks: {pool['open_tasks']}")
    if "outcomes" in quarantine:
        ends = ", ".join(f"{count} {outcome}" for outcome, count in quarantine["outcomes"].items())
        table.add_row("quarantine", ends, f"{quarantine['held']} held")
    table.add_row("conflicts", str(chain["conflicting_signatures"]), note)
    return table


def counted(found: dict[str, Any]) -> Table:
    """The summary for people: what the chain has counted, and how long things took."""
    table = Table("what the chain counted", "")
    for name, value in found.items():
        *words, last = name.split("_")
        text = f"{value} ms" if last == "ms" else str(value)
        if name == "chain_refused":  # by operations and blocks, each by reason
            value = {why: n for each in value.values() for why, n in each.items()}
        if isinstance(value, dict):
            text = ", ".join(f"{n} × {why}" for why, n in value.items()) or "0"
        elif isinstance(value, list):
            shown = ", ".join(value[:LISTED_MAX]) + " …" * (len(value) > LISTED_MAX)
            text = f"{len(value)}: {shown}" if value else "none"
        table.add_row(" ".join(words if last == "ms" else [*words, last]), text)
    return table


# -- the run --------------------------------------------------------------------------------------


def watch(
    demo: Demo, accounts: list[SandboxKey], options: dict[str, Any], console: Console
) -> None:
    """Until the chain has the wanted number of blocks, one of the outsiders among them."""
    wanted, kill_at = options["blocks"], options["blocks"] // 2
    transfers = Transfers(demo, accounts)
    until = time.monotonic() + wanted * options["block_seconds"] * TIME_FACTOR + TIME_SLACK_S
    note, killed = "", not options["kill_a_worker"]
    ours = {entry.key_hash for entry in demo.keys["pool"]}
    outsider_baked = demo.hostile is None
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    with live or contextlib.nullcontext():
        seen = -1
        while True:
            demo.check_children()
            chain = demo.statistics(levels=5)
            bakers = {level["baker"] for level in chain["levels"] if "round" in level}
            outsider_baked = outsider_baked or not bakers <= ours
            if chain["blocks"] >= wanted and outsider_baked:
                if live is not None:
                    live.update(progress(demo, chain, wanted, note), refresh=True)
                return
            if time.monotonic() > until:
                raise DemoFailed(
                    f"only {chain['blocks']} of {wanted} blocks in time; logs: {demo.directory}"
                )
            if not killed and chain["blocks"] >= kill_at:
                killed, note = True, kill_a_worker(demo)
                if live is None:
                    console.print(note)
            if chain["blocks"] != seen:
                seen = chain["blocks"]
                transfers.send_some(ACCOUNTS // 2)
                if live is None and seen % 5 == 0:
                    console.print(f"block {seen} of {wanted}")
                if live is not None:
                    live.update(progress(demo, chain, wanted, note), refresh=True)
            time.sleep(0.1)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--blocks", default=20, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("--delegates", default=12, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--network", default="mavryk", show_default=True, type=click.Choice(["mavryk", "tezos"])
)
@click.option("--seed", help="Of the chain and its accounts.  [default: another each time]")
@click.option("--block-seconds", type=click.IntRange(1, 60), help="[default: 1; with --hostile 2]")
@click.option("--kill-a-worker", is_flag=True, help="SIGKILL one in mid-run.")
@click.option("--hostile", is_flag=True, help="Outsiders bake too, and the network is foul.")
@click.option("--keep", is_flag=True, help="Keep the run's directory (logs, store).")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON, in the last line.")
def main(**options: Any) -> None:
    """Watch a pool of worker processes bake a Tenderbake chain, and see what the chain counted."""
    console = Console(stderr=options["as_json"])
    options["block_seconds"] = options["block_seconds"] or (2 if options["hostile"] else 1)
    if options["hostile"] and options["delegates"] < 2:
        raise click.UsageError("--hostile needs two delegates, one of them an outsider")
    directory = Path(tempfile.mkdtemp(prefix="forgepool-demo-"))
    demo = Demo(directory, options["network"])
    failed = True
    try:
        logging.basicConfig(filename=directory / "network.log")
        logging.getLogger("forgepool").setLevel(logging.INFO)
        console.print(
            f"starting sandbox node, broker, {options['workers']} workers, baker in {directory}"
        )
        accounts = start_everything(demo, options)
        watch(demo, accounts, options, console)
        found = summary(demo, options["blocks"])
        failed = bool(found["conflicting_signatures"] or found.get("lost"))
        if options["as_json"]:
            print(json.dumps(found))
        else:
            console.print(counted(found))
    except (DemoFailed, BrokerError) as e:
        console.print(f"demo: {e}")
    except KeyboardInterrupt:
        console.print("interrupted")
    finally:
        demo.end()
        if not failed and not options["keep"]:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(prog_name="scripts/demo")
