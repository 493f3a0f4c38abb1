"""Where the node says that the chain stands, as the quarantine wants to know it."""

from __future__ import annotations

from broker.verification import ChainFacts, Verdict
from signers.errors import MalformedBytes
from workers.verification.ancestor_block import read_ancestor
from workers.verification.node_questions import ChainTold, NotTold, Told
from workers.verification.verdicts import Reason, unchecked, valid


def chain_verdict(number: int, told: Told | NotTold) -> Verdict:
    """The verdict of a CHAIN item: the blocks of the node, or why there is no answer."""
    if isinstance(told, NotTold):
        return unchecked(number, Reason.NODE_UNAVAILABLE, f"{told.code}: {told.text}")
    if not isinstance(told, ChainTold):
        return unchecked(number, Reason.INTERNAL, "the node was asked for something else")
    try:
        blocks = [read_ancestor(raw).facts() for raw in told.headers]
    except MalformedBytes as error:
        return unchecked(number, Reason.NODE_UNAVAILABLE, f"a header of the node: {error}")
    return valid(
        number,
        ChainFacts(
            told.final,
            blocks,
            told.headers,
            told.delegates,
            told.rules.committee_size,
            told.rules.minimal_block_delay_s * 1000,
            told.chain_id,
            told.rules.operations_ttl,
            told.below,
        ),
    )
