"""How a process that works for the network's sake leaves the cores to own duties."""

from __future__ import annotations

import os

# A tenth of the weight of broker and workers, where cores are few: own duties come first.
NICENESS = 10


def give_way() -> None:
    """Get what is left of the cores, and interrupt nobody."""
    os.nice(NICENESS)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
