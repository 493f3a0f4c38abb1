"""A process that asks for conflicting things until it is killed, and logs what it may sign.

Run as ``python store_hammer.py STORE LOG``. Every such process asks for the same keys, levels
and rounds with contents of its own; a line of the log stands for a released signature.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

from watermark_cases import ALICE, BOB, asked

from signers.formats.signable import Kind
from signers.marks.watermark import Refusal
from signers.marks.watermark_store import WatermarkStore


def main() -> None:
    path, log = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT, 0o600)
    choose = random.Random(os.getpid())
    with WatermarkStore.open(path, wal_bytes=1 << 20) as store:
        while True:
            level = int(time.monotonic() * 50)  # the same in every process, and rising
            batch = [
                (
                    choose.choice([ALICE, BOB]),
                    asked(
                        level - choose.randrange(2),
                        choose.randrange(3),
                        f"{os.getpid()} {choose.randrange(2)}",
                        choose.choice([Kind.BLOCK, Kind.ATTESTATION]),
                    ),
                )
                for _ in range(8)
            ]
            with store.begin() as transaction:
                verdicts = transaction.judge(batch)
                transaction.commit()
            released = [
                {
                    "process": os.getpid(),
                    "key": key,
                    "delegate": key,
                    "kind": int(signable.kind),
                    "level": signable.level,
                    "round": signable.round,
                    "digest": signable.digest.hex(),
                }
                for (key, signable), verdict in zip(batch, verdicts, strict=True)
                if not isinstance(verdict, Refusal)
            ]
            os.write(log, "".join(f"{json.dumps(entry)}\n" for entry in released).encode())
            store.fold_if_due(idle=True)


if __name__ == "__main__":
    main()
