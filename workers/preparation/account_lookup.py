"""Accounts of the sources of manager operations, asked from a node within bounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.networks import Network
from workers.node.operation_json import public_key_of
from workers.node.rpc import ChainRpc
from workers.preparation.operation_validation import AccountFacts
from workers.preparation.preparation_errors import NodeAnswerMalformed, PreparationError

log = logging.getLogger("forgepool.preparer")

# A call costs about 0.7 ms of CPU: more than four at once only wait for each other.
CALLS_AT_ONCE = 4
# Keys of revealed accounts never change, so they are kept; 50,000 of them take about 10 MB.
KEYS_KEPT_MAX = 50_000


class AccountLookup:
    """Asks one node about accounts; remembers their keys."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._keys: dict[bytes, bytes] = {}

    async def facts(
        self, chain: ChainRpc, predecessor: str, sources: Iterable[bytes], *, deadline: float
    ) -> dict[bytes, AccountFacts]:
        """What `predecessor` left of each source (tagged key hash), in the given order.

        A source that the node does not answer for before the deadline is left out.
        """
        known: dict[bytes, AccountFacts] = {}
        remaining = iter(sources)

        async def ask() -> None:
            for source in remaining:
                if asyncio.get_running_loop().time() >= deadline:
                    return
                try:
                    known[source] = await self._ask(chain, predecessor, source, deadline)
                except (PreparationError, MalformedBytes) as error:
                    log.warning("source_left_out source=%s reason=%s", source.hex(), error)

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLS_AT_ONCE):
                group.create_task(ask())
        return known

    async def _ask(
        self, chain: ChainRpc, predecessor: str, source: bytes, deadline: float
    ) -> AccountFacts:
        address = self._address(source)
        account = await chain.account(predecessor, address, deadline=deadline)
        key = self._keys.get(source)
        if key is None:
            text = await chain.manager_key(predecessor, address, deadline=deadline)
            if text is not None:
                key = public_key_of(text)
                self._remember(source, key)
        try:
            return AccountFacts(int(account.balance), int(account.counter), key)
        except ValueError as error:
            raise NodeAnswerMalformed(f"account {address}: {error}") from None

    def _address(self, source: bytes) -> str:
        prefixes = self._network.key_hash_prefixes
        if source[0] >= len(prefixes):
            raise MalformedBytes(f"{self._network.name} has no keys of tag {source[0]}")
        return base58.encode(prefixes[source[0]], source[1:])

    def _remember(self, source: bytes, key: bytes) -> None:
        if len(self._keys) >= KEYS_KEPT_MAX:
            self._keys.clear()
        self._keys[source] = key
