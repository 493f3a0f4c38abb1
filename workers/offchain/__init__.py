"""The off-chain task processor: applications get their operators run, in order, safely.

docs/offchain.md has the whole picture. The pure part is `processor` (hardened) and `seed_processor`
(as the source system does it), both of which take a stimulus of `stimuli` and the time and return
commands of `commands`. The rim around them is a child process of a worker, without keys.
"""
