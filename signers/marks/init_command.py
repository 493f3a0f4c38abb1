"""The command `forgepool init`: make a pool's state directory and its watermark store."""

from pathlib import Path

import click

from signers.command_line import json_option, place_of, print_json, reporting, state_dir_option
from signers.formats import base58
from signers.formats.networks import NETWORKS, network_by_name
from signers.marks.watermark_store import WatermarkStore


@click.command()
@click.option(
    "--network", type=click.Choice(sorted(NETWORKS)), required=True, help="Whose keys and rules."
)
@click.option(
    "--chain-id",
    required=True,
    metavar="NetX…",
    help="The one chain that this pool signs for; or the name of one that is known: "
    + ", ".join(f"{chain} ({n.name})" for n in NETWORKS.values() for chain in n.chains)
    + ".",
)
@state_dir_option
@json_option
def init(network: str, chain_id: str, state_dir: Path | None, as_json: bool) -> None:
    """Make a state directory with an empty watermark store.

    For a new pool only. If its keys have signed before, bring their marks: see docs/safety.md.
    """
    place = place_of(state_dir)
    with reporting(as_json):
        chain = network_by_name(network).chain_id(chain_id)
        raw = base58.decode(base58.CHAIN_ID, chain)
        place.make_state_dir()
        place.state_dir.chmod(0o700)
        WatermarkStore.create(place.store_path, network=network, chain_id=raw)
    if as_json:
        print_json({"store": str(place.store_path), "network": network, "chain_id": chain})
        return
    click.echo(f"Made {place.store_path} for {network}, chain {chain}.")
    click.echo("One key, one store, one host: never sign with these keys anywhere else.")
    click.echo("Next: forgepool keys generate NAME, or forgepool keys import NAME")
