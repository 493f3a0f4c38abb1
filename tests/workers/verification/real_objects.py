"""Real blocks and votes, with the rights that their signers must have had.

A recorded object tells who signed it; the committee made from that is a stand-in for what a node
would answer. The records are the repository's own copies (`tests/signers/vectors`), and all of
`shared/data` besides when that folder lies beside the repository.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.verification import Position
from signers.formats import base58, block_header
from signers.formats.networks import TEZOS, Protocol
from signers.formats.vote import read_signed_vote
from signers.keyring.keys import PublicKey
from workers.preparation.chain_view import ForgingConstants
from workers.verification.chain_rules import ChainRules
from workers.verification.level_rights import LevelRights, Voter

TESTS = Path(__file__).parents[2]
CHAIN = TESTS.parent.parent / "shared" / "data" / "chain"

PARIS = next(protocol for protocol in TEZOS.protocols if protocol.name == "Paris")


def rules(
    chain_id: str | bytes,
    *,
    network: Any = TEZOS,
    protocol: Protocol = PARIS,
    committee_size: int = 7000,
    threshold: int = 4667,
    work: int = 2**48 - 1,
) -> ChainRules:
    """Rules of a chain whose rounds last 10 s and 5 s more each."""
    if isinstance(chain_id, str):
        chain_id = base58.decode(base58.CHAIN_ID, chain_id)
    constants = ForgingConstants(10, 5, work, 10**7, 10**6, 60_000)
    return ChainRules(
        network, protocol, chain_id, constants, committee_size, threshold, 360, 32_768
    )


def voter(public_key: str, *slots: int) -> Voter:
    """The owner of some slots."""
    key = PublicKey.read(public_key)
    return Voter(key.hash(TEZOS), key.hash(TEZOS), key, slots)


def rights_of(level: int, *voters: Voter) -> Callable[[int], LevelRights | None]:
    """What is known when the rights of one level are."""
    known = LevelRights(level, voters, 7000)
    return lambda asked: known if asked == level else None


def at(level: int, timestamp_s: int, *, final: int | None = None) -> Position:
    """Half a second after the head of that level, of round 0."""
    final = level - 2 if final is None else final
    return Position(timestamp_s * 1000 + 500, final, level, 0, timestamp_s)


def _lines(name: str) -> list[dict[str, Any]]:
    path = TESTS / "signers" / "vectors" / name
    return [json.loads(line) for line in path.read_text().splitlines()]


def _data(name: str) -> list[dict[str, Any]]:
    path = CHAIN / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def headers() -> list[tuple[str, str, str, bytes]]:
    """Id, chain id, public key and bytes of real signed headers of Tenderbake."""
    found = [
        (each["id"], each["chain_id"], each["public_key"], bytes.fromhex(each["header"]))
        for each in _lines("blocks.jsonl")
        if each.get("signature_valid") and each.get("public_key")
    ]
    known = {raw for *_, raw in found}
    for each in _data("blocks_full") + _data("block_headers"):
        if not each.get("public_key") or not (each["expected"] or {}).get("signature_valid"):
            continue
        raw = bytes.fromhex(each["header_signed_hex"])
        if raw not in known and block_header.decode(raw).fitness.is_tenderbake:
            found.append((each["id"], each["chain_id"], each["public_key"], raw))
    return found


def votes() -> list[tuple[str, str, str, bytes]]:
    """Id, chain id, public key and bytes of real signed votes."""
    found = [
        (each["id"], each["chain_id"], each["public_key"], bytes.fromhex(each["operation_hex"]))
        for each in _data("consensus_ops")
        if each.get("public_key")
        and each.get("operation_hex")
        and each["expected"].get("signature_valid")
    ]
    return found or [
        (each["id"], each["chain_id"], each["public_key"], bytes.fromhex(each["operation"]))
        for each in json.loads((Path(__file__).parent / "vectors" / "votes.json").read_text())
    ]


def vote_surroundings(
    chain_id: str, public_key: str, raw: bytes
) -> tuple[ChainRules, Callable[[int], LevelRights | None], Position]:
    """What makes a real vote valid."""
    vote = read_signed_vote(raw)
    position = Position(10_000_000_000, vote.level - 2, vote.level, vote.round, 9_999_999)
    return rules(chain_id), rights_of(vote.level, voter(public_key, vote.slot)), position
