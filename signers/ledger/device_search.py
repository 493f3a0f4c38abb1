"""Looking for devices as the environment says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from signers.formats.networks import MAVRYK, Network
from signers.ledger import apdu
from signers.ledger.baking_device import DeviceFinder
from signers.ledger.device_name import read_word_lists
from signers.ledger.transport import places

WORDS_ENV: Final = "FORGEPOOL_LEDGER_WORDS"  # a file with Octez' words


def coin_of(network: Network) -> int:
    """The second number of the paths of a network's app."""
    return apdu.COIN_MAVRYK if network is MAVRYK else apdu.COIN_TEZOS


def device_finder(environment: Mapping[str, str], network: Network) -> DeviceFinder:
    """Look for devices with a network's app.

    Raises OSError, and MalformedBytes for other word lists than Octez' own.
    """
    words = environment.get(WORDS_ENV)
    return DeviceFinder(
        lambda: places(environment),
        words=read_word_lists(Path(words).read_text()) if words else None,
        coin=coin_of(network),
    )
