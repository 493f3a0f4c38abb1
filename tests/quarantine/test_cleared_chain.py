"""The window of cleared blocks: its head, what is final, and what is forgotten."""

from __future__ import annotations

import msgspec
from scripted_chain import Block, digest, genesis

from broker.quarantine.bounds import Bounds
from broker.quarantine.cleared_chain import ClearedChain
from broker.quarantine.records import ClearedBlock
from broker.verification import VoteFacts


def cleared(block: Block, operations: list[list[bytes]] | None = None) -> ClearedBlock:
    """A block that the node told of, or with operations one that somebody has sent."""
    return ClearedBlock(block.facts, block.raw, operations, (), "feeder" if operations else "")


def chain_of(blocks: list[Block], bounds: Bounds | None = None) -> ClearedChain:
    chain = ClearedChain(bounds or Bounds())
    for block in blocks:
        chain.add(cleared(block))
    return chain


def facts_for(block: Block, *, branch: Block) -> VoteFacts:
    """What a vote for a block says that names another block as its branch."""
    h = block.header
    return VoteFacts(
        "attestation", h.level, h.round, 0, branch.hash, h.payload_hash, "d", b"statement"
    )


def test_two_below_the_head_is_final() -> None:
    root = genesis()
    blocks = [root, *root.chain(5)]
    chain = chain_of(blocks)
    assert chain.head_level == 105
    assert chain.final_level == 103
    assert chain.final_hash() == blocks[3].hash
    assert [a.header for a in chain.ancestors(blocks[5].hash, ())] == [
        block.raw for block in reversed(blocks[3:])
    ]


def test_ancestors_go_on_to_a_final_block_that_the_node_has() -> None:
    root = genesis()
    blocks = root.chain(5)
    chain = chain_of([root])
    for block in blocks:
        chain.add(cleared(block, [[], [], [], [bytes(1_000)]]))
    assert chain.final_level == 103
    # Nobody knows whether the node has any of the five.
    assert [a.header for a in chain.ancestors(blocks[4].hash, ())] == [
        block.raw for block in reversed([root, *blocks])
    ]
    assert chain.node_has(blocks[1].hash)
    assert len(chain.ancestors(blocks[4].hash, ())) == 4
    assert not chain.node_has(bytes(32))


def test_49_without_finality_the_window_still_moves_with_the_head() -> None:
    chain = ClearedChain(Bounds(cleared_levels=10))
    block = genesis()
    for i in range(50):
        # No block stands on one that is known, so that none is ever final.
        header = msgspec.structs.replace(block.child().header, predecessor=digest(b"%d" % i))
        block = Block(header)
        chain.add(cleared(block))
        assert len(chain) <= 11
    assert chain.final_level == -1
    assert block.hash in chain


def test_at_the_bound_the_oldest_beside_the_head_s_branch_goes() -> None:
    root = genesis()
    branch = [root, *root.chain(2)]
    forks = [branch[1].child(round_=0, nonce=i + 1) for i in range(6)]
    chain = chain_of([*branch, *forks], Bounds(cleared_blocks=6))
    assert all(block.hash in chain for block in branch)
    assert [fork.hash in chain for fork in forks] == [False] * 3 + [True] * 3
    # A vote finds its proposal as long as the proposal is known, and no longer.
    assert chain.takes(facts_for(forks[5], branch=root))
    assert not chain.takes(facts_for(forks[0], branch=root))


def test_the_oldest_operations_go_when_there_are_too_many_bytes() -> None:
    root = genesis()
    blocks = root.chain(3)
    chain = ClearedChain(Bounds(cleared_bytes=2_500))
    for block in blocks:
        chain.add(cleared(block, [[], [], [], [bytes(1_000)]]))
    wanted = tuple(block.hash for block in blocks)
    carried = [a.operations is not None for a in chain.ancestors(blocks[2].hash, wanted)]
    assert carried == [True, True, False]
    assert chain.bytes == 2_000


def test_the_greater_fitness_is_the_head_and_what_the_node_settles_stays_settled() -> None:
    root = genesis()
    low, high = root.child(round_=0), root.child(round_=1)
    chain = chain_of([root, high, low])
    assert chain.head is not None
    assert chain.head.facts.hash == high.hash
    assert chain.settle(root.hash)
    assert not chain.settle(root.hash)
    assert chain.final_level == 100


def test_a_vote_may_name_what_its_proposal_stands_on_and_nothing_beside_or_above() -> None:
    root = genesis()
    main = root.chain(4)
    side = root.child(nonce=1)
    fork = side.child()
    above = fork.child()
    chain = chain_of([root, *main, side, fork, above])
    assert chain.final_level == 102
    named = [root, side, fork, main[0], main[1], main[3]]
    taken = [chain.takes(facts_for(fork, branch=block)) for block in named]
    assert taken == [True, True, True, False, False, False]
    named = [root, main[1], main[2], main[3], side]
    taken = [chain.takes(facts_for(main[2], branch=block)) for block in named]
    assert taken == [True, True, True, False, False]
    assert not chain.takes(facts_for(root, branch=main[0])), "it is final, and above"
    lost = [chain.has_lost(block.hash) for block in (root, *main, side, fork, above)]
    assert lost == [False] * 5 + [True] * 3
    rival = main[2].child(nonce=1)
    chain.add(cleared(rival))
    assert not chain.has_lost(rival.hash), "it stands on the final block"
    assert not chain.has_lost(digest(b"nobody's"))


def test_what_was_cleared_before_a_gap_is_not_called_lost() -> None:
    root = genesis()
    before = [root, *root.chain(2)]
    above = Block(msgspec.structs.replace(root.child().header, level=130, predecessor=b"?" * 32))
    after = [above, *above.chain(2)]
    chain = chain_of([*before, *after])
    assert (chain.final_level, chain.head_level) == (130, 132)
    assert not any(chain.has_lost(block.hash) for block in (*before, *after))
    old = digest(b"old")
    votes = [
        msgspec.structs.replace(facts_for(after[2], branch=above), branch=hash_)
        for hash_ in (root.hash, before[1].hash, old)
    ]
    assert [chain.takes(vote) for vote in votes] == [True, False, False], "the root was final"
    under = [digest(b"%d" % level) for level in range(129, 101, -1)]
    chain.told_below(130, [*under, before[1].hash], 360)
    assert [chain.takes(vote) for vote in votes] == [True, True, False]
