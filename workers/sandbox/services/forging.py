"""Services that turn JSON into bytes and back: `helpers/forge`, `helpers/parse`."""

from __future__ import annotations

from dataclasses import replace

from msgspec import Struct

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats import operation as codec
from signers.formats.content_kind import ANONYMOUS_PASS
from signers.formats.signable import Kind
from workers.sandbox.block_draft import check_signature
from workers.sandbox.directory import BadCall, Call, Directory
from workers.sandbox.ledger import Ledger
from workers.sandbox.node import Json, SandboxNode
from workers.sandbox.operations import SignedOperation
from workers.sandbox.refusal import failure
from workers.sandbox.services.operation_reader import (
    SignedJson,
    UnsignedJson,
    read_unsigned,
    signature_of,
)
from workers.sandbox.votes import vote_of

_HELPERS = "/chains/{chain}/blocks/{block}/helpers"
# A mempool of full size may be parsed in one call.
_OPERATIONS_MAX = 10_000


class RawOperation(Struct):
    """An operation in bytes: branch, and hex of the rest."""

    branch: str
    data: str

    def signed(self) -> bytes:
        """Return the bytes of the operation. Raises BadCall."""
        try:
            return base58.decode(base58.BLOCK_HASH, self.branch) + bytes.fromhex(self.data)
        except (MalformedBytes, ValueError) as error:
            raise BadCall(f"Failed to parse the request body: {error}") from None


class ToParse(Struct):
    """Body of `parse/operations`."""

    operations: list[RawOperation]
    check_signature: bool = False


class ForgeServices:
    """Operations between JSON and bytes."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    def add_to(self, directory: Directory) -> None:
        directory.serve("POST", f"{_HELPERS}/forge/operations", self.forge)
        directory.serve("POST", f"{_HELPERS}/parse/operations", self.parse)
        if self._node.dialect.forges_signed_operations:
            directory.serve("POST", f"{_HELPERS}/forge/signed_operations", self.forge_signed)

    def forge(self, call: Call) -> str:
        self._node.block_of(call)
        operation = read_unsigned(call.json(UnsignedJson), self._node.rules)
        return codec.unsigned(operation).hex()

    def forge_signed(self, call: Call) -> str:
        self._node.block_of(call)
        sent = call.json(SignedJson)
        operation = read_unsigned(sent, self._node.rules)
        return codec.encode(replace(operation, signature=signature_of(sent))).hex()

    def parse(self, call: Call) -> list[Json]:
        _, context = self._node.context_of(call)
        body = call.json(ToParse)
        if len(body.operations) > _OPERATIONS_MAX:
            raise BadCall("Failed to parse the request body: too many operations")
        old_names = self._node.old_names(call)
        parsed = []
        for raw in body.operations:
            operation = self._read(raw)
            if body.check_signature:
                self._check_signature(operation, Ledger(context))
            parsed.append(self._node.operations.parsed(operation.operation, old_names=old_names))
        return parsed

    def _read(self, raw: RawOperation) -> SignedOperation:
        try:
            return self._node.rules.read(raw.signed())
        except MalformedBytes:
            raise failure("Can't parse the operation") from None

    def _check_signature(self, operation: SignedOperation, ledger: Ledger) -> None:
        rules = self._node.rules
        contents = operation.operation.contents
        if operation.validation_pass == 0:
            vote = vote_of(contents[0])
            owner = rules.rights.committee(vote.level).owner(vote.slot)
            key = rules.consensus_keys.get(owner or b"", b"\x00" * 33)
            check_signature(rules, operation, key, vote.kind)
        elif contents[0].kind.validation_pass != ANONYMOUS_PASS:
            admitted = rules.managers.validate(contents, ledger)
            check_signature(rules, operation, admitted.public_key, Kind.GENERIC)
