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


class JournalUnusable(OffchainError):
    """The journal of off-chain tasks cannot be used as it is."""

    code = "journal_unusable"
    advice = "No operator is run meanwhile; signing goes on."


class NoSuchTask(OffchainError):
    """The journal knows no such task, or it is not dead."""

    code = "no_such_task"
    advice = "`forgepool tasks list` shows what there is."
