"""What can be wrong with an application, its operators, or the node service."""

from __future__ import annotations

from broker.errors import BrokerError


class OffchainError(BrokerError):
    """Something about off-chain tasks is wrong."""

    code = "offchain"
    advice = "See docs/offchain.md."


class MalformedActions(OffchainError):
    """An application's answer to `nextActions` has not the agreed shape."""

    code = "malformed_actions"
    advice = "The application's answer is wrong; its author must mend it."
