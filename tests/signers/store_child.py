"""A process that has the store open and does what each line on its standard input says.

Answers one line for each: the verdict, or the code of the error. Run as
``python store_child.py STORE [SETTING=VALUE ...]``; settings replace those of a connection.
"""

import ctypes
import os
import sys
from pathlib import Path

from watermark_cases import asked, code

from signers.errors import SignersError
from signers.marks import store_file
from signers.marks.watermark_store import WatermarkStore

PR_SET_PTRACER = 0x59616D61
ANYBODY = -1


def let_anybody_trace() -> None:
    """Where only a parent may attach a tracer, let the test attach one."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_long(ANYBODY), 0, 0, 0)


def obey(store: WatermarkStore, command: str, *words: str) -> str:
    if command == "sign":  # KEY LEVEL CONTENT
        key, level, content = words
        with store.begin() as transaction:
            (verdict,) = transaction.judge([(key, asked(int(level), 0, content))])
            transaction.commit()
        return code(verdict)
    if command == "hold":  # KEY LEVEL: judge, and never commit
        store.begin().judge([(words[0], asked(int(words[1])))])
        return "holding"
    if command == "fold":
        return str(store.fold_if_due(idle=True))
    if command == "probe":
        store.probe()
        return "ok"
    if command == "close":
        store.close()
        return "ok"
    raise ValueError(command)


def main() -> None:
    path, *settings = sys.argv[1:]
    let_anybody_trace()
    given = dict(setting.split("=") for setting in settings)
    store_file.SETTINGS = tuple(
        (name, int(given.get(name, value))) for name, value in store_file.SETTINGS
    )
    store = WatermarkStore.open(Path(path), wal_bytes=0)
    os.write(1, b"open\n")
    for line in sys.stdin:
        try:
            answer = obey(store, *line.split())
        except SignersError as error:
            answer = error.code
        os.write(1, f"{answer}\n".encode())


if __name__ == "__main__":
    main()
