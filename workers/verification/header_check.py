"""Whether a block's header was made by who may bake it; all that needs no predecessor.

The cheapest test comes first, and what a forger can vary for free comes last: the hash covers the
signature and the proof of work does not. Source: Octez ``block_validation.ml``, protocol
``block_header_repr.ml``, ``validate.ml`` (``check_block_signature``).
"""

from __future__ import annotations

from collections.abc import Callable

from broker.verification import HeaderFacts, Judgement, Position, Verdict
from signers.errors import MalformedBytes
from signers.formats import block_header
from signers.formats.block_header import UNSIGNED, BlockHeader, Fitness
from signers.formats.hashes import blake2b_32
from signers.formats.networks import BLOCK_WATERMARK
from signers.keyring.keys import UnsupportedCurve
from workers.preparation.selection import QUOTAS
from workers.verification.chain_rules import ChainRules
from workers.verification.level_rights import LevelRights
from workers.verification.verdicts import (
    Reason,
    invalid,
    rights_unknown,
    stale,
    unchecked,
    valid,
)

Rights = Callable[[int], LevelRights | None]

# The longest header has 325 bytes with the signature of a tz4 key, 2,649 with one of ML-DSA.
HEADER_BYTES_MAX = 4096
CLOCK_DRIFT_MS = 1_000  # how far ahead of ours a baker's clock may be (Octez)

_NO_LOCK, _LOCK = b"\x00\x00\x00\x00\x00", b"\x01"


def check_header(
    number: int, raw: bytes, rules: ChainRules, rights: Rights, position: Position
) -> Verdict:
    """Judge a signed header; any bytes give a verdict."""
    try:
        header = read_header(raw)
    except MalformedBytes as error:
        return invalid(number, Reason.MALFORMED, str(error))
    if header.level <= position.final_level:
        text = f"level {header.level} is settled: {position.final_level} is final"
        return stale(number, Reason.TOO_OLD, text)
    if header.level > position.head_level + position.levels_ahead:
        text = f"level {header.level}, and the head is at {position.head_level}"
        # With what it says: it may be the asker who is behind.
        return stale(number, Reason.TOO_FAR, text, header_facts(header, blake2b_32(raw)))
    early_ms = header.timestamp * 1000 - position.unix_ms
    if early_ms > rules.duration_ms(0):
        text = f"its time comes in {early_ms} ms, after more than a round"
        return stale(number, Reason.FAR_TOO_EARLY, text)
    facts = header_facts(header, blake2b_32(raw))
    if (problem := _contradiction(header)) is not None:
        return invalid(number, *problem, facts)
    unsigned = raw[: len(raw) - len(header.signature or b"")]
    threshold = rules.constants.proof_of_work_threshold
    if not block_header.pow_is_enough(blake2b_32(unsigned + UNSIGNED), threshold):
        return invalid(number, Reason.NOT_ENOUGH_WORK, "its proof of work is not enough", facts)
    level_rights = rights(header.level)
    if level_rights is None or not level_rights.tells_baker(header.round):
        return rights_unknown(number, header.level, facts)
    baker = level_rights.baker(header.round)
    if baker is None:
        text = f"nobody bakes round {header.round} of level {header.level}"
        return invalid(number, Reason.NO_RIGHTS, text, facts)
    facts = header_facts(header, facts.hash, baker.delegate)
    message = bytes([BLOCK_WATERMARK]) + rules.chain_id + unsigned
    try:
        scheme = rules.protocol.bls_scheme
        if not baker.key.verify(message, header.signature or b"", scheme):
            text = f"{baker.delegate}, who bakes this round, has not signed it"
            return invalid(number, Reason.BAD_SIGNATURE, text, facts)
    except UnsupportedCurve as error:
        return unchecked(number, Reason.UNSUPPORTED_KEY, str(error), facts)
    if early_ms > CLOCK_DRIFT_MS:
        until_ms = header.timestamp * 1000
        text = f"its time comes in {early_ms} ms"
        return Verdict(
            number, Judgement.EARLY, Reason.TOO_EARLY, text, facts, until_unix_ms=until_ms
        )
    return valid(number, facts)


def read_header(raw: bytes) -> BlockHeader:
    """Read a signed header of Tenderbake. Raises MalformedBytes."""
    if len(raw) > HEADER_BYTES_MAX:
        raise MalformedBytes(f"no header has {len(raw)} bytes")
    header = block_header.decode(raw)
    if header.signature is None:
        raise MalformedBytes("the header is not signed")
    if not header.fitness.is_tenderbake:
        raise MalformedBytes("the fitness is not one of Tenderbake")
    return header


def header_facts(header: BlockHeader, hash_: bytes, delegate: str = "") -> HeaderFacts:
    """What a header says, and who has the right to bake it."""
    return HeaderFacts(
        hash_,
        header.predecessor,
        header.level,
        header.round,
        header.timestamp,
        header.payload_hash,
        header.payload_round,
        fitness_key(header.fitness),
        delegate,
    )


def fitness_key(fitness: Fitness) -> bytes:
    """Bytes that compare as fitnesses of Tenderbake do: 17 of them, the version left out.

    A fitness compares element by element, and an absent locked round is less than any.
    """
    _, level, locked, predecessor_round, round_ = fitness.elements
    return level + (_LOCK + locked if locked else _NO_LOCK) + predecessor_round + round_


def _contradiction(header: BlockHeader) -> tuple[Reason, str] | None:
    """What a header says that cannot go together."""
    if header.fitness.level != header.level:
        text = f"the fitness is of level {header.fitness.level}, the header of {header.level}"
        return Reason.WRONG_FITNESS_LEVEL, text
    if header.validation_passes != len(QUOTAS):
        return Reason.WRONG_PASSES, f"{header.validation_passes} lists of operations"
    if header.payload_round > header.round:
        text = f"a payload of round {header.payload_round} in a block of round {header.round}"
        return Reason.WRONG_PAYLOAD_ROUND, text
    return None
