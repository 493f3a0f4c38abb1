"""Any order of requests, folds, floors, rotations and reopenings, through two open stores.

The model below is the rule once more, on plain tuples, with nothing of the store in it. Every
verdict must be the model's; so no two contents are ever admitted at one position of a key or
of a delegate, no mark goes down, and nothing that may be signed is refused.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from watermark_cases import asked, code, make_store

from signers.formats.signable import Kind, Signable
from signers.marks.watermark import FRESH
from signers.marks.watermark_store import WatermarkStore

KEYS = ["k0", "k1", "k2"]
DELEGATES = [*KEYS, "d"]
ROUND_TOP = 1 << 40


class Model:
    """Marks as (level, round, content) of holders and kinds, and who signs for whom."""

    def __init__(self) -> None:
        self.marks: dict[tuple[str, int], tuple[int, int, str]] = {}
        self.delegates = {key: key for key in KEYS}

    def judge(self, key: str, kind: int, level: int, round: int, content: str) -> str:
        answers = set()
        for holder in (key, self.delegates[key]):
            mark = self.marks.get((holder, kind), (-1, 0, ""))
            if (level, round) > mark[:2]:
                answers.add("advance")
            elif (level, round, content) == mark:
                answers.add("repeat")
            else:
                return "refused"
        if "advance" in answers:
            for holder in (key, self.delegates[key]):
                self.marks[holder, kind] = (level, round, content)
            return "advance"
        return "repeat"

    def raise_floor(self, holder: str, level: int) -> None:
        for kind in range(4):
            mark = self.marks.get((holder, kind), (-1, 0, ""))
            self.marks[holder, kind] = max(mark, (level, ROUND_TOP, ""))

    def rotate(self, key: str, delegate: str) -> None:
        self.delegates[key] = delegate
        for kind in range(4):
            of_key = self.marks.get((key, kind), (-1, 0, ""))
            of_delegate = self.marks.get((delegate, kind), (-1, 0, ""))
            self.marks[delegate, kind] = max(of_key, of_delegate, key=lambda mark: mark[:2])


requests = st.tuples(
    st.sampled_from(KEYS), st.integers(0, 3), st.integers(0, 5), st.integers(0, 2),
    st.sampled_from("ab"),
)  # fmt: skip
steps = st.one_of(
    st.tuples(st.just("sign"), st.lists(requests, min_size=1, max_size=6)),
    st.tuples(st.just("abandon"), st.lists(requests, min_size=1, max_size=3)),
    st.tuples(st.just("fold"), st.none()),
    st.tuples(st.just("reopen"), st.none()),
    st.tuples(st.just("floor"), st.tuples(st.sampled_from(KEYS), st.integers(0, 5))),
    st.tuples(st.just("rotate"), st.tuples(st.sampled_from(KEYS), st.sampled_from(DELEGATES))),
)


def signable(request: tuple[str, int, int, int, str]) -> tuple[str, Signable]:
    key, kind, level, round, content = request
    return key, asked(level, round, content, Kind(kind))


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), steps), max_size=40))
def test_every_verdict_is_the_models(script: list[tuple[int, tuple[str, Any]]]) -> None:
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("signers.marks.watermark_store.FOLD_COMMITS_IDLE", 1)
        patch.setattr("signers.marks.store_tables.FOLDED_ROWS_KEPT", 2)  # so that gaps appear
        path = Path(directory) / "watermarks.db"
        make_store(path, *KEYS)
        stores = [WatermarkStore.open(path, wal_bytes=0) for _ in range(2)]
        model = Model()
        try:
            for which, (step, details) in script:
                store = stores[which]
                if step == "fold":
                    store.fold_if_due(idle=True)
                    continue
                if step == "reopen":
                    store.close()
                    stores[which] = WatermarkStore.open(path, wal_bytes=0)
                    continue
                with store.begin() as transaction:
                    if step == "sign":
                        verdicts = transaction.judge(map(signable, details))
                        answers = [code(verdict) for verdict in verdicts]
                        assert [
                            "refused" if answer.startswith("watermark_") else answer
                            for answer in answers
                        ] == [model.judge(*request) for request in details]
                    elif step == "abandon":
                        transaction.judge(map(signable, details))
                        continue
                    elif step == "floor":
                        key, level = details
                        transaction.raise_floor(key, level)
                        model.raise_floor(key, level)
                    else:
                        transaction.enable(*details, floor=FRESH)
                        model.rotate(*details)
                    transaction.commit()
        finally:
            for store in stores:
                store.close()
