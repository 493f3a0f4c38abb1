"""Whether a vote from the network is one, of a delegate who may cast it, and in time.

The cheapest test comes first, the signature last: reading takes 2 µs, a signature 50, of a tz4
key 1,500. What a vote votes *for* is the quarantine's business: it may come before its proposal.

Source: protocol ``validate.ml`` (``Consensus``, in the mempool); Octez's window of levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from broker.verification import Position, Verdict, VoteFacts
from signers.curves import bls
from signers.errors import MalformedBytes
from signers.formats.companion_weight import companion_weight
from signers.formats.hashes import HASH_BYTES, blake2b_32
from signers.formats.networks import (
    ATTESTATION_TAG,
    ATTESTATION_WATERMARK,
    ATTESTATION_WITH_DAL_TAG,
    ATTESTATIONS_AGGREGATE_TAG,
    DAL_ATTESTATION_TAG,
    PREATTESTATION_TAG,
    PREATTESTATION_WATERMARK,
    PREATTESTATIONS_AGGREGATE_TAG,
    BlsScheme,
    DalVotes,
)
from signers.formats.operation import OPERATION_BYTES_MAX
from signers.formats.signable import WATERMARK_BYTES, Kind
from signers.formats.vote import SIGNED_VOTE_BYTES, SignedVote, read_signed_vote
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey, UnsupportedCurve, read_key_hash
from workers.verification.chain_rules import ChainRules
from workers.verification.level_rights import LevelRights, Voter
from workers.verification.verdicts import (
    Reason,
    invalid,
    rights_unknown,
    stale,
    unchecked,
    valid,
)

Rights = Callable[[int], LevelRights | None]

# The levels around the head whose votes are looked at: those that a mempool takes, and one more,
# whose proposal may be on its way.
LEVELS_BEHIND = 1
LEVELS_AHEAD = 2
# How many rounds the clock may be exceeded by: a peer's clock is not ours.
ROUNDS_AHEAD = 1
# The clock of a level below the head's is not known from the head; nobody waits for a vote of a
# later round than this of it.
ROUNDS_OF_PAST_LEVEL = 64
# A vote with the widest DAL content has 400 bytes with the signature of a tz4 key.
VOTE_BYTES_MAX = 4096

PREATTESTATION: Final = "preattestation"
ATTESTATION: Final = "attestation"
_VOTE_TAGS = frozenset({PREATTESTATION_TAG, ATTESTATION_TAG, ATTESTATION_WITH_DAL_TAG})
_AGGREGATE_TAGS = frozenset({PREATTESTATIONS_AGGREGATE_TAG, ATTESTATIONS_AGGREGATE_TAG})
# Of a vote without DAL content: where its slot is, and how long it is without its signature.
_SLOT = slice(HASH_BYTES + 1, HASH_BYTES + 3)
_UNSIGNED_BYTES = _SLOT.stop + 4 + 4 + HASH_BYTES
# The watermark of a vote without DAL content, by its tag.
_WATERMARKS = {
    PREATTESTATION_TAG: bytes([PREATTESTATION_WATERMARK]),
    ATTESTATION_TAG: bytes([ATTESTATION_WATERMARK]),
}
_EARLY, _BLS = Kind.PREATTESTATION, Curve.BLS


class _Shared(NamedTuple):
    """What votes in time share that differ in slot and signature only."""

    rights: LevelRights
    watermark: bytes  # before the unsigned operation, in what is signed
    kind: str
    level: int
    round: int
    branch: bytes
    payload_hash: bytes
    said: bytes  # the statement without the slot


class VoteCheck:
    """Checks the votes of one moment, for which chain, rights and clock stand still."""

    def __init__(self, rules: ChainRules, rights: Rights, position: Position) -> None:
        self._rules = rules
        self._read_rights = rights
        self._rights: dict[int, LevelRights] = {}  # that are known
        self._round_max = _rounds_in_time(rules, position)
        self._head_level = position.head_level
        self._slot_counts = not rules.protocol.votes_in_lowest_slot
        self._watermarks = {tag: mark + rules.chain_id for tag, mark in _WATERMARKS.items()}
        self._has_dal = rules.protocol.dal_votes is DalVotes.IN_ATTESTATION
        self._shared: dict[bytes, _Shared] = {}  # by the bytes around the slot

    def check(self, number: int, raw: bytes) -> Verdict:
        """Judge one vote; any bytes give a verdict.

        Votes of one kind for one proposal differ in slot and signature only: after the first of
        them there is little to read.
        """
        if len(raw) != SIGNED_VOTE_BYTES:
            return self._check(number, raw)
        shared = self._shared.get(_around_slot(raw))
        if shared is None:
            return self._check(number, raw)
        slot = int.from_bytes(raw[_SLOT])
        voter = shared.rights.voter(slot)
        if voter is None or self._is_wrong_slot(slot, voter):
            return self._check(number, raw)
        facts = VoteFacts(
            shared.kind,
            shared.level,
            shared.round,
            slot,
            shared.branch,
            shared.payload_hash,
            voter.delegate,
            _with_slot(shared.said, slot if self._slot_counts else None),
        )
        # A tz4 key has a longer signature: for it these bytes are none.
        message = shared.watermark + raw[:_UNSIGNED_BYTES]
        return _verify(number, voter, message, raw[_UNSIGNED_BYTES:], facts)

    def _check(self, number: int, raw: bytes) -> Verdict:
        """The same, from the bytes alone."""
        problem = _not_a_vote(raw, self._rules)
        if problem is not None:
            return problem(number)
        try:
            vote = read_signed_vote(raw)
        except MalformedBytes as error:
            return invalid(number, Reason.MALFORMED, str(error))
        if vote.dal is not None and not self._has_dal:
            return invalid(number, Reason.WRONG_PROTOCOL, "votes have no DAL content here")
        round_max = self._round_max.get(vote.level)
        if round_max is None:
            old = vote.level < self._head_level
            text = f"level {vote.level}, and the head is at {self._head_level}"
            return stale(number, Reason.TOO_OLD if old else Reason.TOO_FAR, text, self._facts(vote))
        if vote.round > round_max:
            text = f"round {vote.round}, and the clock is at most at {round_max}"
            return stale(number, Reason.ROUND_TOO_FAR, text, self._facts(vote))
        rights = self._rights.get(vote.level) or self._rights_of(vote.level)
        if rights is None:
            return rights_unknown(number, vote.level, self._facts(vote))
        voter = rights.voter(vote.slot)
        if voter is None:
            text = f"nobody has slot {vote.slot} at level {vote.level}"
            return invalid(number, Reason.NO_RIGHTS, text, self._facts(vote))
        if self._is_wrong_slot(vote.slot, voter):
            text = f"{voter.delegate} votes in slot {vote.slot}, its lowest is {voter.slots[0]}"
            return invalid(number, Reason.NOT_LOWEST_SLOT, text, self._facts(vote, voter))
        facts = self._facts(vote, voter)
        if vote.dal is not None or voter.key.curve is _BLS:
            return self._verify_template(number, voter, vote, facts)
        watermark = self._watermarks[raw[HASH_BYTES]]
        self._shared[_around_slot(raw)] = _Shared(
            rights,
            watermark,
            facts.kind,
            vote.level,
            vote.round,
            vote.branch,
            vote.payload_hash,
            facts.statement[:HASH_BYTES],
        )
        return _verify(number, voter, watermark + raw[:_UNSIGNED_BYTES], vote.signature, facts)

    def _is_wrong_slot(self, slot: int, voter: Voter) -> bool:
        return not self._slot_counts and slot != voter.slots[0]

    def _rights_of(self, level: int) -> LevelRights | None:
        rights = self._read_rights(level)
        if rights is not None:
            self._rights[level] = rights  # one of few: the level is near the head
        return rights

    def _verify_template(
        self, number: int, voter: Voter, vote: SignedVote, facts: VoteFacts
    ) -> Verdict:
        try:
            is_signed = is_signed_vote(vote, voter, self._rules)
        except UnsupportedCurve as error:
            return unchecked(number, Reason.UNSUPPORTED_KEY, str(error), facts)
        except NoCompanionKey as error:
            return invalid(number, Reason.NO_COMPANION_KEY, str(error), facts)
        return valid(number, facts) if is_signed else _not_signed(number, voter, facts)

    def _facts(self, vote: SignedVote, voter: Voter | None = None) -> VoteFacts:
        slot = vote.slot if self._slot_counts else None
        return VoteFacts(
            PREATTESTATION if vote.kind is _EARLY else ATTESTATION,
            vote.level,
            vote.round,
            vote.slot,
            vote.branch,
            vote.payload_hash,
            "" if voter is None else voter.delegate,
            statement(vote.branch, vote.payload_hash, slot),
        )


def _around_slot(raw: bytes) -> bytes:
    return raw[: _SLOT.start] + raw[_SLOT.stop : _UNSIGNED_BYTES]


def _verify(
    number: int, voter: Voter, message: bytes, signature: bytes, facts: VoteFacts
) -> Verdict:
    """Judge a vote without DAL content by its signature, which is all that is left."""
    try:
        is_signed = voter.key.verify(message, signature)
    except UnsupportedCurve as error:
        return unchecked(number, Reason.UNSUPPORTED_KEY, str(error), facts)
    return valid(number, facts) if is_signed else _not_signed(number, voter, facts)


def _not_signed(number: int, voter: Voter, facts: VoteFacts) -> Verdict:
    text = f"{voter.delegate} has not signed this"
    return invalid(number, Reason.BAD_SIGNATURE, text, facts)


def statement(branch: bytes, payload_hash: bytes, slot: int | None) -> bytes:
    """What two votes must agree in, short; no `slot` where a differing one is no offence."""
    return _with_slot(blake2b_32(branch + payload_hash), slot)


def _with_slot(said: bytes, slot: int | None) -> bytes:
    return said if slot is None else said + slot.to_bytes(2)


def check_vote(
    number: int, raw: bytes, rules: ChainRules, rights: Rights, position: Position
) -> Verdict:
    """Judge one vote by itself; those of one moment share a `VoteCheck`."""
    return VoteCheck(rules, rights, position).check(number, raw)


class NoCompanionKey(Exception):
    """A tz4 key's vote has DAL content, and the delegate no companion key that could sign it."""


def is_signed_vote(vote: SignedVote, voter: Voter, rules: ChainRules) -> bool:
    """Whether a voter's key has signed a vote. Raises UnsupportedCurve, NoCompanionKey."""
    template = vote.template(rules.chain_id)
    if voter.key.curve is not Curve.BLS or not rules.protocol.bls_votes:
        message = template.signable(vote.slot, vote.dal)
        return voter.key.verify(message, vote.signature, rules.protocol.bls_scheme)
    message = template.bls_signable()
    try:
        key = bls_vote_key(voter, message[WATERMARK_BYTES:], vote.dal, rules)
    except MalformedBytes:
        return False
    return key.verify(message, vote.signature, BlsScheme.POSSESSION)


def bls_vote_key(voter: Voter, vote: bytes, dal: int | None, rules: ChainRules) -> PublicKey:
    """The key under which a tz4 vote verifies: with DAL content the companion's is added.

    `vote` is what is signed, without its watermark. Raises NoCompanionKey, MalformedBytes.
    """
    if dal is None:
        return voter.key
    if voter.companion is None or voter.companion_hash is None:
        raise NoCompanionKey(f"{voter.delegate} has no companion key")
    weight = companion_weight(
        read_key_hash(voter.consensus_hash, rules.network),
        read_key_hash(voter.companion_hash, rules.network),
        vote,
        dal,
    )
    weighed = bls.weigh_public_key(voter.companion.raw, weight)
    return PublicKey(Curve.BLS, bls.add_public_keys((voter.key.raw, weighed)))


def _not_a_vote(raw: bytes, rules: ChainRules) -> Callable[[int], Verdict] | None:
    """What the tag alone tells: nothing else is decoded for it."""
    if len(raw) <= HASH_BYTES:
        return lambda number: invalid(number, Reason.MALFORMED, f"{len(raw)} bytes are no vote")
    tag = raw[HASH_BYTES]
    if tag in _VOTE_TAGS:
        if len(raw) <= VOTE_BYTES_MAX:
            return None
        return lambda number: invalid(number, Reason.MALFORMED, f"no vote has {len(raw)} bytes")
    if tag in _AGGREGATE_TAGS and rules.protocol.bls_votes and len(raw) <= OPERATION_BYTES_MAX:
        text = "votes are added up in blocks, and travel alone"
        return lambda number: invalid(number, Reason.AGGREGATE_ALONE, text)
    if tag == DAL_ATTESTATION_TAG and rules.protocol.dal_votes is DalVotes.OWN_OPERATION:
        text = "votes on data availability are not part of the consensus"
        return lambda number: stale(number, Reason.NOT_COUNTED, text)
    return lambda number: invalid(number, Reason.NOT_A_VOTE, f"tag {tag:02x} is no vote's")


def _rounds_in_time(rules: ChainRules, position: Position) -> dict[int, int]:
    """The last round of each level near the head that a vote may be for now."""
    head, now_ms = position.head_level, position.unix_ms
    head_began_ms = position.head_timestamp_s * 1000 - rules.offset_ms(position.head_round)
    next_began_ms = position.head_timestamp_s * 1000 + rules.duration_ms(position.head_round)
    rounds = {head - level: ROUNDS_OF_PAST_LEVEL for level in range(1, LEVELS_BEHIND + 1)}
    rounds[head] = rules.round_after_ms(now_ms - head_began_ms) + ROUNDS_AHEAD
    for ahead in range(1, LEVELS_AHEAD + 1):
        began_ms = next_began_ms + (ahead - 1) * rules.duration_ms(0)
        rounds[head + ahead] = max(0, rules.round_after_ms(now_ms - began_ms)) + ROUNDS_AHEAD
    # Whatever the clock says, votes for the head itself are in time.
    rounds[head] = max(rounds[head], position.head_round)
    return rounds
