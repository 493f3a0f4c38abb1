"""The off-chain task processor: applications get their operators run, in order, safely.

docs/offchain.md has the whole picture. A pure core, `hardened.processor` or, as the source system
does it, `compat.seed_processors`, takes the stimuli of `stimuli` and the time, and returns the
commands of `commands`. `processor_loop` performs them in a child process of a worker, without keys:
the journal first, then operators and the node service.
"""
