"""The commands `forgepool ledger …`: which devices there are, and setting one up for baking."""

import os
import sys
from typing import Any

import click

from signers.backends.key_uri import LedgerKey, MalformedKeyUri, read_key_uri
from signers.command_line import confirm, json_option, print_json, reporting, yes_option
from signers.errors import Unavailable
from signers.formats import base58
from signers.formats.networks import NETWORKS, network_by_name
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey
from signers.ledger import apdu
from signers.ledger.baking_device import BakingDevice, DeviceFinder
from signers.ledger.device_errors import DeviceAbsent
from signers.ledger.device_name import four_words, short_id
from signers.ledger.device_search import coin_of, device_finder
from signers.ledger.ledger_signer import CURVES, DERIVATIONS

TIMEOUT_S = 10.0
LEVEL = click.IntRange(0, apdu.LEVEL_MAX)

network_option = click.option(
    "--network",
    type=click.Choice(sorted(NETWORKS)),
    default="tezos",
    show_default=True,
    help="Whose app is on the device, and how key hashes are written.",
)


_NO_DEVICE = (
    "forgepool: there is no device: plug it in and unlock it (on USB it also needs "
    "forgepool[ledger] and the vendor's udev rules), or say with LEDGER_PROXY_ADDRESS and "
    "LEDGER_PROXY_PORT where one listens on TCP."
)


@click.group()
def ledger() -> None:
    """Ledger devices with the baking app: list them, set them up, see their own marks.

    Devices are looked for on USB (install forgepool[ledger] and the udev rules of the vendor) and,
    when LEDGER_PROXY_ADDRESS or LEDGER_PROXY_PORT is set, on TCP.
    """


@ledger.command("list")
@network_option
@json_option
def list_devices(network: str, as_json: bool) -> None:
    """List every device that is plugged in, and how a key's URI names it.

    Ends with 1 when there is none.
    """
    found: list[dict[str, Any]] = []
    with reporting(as_json):
        finder = _finder(network)
        for place, device in finder.devices(TIMEOUT_S):
            if not isinstance(device, BakingDevice):
                found.append({"place": place, "error": str(device), "code": device.code})
                continue
            try:
                root = finder.root_key(device)
            except Unavailable as error:  # most often the app of the other network
                found.append({"place": place, "error": str(error), "code": error.code})
                continue
            name = PublicKey(Curve.ED25519, root).hash(network_by_name(network))
            found.append(
                {
                    "place": place,
                    "version": str(device.version),
                    "id": short_id(root),
                    "name": name,
                    "words": four_words(root, finder.words) if finder.words else None,
                    "uris": [f"ledger://{name}/{curve}/0h/0h" for curve in DERIVATIONS],
                }
            )
    is_there = any(each.get("code") != DeviceAbsent.code for each in found)
    if as_json:
        print_json(found)
        sys.exit(0 if is_there else 1)
    for each in found:
        if "error" in each:
            click.echo(f"{each['place']}: {each['error']}")
            continue
        words = f", {each['words']}" if each["words"] else ""
        click.echo(f"{each['place']}: baking app {each['version']}, {each['id']}{words}")
        for uri in each["uris"]:
            click.echo(f"  {uri}")
    if not is_there:
        click.echo(_NO_DEVICE, err=True)
        sys.exit(1)


@ledger.command("show")
@click.argument("uri", metavar="URI")
@network_option
@json_option
@click.option("--on-screen", is_flag=True, help="Show the key on the device too, to compare.")
def show_key(uri: str, network: str, as_json: bool, on_screen: bool) -> None:
    """Show the key of a URI, the key that its device bakes with, and the device's marks."""
    with reporting(as_json):
        key = _ledger_key(uri)
        with _finder(network).device(key.device, TIMEOUT_S) as device:
            derivation, path = _where(key, network)
            public_key = PublicKey(
                CURVES[derivation], device.public_key(derivation, path, prompt=on_screen)
            )
            authorised, marks = device.authorised_key(), device.marks()
    chain = base58.encode(base58.CHAIN_ID, marks.chain_id) if any(marks.chain_id) else "any"
    record = {
        "key_hash": public_key.hash(network_by_name(network)),
        "public_key": public_key.text(),
        "app": str(device.version),
        "bakes_with_this_key": authorised == (derivation, tuple(path)),
        "bakes_with": apdu.path_text(authorised.path) if authorised else None,
        "main_chain": chain,
        "main_mark": marks.main._asdict(),
        "test_mark": marks.test._asdict(),
    }
    if as_json:
        print_json(record)
        return
    shown = record | {
        "bakes_with_this_key": "yes" if record["bakes_with_this_key"] else "no",
        "bakes_with": record["bakes_with"] or "nothing",
        "main_mark": _mark(marks.main),
        "test_mark": _mark(marks.test),
    }
    for name, value in shown.items():
        click.echo(f"{name.replace('_', ' '):20} {value}")


@ledger.command("setup")
@click.argument("uri", metavar="URI")
@click.option(
    "--chain-id", required=True, metavar="NetX…|NAME", help="The chain that it bakes, or its name."
)
@click.option("--level", type=LEVEL, required=True, help="The level of that chain's head now.")
@click.option("--test-level", type=LEVEL, default=0, help="The same for all other chains.")
@network_option
@json_option
@yes_option
def set_up(
    uri: str,
    chain_id: str,
    level: int,
    test_level: int,
    network: str,
    as_json: bool,
    yes: bool,
) -> None:
    """Let a device bake with a key, and set its marks. It asks on its screen."""
    with reporting(as_json):
        key, chain_id = _ledger_key(uri), network_by_name(network).chain_id(chain_id)
        chain = base58.decode(base58.CHAIN_ID, chain_id)
        confirm(
            f"The device will sign nothing up to level {level} of {chain_id}, and everything above "
            "it once more. Has it signed nothing higher?",
            yes,
        )
        derivation, path = _where(key, network)
        with _finder(network).device(key.device, TIMEOUT_S) as device:
            _look_at_the_screen(as_json)
            raw = device.set_up(derivation, path, chain, level, test_level)
        key_hash = PublicKey(CURVES[derivation], raw).hash(network_by_name(network))
    if as_json:
        print_json({"key_hash": key_hash, "chain_id": chain_id, "level": level})
    else:
        click.echo(f"It bakes with {key_hash} from level {level + 1} of {chain_id} on.")


@ledger.command("set-watermark")
@click.argument("device_name", metavar="DEVICE|URI")
@click.argument("level", type=LEVEL)
@network_option
@json_option
@yes_option
def set_watermark(device_name: str, level: int, network: str, as_json: bool, yes: bool) -> None:
    """Set both marks of a device to a level. It asks on its screen. Our own marks stay."""
    with reporting(as_json):
        confirm(f"Set the device's marks to {level}? It can lower them.", yes)
        with _finder(network).device(_device_name(device_name), TIMEOUT_S) as device:
            _look_at_the_screen(as_json)
            device.reset_marks(level)
    _done(as_json, f"The device signs nothing up to level {level}.", level=level)


@ledger.command("deauthorize")
@click.argument("device_name", metavar="DEVICE|URI")
@network_option
@json_option
@yes_option
def deauthorize(device_name: str, network: str, as_json: bool, yes: bool) -> None:
    """Let a device bake no more. It does not ask on its screen."""
    with reporting(as_json):
        confirm("Stop the device from baking?", yes)
        with _finder(network).device(_device_name(device_name), TIMEOUT_S) as device:
            device.deauthorise()
    _done(as_json, "The device bakes with no key now.", authorised=None)


def _finder(network: str) -> DeviceFinder:
    return device_finder(os.environ, network_by_name(network))


def _mark(mark: apdu.DeviceMark) -> str:
    return f"level {mark.level} round {mark.round}"


def _ledger_key(uri: str) -> LedgerKey:
    key = read_key_uri(uri, {})
    if not isinstance(key, LedgerKey):
        raise MalformedKeyUri("this is no ledger:// URI; `forgepool ledger list` shows them")
    return key


def _device_name(text: str) -> str:
    return _ledger_key(text).device if ":" in text else text


def _where(key: LedgerKey, network: str) -> tuple[apdu.Derivation, apdu.Path]:
    coin = coin_of(network_by_name(network))
    return DERIVATIONS[key.curve], apdu.full_path(key.path, coin)


def _look_at_the_screen(as_json: bool) -> None:
    if not as_json:
        click.echo("Look at the device's screen and agree there …", err=True)


def _done(as_json: bool, text: str, **record: Any) -> None:
    if as_json:
        print_json(record)
    else:
        click.echo(text)
