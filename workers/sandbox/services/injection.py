"""Services by which operations and blocks enter: `/injection`.

Asked to be asynchronous, the node answers with the hash whatever it thinks of what it got.
Source: Octez ``injection_directory.ml``.
"""

from __future__ import annotations

import logging

from msgspec import Struct

from signers.formats import base58
from workers.sandbox.chain import DoubleSigned, HeadChanged, Outcome
from workers.sandbox.directory import BadCall, Call, Directory
from workers.sandbox.names import text
from workers.sandbox.node import SandboxNode
from workers.sandbox.refusal import ChainError, ErrorKind, Refusal, failure, shell_error
from workers.sandbox.services.forging import RawOperation

log = logging.getLogger(__name__)


class BlockToInject(Struct):
    """Body of `injection/block`: the signed header in hex, and four lists of operations."""

    data: str
    operations: list[list[RawOperation]]


class InjectionServices:
    """The two ways in."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    def add_to(self, directory: Directory) -> None:
        directory.serve("POST", "/injection/operation", self.operation)
        directory.serve("POST", "/injection/block", self.block)

    def operation(self, call: Call) -> str:
        self._check_chain(call)
        is_async = call.query.flag("async")
        outcome = self._node.chain.inject_operation(_hex(call.json(str)), call.now)
        self._publish(outcome)
        hash = text(base58.OPERATION_HASH, outcome.hash)
        if outcome.refusal is not None:
            log.info("operation refused hash=%s reason=%s", hash, outcome.refusal.reason)
            if not is_async:
                raise self._of_operation(hash, outcome.refusal)
        return hash

    def block(self, call: Call) -> str:
        self._check_chain(call)
        is_async = call.query.flag("async")
        call.query.flag("force")
        body = call.json(BlockToInject)
        passes = [[each.signed() for each in one_pass] for one_pass in body.operations]
        outcome = self._node.chain.inject_block(_hex(body.data), passes, call.now)
        self._publish(outcome)
        hash = text(base58.BLOCK_HASH, outcome.hash)
        if outcome.refusal is not None:
            log.info("block refused hash=%s reason=%s", hash, outcome.refusal.reason)
            if not is_async:
                raise Refusal(*self._wrapping(), *outcome.refusal.trace)
        return hash

    def _publish(self, outcome: Outcome) -> None:
        self._node.publish(outcome.events)
        for event in outcome.events:
            if isinstance(event, HeadChanged):
                self._log_head(event)
            elif isinstance(event, DoubleSigned):
                position = event.conflict.position
                log.warning(
                    "signed twice kind=%s delegate=%s level=%d round=%d",
                    position.kind.name.lower(),
                    self._node.names.address(position.delegate),
                    position.level,
                    position.round,
                )

    def _log_head(self, event: HeadChanged) -> None:
        head = event.head
        log.info(
            "head level=%d round=%d hash=%s operations=%d attesting_power=%s left=%d",
            head.level,
            head.round,
            text(base58.BLOCK_HASH, head.hash),
            sum(map(len, head.operations[1:])),
            head.attesting_power,
            len(event.left),
        )

    def _of_operation(self, hash: str, refusal: Refusal) -> Refusal:
        """Say in one sentence why an operation was refused, as nodes do here and only here."""
        if refusal.reason == "failure":
            return Refusal(*self._wrapping(), *refusal.trace)
        words = f"Error while validating injected operation {hash}:\n{refusal}"
        return Refusal(*self._wrapping(), *failure(words).trace)

    def _wrapping(self) -> list[ChainError]:
        if not self._node.dialect.wraps_injection_errors:
            return []
        words = "Errors while injecting asynchronously."
        return [shell_error(ErrorKind.PERMANENT, "async_injection_failed", words)]

    def _check_chain(self, call: Call) -> None:
        chain = call.query.text("chain")
        if chain not in (None, "main", self._node.chain_id):
            raise failure(f"Unknown chain: {chain}")


def _hex(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise BadCall("Failed to parse the request body: not hexadecimal") from None
