"""A child of test_event_log: an event log whose files may only grow to a given size.

    python full_disk_log.py DIRECTORY BYTES_MAX RECORDS [die]

Appends records, then lifts the limit and appends one more. Prints `failure` after each append.
With `die` it kills itself right after the appends, as the kernel would.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from log_records import a_record

from broker.event_log import EventLog


def main(directory: str, bytes_max: str, records: str, die: str = "") -> None:
    log = EventLog(Path(directory), "e1")
    assert list(log.load()) == []
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(bytes_max), hard))
    for number in range(1, int(records) + 1):
        log.append(a_record(number))
        print(log.failure, flush=True)
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    log.append(a_record(int(records) + 1))
    print(log.failure)
    print(len(os.listdir("/proc/self/fd")))
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
