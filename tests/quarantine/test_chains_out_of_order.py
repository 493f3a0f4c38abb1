"""Scenarios 1 to 3, 25, 26, 27: chains that arrive in any order, and what builds on bad blocks."""

from __future__ import annotations

from quarantine_script import Script, name_of


def test_1_a_chain_in_exact_reverse_order_clears_in_level_order() -> None:
    script = Script()
    script.worker.node = [script.root]
    blocks = script.root.chain(200)
    top = 0
    for i, block in enumerate(reversed(blocks)):
        script.block(block, f"p{i % 8}")
        script.step()
        top = max(top, len(script.core.missing))
    script.run()
    assert script.cleared() == [name_of(block) for block in blocks]
    assert top == 1
