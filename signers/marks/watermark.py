"""The double-sign rule: advance, repeat, or refuse. Nothing else may permit a signature.

For each chain, holder and kind there is one high watermark: the highest thing admitted so far,
itself a `Signable`. A holder is a signing key or the delegate that it signs for; what a key
wants to sign is judged against the marks of both.

Source: Octez ``baking_highwatermarks.ml`` and ``bin_signer/handler.ml``. Unlike the first,
identical bytes may be signed again; unlike the second, that needs no stored signature where the
key is ours, because it makes the same signature of the same bytes.
"""

from enum import Enum
from typing import Final, NamedTuple

from signers.formats import base58
from signers.formats.signable import Kind, Signable

MARKED_KINDS: Final = (
    Kind.BLOCK,
    Kind.PREATTESTATION,
    Kind.ATTESTATION,
    Kind.DAL_ATTESTATION,
)
ROUND_MAX: Final = 2**31 - 1  # rounds are signed 32-bit numbers on chain
FRESH: Final = -1
_NO_DIGEST: Final = b""  # of a mark that no signature made; equals no real digest


class Permission(Enum):
    """What the rule allows, and what must be on disk before the signature leaves."""

    ADVANCE = "advance"  # above the mark: sign once this is the new mark on disk
    REPEAT = "repeat"  # the mark itself: sign the same bytes again
    UNMARKED = "unmarked"  # a kind without level and round: no mark says yes or no


ADVANCE: Final = Permission.ADVANCE
REPEAT: Final = Permission.REPEAT
UNMARKED: Final = Permission.UNMARKED


class Refusal(NamedTuple):
    """Why nothing is signed: a code for programs, one sentence for people."""

    code: str
    text: str


Verdict = Permission | Refusal

NO_MARK: Final = "no_mark"
KEY_DISABLED: Final = "key_disabled"
WRONG_CHAIN: Final = "wrong_chain"
BELOW: Final = "watermark_below"
CONFLICT: Final = "watermark_conflict"
SIGNATURE_LOST: Final = "signature_lost"
SIGN_UNTIL: Final = "sign_until"

EVERYONE: Final = ""  # the holder of a ceiling that binds every key


class Ceiling(NamedTuple):
    """The level above which nothing is signed, and whose ceiling it is."""

    level: int
    holder: str


def judge(mark: Signable | None, asked: Signable, holder: str) -> Verdict:
    """Say whether a holder whose high watermark is `mark` may sign what is asked."""
    if mark is None:
        return Refusal(NO_MARK, f"{holder} has no mark for {_name(asked)}: see `keys enable`")
    if asked.chain_id != mark.chain_id:
        chain, own = (base58.encode(base58.CHAIN_ID, s.chain_id) for s in (asked, mark))
        return Refusal(WRONG_CHAIN, f"these bytes are for chain {chain}, this store is of {own}")
    if asked.level > mark.level:
        return ADVANCE
    if asked.level == mark.level and asked.round > mark.round:
        return ADVANCE
    if asked.level == mark.level and asked.round == mark.round:
        if asked.digest == mark.digest:
            return REPEAT
        return Refusal(CONFLICT, _story(mark, asked, holder))
    return Refusal(BELOW, _story(mark, asked, holder))


def judge_repeat(asked: Signable, holder: str, *, may_differ: bool) -> Verdict:
    """Say whether the mark itself may be signed again when no signature of it is kept.

    `may_differ`: the signature would not be, or perhaps not be, the one that was made before, or
    is being made. Two different signatures on one block header are a proof of double baking;
    votes that differ in nothing else are no offence.
    """
    if may_differ and asked.kind is Kind.BLOCK:
        lost = (
            "a signer is being asked for it, or was and its signature is lost; another would be "
            "a second"
        )
        return Refusal(SIGNATURE_LOST, f"{_position(asked)} refused: {holder}: {lost}")
    return REPEAT


def judge_ceiling(ceiling: Ceiling | None, asked: Signable, permission: Verdict) -> Verdict:
    """Say whether what the mark permits is below the ceiling too, if there is one."""
    if ceiling is None or asked.level <= ceiling.level:
        return permission
    whose = "every key" if ceiling.holder == EVERYONE else ceiling.holder
    return Refusal(
        SIGN_UNTIL,
        f"{_position(asked)} refused: {whose} signs until "
        f"level {ceiling.level} only; see `watermarks sign-until`",
    )


def floor_mark(kind: Kind, chain_id: bytes, level: int) -> Signable:
    """Return the mark at which nothing of this level or below is signed.

    At `FRESH` it stands below every level: the mark of who has signed nothing anywhere.
    """
    return Signable(kind, chain_id, level, ROUND_MAX, _NO_DIGEST)


def is_floor(mark: Signable) -> bool:
    """Say whether a mark closes its whole level instead of telling what was signed there."""
    return not mark.digest and mark.round == ROUND_MAX


def _story(mark: Signable, asked: Signable, holder: str) -> str:
    wanted = f"{_position(asked)} refused"
    if is_floor(mark):
        return f"{wanted}: {holder} has a floor, nothing up to level {mark.level} is signed"
    stands = f"{holder} already signed level {mark.level} round {mark.round}"
    if not mark.digest:
        return f"{wanted}: {stands}, as its imported mark says without telling what"
    if (asked.level, asked.round) == (mark.level, mark.round):
        stands += " with other bytes"
    digests = f"(digest {mark.digest.hex()[:12]}, asked {asked.digest.hex()[:12]})"
    return f"{wanted}: {stands} {digests}"


def _position(asked: Signable) -> str:
    return f"{_name(asked)} at level {asked.level} round {asked.round}"


def _name(asked: Signable) -> str:
    return asked.kind.name.lower().replace("_", " ")
