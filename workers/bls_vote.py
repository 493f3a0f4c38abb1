"""The vote of a tz4 key: it puts other bytes on the wire than it signs.

Signed are neither slot nor DAL content (`VoteTemplate.bls_signable`); the operation has both.
With DAL content two keys sign the same bytes, the consensus key and its companion, each under
its own mark, and their signatures are added up. Whatever keeps the companion from signing takes
the DAL content out of the vote and nothing more: the plain attestation is as good for consensus.

Pure. Source: protocol ``operation_repr.ml`` (``Bls_mode``), ``dal_attestations_repr.ml``; Octez
``lib_delegate/baking_actions.ml`` (what a baker does without a companion key).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from signers.curves import bls
from signers.formats.companion_weight import companion_weight
from signers.formats.networks import TEZOS
from signers.formats.operation import signature_suffix
from signers.formats.signable import WATERMARK_BYTES
from signers.formats.vote import VoteTemplate
from signers.keyring.keys import read_key_hash

if TYPE_CHECKING:
    from workers.signing_job import SigningJob


class BlsVote:
    """One vote, and the signatures that are there for it.

    `delegate` is the consensus key's hash, `job` what it has to sign. `companion` is the hash of
    the key whose signature is added, None when there is no DAL content, or none any more. Raises
    MalformedBytes for what is no vote.
    """

    __slots__ = (
        "_companions_signature",
        "_dal",
        "_plain",
        "_signature",
        "_unsigned",
        "_with_dal",
        "companion",
        "delegate",
        "job",
    )
    job: SigningJob

    def __init__(
        self,
        template: VoteTemplate,
        delegate: str,
        slot: int,
        dal: int | None = None,
        companion: str | None = None,
    ) -> None:
        self.delegate = delegate
        self._unsigned = template.bls_signable()
        self._plain = template.signable(slot)[WATERMARK_BYTES:]
        self._with_dal = template.signable(slot, dal)[WATERMARK_BYTES:]
        self._dal = dal or 0
        self.companion = companion if dal is not None else None
        self._signature: bytes | None = None
        self._companions_signature: bytes | None = None

    def released(self, key_hash: str, signature: bytes) -> None:
        """A key has signed, and its mark is on the disk."""
        if key_hash == self.delegate:
            self._signature = signature
        elif key_hash == self.companion:
            self._companions_signature = signature

    def drop_dal(self) -> None:
        """The companion does not sign."""
        self.companion = None

    def is_whole(self) -> bool:
        """Whether all have signed who are to sign."""
        is_waiting = self.companion is not None and self._companions_signature is None
        return self._signature is not None and not is_waiting

    def operation(self) -> bytes:
        """Return the signed operation of a whole vote, ready to be injected."""
        signature, of_companion = self._signature, self._companions_signature
        assert signature is not None
        if self.companion is None:
            return self._plain + signature_suffix(signature)
        assert of_companion is not None
        weight = companion_weight(
            read_key_hash(self.delegate, TEZOS),
            read_key_hash(self.companion, TEZOS),
            self._unsigned[WATERMARK_BYTES:],
            self._dal,
        )
        weighed = bls.weigh_signature(of_companion, weight)
        return self._with_dal + signature_suffix(bls.add_signatures((signature, weighed)))
