"""Votes of a delegate that the test has the key of."""

from __future__ import annotations

from typing import Any

import real_objects

from broker.verification import Position, Verdict
from signers.formats.hashes import blake2b_32
from signers.formats.networks import TEZOS
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey
from workers.verification.level_rights import Voter
from workers.verification.vote_check import check_vote

CHAIN = bytes.fromhex("01020304")
LEVEL, HEAD_S = 1000, 1_800_000_000
POSITION = Position(HEAD_S * 1000 + 500, LEVEL - 2, LEVEL, 0, HEAD_S)


class Delegate:
    """A key with two slots of its own at a level."""

    def __init__(
        self,
        network: Any = TEZOS,
        protocol: int = 0,
        curve: Curve = Curve.ED25519,
        slots: tuple[int, ...] = (3, 5),
    ) -> None:
        self.secret = SecretKey.from_seed(b"7" * 32, curve, network.bls_scheme)
        self.rules = real_objects.rules(
            CHAIN, network=network, protocol=network.protocols[protocol]
        )
        hash_ = self.secret.public_key.hash(network)
        self.voter = Voter(hash_, hash_, self.secret.public_key, slots)

    def template(self, **other: Any) -> VoteTemplate:
        return VoteTemplate(
            **{
                "kind": Kind.ATTESTATION,
                "chain_id": CHAIN,
                "branch": b"b" * 32,
                "level": LEVEL,
                "round": 0,
                "payload_hash": b"p" * 32,
                **other,
            }
        )

    def vote(self, slot: int = 3, dal: int | None = None, **other: Any) -> bytes:
        template = self.template(**other)
        is_bls = self.secret.public_key.curve is Curve.BLS and self.rules.protocol.bls_votes
        signed = template.bls_signable() if is_bls else template.signable(slot, dal)
        return template.operation(slot, self.secret.sign(signed, blake2b_32(signed)), dal)

    def check(self, raw: bytes, position: Position = POSITION, **known: Any) -> Verdict:
        level = known.get("level", LEVEL)
        return check_vote(0, raw, self.rules, real_objects.rights_of(level, self.voter), position)
