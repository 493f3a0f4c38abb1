"""Short names for what the watermark tests say over and over."""

from hashlib import blake2b
from pathlib import Path

from signers.formats.signable import Kind, Signable
from signers.marks.watermark import FRESH, Verdict
from signers.marks.watermark_store import WatermarkStore

CHAIN = bytes.fromhex("7a06a770")
OTHER_CHAIN = bytes.fromhex("ed9d217c")
ALICE, BOB, CAROL = "mv1Alice", "mv1Bob", "mv1Carol"


def asked(
    level: int,
    round: int = 0,
    content: str = "a",
    kind: Kind = Kind.ATTESTATION,
    chain: bytes = CHAIN,
) -> Signable:
    """A request to sign some content at a level and round."""
    return Signable(kind, chain, level, round, blake2b(content.encode(), digest_size=32).digest())


def block(level: int, round: int = 0, content: str = "a") -> Signable:
    return asked(level, round, content, Kind.BLOCK)


def make_store(path: Path, *keys: str, **delegates: str) -> None:
    """Make a store in which keys are enabled and fresh; `delegates` maps keys to theirs."""
    WatermarkStore.create(path, network="mavryk", chain_id=CHAIN)
    with WatermarkStore.open(path, wal_bytes=0) as store, store.begin() as transaction:
        for key in keys:
            transaction.enable(key, delegates.get(key, key), floor=FRESH)
        transaction.commit()


def sign(store: WatermarkStore, key: str, *signables: Signable) -> list[Verdict]:
    """Judge and commit one batch of one key."""
    with store.begin() as transaction:
        verdicts = transaction.judge([(key, signable) for signable in signables])
        transaction.commit()
    return verdicts


def code(verdict: Verdict) -> str:
    """The name of a permission or the code of a refusal."""
    return getattr(verdict, "code", None) or verdict.value
