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


class JournalHeld(OffchainError):
    """Another process holds the journal's lock for longer than any turn takes."""

    code = "journal_held"
    advice = "Is it stopped? A task processor is killed after 10 s; anything else is yours to end."


class NoJournal(OffchainError):
    """The journal was asked for in the mode that keeps none."""

    code = "no_journal"
    advice = (
        'The settings say tasks.mode = "compat", in which the pool neither writes nor reads it; '
        "what fails is tried again there by itself."
    )


class NoSuchTask(OffchainError):
    """The journal knows no such task, or it is not dead."""

    code = "no_such_task"
    advice = "`forgepool tasks list` shows what there is."


class NodeServiceAway(OffchainError):
    """The node service has not answered a question."""

    code = "node_service_away"
    advice = "Is the node service running, and is tasks.node_service its address? Asked again."


class NodeServiceFailed(OffchainError):
    """The node service has answered a question with an error of its own."""

    code = "node_service_failed"
    advice = "The message has its own words. Asked again."


class ApplicationRefused(OffchainError):
    """An application has answered a question with errors of its own."""

    code = "application_refused"
    advice = "The message has the application's own words. Asked again."


class UnreadableReply(OffchainError):
    """What was answered is not what the question is about."""

    code = "unreadable_reply"
    advice = "Is tasks.node_service a node service, and the application a task application?"


class MalformedFrame(OffchainError):
    """A frame of the notification stream is not of its protocol."""

    code = "malformed_frame"
    advice = "Is tasks.node_service a node service? The stream is opened again."


class StreamBroken(OffchainError):
    """The notification stream has ended or is silent."""

    code = "stream_broken"
    advice = "The stream is opened again, and everything asked for that was missed."
