"""The device's own high watermarks: what the baking app signs, and what it refuses.

One mark for the main chain, one for all others. Unlike ours it looks at no content: the same
bytes twice are refused.

Source: ledger-app-tezos-baking 2.5.1 ``src/baking_auth.c``, and its tests.
"""

from dataclasses import dataclass, field
from typing import Final

from signers.formats.signable import Kind

ANY_CHAIN: Final = bytes(4)


@dataclass(slots=True)
class MarkOfChain:
    """The highest level and round, and which votes it saw there."""

    level: int = 0
    round: int = 0
    had_attestation: bool = False
    had_preattestation: bool = False

    def permits(self, kind: Kind, level: int, round: int) -> bool:
        """Whether the app would sign this."""
        if (level, round) != (self.level, self.round):
            return (level, round) > (self.level, self.round)
        if kind is Kind.ATTESTATION:
            return not self.had_attestation
        if kind is Kind.PREATTESTATION:
            return not (self.had_attestation or self.had_preattestation)
        return False

    def raise_to(self, kind: Kind, level: int, round: int) -> None:
        """Move to what is going to be signed."""
        if (level, round) > (self.level, self.round):
            self.had_attestation = self.had_preattestation = False
        self.level, self.round = level, round
        self.had_attestation |= kind is Kind.ATTESTATION
        self.had_preattestation |= kind is Kind.PREATTESTATION


@dataclass(slots=True)
class ChainMarks:
    """Both marks, and which chain is the main one."""

    chain_id: bytes = ANY_CHAIN
    main: MarkOfChain = field(default_factory=MarkOfChain)
    test: MarkOfChain = field(default_factory=MarkOfChain)

    def of(self, chain_id: bytes) -> MarkOfChain:
        """The mark that binds a message for this chain."""
        return self.main if self.chain_id in (chain_id, ANY_CHAIN) else self.test

    def reset(self, level: int) -> None:
        """Set both to a level. As in the app, a preattestation there is not forgotten."""
        for mark in (self.main, self.test):
            mark.level, mark.round, mark.had_attestation = level, 0, False

    def to_bytes(self) -> bytes:
        """As QUERY_ALL_WATERMARKS answers."""
        numbers = (self.main.level, self.main.round, self.test.level, self.test.round)
        return b"".join(number.to_bytes(4) for number in numbers) + self.chain_id
