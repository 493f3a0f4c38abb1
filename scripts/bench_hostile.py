"""What an enemy sends: junk, forgeries, orphans, copies, equivocations.

A good third of it is signed by real delegates, and nothing is sent under a name that was banned.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterator, Sequence

from bench_chain import SIGNATURE_BYTES, BenchChain, Block

from signers.formats.hashes import blake2b_32

# In 100 items. A copy is of a vote that is known, or of one that was just sent.
JUNK, FORGED, ORPHANED_BLOCKS, ORPHANED_VOTES, COPIES, EQUIVOCATIONS = 20, 30, 2, 18, 15, 15
ITEMS_A_NAME = 2  # a bad signature costs 20 points, and at 50 a peer is banned
ORPHAN_ROUNDS = 8  # for which there never is a proposal: 6,400 votes, sent again and again


def forged(vote: bytes) -> bytes:
    """The vote with a signature that its delegate has not made, another one each time."""
    return vote[:-SIGNATURE_BYTES] + os.urandom(SIGNATURE_BYTES - 1) + b"\0"


class Hostile:
    """An endless supply; the same seed gives the same."""

    def __init__(self, chain: BenchChain, good: Sequence[bytes], first_round: int) -> None:
        """`good` are valid votes that everybody knows; from `first_round` on nobody proposes."""
        self._chain = chain
        self._good = good
        self._rounds = range(first_round, first_round + ORPHAN_ROUNDS)
        self._pick = random.Random(4)
        self._sent: deque[bytes] = deque(good[:1], maxlen=100)

    def items(self) -> Iterator[tuple[bytes | Block, str]]:
        """Votes and blocks, and the names under which they are sent."""
        makers = (
            self._junk, self._forged, self._orphaned_block, self._orphaned_vote, self._copy,
            self._equivocation,
        )  # fmt: skip
        shares = (JUNK, FORGED, ORPHANED_BLOCKS, ORPHANED_VOTES, COPIES, EQUIVOCATIONS)
        number = 0
        while True:
            for make in self._pick.choices(makers, shares, k=100):
                yield make(), f"h{number // ITEMS_A_NAME}"
                number += 1

    def _forged(self) -> bytes:
        return self._noted(forged(self._pick.choice(self._good)))

    def _junk(self) -> bytes:
        return self._pick.randbytes(self._pick.randrange(1, 400))

    def _orphaned_block(self) -> Block:
        chain = self._chain
        return chain.block(chain.head, self._pick.choice(self._rounds), is_orphan=True)

    def _orphaned_vote(self) -> bytes:
        round_ = self._pick.choice(self._rounds)
        payload = blake2b_32(b"no proposal %d" % round_)
        vote = self._chain.signed_again(self._pick.choice(self._good), round_, payload)
        return self._noted(vote)

    def _copy(self) -> bytes:
        return self._pick.choice((self._pick.choice(self._sent), self._pick.choice(self._good)))

    def _equivocation(self) -> bytes:
        vote = self._pick.choice(self._good)
        return self._noted(self._chain.signed_again(vote, None, self._pick.randbytes(32)))

    def _noted(self, vote: bytes) -> bytes:
        self._sent.append(vote)
        return vote
