"""Python's garbage collector, set for processes that make and drop values by the hundred thousand.

What a vote leaves behind goes by reference count; the collector only looks for cycles, of which
there are hardly any, and its default is to look after every 700 new objects.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 50_000  # a look at so few takes about a millisecond
OLDER_LOOKS = 20


def tune_collector() -> None:
    """Leave out of every look what was made at the start, and look less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, OLDER_LOOKS, OLDER_LOOKS)
