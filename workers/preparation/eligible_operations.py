"""Which of the submitted operations may be in a block: the right votes, and what is valid.

Votes and anonymous operations were checked by the node that let them into its mempool; manager
operations are checked here against the accounts of their sources.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from signers.formats.content_kind import CONSENSUS_PASS, MANAGER_PASS
from signers.formats.networks import BLS_SCHEME_OF_PROTOCOL
from workers.node.rpc import ChainRpc
from workers.preparation.account_lookup import AccountLookup
from workers.preparation.chain_view import ChainView
from workers.preparation.consensus_operations import attestations_of_predecessor
from workers.preparation.operation_validation import NotValid, check_manager_operation
from workers.preparation.selection import in_order_of_worth
from workers.preparation.submitted_operation import SubmittedOperation

log = logging.getLogger("forgepool.preparer")

# Sources whose accounts are asked for, by what their operations pay. A call costs about 1 ms, and
# few blocks hold operations of more sources; the rest waits for the next block.
SOURCES_MAX = 512
# Checking a signature takes about 0.1 ms, of a tz4 key 1.5 ms: a slice keeps the loop for 3 ms,
# for 45 ms when all are of tz4 keys.
CHECKS_PER_SLICE = 30


def without_managers(
    view: ChainView, submitted: Iterable[SubmittedOperation]
) -> list[SubmittedOperation]:
    """The attestations of the predecessor, and every vote and anonymous operation."""
    submitted = list(submitted)
    votes = [each for each in submitted if each.validation_pass == CONSENSUS_PASS]
    others = [
        each for each in submitted if each.validation_pass not in (CONSENSUS_PASS, MANAGER_PASS)
    ]
    return attestations_of_predecessor(view, votes) + others


def managers_of(submitted: Iterable[SubmittedOperation]) -> list[SubmittedOperation]:
    """The manager operations."""
    return [each for each in submitted if each.validation_pass == MANAGER_PASS]


async def valid_managers(
    chain: ChainRpc,
    view: ChainView,
    predecessor: str,
    accounts: AccountLookup,
    managers: Iterable[SubmittedOperation],
    *,
    deadline: float,
) -> list[SubmittedOperation]:
    """The manager operations that are valid, of the sources that pay best.

    What the node does not answer before the deadline is left out.
    """
    by_hash = {each.hash: each for each in managers}
    by_worth = in_order_of_worth(
        (each.candidate() for each in by_hash.values()),
        gas_per_block=view.constants.gas_per_block,
    )
    sources = list(dict.fromkeys(each.source for each in by_worth))[:SOURCES_MAX]
    facts = await accounts.facts(chain, predecessor, sources, deadline=deadline)
    valid = []
    bls_scheme = BLS_SCHEME_OF_PROTOCOL.get(view.protocol)
    for place, candidate in enumerate(by_worth):
        if place % CHECKS_PER_SLICE == 0:
            await asyncio.sleep(0)
        if candidate.source not in facts:
            continue
        operation = by_hash[candidate.hash]
        try:
            account = facts[candidate.source]
            check_manager_operation(operation, account, view.constants, bls_scheme)
        except NotValid as error:
            log.info("operation_not_valid hash=%s reason=%s", operation.hash.hex(), error)
        else:
            valid.append(operation)
    return valid
