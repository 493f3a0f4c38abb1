"""Services about waiting operations: `/chains/…/mempool`.

Shapes: Octez ``block_services.ml`` (``S.Mempool``); protocol plugin ``mempool.ml``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from signers.errors import MalformedBytes
from signers.formats import base58
from workers.sandbox import mempool
from workers.sandbox.directory import BadCall, Call, Directory
from workers.sandbox.mempool import Class, Classified
from workers.sandbox.node import Json, SandboxNode
from workers.sandbox.streams import OpenStream, Topic

_MEMPOOL = "/chains/{chain}/mempool"
_OLD_VERSION = "1"

Wanted = Callable[[Classified], bool]


class MempoolServices:
    """The mempool as a list, as a stream, and its rules."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    def add_to(self, directory: Directory) -> None:
        directory.serve("GET", f"{_MEMPOOL}/pending_operations", self.pending)
        directory.serve("GET", f"{_MEMPOOL}/filter", self.filter)
        directory.serve("GET", f"{_MEMPOOL}/monitor_operations", self.monitor)

    def pending(self, call: Call) -> dict[str, list[Any]]:
        self._node.check_chain(call)
        version = call.query.text("version") or "2"
        if version not in self._node.dialect.mempool_versions:
            raise BadCall(f'Failed to parse the query string: version: "{version}"')
        old = version == _OLD_VERSION
        wanted = self._wanted(call)
        shown: dict[str, list[Any]] = {}
        for class_ in Class:
            name = "applied" if old and class_ is Class.VALIDATED else class_.value
            asked = call.query.flag(class_.value, default=True)
            operations = self._node.chain.mempool.of_class(class_) if asked else ()
            shown[name] = [self._print(each, old) for each in operations if wanted(each)]
        return {**shown, "unprocessed": []}

    def filter(self, call: Call) -> Json:
        self._node.check_chain(call)
        nano = self._node.dialect.nano_unit
        numerator, denominator = mempool.REPLACE_FACTOR
        return {
            "minimal_fees": str(mempool.MINIMAL_FEES),
            f"minimal_{nano}_per_gas_unit": [str(mempool.MINIMAL_NANO_PER_GAS_UNIT), "1"],
            f"minimal_{nano}_per_byte": [str(mempool.MINIMAL_NANO_PER_BYTE), "1"],
            "replace_by_fee_factor": [str(numerator), str(denominator)],
            "max_operations": mempool.OPERATIONS_MAX,
            "max_total_bytes": mempool.BYTES_MAX,
        }

    def monitor(self, call: Call) -> OpenStream:
        """All operations of the asked classes at once, then each new one, until the head moves."""
        self._node.check_chain(call)
        self._node.old_names(call)
        classes = [
            class_
            for class_ in Class
            if call.query.flag(
                class_.value, default=class_ in (Class.VALIDATED, Class.BRANCH_DELAYED)
            )
        ]
        wanted = self._wanted(call)
        waiting = [
            self._node.print_waiting(each, streamed=True)
            for class_ in classes
            for each in self._node.chain.mempool.of_class(class_)
            if wanted(each)
        ]

        def line(classified: Classified) -> bytes | None:
            if classified.class_ not in classes or not wanted(classified):
                return None
            return msgspec.json.encode([self._node.print_waiting(classified, streamed=True)])

        listener = self._node.streams.listen(Topic.OPERATIONS, line)
        return OpenStream([msgspec.json.encode(waiting)], listener)

    def _print(self, classified: Classified, old: bool) -> Any:
        if not old:
            return self._node.print_waiting(classified, streamed=False)
        return self._node.operations.waiting(
            classified.operation, classified.refusal, old_names=True
        )

    def _wanted(self, call: Call) -> Wanted:
        """Return which operations the query's filters let through. Raises BadCall."""
        passes = frozenset(call.query.numbers("validation_pass"))
        try:
            sources = frozenset(map(self._node.names.read_address, call.query.texts("source")))
            sources |= frozenset(map(self._node.names.read_address, call.query.texts("sources")))
            hashes = frozenset(
                base58.decode(base58.OPERATION_HASH, each)
                for each in call.query.texts("operation_hash")
            )
        except MalformedBytes as error:
            raise BadCall(f"Failed to parse the query string: {error}") from None

        def wanted(classified: Classified) -> bool:
            operation = classified.operation
            return (
                (not passes or operation.validation_pass in passes)
                and (not hashes or operation.hash in hashes)
                and (not sources or self._source(classified) in sources)
            )

        return wanted

    def _source(self, classified: Classified) -> bytes | None:
        fields = classified.operation.operation.contents[0].fields
        source: bytes | None = fields.get("source")
        return source
