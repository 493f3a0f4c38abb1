"""Which block a path means: ``head~2``, ``BL…``, ``17``, ``genesis+1`` and their like.

A ``~N`` or ``-N`` goes down, ``+N`` up along the chain of the head. Behind a hash, ``~N``
walks predecessors, so it works on a side branch; behind a level it is arithmetic. Nothing is
clamped: a block before genesis is an unknown one. Source: Octez ``block_services.ml``.
"""

from __future__ import annotations

import re

from signers.errors import MalformedBytes
from signers.formats import base58
from workers.sandbox.block_tree import Block, BlockTree

_FORM = re.compile(r"(?P<base>[0-9A-Za-z]+)(?:(?P<way>[~+-])(?P<steps>[0-9]{1,10}))?")
# No level is longer; longer runs of digits would only cost time.
_LEVEL_DIGITS_MAX = 10


class NotABlockId(Exception):
    """The text names no block in any chain."""


def find_block(tree: BlockTree, text: str) -> Block | None:
    """Return the block that `text` names, None when it is not known.

    Raises NotABlockId when the text is not the name of any block.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise NotABlockId(text)
    base, way = match["base"], match["way"]
    steps = int(match["steps"] or 0)
    if base == "head":
        if way == "+":
            raise NotABlockId(text)
        return tree.at_level(tree.head.level - steps)
    if base == "genesis":
        if way not in ("+", None):
            raise NotABlockId(text)
        return tree.at_level(steps)
    if base in ("checkpoint", "savepoint", "caboose"):
        return tree.at_level(_moved(_landmark(tree, base), way, steps))
    if base.isdecimal() and len(base) <= _LEVEL_DIGITS_MAX:
        return tree.at_level(_moved(int(base), way, steps))
    return _from_hash(tree, base, way, steps)


def _landmark(tree: BlockTree, name: str) -> int:
    # Tenderbake makes a block final when there are two on top of it.
    return max(1, tree.head.level - 2) if name == "checkpoint" else tree.caboose


def _moved(level: int, way: str | None, steps: int) -> int:
    return level + steps if way == "+" else level - steps


def _from_hash(tree: BlockTree, base: str, way: str | None, steps: int) -> Block | None:
    try:
        block = tree.get(base58.decode(base58.BLOCK_HASH, base))
    except MalformedBytes:
        raise NotABlockId(base) from None
    if block is None or steps == 0:
        return block
    if way == "+":
        on_main = tree.at_level(block.level) is block
        return tree.at_level(block.level + steps) if on_main else None
    if steps > block.level:
        return None
    for ancestor in tree.ancestors(block):
        if ancestor.level == block.level - steps:
            return ancestor
    return None
