"""Foul play with what a node of outsiders says: what is told when, by whom, and with which lies.

No I/O and no clock; chance is an argument. Everything true is told, late and out of order; what is
signed twice is signed with the outsiders' own keys, so it is their offence and nobody else's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from forwarding import Offer

from broker.quarantine.offers import BlockOffer, VoteOffer
from signers.formats import base58, block_header
from signers.formats.block_header import BlockHeader
from signers.formats.hashes import blake2b_32
from signers.formats.networks import BLOCK_WATERMARK, Network
from signers.formats.vote import SignedVote, read_signed_vote
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey
from signers.keyring.keystore import Keystore
from workers.baker.stimuli import Rights

# Who carries the truth, and who lies; a liar that is banned is replaced by another name.
GOSSIPS = ("gossip-1", "gossip-2", "gossip-3")
# The chain itself names the first hundred double signatures: fewer, so that it names all.
OFFENCES_MAX = 90
# A liar is shed once it is banned; so many lies later it comes back under another name.
LIES_PER_NAME = 10
# An item is late by up to so much: votes come before their block, and a block behind others.
BLOCK_LATE_S_MAX, VOTE_LATE_S_MAX = 0.4, 0.15
# How often a vote is told twice, and how often lied about.
VOTE_TWICE, VOTE_LIE = 0.3, 0.3


class Push(NamedTuple):
    """One thing to give to the quarantine, `late_s` seconds from now."""

    late_s: float
    offer: Offer


@dataclass(frozen=True)
class Outsiders:
    """The keys of the bakers who are not ours, by their hashes, and the chain they sign for."""

    keys: Mapping[str, SecretKey]
    chain_id: bytes
    network: Network

    @classmethod
    def of(cls, keys_dir: Path, chain_id: str, network: Network) -> Outsiders:
        store = Keystore(keys_dir)
        hashes = [entry.key_hash for entry in store.entries()]
        raw = base58.decode(base58.CHAIN_ID, chain_id)
        return cls({each: store.secret_key(each) for each in hashes}, raw, network)

    def sign_block(self, baker: str, header: BlockHeader, threshold: int) -> bytes:
        """The bytes of a header with work and a signature of this baker."""
        nonce = 0
        while not block_header.pow_is_enough(block_header.pow_stamp(header), threshold):
            nonce += 1
            header = replace(header, proof_of_work_nonce=b"evil" + nonce.to_bytes(4))
        message = bytes([BLOCK_WATERMARK]) + self.chain_id + block_header.unsigned(header)
        return block_header.encode(replace(header, signature=self._sign(baker, message)))

    def sign_vote(self, voter: str, vote: SignedVote, chain_id: bytes | None = None) -> bytes:
        template = vote.template(chain_id or self.chain_id)
        signature = self._sign(voter, template.signable(vote.slot, vote.dal))
        return template.operation(vote.slot, signature, vote.dal)

    def can_sign(self, key_hash: str) -> bool:
        """Whether it is one of ours, and of a curve whose votes have the plain form."""
        key = self.keys.get(key_hash)
        return key is not None and key.public_key.curve is not Curve.BLS

    def _sign(self, who: str, message: bytes) -> bytes:
        return self.keys[who].sign(message, blake2b_32(message))


class FoulPlay:
    """Makes a hostile feed of what the outsiders' node says.

    Args:
        work: the chain's proof of work threshold.
    """

    def __init__(self, outsiders: Outsiders, chance: random.Random, work: int) -> None:
        self._outsiders = outsiders
        self._chance = chance
        self._work = work
        self._lies = 0
        self._foul_places: set[tuple[object, ...]] = set()

    def of_block(
        self, header: bytes, operations: list[list[bytes]], rights: Rights
    ) -> Iterator[Push]:
        """A block: late, twice, with a second one of its baker, and with lies about it."""
        for _ in range(2):
            yield self._late(BlockOffer(self._gossip(), header, operations))
        yield self._late(BlockOffer(self._liar(), self._flipped(header), operations))
        body = [operations[0][1:] or [header], *operations[1:]]
        yield self._late(BlockOffer(self._liar(), header, body))
        read = block_header.decode(header)
        baker = rights.bakers[read.round] if read.round < len(rights.bakers) else ""
        if self._outsiders.can_sign(baker) and self._may_offend("block", read.level, read.round):
            second = self._second(read, baker)
            yield self._late(BlockOffer(self._gossip(), second, operations))

    def of_vote(self, raw: bytes, rights: Rights) -> Iterator[Push]:
        """A vote: late, now and then twice, with a second one of its delegate, and with lies."""
        yield self._late(VoteOffer(self._gossip(), raw))
        if self._chance.random() < VOTE_TWICE:
            yield self._late(VoteOffer(self._gossip(), raw))
        vote = read_signed_vote(raw)
        voter = next((who for who, slots in rights.slots.items() if vote.slot in slots), "")
        if not self._outsiders.can_sign(voter):
            return
        if self._chance.random() < VOTE_LIE:
            elsewhere = self._outsiders.sign_vote(voter, vote, b"evil")  # a chain of that name
            junk = self._chance.randbytes(self._chance.randrange(1, 200))
            for lie in (self._flipped(raw), elsewhere, junk):
                yield self._late(VoteOffer(self._liar(), lie))
        if self._may_offend(vote.kind, vote.level, vote.round):
            other = vote._replace(payload_hash=self._chance.randbytes(32))
            yield self._late(VoteOffer(self._gossip(), self._outsiders.sign_vote(voter, other)))

    def _second(self, first: BlockHeader, baker: str) -> bytes:
        """Another block of the same baker, level and round: a twin, or one that leads nowhere.

        A twin has the same payload: it is as good as the first, and the chain may go on upon it.
        The other waits for a predecessor that nobody will ever have.
        """
        changes = {} if self._chance.random() < 0.5 else {"predecessor": self._chance.randbytes(32)}
        second = replace(first, proof_of_work_nonce=b"evil" + bytes(4), signature=None, **changes)
        return self._outsiders.sign_block(baker, second, self._work)

    def _may_offend(self, *place: object) -> bool:
        """Whether to sign twice here: once for each kind, level and round, and not for ever."""
        if place in self._foul_places or len(self._foul_places) >= OFFENCES_MAX:
            return False
        self._foul_places.add(place)
        return True

    def _flipped(self, raw: bytes) -> bytes:
        """The bytes with one bit changed."""
        changed = bytearray(raw)
        changed[self._chance.randrange(len(raw))] ^= 1 << self._chance.randrange(8)
        return bytes(changed)

    def _liar(self) -> str:
        self._lies += 1
        return f"liar-{1 + self._lies // LIES_PER_NAME}"

    def _gossip(self) -> str:
        return self._chance.choice(GOSSIPS)

    def _late(self, offer: Offer) -> Push:
        most = VOTE_LATE_S_MAX if isinstance(offer, VoteOffer) else BLOCK_LATE_S_MAX
        return Push(self._chance.uniform(0.0, most), offer)
