"""What clients push to the quarantine: the payloads of its kinds of requests.

A `verify_votes` request stands for as many `verify_vote` requests of one peer. They have ids of
their own (`vote_id`), and each ends as if it had been pushed alone; only the push and its
acknowledgement are one.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

VERIFY_BLOCK = "verify_block"
VERIFY_VOTE = "verify_vote"
VERIFY_VOTES = "verify_votes"
PASSES = 4
VOTES_MAX = 1024  # in one request
# Lists and operations in a body that is looked at at all: each is a step of a loop here. A pass of
# votes has some 2,000 at most, and one of transfers as many as fit in 512 KB.
_PASSES_MAX, _OPERATIONS_MAX = 16, 16_384
_HINT_LETTERS_MAX = 64  # a key hash has 36
_NUMBER_BYTES = 2  # of a vote in its request

PeerName = Annotated[str, Meta(min_length=1, max_length=128)]


class VoteOffer(Struct):
    """Payload of `verify_vote`."""

    peer: PeerName  # who sent it
    raw: bytes  # signed operation
    # Whose vote it claims to be: a hint for whom to ask, nothing more. Kept while it waits.
    delegate: Annotated[str, Meta(max_length=_HINT_LETTERS_MAX)] = ""


class VotesOffer(Struct):
    """Payload of `verify_votes`."""

    peer: PeerName
    # Signed operations. An empty one is left out: when a request is pushed again, it has ended.
    raws: Annotated[list[bytes], Meta(min_length=1, max_length=VOTES_MAX)]


class BlockOffer(Struct):
    """Payload of `verify_block`."""

    peer: PeerName
    header: bytes  # signed
    # four passes
    operations: Annotated[
        list[Annotated[list[bytes], Meta(max_length=_OPERATIONS_MAX)]], Meta(max_length=_PASSES_MAX)
    ]


# What decoding raises for bytes that a peer or a worker made up, deep nesting among them.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
decode_vote_offer = msgspec.msgpack.Decoder(VoteOffer).decode
decode_votes_offer = msgspec.msgpack.Decoder(VotesOffer).decode
decode_block_offer = msgspec.msgpack.Decoder(BlockOffer).decode


def vote_ids(request_id: bytes, count: int) -> list[bytes]:
    """The ids of a `verify_votes` request's votes: its own, the last two bytes being the number."""
    shared = id_of_all(request_id)
    return [shared + number.to_bytes(_NUMBER_BYTES) for number in range(count)]


def id_of_all(id_: bytes) -> bytes:
    """What the ids of a `verify_votes` request and of its votes have in common."""
    return id_[:-_NUMBER_BYTES]
