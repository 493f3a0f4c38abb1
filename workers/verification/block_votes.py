"""The votes that a block holds: each for the right thing, by whom it says, and counted once.

All attestations are for the predecessor, exactly; all preattestations for the block's own payload
in the round that its fitness says was locked. In a block a delegate votes in its lowest slot, on
every network, and the vote has the power of all its slots. Votes of tz4 keys come added up.

Source: protocol ``validate.ml`` (``Consensus``, in blocks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from broker.verification import BlockVote
from signers.curves import bls
from signers.errors import MalformedBytes
from signers.formats.networks import BlsScheme, DalVotes
from signers.formats.operation import Content, Operation, signing_bytes
from signers.formats.signable import WATERMARK_BYTES, Kind
from signers.formats.vote import SignedVote, VoteTemplate
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey, UnsupportedCurve
from workers.verification.chain_rules import ChainRules
from workers.verification.level_rights import LevelRights, Voter
from workers.verification.verdicts import Reason
from workers.verification.vote_check import (
    ATTESTATION,
    PREATTESTATION,
    NoCompanionKey,
    bls_vote_key,
    is_signed_vote,
    statement,
)

_KINDS = {
    "preattestation": Kind.PREATTESTATION,
    "attestation": Kind.ATTESTATION,
    "attestation_with_dal": Kind.ATTESTATION,
    "preattestations_aggregate": Kind.PREATTESTATION,
    "attestations_aggregate": Kind.ATTESTATION,
}
# Each takes 80 µs when it is read for the first time.
KEYS_PER_STEP = 16


@dataclass(frozen=True, slots=True)
class Target:
    """What a vote in a block must be for."""

    level: int
    round: int
    payload_hash: bytes


class WrongVote(Exception):
    """A vote that may not be in the block."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BlockVotes:
    """The votes of one block so far; see the module's text."""

    def __init__(
        self,
        rules: ChainRules,
        attested: Target | None,
        attesters: LevelRights | None,
        locked: Target | None,
        preattesters: LevelRights | None,
    ) -> None:
        self.attesting_power = 0
        self.preattesting_power = 0
        self.votes: list[BlockVote] = []
        self._operations = 0
        self._rules = rules
        self._targets = {
            Kind.ATTESTATION: (attested, attesters),
            Kind.PREATTESTATION: (locked, preattesters),
        }
        self._counted: set[tuple[Kind, str]] = set()
        self._dal_votes: set[str] = set()

    def add_steps(self, operation: Operation) -> Iterator[None]:
        """Check a consensus operation and count it, in steps. Raises WrongVote."""
        content = operation.contents[0]
        kind = _KINDS.get(content.name)
        try:
            if kind is None:
                self._add_dal_attestation(operation, content)
            elif "consensus_content" in content.fields:
                yield from self._add_aggregate(operation, content, kind)
            else:
                self.votes.append(self._add_vote(operation, content.fields, kind))
        except UnsupportedCurve as error:
            raise WrongVote(Reason.UNSUPPORTED_KEY, str(error)) from None
        except NoCompanionKey as error:
            raise WrongVote(Reason.NO_COMPANION_KEY, str(error)) from None
        self._operations += 1
        yield

    def _add_vote(self, operation: Operation, fields: Mapping[str, Any], kind: Kind) -> BlockVote:
        voter = self._voter(kind, fields, fields["slot"])
        dal = fields.get("dal_attestation")
        if dal is not None and self._rules.protocol.dal_votes is not DalVotes.IN_ATTESTATION:
            raise WrongVote(Reason.WRONG_PROTOCOL, "votes have no DAL content here")
        vote = SignedVote(
            kind,
            operation.branch,
            fields["slot"],
            fields["level"],
            fields["round"],
            fields["block_payload_hash"],
            dal,
            operation.signature or b"",
        )
        if not is_signed_vote(vote, voter, self._rules):
            raise _bad_signature(voter.delegate)
        self._count(kind, voter)
        slot = None if self._rules.protocol.votes_in_lowest_slot else vote.slot
        said = statement(vote.branch, vote.payload_hash, slot)
        return self._said(kind, fields, voter, said)

    def _said(
        self, kind: Kind, fields: Mapping[str, Any], voter: Voter, said: bytes, slot: int = -1
    ) -> BlockVote:
        name: Literal["preattestation", "attestation"]
        name = PREATTESTATION if kind is Kind.PREATTESTATION else ATTESTATION
        level, round_ = fields["level"], fields["round"]
        return BlockVote(self._operations, name, level, round_, voter.delegate, said, slot)

    def _add_aggregate(self, operation: Operation, content: Content, kind: Kind) -> Iterator[None]:
        """Votes of tz4 keys, whose signatures were added up, and so are their keys."""
        rules, fields = self._rules, content.fields
        if not rules.protocol.bls_votes:
            raise WrongVote(Reason.WRONG_PROTOCOL, "votes are not added up here")
        common = fields["consensus_content"]
        template = VoteTemplate(
            kind,
            rules.chain_id,
            operation.branch,
            common["level"],
            common["round"],
            common["block_payload_hash"],
        )
        message = template.bls_signable()
        keys: list[bytes] = []
        voters: list[Voter] = []
        for member in fields["committee"]:
            slot, dal = (
                (member["slot"], member["dal_attestation"])
                if isinstance(member, Mapping)
                else (member, None)
            )
            voter = self._voter(kind, common, slot)
            if voter.key.curve is not Curve.BLS:
                raise WrongVote(Reason.WRONG_VOTE, f"{voter.delegate} has no tz4 key")
            keys.append(bls_vote_key(voter, message[WATERMARK_BYTES:], dal, rules).raw)
            self._count(kind, voter)
            voters.append(voter)
            if len(keys) >= KEYS_PER_STEP:
                keys = [_sum(keys)]
            yield
        total = PublicKey(Curve.BLS, _sum(keys))
        if not keys or not total.verify(message, operation.signature or b"", BlsScheme.POSSESSION):
            raise _bad_signature("the committee of an aggregate")
        said = statement(operation.branch, common["block_payload_hash"], None)
        self.votes += [self._said(kind, common, voter, said, voter.lowest_slot) for voter in voters]

    def _add_dal_attestation(self, operation: Operation, content: Content) -> None:
        """The votes on data availability of Mavryk Atlas, which count for no quorum."""
        target, rights = self._targets[Kind.ATTESTATION]
        if self._rules.protocol.dal_votes is not DalVotes.OWN_OPERATION or target is None:
            raise WrongVote(Reason.WRONG_PROTOCOL, f"a {content.name} is not voted with here")
        if content.fields["level"] != target.level:
            raise WrongVote(Reason.WRONG_VOTE, f"a {content.name} of another level")
        voter = rights.voter(content.fields["slot"]) if rights is not None else None
        if voter is None:
            raise WrongVote(Reason.NO_RIGHTS, f"a {content.name} in a slot of nobody")
        if voter.delegate in self._dal_votes:
            raise WrongVote(Reason.VOTE_TWICE, f"{voter.delegate} votes twice")
        message = signing_bytes(operation, self._rules.chain_id, bls_votes=False)
        scheme = self._rules.protocol.bls_scheme
        if not voter.key.verify(message, operation.signature or b"", scheme):
            raise _bad_signature(voter.delegate)
        self._dal_votes.add(voter.delegate)

    def _voter(self, kind: Kind, fields: Mapping[str, Any], slot: int) -> Voter:
        """Who casts a vote that is for the right thing. Raises WrongVote."""
        target, rights = self._targets[kind]
        said = Target(fields["level"], fields["round"], fields["block_payload_hash"])
        if said != target or rights is None:
            text = f"a {kind.name.lower()} for something else than this block may hold"
            raise WrongVote(Reason.WRONG_VOTE, text)
        voter = rights.voter(slot)
        if voter is None:
            raise WrongVote(Reason.NO_RIGHTS, f"nobody has slot {slot} at level {said.level}")
        if slot != voter.lowest_slot:
            text = f"{voter.delegate} votes in slot {slot}, its lowest is {voter.lowest_slot}"
            raise WrongVote(Reason.NOT_LOWEST_SLOT, text)
        return voter

    def _count(self, kind: Kind, voter: Voter) -> None:
        if (kind, voter.delegate) in self._counted:
            raise WrongVote(Reason.VOTE_TWICE, f"{voter.delegate} votes twice")
        self._counted.add((kind, voter.delegate))
        if kind is Kind.ATTESTATION:
            self.attesting_power += voter.power
        else:
            self.preattesting_power += voter.power


def _sum(keys: Iterable[bytes]) -> bytes:
    try:
        return bls.add_public_keys(keys)
    except MalformedBytes as error:
        raise WrongVote(Reason.WRONG_VOTE, str(error)) from None


def _bad_signature(who: str) -> WrongVote:
    return WrongVote(Reason.BAD_SIGNATURE, f"{who} has not signed its vote")
