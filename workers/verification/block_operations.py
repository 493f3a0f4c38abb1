"""The operations of a block, decoded, and whose keys must have signed them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from signers.formats.content_kind import ANONYMOUS_PASS, MANAGER_PASS, VOTING_PASS
from signers.formats.operation import needs_signature
from workers.preparation.selection import QUOTAS
from workers.preparation.submitted_operation import SubmittedOperation


class BlockOperations:
    """The operations of a block, pass by pass; whoever decodes them fills it."""

    def __init__(self) -> None:
        self.passes: tuple[list[SubmittedOperation], ...] = tuple([] for _ in QUOTAS)

    @property
    def voting(self) -> Iterable[SubmittedOperation]:
        return self.passes[VOTING_PASS]

    @property
    def anonymous(self) -> Iterable[SubmittedOperation]:
        return self.passes[ANONYMOUS_PASS]

    @property
    def managers(self) -> Iterable[SubmittedOperation]:
        return self.passes[MANAGER_PASS]

    def all(self) -> Iterator[SubmittedOperation]:
        for one_pass in self.passes:
            yield from one_pass

    def signers(self) -> dict[bytes, None]:
        """The accounts whose keys must have signed something, as tagged key hashes."""
        signers = {operation.source: None for operation in self.managers}
        for operation in (*self.voting, *self.anonymous):
            if (signer := signer_of(operation)) is not None:
                signers[signer] = None
        return signers


def signer_of(operation: SubmittedOperation) -> bytes | None:
    """Whose key must have signed an operation that is neither a vote nor pays fees."""
    if not needs_signature(operation.decoded):
        return None
    fields = operation.decoded.contents[0].fields
    signer: bytes = fields["source"] if "source" in fields else fields["consensus_key"]
    return signer
