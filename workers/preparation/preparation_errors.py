"""Why a block could not be prepared, by who must act.

Every class has a stable `code`, which travels to the client with the text. A refusal by the
watermark rule is not here: it comes later, from the process that holds the key.
"""

from __future__ import annotations

from typing import ClassVar


class PreparationError(Exception):
    """A block that was not prepared; use one of the subclasses."""

    code: ClassVar[str] = "preparation_failed"


# -- fix the request ------------------------------------------------------------------------------


class MalformedRequest(PreparationError):
    """The payload is not the MessagePack map that `block_request.ForgeBlock` describes."""

    code = "malformed"


class InvalidRequest(PreparationError):
    """The payload can be read, but no valid block can be made of what it says."""

    code = "invalid_request"


# -- try later ------------------------------------------------------------------------------------


class NodeUnavailable(PreparationError):
    """No connection to the node, or it broke: is the node up, is the URL right?"""

    code = "node_unavailable"


class NodeTimeout(PreparationError):
    """The node had not answered when the request's time was over."""

    code = "node_timeout"


class NotOnNode(PreparationError):
    """The node does not know this path, chain or block: is it behind, or of another chain?"""

    code = "node_not_found"


class DeadlinePassed(PreparationError):
    """The request's time was over before the block was ready."""

    code = "deadline"


class PreparerBusy(PreparationError):
    """As many blocks as the bound allows are being prepared."""

    code = "preparer_busy"


class PreparerDied(PreparationError):
    """The process that prepared the block ended; nothing was signed, so repeating is safe."""

    code = "preparer_died"


# -- page someone ---------------------------------------------------------------------------------


class NodeError(PreparationError):
    """The node answered with an error of its own; the text is its trace."""

    code = "node_error"


class NodeAnswerMalformed(PreparationError):
    """The node's answer is not what the RPC promises, or too long."""

    code = "node_malformed"


class ProofOfWorkExhausted(PreparationError):
    """No counter of four bytes meets the threshold; by chance this does not happen."""

    code = "pow_exhausted"
