"""A worker that asks its store for random things and writes down what came of it.

Run as ``python octez_rule_child.py STORE LOG SEED BATCHES``. Each line of the log is one commit:
its number in the store, and for each request the key, the bytes and the answer.
"""

import json
import random
import sys
from pathlib import Path

from octez_signer_model import Answer
from signing_requests import KEYS, KINDS, Asked, signature_of

from signers.formats.signable import read_signable
from signers.marks.watermark import REPEAT, Refusal, Verdict
from signers.marks.watermark_store import WatermarkStore


def answer(key: str, digest: bytes, verdict: Verdict) -> Answer:
    """What our pool answers, in the words of the model."""
    if isinstance(verdict, Refusal):
        return Answer("refused", None)
    outcome = "repeated" if verdict is REPEAT else "signed"
    return Answer(outcome, signature_of(key, digest))


def main() -> None:
    path, log, seed, batches = sys.argv[1:]
    choose = random.Random(int(seed))
    with WatermarkStore.open(Path(path), wal_bytes=0) as store, open(log, "w") as lines:
        for number in range(int(batches)):
            top = 1 + number // 4  # so that the workers rise together
            batch = [
                Asked(
                    choose.choice(KEYS),
                    choose.choice(KINDS),
                    max(0, top - choose.randrange(3)),
                    choose.randrange(3),
                    choose.randrange(3),
                )
                for _ in range(4)
            ]
            requests = [(asked.key, read_signable(asked.data())) for asked in batch]
            with store.begin() as transaction:
                verdicts = transaction.judge(requests)
                transaction.touch()  # so that every batch has a number of its own
                transaction.commit()
            answers = []
            for asked, (key, signable), verdict in zip(batch, requests, verdicts, strict=True):
                outcome, signature = answer(key, signable.digest, verdict)
                answers.append([key, asked.data().hex(), outcome, signature and signature.hex()])
            lines.write(json.dumps([store.statistics().seq, answers]) + "\n")
            store.fold_if_due(idle=True)


if __name__ == "__main__":
    main()
