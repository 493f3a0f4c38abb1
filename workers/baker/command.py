"""`forgepool baker`: bake and vote with the pool, on one node, for the keys of one key store."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from broker.client import default_name
from broker.config import (
    BASE_DIR_ENV,
    STATE_DIR_ENV,
    Endpoints,
    default_state_dir,
    load_settings,
    node_url,
    resolve_endpoints,
)
from broker.errors import EXIT_MISCONFIGURED, BrokerError, Misconfigured
from broker.telemetry import log_to_stderr
from signers.errors import SignersError
from signers.formats.networks import TEZOS
from signers.keyring.keystore import Keystore
from workers.baker.automaton import Automaton
from workers.baker.baker_rpc import BakerRpc
from workers.baker.baker_state import BakerState, ChainRules
from workers.loop_end import cancel_on_signals
from workers.node.patience import insist
from workers.node.rpc import ChainRpc
from workers.node.served_chain import served_chain
from workers.node.transport import Node
from workers.pool import Pool
from workers.preparation.block_request import ToggleVote
from workers.preparation.chain_view import forging_constants

log = logging.getLogger("forgepool.baker")
_VOTE = click.Choice(["on", "off", "pass"])


@dataclass(frozen=True, slots=True)
class BakerOptions:
    """What the command was asked for, settled."""

    endpoints: Endpoints
    node: str
    client: str
    delegates: Sequence[str]
    liquidity_baking_vote: ToggleVote
    adaptive_issuance_vote: ToggleVote
    parent_fd: int | None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=STATE_DIR_ENV,
    show_envvar=True,
    help="Where the pool lives.  [default: ~/.forgepool]",
)
@click.option("--node", help="URL of the node's RPC.  [default: the pool's setting]")
@click.option(
    "--delegate",
    "delegates",
    multiple=True,
    metavar="KEYHASH",
    help="Bake for this key; may be repeated.  [default: every key of the key store]",
)
@click.option(
    "--base-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=BASE_DIR_ENV,
    show_envvar=True,
    help="Key store, read for its hashes only.  [default: <state-dir>/keys]",
)
@click.option("--client", help="Name towards the broker.  [default: host and pid]")
@click.option("--liquidity-baking-toggle-vote", "liquidity_baking_vote", type=_VOTE, default="pass")
@click.option("--adaptive-issuance-vote", type=_VOTE, default="pass", help="Mavryk only.")
@click.option("--json", "as_json", is_flag=True, help="At the end print what was done.")
@click.option("--parent-fd", type=int, hidden=True)
@click.option("--verbose", is_flag=True, help="Log more.")
def baker(
    state_dir: Path | None,
    node: str | None,
    delegates: tuple[str, ...],
    base_dir: Path | None,
    client: str | None,
    liquidity_baking_vote: ToggleVote,
    adaptive_issuance_vote: ToggleVote,
    as_json: bool,
    parent_fd: int | None,
    verbose: bool,
) -> None:
    """Watch a node and bake with the pool: proposals are voted for, rounds of ours are baked.

    Holds no key: the pool signs, and its watermarks decide what may be signed. Ends on SIGTERM
    or Ctrl-C.
    """
    log_to_stderr("baker", verbose=verbose)
    chosen = state_dir or default_state_dir()
    try:
        settings = load_settings(chosen)
        url = node_url(node or settings.node)
        if not url:
            raise Misconfigured("no node is configured: give --node URL")
        keys = base_dir or Path(settings.base_dir or chosen / "keys")
        options = BakerOptions(
            endpoints=resolve_endpoints(chosen, settings.endpoints),
            node=url,
            client=client or default_name(),
            delegates=delegates or [entry.key_hash for entry in Keystore(keys).entries()],
            liquidity_baking_vote=liquidity_baking_vote,
            adaptive_issuance_vote=adaptive_issuance_vote,
            parent_fd=parent_fd,
        )
        if not options.delegates:
            raise Misconfigured(f"{keys} holds no key, and no --delegate is given")
        counts = asyncio.run(bake(options))
    except (BrokerError, SignersError) as error:
        click.echo(f"forgepool baker: {error}", err=True)
        sys.exit(EXIT_MISCONFIGURED if isinstance(error, Misconfigured) else 1)
    if as_json:
        click.echo(json.dumps(counts))


async def bake(options: BakerOptions) -> Counter[str]:
    """Bake until a signal comes or the parent is gone; return what was done."""
    node = Node(options.node)
    try:
        pool = Pool(options.endpoints, options.client)
        automaton = await _assemble(node, pool, options)
        working = asyncio.create_task(automaton.run())
        pool.start(automaton.hear, on_end=working.cancel)
        cancel_on_signals(working, options.parent_fd)
        try:
            await working
        except asyncio.CancelledError:
            log.info("baker_ended")
        finally:
            pool.close()
        return automaton.counts
    finally:
        await node.aclose()


async def _assemble(node: Node, pool: Pool, options: BakerOptions) -> Automaton:
    """Ask the node which chain it serves and by which rules."""
    served = await served_chain(node)
    chain = ChainRpc(node, served.chain_id)
    constants = await insist(node, lambda deadline: chain.constants("head", deadline=deadline))
    rpc = BakerRpc(node, served.chain_id)
    threshold = await insist(node, lambda deadline: rpc.threshold(deadline=deadline))
    rules = ChainRules(
        forging_constants(constants),
        threshold,
        branch_is_grandparent=served.network is TEZOS,
    )
    log.info("baking chain=%s delegates=%d", served.chain_id, len(options.delegates))
    return Automaton(
        BakerState(options.delegates, rules),
        served.network,
        chain,
        rpc,
        pool.push,
        liquidity_baking_vote=options.liquidity_baking_vote,
        adaptive_issuance_vote=options.adaptive_issuance_vote,
    )
