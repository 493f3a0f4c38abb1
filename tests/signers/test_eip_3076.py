"""Scenario 52: the block half of the EIP-3076 test-suite, asked of our store for each kind.

That suite tells validators of Ethereum what may be signed after slots that were imported. A slot
is to us a level, or four slots are the rounds of one level: both keep the order, and nothing but
the order decides. So blocks, preattestations and attestations must get the answers that the suite
expects of a client with a high watermark (its minimal strategy). Where ours is another, it is
listed here and argued in docs/watermarks.md, and is one that a client with the whole history gives.

Scenario 50, signers that race for one key, is in `test_octez_signer_rule.py`, and that the mark is
on the disk first in `test_durability.py`; scenario 51, a store that is missing or older than what
was signed, in `test_watermark_store.py`, `test_store_processes.py` and `test_store_copies.py`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from interchange_cases import CHAIN, OTHER_CHAIN
from watermark_cases import code

from signers.formats import base58
from signers.formats.networks import TEZOS
from signers.formats.signable import Kind
from signers.interchange.forgepool_file import write_forgepool_file
from signers.interchange.marks_import import Action, import_marks
from signers.interchange.marks_source import WantedChain, read_source
from signers.interchange.recorded_mark import COMMON_KINDS, RecordedMark, WrongChain, mark_at
from signers.marks.store_copies import read_store
from signers.marks.watermark import FRESH
from signers.marks.watermark_store import WatermarkStore

SUITE = json.loads((Path(__file__).parent / "vectors" / "eip_3076_blocks.json").read_text())
FILES = SUITE["files"]
STEPS = [step for file in FILES for step in file["steps"]]
ATTEMPTS = [attempt for step in STEPS for attempt in step["attempts"]]
# Which attempt of a file we answer otherwise, and what we say.
DIFFERENT = {
    ("single_validator_resign_block", 2): "repeat",  # the very bytes of the imported mark
}

Position = tuple[int, int]


def level_of_its_own(slot: int) -> Position:
    return slot, 0


def one_of_four_rounds(slot: int) -> Position:
    return divmod(slot, 4)


PLACES = (level_of_its_own, one_of_four_rounds)
VALIDATORS_MAX = 3


def key_of(file: int, place: int, validator: int) -> str:
    """A key of its own for each validator of each file at each place.

    Of Ed25519: of an ECDSA key the mark of a block is taken over without its digest.
    """
    number = (file * len(PLACES) + place) * VALIDATORS_MAX + validator
    return base58.encode(TEZOS.key_hash_prefixes[0], number.to_bytes(20))


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of mainnet whose keys have signed nothing; one, for making it takes 40 fsyncs."""
    path = tmp_path_factory.mktemp("eip-3076") / "watermarks.db"
    WatermarkStore.create(path, network="tezos", chain_id=CHAIN)
    with WatermarkStore.open(path, wal_bytes=0) as store, store.begin() as transaction:
        for whose in product(range(len(FILES)), range(len(PLACES)), range(VALIDATORS_MAX)):
            transaction.enable(key_of(*whose), key_of(*whose), floor=FRESH)
        transaction.commit()
    return path


@pytest.fixture(scope="module")
def pool(store_path: Path) -> Iterator[WatermarkStore]:
    """Who signs, and has the store open while others import."""
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        yield store


def marks_of(file: int, block: dict[str, Any], chain_id: bytes) -> list[RecordedMark]:
    """A block of the suite, signed or to be signed: as marks of each kind at each place."""
    root = block["root"]
    digest = b"" if root is None else blake2b(root.encode(), digest_size=32).digest()
    return [
        RecordedMark(
            key_of(file, number, block["validator"]),
            mark_at(kind, chain_id, *place(block["slot"]), digest),
        )
        for number, place in enumerate(PLACES)
        for kind in COMMON_KINDS
    ]


def sources_of(file: int, step: dict[str, Any], chain_id: bytes) -> list[list[RecordedMark]]:
    """What a step tells, as files of our format: these have marks and no histories.

    So each block of a validator comes in another file, in the step's order.
    """
    sources: list[list[RecordedMark]] = [[]]
    told = Counter[int]()
    for signed in step["signed"]:
        turn = told[signed["validator"]]
        told[signed["validator"]] += 1
        if turn == len(sources):
            sources.append([])
        sources[turn] += marks_of(file, signed, chain_id)
    return sources


def take_over(path: Path, told: list[RecordedMark], chain_id: bytes) -> set[Action]:
    """Import marks by a file of our format, and say what was done."""
    source = path.with_name("marks.json")
    source.write_bytes(write_forgepool_file(told, chain_id, TEZOS))
    found = read_source(source, WantedChain(TEZOS, CHAIN), None).recorded
    steps = import_marks(path, found, enter_unknown=False, command="a test")
    return {step.action for step in steps}


class Highest:
    """Where the marks must stand: at the highest that was imported or admitted."""

    def __init__(self) -> None:
        self._positions: dict[tuple[str, Kind], Position] = {}

    def note(self, told: list[RecordedMark]) -> None:
        for holder, mark, *_ in told:
            position, whose = (mark.level, mark.round), (holder, mark.kind)
            self._positions[whose] = max(position, self._positions.get(whose, position))

    def check(self, path: Path) -> None:
        marks = read_store(path).content.marks
        for (holder, kind), position in self._positions.items():
            mark = marks.mark(holder, kind)
            assert mark is not None
            assert (mark.level, mark.round) == position


def test_the_block_half_of_the_suite_is_here() -> None:
    assert len(ATTEMPTS) == SUITE["block_attempts"] == 71
    assert len(FILES) == len({file["name"] for file in FILES}) == 23
    assert sum(attempt["minimal"] != attempt["complete"] for attempt in ATTEMPTS) == 12


@pytest.mark.parametrize("number", range(len(FILES)), ids=[file["name"] for file in FILES])
def test_answers_of_a_client_with_a_high_watermark(
    number: int, store_path: Path, pool: WatermarkStore
) -> None:
    name, highest, attempts = FILES[number]["name"], Highest(), count()
    for step in FILES[number]["steps"]:
        chain_id = CHAIN if step["same_chain"] else OTHER_CHAIN
        sources = sources_of(number, step, chain_id)
        if not step["should_succeed"]:
            with pytest.raises(WrongChain):
                take_over(store_path, sources[0], chain_id)
            continue
        actions = set[Action]()
        for source in sources:
            actions |= take_over(store_path, source, chain_id)
            highest.note(source)
        # Two known blocks of one slot are told of, and protect all the same.
        assert (Action.CONFLICT in actions) == (name == "single_validator_slashable_blocks")
        assert Action.UNKNOWN not in actions
        highest.check(store_path)
        for attempt in step["attempts"]:
            asked = marks_of(number, attempt, CHAIN)
            with pool.begin() as transaction:
                verdicts = transaction.judge((each.holder, each.mark) for each in asked)
                transaction.commit()
            codes = {code(verdict) for verdict in verdicts}
            different = DIFFERENT.get((name, next(attempts)))
            if different is not None:
                assert (attempt["minimal"], attempt["complete"]) == (False, True)
                assert codes == {different}
            elif attempt["minimal"]:
                assert codes == {"advance"}
                highest.note(asked)
            else:
                assert codes <= {"watermark_below", "watermark_conflict"}
        highest.check(store_path)
