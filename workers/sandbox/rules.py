"""What is the same for every block of a chain, worked out once from its genesis."""

from __future__ import annotations

from collections.abc import Mapping

from signers.formats.content_kind import ContentKind
from signers.formats.networks import (
    ATTESTATION_WATERMARK,
    GENERIC_WATERMARK,
    PREATTESTATION_WATERMARK,
)
from signers.formats.operation import signing_bytes
from signers.formats.signable import Kind
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey, UnsupportedCurve
from workers.sandbox.committee import Rights
from workers.sandbox.constants import Constants
from workers.sandbox.dialect import dialect_of
from workers.sandbox.genesis import Genesis
from workers.sandbox.manager_operations import Managers
from workers.sandbox.names import Names
from workers.sandbox.operations import SignedOperation, kinds_of, read_operation
from workers.sandbox.rounds import RoundDurations

# Signatures known to be right, so that an operation of the mempool is not checked once more in
# its block: the operations of some hundred full seconds, at 200 bytes each.
_VERIFIED_KEPT = 32_768


_BLS_TAG = Curve.BLS.value.tag
_WATERMARKS = {
    Kind.PREATTESTATION: PREATTESTATION_WATERMARK,
    Kind.ATTESTATION: ATTESTATION_WATERMARK,
}


class Rules:
    """The protocol, the rights and the keys of one chain."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.constants: Constants = genesis.constants
        self.network = genesis.network
        self.chain_id = genesis.chain_id
        self.names = Names(genesis.network)
        self.dialect = dialect_of(genesis.protocol)
        self.kinds: Mapping[str, ContentKind] = kinds_of(genesis.network, genesis.protocol)
        self.durations = RoundDurations(
            self.constants.minimal_block_delay_s, self.constants.delay_increment_per_round_s
        )
        bakers = [account for account in genesis.accounts if account.stake]
        self.consensus_keys = {baker.address: baker.public_key or b"" for baker in bakers}
        self.rights = Rights(
            genesis.seed,
            {baker.address: baker.stake for baker in bakers},
            self.constants.consensus_committee_size,
        )
        self.managers = Managers(
            self.constants, self.dialect, self.names, frozenset(self.consensus_keys)
        )
        self._verified: dict[tuple[bytes, bytes], None] = {}

    def read(self, signed: bytes) -> SignedOperation:
        """Read an operation. Raises MalformedBytes, Refusal."""
        return read_operation(signed, self.network, self.kinds)

    def is_signed(self, operation: SignedOperation, public_key: bytes, kind: Kind) -> bool:
        """Whether an operation is signed by this key; what was right once is not asked again."""
        known = (operation.hash, public_key)
        if known in self._verified:
            return True
        message = self._message(operation, public_key, kind)
        if not self.is_signature(operation.operation.signature or b"", message, public_key):
            return False
        if len(self._verified) >= _VERIFIED_KEPT:
            del self._verified[next(iter(self._verified))]
        self._verified[known] = None
        return True

    def is_signature(self, signature: bytes, message: bytes, public_key: bytes) -> bool:
        """Whether a signature over a message, its watermark in front, is of this tagged key."""
        key = PublicKey.from_tagged(public_key)
        try:
            return key.verify(message, signature, self.genesis.protocol.bls_scheme)
        except UnsupportedCurve:
            return False

    def _message(self, operation: SignedOperation, public_key: bytes, kind: Kind) -> bytes:
        if kind is Kind.GENERIC:
            return bytes([GENERIC_WATERMARK]) + operation.unsigned
        if public_key[0] == _BLS_TAG and self.genesis.protocol.bls_votes:
            return signing_bytes(operation.operation, self.chain_id, bls_votes=True)
        return bytes([_WATERMARKS[kind]]) + self.chain_id + operation.unsigned
