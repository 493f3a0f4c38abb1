"""Our store allows exactly what octez-signer's rule allows, but for the differences below.

The differences are those that docs/watermarks.md lists, each with its test here.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import msgspec
import pytest
from child_process import HERE
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from interchange_cases import CHAIN, OTHER_CHAIN
from octez_rule_child import Attempt, answer, judge
from octez_signer_model import BLOCK, Answer, Mark, OctezSigner
from signing_requests import (
    ELSEWHERE,
    KEYS,
    KINDS,
    TZ1,
    TZ2,
    TZ4,
    Asked,
    is_signed,
)
from watermark_cases import code

from signers.errors import MalformedBytes
from signers.formats.signable import read_signable
from signers.marks.watermark import EVERYONE, FRESH
from signers.marks.watermark_store import Judgement, WatermarkStore

WORKERS = 3


def make_store(path: Path, **delegates: str) -> None:
    """A store of mainnet in which the keys are fresh; `delegates` maps keys to theirs."""
    WatermarkStore.create(path, network="tezos", chain_id=CHAIN)
    with WatermarkStore.open(path, wal_bytes=0) as store, store.begin() as transaction:
        for key in KEYS:
            transaction.enable(key, delegates.get(key, key), floor=FRESH)
        transaction.commit()


# -- the same verdicts ----------------------------------------------------------------------------

requests = st.builds(
    Asked,
    st.sampled_from(KEYS),
    st.sampled_from(KINDS),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 2),
)
scripts = st.lists(st.lists(requests, min_size=1, max_size=5), max_size=8)


# Not shrunk: the threads take turns in another order each time.
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.tuples(*[scripts] * WORKERS))
def test_workers_at_once_allow_what_octez_signer_allows(
    of_workers: Sequence[list[list[Asked]]],
) -> None:
    answered: list[tuple[Asked, Answer]] = []  # in the order of the store's turns

    def work(path: Path, batches: list[list[Asked]]) -> None:
        with WatermarkStore.open(path, wal_bytes=0) as store:
            for batch in batches:
                with store.begin() as transaction:
                    answered.extend(  # in our turn, so nobody else is here
                        (each, answer(transaction, each.key, each.data())) for each in batch
                    )
                    transaction.commit()
                store.fold_if_due(idle=True)

    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("signers.marks.watermark_store.FOLD_COMMITS_IDLE", 2)
        patch.setattr("signers.marks.store_tables.FOLDED_ROWS_KEPT", 2)  # so that gaps appear
        path = Path(directory) / "watermarks.db"
        make_store(path)
        threads = [Thread(target=work, args=(path, batches)) for batches in of_workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(answered) == sum(len(batch) for batches in of_workers for batch in batches)
    ours = Answer("", None)
    # It signs with our signature, once; a repeat of ours must be the one that it has kept.
    model = OctezSigner(lambda key, data: ours.signature or b"")
    for each, ours in answered:
        assert ours == model.ask(each.key, each.data()), each
        if ours.signature is not None:
            assert is_signed(each.key, each.data(), ours.signature)


@pytest.mark.process
def test_processes_at_once_allow_what_octez_signer_allows(tmp_path: Path) -> None:
    """Scenario 50: of signers that race, one signs; the others get that signature, or none."""
    path, batches = tmp_path / "watermarks.db", 80
    make_store(path)
    logs = [tmp_path / f"{seed}.jsonl" for seed in range(WORKERS)]
    child = [sys.executable, str(HERE / "octez_rule_child.py"), str(path)]
    children = [
        subprocess.Popen([*child, str(log), str(seed), str(batches)])
        for seed, log in enumerate(logs)
    ]
    try:
        assert [child.wait(60) for child in children] == [0] * WORKERS
    finally:
        for child in children:
            child.kill()
            child.wait()
    lines = [line for log in logs for line in log.read_bytes().splitlines()]
    turns = sorted(
        (msgspec.json.decode(line, type=tuple[int, list[Attempt]]) for line in lines),
        key=lambda turn: turn[0],
    )
    assert len({seq for seq, _ in turns}) == WORKERS * batches
    model = OctezSigner(lambda key, data: b"whatever; ours are compared with each other")
    history = History()
    for seq, attempts in turns:
        for attempt in attempts:
            told = model.ask(attempt.key, attempt.data).outcome
            assert attempt.outcome == history.rule(told, attempt, seq), (seq, attempt)
            history.note(attempt, seq)
    history.check_signatures()
    assert history.outcomes.keys() == {
        "signed", "repeated", "refused", "differs: refused", "withdrawn: repeated",
    }  # fmt: skip


class History:
    """What came of the attempts before, and what differences 5 and 9 make of the model's word."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._attempts: dict[tuple[str, bytes], list[tuple[int, Attempt]]] = {}

    def rule(self, told: str, attempt: Attempt, seq: int) -> str:
        """What ours must say where octez-signer would know a signature, and ours may not."""
        if told != "repeated" or attempt.key != ELSEWHERE or attempt.data[0] != BLOCK:
            return told
        before = [
            (asked, each)
            for asked, each in self._attempts[attempt.key, attempt.data]
            if each.outcome != "refused"
        ]
        if any(each.end == "kept" and each.end_seq < seq for _, each in before):
            return told
        _, last = max(before, key=lambda pair: pair[0])
        if last.end == "withdrawn" and last.end_seq < seq:
            self.outcomes["withdrawn: repeated"] += 1
            return told
        self.outcomes["differs: refused"] += 1
        return "refused"

    def note(self, attempt: Attempt, seq: int) -> None:
        self.outcomes[attempt.outcome] += 1
        self._attempts.setdefault((attempt.key, attempt.data), []).append((seq, attempt))

    def check_signatures(self) -> None:
        """All signatures of some bytes are one, but those of votes whose mark had moved on."""
        for (key, data), attempts in self._attempts.items():
            made = [each for _, each in attempts if each.signature is not None]
            assert all(is_signed(key, data, each.signature or b"") for each in made)
            one = {each.signature for each in made if each.end != "late" or data[0] == BLOCK}
            assert len(one) <= 1, (key, data.hex())


# -- the differences ------------------------------------------------------------------------------


def signs(key: str, data: bytes) -> bytes:
    return b"a signature"


class Both:
    """Our store and octez-signer's rule, asked the same things."""

    def __init__(self, path: Path) -> None:
        self.store = WatermarkStore.open(path, wal_bytes=0)
        self.octez = OctezSigner(signs)

    def ask(self, key: str, data: bytes) -> tuple[str, str]:
        """Our verdict, and octez-signer's outcome."""
        return code(self.judge(key, data).verdict), self.octez.ask(key, data).outcome

    def judge(self, key: str, data: bytes) -> Judgement:
        with self.store.begin() as transaction:
            judgement = judge(transaction, key, read_signable(data))
            transaction.commit()
        return judgement


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    make_store(tmp_path / "watermarks.db", **{TZ2: TZ1})
    both = Both(tmp_path / "watermarks.db")
    yield both
    both.store.close()


def vote(key: str, level: int, content: int = 0, kind: int = 0x13) -> bytes:
    return Asked(key, kind, level, 0, content).data()


def test_difference_1_a_delegates_mark_binds_all_his_keys(both: Both) -> None:
    assert both.ask(TZ1, vote(TZ1, 5)) == ("advance", "signed")
    assert both.ask(TZ2, vote(TZ2, 5, 1)) == ("watermark_conflict", "signed")
    assert both.ask(TZ2, vote(TZ2, 4)) == ("watermark_below", "refused")


def test_difference_2_floors_and_ceilings(both: Both) -> None:
    with both.store.begin() as transaction:
        transaction.raise_floor(TZ4, 10)
        transaction.set_ceiling(EVERYONE, 20)
        transaction.commit()
    assert both.ask(TZ4, vote(TZ4, 10)) == ("watermark_below", "signed")
    assert both.ask(TZ4, vote(TZ4, 20)) == ("advance", "signed")
    assert both.ask(TZ4, vote(TZ4, 21)) == ("sign_until", "signed")


def test_difference_3_a_key_without_a_mark_or_not_enabled(both: Both) -> None:
    stranger = "tz1WGcYos3hL7GXYXjKrMnSFdkT7FyXnFBvf"
    assert both.ask(stranger, vote(stranger, 5)) == ("no_mark", "signed")
    with both.store.begin() as transaction:
        transaction.disable(TZ4)
        transaction.commit()
    assert both.ask(TZ4, vote(TZ4, 5)) == ("key_disabled", "signed")


@pytest.mark.parametrize(
    "data",
    [
        vote(TZ1, 5) + b"\0",  # more than the vote
        vote(TZ1, 5).replace(b"\x15", b"\x14", 1),  # a preattestation under the other watermark
        Asked(TZ1, 0x11, 5, 0, 0).data()[:-9],  # a block without its contents
        b"\x01" + Asked(TZ1, 0x11, 5, 0, 0).data()[1:],  # the watermarks before Tenderbake
        b"\x02" + vote(TZ1, 5)[1:],
        b"\x05packed",  # watermarks that are nobody's duty
        b"\x03no operation",
        b"",
    ],
    ids=range(8),
)
def test_difference_4_bytes_that_do_not_decode_to_the_end(both: Both, data: bytes) -> None:
    with pytest.raises(MalformedBytes):
        read_signable(data)
    assert both.octez.ask(TZ1, data).outcome == "signed"


def test_bytes_too_short_for_any_rule_are_refused_by_both(both: Both) -> None:
    data = vote(TZ1, 5)[:8]
    with pytest.raises(MalformedBytes):
        read_signable(data)
    assert both.octez.ask(TZ1, data).outcome == "refused"


def test_difference_5_an_equal_mark_whose_signature_is_absent(both: Both) -> None:
    data = vote(TZ1, 5)
    mark = read_signable(data)
    with both.store.begin() as transaction:
        transaction.raise_mark(TZ1, mark)
        transaction.commit()
    both.octez.marks[0x13, CHAIN, TZ1] = Mark(5, 0, mark.digest, None)
    # A signer that makes the same signature of the same bytes needs none to be kept.
    assert both.ask(TZ1, data) == ("repeat", "refused")
    assert both.ask(TZ1, vote(TZ1, 5, 1)) == ("watermark_conflict", "refused")


def test_without_a_digest_an_equal_mark_is_refused_by_both(both: Both) -> None:
    data = vote(TZ1, 5)
    with both.store.begin() as transaction:
        transaction.raise_mark(TZ1, read_signable(data)._replace(digest=b""))
        transaction.commit()
    both.octez.marks[0x13, CHAIN, TZ1] = Mark(5, 0, bytes(32), None)
    assert both.ask(TZ1, data) == ("watermark_conflict", "refused")


def test_difference_6_the_mark_is_there_before_the_signature(both: Both) -> None:
    def breaks(key: str, digest: bytes) -> bytes:
        raise TimeoutError

    both.octez.sign = breaks  # the signer behind both fails
    assert code(both.judge(TZ1, vote(TZ1, 5)).verdict) == "advance"
    with pytest.raises(TimeoutError):
        both.octez.ask(TZ1, vote(TZ1, 5))
    both.octez.sign = signs
    assert both.ask(TZ1, vote(TZ1, 5, 1)) == ("watermark_conflict", "signed")


def test_difference_7_the_dal_attestations_of_atlas_have_a_mark(both: Both) -> None:
    def dal_attestation(level: int, attested: int) -> bytes:
        # watermark · chain · branch · tag · bitset · level · slot
        body = bytes([0x16, attested]) + level.to_bytes(4, "big") + bytes(2)
        return b"\x14" + CHAIN + bytes(32) + body

    assert both.ask(TZ1, dal_attestation(5, 1)) == ("advance", "signed")
    assert both.ask(TZ1, dal_attestation(5, 2)) == ("watermark_conflict", "signed")


def test_difference_8_a_store_is_for_one_chain(both: Both) -> None:
    data = Asked(TZ1, 0x13, 5, 0, 0).data(OTHER_CHAIN)
    assert both.ask(TZ1, data) == ("wrong_chain", "signed")


def test_difference_9_a_block_elsewhere_whose_signature_is_not_there(both: Both) -> None:
    data = Asked(ELSEWHERE, BLOCK, 5, 0, 0).data()
    both.octez.ask(ELSEWHERE, data)
    first = both.judge(ELSEWHERE, data)
    assert first.expectation is not None
    assert both.ask(ELSEWHERE, data) == ("signature_lost", "repeated"), "it may be signed just now"
    with both.store.begin() as transaction:
        transaction.withdraw_expectation(ELSEWHERE, read_signable(data), 0, first.expectation)
        transaction.commit()
    assert both.ask(ELSEWHERE, data) == ("repeat", "repeated"), "surely nobody had signed it"
    assert both.ask(ELSEWHERE, data) == ("signature_lost", "repeated")
    votes = vote(ELSEWHERE, 5)
    assert both.ask(ELSEWHERE, votes) == ("advance", "signed")
    assert both.ask(ELSEWHERE, votes) == ("repeat", "repeated"), "two of a vote are no offence"
