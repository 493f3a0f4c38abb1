"""Seed nonces: the commitment that some blocks must carry, and its revelation a cycle later.

Source: protocol ``nonce_storage.ml``, ``validate.ml`` (``Anonymous``).
"""

from __future__ import annotations

from signers.formats.hashes import blake2b_32
from workers.sandbox.constants import Constants
from workers.sandbox.ledger import Ledger, NonceCommitment
from workers.sandbox.levels import cycle_levels, level_info
from workers.sandbox.refusal import ErrorKind, Refusal, protocol_error


def check_revelation(
    level: int, nonce: bytes, at_level: int, ledger: Ledger, constants: Constants
) -> NonceCommitment:
    """Check a revelation for `level` in a block at `at_level`; return what was committed.

    Raises Refusal.
    """
    committed, now = level_info(constants, level), level_info(constants, at_level)
    if now.cycle <= committed.cycle:
        raise _error("nonce.too_early_revelation", "the cycle of the commitment is not over")
    threshold = constants.nonce_revelation_threshold
    if now.cycle > committed.cycle + 1 or now.cycle_position >= threshold:
        raise _error("nonce.too_late_revelation", "the time for it is over")
    commitment = ledger.nonce(level)
    if commitment is None or blake2b_32(nonce) != commitment.nonce_hash:
        raise _error("nonce.inconsistent", "it is not what the block committed to")
    if commitment.nonce is not None:
        raise _error("nonce.previously_revealed_nonce", "it was revealed before")
    return commitment


def forget_old(at_level: int, ledger: Ledger, constants: Constants) -> None:
    """Drop the commitments whose time was over when the cycle of `at_level` began."""
    now = level_info(constants, at_level)
    if now.cycle_position == 0 and now.cycle >= 2:
        first, last = cycle_levels(constants, now.cycle - 2)
        for level in range(first, last + 1):
            if ledger.nonce(level) is not None:
                ledger.put_nonce(level, None)


def _error(id: str, why: str) -> Refusal:
    return Refusal(protocol_error(ErrorKind.BRANCH, id, f"The nonce cannot be revealed: {why}."))
