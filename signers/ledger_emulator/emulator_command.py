"""`forgepool ledger-emulator`: an emulated device as a process."""

import asyncio
import json
import signal
from typing import Any, Final

import click

from signers.ledger.apdu import COIN_MAVRYK, COIN_TEZOS
from signers.ledger_emulator.baking_app import BakingApp
from signers.ledger_emulator.emulated_device import HELP, EmulatedDevice

# The words that the app's own tests use. Everybody knows the keys that they make.
TEST_MNEMONIC: Final = " ".join(["zebra"] * 24)


@click.command("ledger-emulator", epilog=f"\b\nOn the control port, one a line:\n{HELP}")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9999, show_default=True, help="For commands; 0: a free one.")
@click.option("--control-port", default=0, help="For what goes wrong; default: a free one.")
@click.option("--mnemonic", default=TEST_MNEMONIC, help="Words of the seed; default: a test's.")
@click.option("--mavryk", is_flag=True, help="The app of Mavryk, for paths 44'/1969'.")
def ledger_emulator(**options: Any) -> None:
    """Emulate a Ledger with the baking app, for tests and for trying.

    Speaks APDU over TCP as Speculos does. Point clients at it with LEDGER_PROXY_ADDRESS and
    LEDGER_PROXY_PORT. Prints one line of JSON when it listens; ends on SIGTERM and Ctrl-C.
    """
    asyncio.run(_serve(options))


async def _serve(options: dict[str, Any]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    coin = COIN_MAVRYK if options["mavryk"] else COIN_TEZOS
    device = EmulatedDevice(BakingApp(options["mnemonic"], coin=coin))
    try:
        port, control = await device.listen(
            options["host"], options["port"], options["control_port"]
        )
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error}; choose another --port") from None
    print(json.dumps({"host": options["host"], "port": port, "control_port": control}), flush=True)
    await ended.wait()
    await device.close()
