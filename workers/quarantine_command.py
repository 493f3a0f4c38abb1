"""`forgepool quarantine`: run it, see what it holds and what it has cleared, and step in."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable
from math import inf
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from broker.config import (
    QuarantineSettings,
    node_url,
)
from broker.errors import Misconfigured
from broker.place import Place, at_a_place
from broker.process_signals import end_on_signals
from broker.quarantine.admin_client import QuarantineAdmin
from broker.quarantine.administration import (
    Changed,
    ClearedItems,
    ClearedWanted,
    Drop,
    HeldItems,
    HeldWanted,
    Release,
)
from broker.quarantine.bounds import DELEGATES_TOLD_MAX, Bounds
from broker.telemetry import log_to_stderr
from broker.verification import LEVEL_MAX
from signers.errors import MalformedBytes
from signers.formats import base58
from workers.give_way import give_way

CLIENT_LETTERS_MAX = 64  # of a client's name


@click.group()
def quarantine() -> None:
    """Network blocks and votes: held until verified, released, or reported."""


@quarantine.command()
@at_a_place
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--verbose", is_flag=True, help="Log more.")
def run(place: Place, parent_fd: int | None, verbose: bool) -> None:
    """Run the quarantine of a pool; `forgepool serve --quarantine` starts it too.

    Feeders push `verify_block` and `verify_vote` to its own sockets (docs/quarantine.md). Ends on
    SIGTERM or Ctrl-C; what is held then is checked again at the next start.
    """
    from broker.quarantine.service import QuarantineService

    log_to_stderr("quarantine", verbose=verbose)
    give_way()  # its threads are made from here on
    ended, wakers = end_on_signals(parent_fd)
    service = QuarantineService(
        place.state_dir,
        place.endpoints,
        place.quarantine_endpoints,
        place.settings,
        bounds_of(place.quarantine, place.settings.workers),
        ended=ended,
        wakers=wakers,
        parent_fd=parent_fd,
    )
    try:
        service.run()
    finally:
        service.close()


@quarantine.command()
@at_a_place
@click.option("--from", "followed", required=True, metavar="URL", help="RPC of a node to follow.")
@click.option("--peer", metavar="NAME", help="How that node is judged.  [default: host and port]")
@click.option("--into", metavar="URL", help="RPC of our node: it gets what is cleared.")
@click.option("--client", help="Name towards the quarantine.  [default: feed-PEER]")
@click.option("--json", "as_json", is_flag=True, help="At the end print what was done.")
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--verbose", is_flag=True, help="Log more.")
def feed(
    place: Place,
    followed: str,
    peer: str | None,
    into: str | None,
    client: str | None,
    as_json: bool,
    parent_fd: int | None,
    verbose: bool,
) -> None:
    """Follow a node that nobody trusts: its blocks and votes go through the quarantine.

    What is cleared goes into our node, in order, also after a restart, and whoever has pushed it.
    Nodes that are away are waited for. Ends on SIGTERM or Ctrl-C.
    """
    from broker.messages import ClientName
    from broker.quarantine.offers import PeerName
    from workers.feed.feeding import FeedOptions, feed

    log_to_stderr("feed", verbose=verbose)
    if not followed:
        raise Misconfigured("--from is empty: give the URL of a node, like http://HOST:PORT")
    url = node_url(followed)
    name = urlsplit(url).netloc.rpartition("@")[2] if peer is None else peer
    if client is None:
        client = re.sub(r"[^A-Za-z0-9._-]", "-", f"feed-{name}")[:CLIENT_LETTERS_MAX]
    for option, given, kind in (("--peer", name, PeerName), ("--client", client, ClientName)):
        try:
            msgspec.convert(given, kind)
        except msgspec.ValidationError as e:
            raise Misconfigured(f"{option} {given!r}: {e}") from None
    options = FeedOptions(
        place.quarantine_endpoints,
        place.curve,
        url,
        node_url(into or ""),
        name,
        client,
        parent_fd,
    )
    counts = asyncio.run(feed(options))
    if as_json:
        click.echo(json.dumps(counts))


def bounds_of(settings: QuarantineSettings, workers: int) -> Callable[[int], Bounds]:
    """The bounds that the settings ask for, by how many delegates the chain has; 0: not known.

    What is set by name is never derived. Raises Misconfigured.
    """
    kinds = Bounds.names()
    for name, value in settings.bounds.items():
        if name not in kinds:
            raise Misconfigured(
                f"[quarantine.bounds] has no {name!r}; there are: {', '.join(sorted(kinds))}"
            )
        wanted, fits = _BOUND_KINDS[kinds[name]]
        if not fits(value):
            raise Misconfigured(f"[quarantine.bounds] {name} = {value!r}: it must be {wanted}")
    fixed = Bounds.of(settings.delegates, **settings.bounds)
    if fixed.low_water_percent >= fixed.high_water_percent or fixed.high_water_percent > 100:
        raise Misconfigured(
            f"[quarantine.bounds] low_water_percent = {fixed.low_water_percent} must be below "
            f"high_water_percent = {fixed.high_water_percent}, and that at most 100"
        )

    def bounds(delegates: int) -> Bounds:
        most = max(settings.delegates, min(delegates, DELEGATES_TOLD_MAX))
        return Bounds.of(most, max(1, workers), **settings.bounds)

    return bounds


# By the type of the bound: what is asked for, and whether a value is that.
_BOUND_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a whole number above 0", lambda value: type(value) is int and value > 0),
    "float": (
        "a number above 0",
        lambda value: type(value) in (int, float) and 0 < value < inf,
    ),
    "bool": ("true or false", lambda value: type(value) is bool),
}


def _typed_hash(text: str) -> bytes:
    """A block's or an operation's hash, in base58 or hex. Raises click.BadParameter."""
    kinds = (base58.BLOCK_HASH, base58.OPERATION_HASH)
    for kind in kinds:
        try:
            return base58.decode(kind, text)
        except MalformedBytes:
            continue
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise click.BadParameter(f"{text!r} is no hash of a block (B…) or of an operation (o…)")
    return raw


@quarantine.command()
@at_a_place
@click.option("--cleared", is_flag=True, help="What was cleared, instead of what is held.")
@click.option("--hash", "hash_", metavar="HASH", type=_typed_hash,
              help="Only what has this hash (B… or o…).")  # fmt: skip
@click.option("--level", type=click.IntRange(0, LEVEL_MAX), help="Only what is of this level.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def show(
    place: Place, cleared: bool, hash_: bytes | None, level: int | None, as_json: bool
) -> None:
    """List what is held (and for what), or what was cleared."""
    with QuarantineAdmin(place.quarantine_endpoints, place.curve) as admin:
        answer = admin.ask(ClearedWanted(hash_, level) if cleared else HeldWanted())
    rows = list(_rows(answer, hash_, level))
    for row in rows:
        click.echo(json.dumps(row) if as_json else _line(row))
    if isinstance(answer, HeldItems | ClearedItems) and answer.more:
        click.echo("… and more; narrow it with --hash or --level", err=True)
    if not rows and not as_json:
        click.echo("nothing was cleared" if cleared else "nothing is held", err=True)


def _rows(answer: object, hash_: bytes | None, level: int | None) -> list[dict[str, Any]]:
    if isinstance(answer, HeldItems):
        return [
            {
                "kind": item.kind,
                "hash": _hash_text(item.kind, item.hash),
                "waits_for": item.reason,
                "of": _waits_for(item.kind, item.reason, item.waits_for),
                "level": item.level,
                "round": item.round,
                "delegate": item.delegate,
                "since": _time(item.since_unix_ms),
                "peers": list(item.peers),
            }
            for item in answer.items
            if hash_ in (None, item.hash) and level in (None, item.level)
        ]
    if not isinstance(answer, ClearedItems):
        return []
    blocks = [
        {
            "kind": "verify_block",
            "hash": _hash_text("verify_block", block.facts.hash),
            "level": block.facts.level,
            "round": block.facts.round,
            "delegate": block.facts.delegate,
            "header": block.header.hex(),
            "operations": None
            if block.operations is None
            else [[each.hex() for each in passed] for passed in block.operations],
            "peers": list(block.senders),
        }
        for block in answer.blocks
    ]
    votes = [
        {
            "kind": "verify_vote",
            "hash": _hash_text("verify_vote", vote.record.hash),
            "level": vote.record.level,
            "round": vote.record.round,
            "delegate": vote.record.delegate,
            "operation": vote.record.raw.hex(),
            "peers": list(vote.senders),
        }
        for vote in answer.votes
    ]
    return blocks + votes


def _line(row: dict[str, Any]) -> str:
    place = f"level {row['level']} round {row['round']}" if row["level"] else "level unknown"
    text = f"{row['kind']:12} {row['hash']}  {place}  {row['delegate'] or '-'}"
    if "waits_for" in row:
        text += f"  waits for {row['waits_for']} {row['of']}".rstrip() + f" since {row['since']}"
    return f"{text}  from {' '.join(row['peers']) or 'the node'}"


@quarantine.command()
@at_a_place
@click.argument("hash_", metavar="HASH", type=_typed_hash)
def drop(place: Place, hash_: bytes) -> None:
    """End what is held under a hash as `shed`; its sender may send it again."""
    _change(place, Drop(hash_), "dropped")


@quarantine.command()
@at_a_place
@click.argument("hash_", metavar="HASH", type=_typed_hash)
def release(place: Place, hash_: bytes) -> None:
    """Have what is held under a hash checked again now.

    It is cleared only if it holds; what still waits for something is held again.
    """
    _change(place, Release(hash_), "checked again")


def _change(place: Place, question: Drop | Release, what: str) -> None:
    with QuarantineAdmin(place.quarantine_endpoints, place.curve) as admin:
        answer = admin.ask(question)
    assert isinstance(answer, Changed)
    click.echo(f"{answer.count} {what}")
    if not answer.count:
        click.echo("nothing is held under that hash", err=True)
        sys.exit(1)


# -- hashes -------------------------------------------------------------------------------------


def _hash_text(kind: str, raw: bytes) -> str:
    what = base58.BLOCK_HASH if kind == "verify_block" else base58.OPERATION_HASH
    return base58.encode(what, raw)


def _waits_for(kind: str, reason: str, raw: bytes) -> str:
    if not raw or reason not in ("parent", "target"):
        return ""
    return base58.encode(base58.BLOCK_HASH if reason == "parent" else base58.PAYLOAD_HASH, raw)


def _time(unix_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_ms / 1000))
