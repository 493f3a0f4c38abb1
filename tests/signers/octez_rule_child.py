"""A worker that asks its store for random things and writes down what came of it.

Run as ``python octez_rule_child.py STORE LOG SEED BATCHES``. Each line of the log is one batch:
the number of its commit, and an `Attempt` for each request.
"""

import random
import sys
from collections import deque
from pathlib import Path
from typing import Literal

import msgspec
from octez_signer_model import BLOCK, REFUSED, Answer
from signing_requests import ELSEWHERE, KEYS, KINDS, Asked, sign

from signers.formats.signable import Kind, Signable, read_signable
from signers.formats.tagged_keys import signature_version
from signers.marks.watermark import REPEAT, Refusal
from signers.marks.watermark_store import Judgement, Transaction, WatermarkStore

# How a signer elsewhere does with what it is asked for.
FATES = ("kept",) * 3 + ("withdrawn",) * 3 + ("lost",)


class Attempt(msgspec.Struct, array_like=True):
    """One request, what came of it, and with which commit that was on the disk.

    `end` is how an attempt with a signer elsewhere has ended: its signature was kept ("late":
    the mark had moved on), its expectation withdrawn, or nothing was heard of it ("lost").
    """

    key: str
    data: bytes
    outcome: str
    signature: bytes | None = None
    end: Literal["", "kept", "late", "withdrawn", "lost"] = ""
    end_seq: int = 0


def judge(transaction: Transaction, key: str, signable: Signable) -> Judgement:
    """Judge as a worker does."""
    version = signature_version(key)
    return transaction.judge_and_recall(key, signable, version, may_differ=key == ELSEWHERE)


def answer(transaction: Transaction, key: str, data: bytes) -> Answer:
    """What our pool answers in the words of the model, if it signs within its turn."""
    signable = read_signable(data)
    judged = judge(transaction, key, signable)
    if isinstance(judged.verdict, Refusal):
        return REFUSED
    signature = judged.signature or sign(key, data)
    if key == ELSEWHERE:
        signature = transaction.keep_signature(key, signable, 0, signature)
    return Answer("repeated" if judged.verdict is REPEAT else "signed", signature)


class Worker:
    """Signs after the commit, and with a signer elsewhere ends each attempt with another one."""

    def __init__(self, store: WatermarkStore, choose: random.Random) -> None:
        self._store = store
        self._choose = choose

    def work(self, batch: list[Asked]) -> tuple[int, list[Attempt]]:
        requests = [(each.key, each.data(), read_signable(each.data())) for each in batch]
        with self._store.begin() as transaction:
            judged = [judge(transaction, key, signable) for key, _, signable in requests]
            transaction.touch()  # so that every batch has a number of its own
            transaction.commit()
        seq = self._store.statistics().seq
        return seq, [
            self._end(key, data, signable, judgement)
            for (key, data, signable), judgement in zip(requests, judged, strict=True)
        ]

    def _end(self, key: str, data: bytes, signable: Signable, judged: Judgement) -> Attempt:
        if isinstance(judged.verdict, Refusal):
            return Attempt(key, data, "refused")
        outcome = "repeated" if judged.verdict is REPEAT else "signed"
        if key != ELSEWHERE:
            return Attempt(key, data, outcome, sign(key, data))
        if judged.signature is not None:
            return Attempt(key, data, outcome, judged.signature)
        fate = self._choose.choice(FATES)
        if fate == "lost":
            return Attempt(key, data, outcome, None, "lost")
        with self._store.begin() as transaction:
            stands = transaction.marks.mark(key, signable.kind) == signable
            signature = None
            if fate == "kept":
                signature = transaction.keep_signature(key, signable, 0, sign(key, data))
            elif signable.kind is Kind.BLOCK:
                assert judged.expectation is not None
                transaction.withdraw_expectation(key, signable, 0, judged.expectation)
            transaction.touch()
            transaction.commit()
        end = fate if fate == "withdrawn" else "kept" if stands else "late"
        return Attempt(key, data, outcome, signature, end, self._store.statistics().seq)  # type: ignore[arg-type]


def main() -> None:
    path, log, seed, batches = sys.argv[1:]
    choose = random.Random(int(seed))
    with WatermarkStore.open(Path(path), wal_bytes=0) as store, open(log, "wb") as lines:
        worker = Worker(store, choose)
        recent: deque[Asked] = deque(maxlen=4)
        again: Asked | None = None  # who hears that surely nobody has signed repeats
        for number in range(int(batches)):
            top = 1 + number // 4  # so that the workers rise together
            new = [
                Asked(
                    choose.choice([*KEYS, *[ELSEWHERE] * 3]),
                    choose.choice([*KINDS, BLOCK]),
                    max(0, top - choose.randrange(2)),
                    choose.randrange(2),
                    choose.randrange(2),
                )
                for _ in range(2)
            ]
            recent += new
            batch = [*new, choose.choice(recent), again or choose.choice(recent)]
            seq, attempts = worker.work(batch)
            withdrawn = [
                asked
                for asked, attempt in zip(batch, attempts, strict=True)
                if attempt.end == "withdrawn" and asked.kind == BLOCK
            ]
            again = withdrawn[0] if withdrawn else None
            lines.write(msgspec.json.encode((seq, attempts)) + b"\n")
            store.fold_if_due(idle=True)


if __name__ == "__main__":
    main()
