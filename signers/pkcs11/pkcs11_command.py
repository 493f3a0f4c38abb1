"""The commands `forgepool pkcs11 …`: which tokens and keys there are, and how a URI names them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from signers.backends.key_uri import Pkcs11Key
from signers.command_line import json_option, print_json, reporting
from signers.formats.networks import NETWORKS, Network, network_by_name
from signers.pkcs11.module_file import MODULE_ENV, check_installed, module_file
from signers.pkcs11.pin import PIN_ENV, read_pin

if TYPE_CHECKING:
    from signers.pkcs11.token_listing import ListedKey

TIMEOUT_S = 10.0


@click.group()
def pkcs11() -> None:
    """Keys in PKCS#11 tokens: hardware security modules, smart cards, SoftHSM."""


@pkcs11.command("list")
@click.option(
    "--module",
    envvar=MODULE_ENV,
    show_envvar=True,
    metavar="PATH|NAME",
    help="The token's PKCS#11 module, a shared library.",
)
@click.option("--token", metavar="LABEL", help="This token alone.")
@click.option(
    "--pin-source",
    metavar="FILE|env:NAME",
    help=f"Where the PIN is; it is shown to one token alone.  [default: {PIN_ENV}, if it is set]",
)
@click.option(
    "--network",
    type=click.Choice(sorted(NETWORKS)),
    default="tezos",
    show_default=True,
    help="How key hashes are written.",
)
@json_option
def list_tokens(
    module: str | None, token: str | None, pin_source: str | None, network: str, as_json: bool
) -> None:
    """List tokens, their keys, and the URIs to write into secret_keys.

    Without a PIN a token shows public keys alone. With one, only the keys that can sign are listed,
    and there must be one token: choose it by --token, or a PIN would be tried on others too.
    """
    written = network_by_name(network)
    with reporting(as_json):
        check_installed()
        from signers.pkcs11.token_listing import list_module

        file = module_file(None, None, {MODULE_ENV: module or ""})
        if pin_source is not None and ":" not in pin_source:
            pin_source = os.path.abspath(pin_source)  # as the URIs below must have it
        pin = read_pin(Pkcs11Key(pin_source=pin_source), os.environ)
        found: list[dict[str, Any]] = [
            {
                "token": each.label,
                "serial": each.serial,
                "manufacturer": each.manufacturer,
                "model": each.model,
                "keys": [_record(key, pin_source, written) for key in each.keys],
            }
            for each in list_module(file, token, pin, TIMEOUT_S)
        ]
    if as_json:
        print_json(found)
        return
    for each in found:
        click.echo(f"{each['token']}: {each['manufacturer']} {each['model']}, {each['serial']}")
        for key in each["keys"]:
            public_key = f"  {key['public_key']}" if key["public_key"] else ""
            click.echo(f"  {key['key_hash'] or key['error']}{public_key}\n    {key['uri']}")
    if not found:
        click.echo("The module shows no token.")


def _record(key: ListedKey, pin_source: str | None, network: Network) -> dict[str, Any]:
    public_key = key.public_key
    return {
        "label": key.place.object,
        "id": key.place.id.hex() if key.place.id else None,
        "uri": replace(key.place, pin_source=pin_source).uri(),
        "key_hash": public_key.hash(network) if public_key else None,
        "public_key": public_key.text() if public_key else None,
        "error": key.problem or None,
    }
