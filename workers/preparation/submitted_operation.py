"""An operation that somebody wants in a block: decoded, and not yet believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signers.errors import MalformedBytes
from signers.formats.content_kind import MANAGER_PASS
from signers.formats.hashes import blake2b_32
from signers.formats.networks import Network
from signers.formats.operation import Operation, decode_operation
from workers.preparation.selection import Candidate


@dataclass(frozen=True, slots=True)
class SubmittedOperation:
    """Signed bytes of a client or of the mempool, and what they say."""

    data: bytes
    hash: bytes
    decoded: Operation
    priority: int = 0

    @property
    def branch(self) -> bytes:
        return self.decoded.branch

    @property
    def validation_pass(self) -> int:
        number = self.decoded.validation_pass
        assert number is not None, "`read_operation` lets only operations of a block through"
        return number

    @property
    def manager_fields(self) -> list[Mapping[str, Any]]:
        """The fields of each content of a manager operation."""
        return [content.fields for content in self.decoded.contents]

    @property
    def source(self) -> bytes:
        """Who pays for a manager operation, as a tagged key hash."""
        source: bytes = self.decoded.contents[0].fields["source"]
        return source

    def candidate(self) -> Candidate:
        """What its selection depends on."""
        if self.validation_pass != MANAGER_PASS:
            return Candidate(self.data, self.hash, self.validation_pass, self.priority)
        fields = self.manager_fields
        return Candidate(
            self.data,
            self.hash,
            MANAGER_PASS,
            self.priority,
            source=self.source,
            fee=sum(each["fee"] for each in fields),
            gas=sum(each["gas_limit"] for each in fields),
            counter=fields[0]["counter"],
        )


def read_operation(data: bytes, network: Network, *, priority: int = 0) -> SubmittedOperation:
    """Decode signed bytes. Raises MalformedBytes, also for what no block may hold."""
    decoded = decode_operation(data, network)
    if decoded.validation_pass is None:
        raise MalformedBytes("no block may hold this operation")
    return SubmittedOperation(data, blake2b_32(data), decoded, priority)
