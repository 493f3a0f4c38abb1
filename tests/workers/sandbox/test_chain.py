"""The chain in its good days: levels, rounds, re-proposals and re-orgs."""

from collections.abc import Callable
from typing import Any

from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind
from workers.sandbox.block_tree import CONTEXTS_KEPT_LEVELS, HISTORY_MARGIN_LEVELS
from workers.sandbox.chain import BlockValidated, HeadChanged, OperationClassified
from workers.sandbox.ledger import Ledger, addresses
from workers.sandbox.mempool import Class


def supply(bakery: Any) -> int:
    """All that the accounts of the head own, and what was burnt."""
    ledger = Ledger(bakery.head.context)
    accounts = [ledger.account(address) for address in addresses(bakery.head.context)]
    return sum(each.balance + each.frozen for each in accounts) + ledger.progress.burnt


def test_thirty_levels(new_bakery: Callable[..., Any], network: Any, accounts: list[Any]) -> None:
    bakery = new_bakery(network)
    supply_before = supply(bakery)
    rewards = 0
    for level in range(2, 32):
        block = bakery.bake([bakery.transfer(accounts[level % 5 + 1])])
        rewards += block.reward + block.bonus
        assert (block.level, block.round) == (level, 0)
        assert block.kinds["transaction"] == 1
    assert supply(bakery) == supply_before + rewards
    statistics = bakery.chain.statistics
    assert (statistics.blocks, statistics.rounds_over_zero) == (30, 0)
    assert statistics.operations_included == 30
    # The first baked block holds no attestations, for nobody attests an activation.
    delegates = len(bakery.chain.rules.consensus_keys)
    assert statistics.included["attestation"] == 29 * delegates
    assert bakery.chain.double_signing.conflicts_total == 0


def test_equal_genesis_and_equal_blocks_give_equal_states(
    new_bakery: Callable[..., Any], accounts: list[Any]
) -> None:
    hashes = []
    for _ in range(2):
        bakery = new_bakery()
        bakery.bake_to(6)
        hashes.append(bakery.bake([bakery.transfer(accounts[1])]).resulting_context_hash)
    assert hashes[0] == hashes[1]


def test_a_late_baker_has_his_locked_payload_proposed_again(
    bakery: Any, accounts: list[Any]
) -> None:
    predecessor = bakery.bake_to(5)
    votes = bakery.attestations(predecessor)
    transfer = bakery.transfer(accounts[1])
    proposal = bakery.bake([transfer])
    # Everybody preattests in time, nobody attests; round 1 must carry the payload on.
    preattestations = bakery.preattestations(proposal)
    passes = bakery.passes([*votes, *preattestations], [transfer])
    header = bakery.header(
        passes, predecessor=predecessor, round=1, payload_round=0, locked_round=0
    )
    outcome = bakery.inject(bakery.signed(header), passes)
    assert outcome.refusal is None
    again = bakery.head
    assert outcome.events[-1] == HeadChanged(again, (proposal,))
    assert (again.level, again.round, again.header.payload_round) == (6, 1, 0)
    assert again.header.payload_hash == proposal.header.payload_hash
    assert again.proposer == proposal.baker == proposal.proposer
    assert again.baker == bakery.baker(6, 1).address
    assert again.preattesting_power == 256
    # The level is attested in its new round, and the chain goes on.
    assert bakery.bake().header.fitness.predecessor_round == 1
    statistics = bakery.chain.statistics
    assert (statistics.blocks, statistics.rounds_over_zero) == (6, 1)
    assert (statistics.reproposals, statistics.reorganisations) == (1, 1)
    assert statistics.included["preattestation"] == 5
    assert statistics.operations_included == 1


def test_fees_and_fixed_reward_go_to_the_proposer_and_the_bonus_to_the_baker(
    bakery: Any, accounts: list[Any]
) -> None:
    predecessor = bakery.bake_to(5)
    votes = bakery.attestations(predecessor)
    proposer, baker = bakery.baker(6, 0), bakery.baker(6, 1)
    assert proposer is not baker
    before = bakery.account(proposer).balance, bakery.account(baker).balance
    transfer = bakery.transfer(accounts[1], fee=777)
    proposal = bakery.bake([transfer])
    passes = bakery.passes([*votes, *bakery.preattestations(proposal)], [transfer])
    bakery.inject(
        bakery.signed(
            bakery.header(passes, predecessor=predecessor, round=1, payload_round=0, locked_round=0)
        ),
        passes,
    )
    constants = bakery.chain.rules.constants
    assert bakery.account(proposer).balance - before[0] == 777 + constants.baking_reward
    above = constants.consensus_committee_size - constants.consensus_threshold
    assert bakery.account(baker).balance - before[1] == above * constants.bonus_per_slot > 0


def test_a_better_round_takes_the_head_and_operations_come_back(
    bakery: Any, accounts: list[Any]
) -> None:
    predecessor = bakery.bake_to(5)
    transfer = bakery.transfer(accounts[1])
    assert bakery.inject_operation(transfer).refusal is None
    first = bakery.bake([transfer])
    assert not list(bakery.chain.mempool.of_class(Class.VALIDATED))
    second = bakery.bake(predecessor=predecessor, round=1)
    assert bakery.head is second
    assert (second.level, second.round) == (6, 1)
    assert first.header.fitness < second.header.fitness
    waiting = [each.operation.signed for each in bakery.chain.mempool.of_class(Class.VALIDATED)]
    assert transfer in waiting
    assert bakery.bake([transfer]).kinds["transaction"] == 1


def test_a_locked_round_beats_a_later_round_without_one(bakery: Any, accounts: list[Any]) -> None:
    predecessor = bakery.bake_to(5)
    votes = bakery.attestations(predecessor)
    proposal = bakery.bake()
    passes = bakery.passes([*votes, *bakery.preattestations(proposal)])
    header = bakery.header(
        passes, predecessor=predecessor, round=1, payload_round=0, locked_round=0
    )
    bakery.inject(bakery.signed(header), passes)
    locked = bakery.head
    fresh = bakery.passes(votes, [bakery.transfer(accounts[2], branch=predecessor.hash)])
    outcome = bakery.inject(
        bakery.signed(bakery.header(fresh, predecessor=predecessor, round=2)), fresh
    )
    assert outcome.refusal is None
    assert [type(event) for event in outcome.events] == [BlockValidated]
    assert bakery.head is locked
    assert bakery.chain.statistics.blocks_validated == 7


def test_a_branch_with_the_better_predecessor_wins_two_levels_deep(bakery: Any) -> None:
    root = bakery.bake_to(5)
    early = bakery.bake(predecessor=root, round=0)
    late = bakery.bake(predecessor=root, round=1)
    on_late = bakery.bake(predecessor=late)
    assert bakery.head is on_late
    # Level 7 on the block of round 0: a lower predecessor round is fitter.
    passes = bakery.passes(bakery.attestations(early))
    outcome = bakery.inject(bakery.signed(bakery.header(passes, predecessor=early)), passes)
    assert outcome.refusal is None
    assert isinstance(outcome.events[-1], HeadChanged)
    assert outcome.events[-1].left == (late, on_late)
    assert bakery.chain.tree.at_level(6) is early
    assert bakery.chain.statistics.rounds_over_zero == 0


def test_the_same_block_twice_is_one_block(bakery: Any) -> None:
    block = bakery.bake_to(3)
    raw = block.raw_header
    passes = [[each.signed for each in one_pass] for one_pass in block.operations]
    outcome = bakery.chain.inject_block(raw, passes, bakery.now)
    assert outcome == (block.hash, None, ())
    assert bakery.chain.statistics.blocks_validated == 2


def test_old_states_then_old_blocks_are_forgotten(new_bakery: Callable[..., Any]) -> None:
    bakery = new_bakery(max_operations_time_to_live=8)
    second = bakery.bake()
    bakery.bake_to(2 + CONTEXTS_KEPT_LEVELS)
    assert bakery.chain.tree.get(second.hash) is second
    assert second.context is None
    assert bakery.head.context is not None
    kept = 8 + HISTORY_MARGIN_LEVELS
    bakery.bake_to(3 + kept)
    tree = bakery.chain.tree
    assert tree.get(second.hash) is None
    assert tree.at_level(2) is None
    assert tree.at_level(3) is not None
    assert tree.caboose == 3
    assert len(list(tree.ancestors(bakery.head))) == kept + 1
    assert tree.at_level(0) is not None
    assert len(tree.live_blocks(bakery.head)) == 9
    stale = bakery.passes(())
    header = bakery.header(stale, predecessor=tree.at_level(3))
    assert "Unknown predecessor" in str(bakery.inject(bakery.signed(header), stale).refusal)


def test_votes_seen_are_counted_once_wherever_they_come_from(bakery: Any) -> None:
    block = bakery.bake_to(4)
    attestations = bakery.attestations(block)
    for vote in [*attestations, *bakery.preattestations(block), *attestations]:
        outcome = bakery.inject_operation(vote)
        assert outcome.refusal is None
        assert all(isinstance(event, OperationClassified) for event in outcome.events)
    bakery.bake()
    statistics = bakery.chain.statistics
    assert statistics.preattestations_seen == 5
    assert statistics.attestations_seen == 3 * 5
    assert statistics.included["attestation"] == 3 * 5
    arrivals = statistics.arrivals[4]
    assert sum(what.kind is Kind.BLOCK for what in arrivals) == 1
    assert sum(what.kind is Kind.ATTESTATION for what in arrivals) == 5


def test_attestations_with_dal_count_where_the_protocol_has_them(
    new_bakery: Callable[..., Any],
) -> None:
    for network, protocol, has_them in ((MAVRYK, 0, True), (TEZOS, 0, True), (MAVRYK, 1, False)):
        bakery = new_bakery(network, protocol)
        block = bakery.bake_to(4)
        votes = [*bakery.attestations(block, slots=[0], dal=5)]
        first_slots = [slots[0] for slots in bakery.chain.rules.rights.committee(4).slots.values()]
        votes += bakery.attestations(block, slots=[slot for slot in first_slots if slot])
        passes = bakery.passes(votes)
        outcome = bakery.inject(bakery.signed(bakery.header(passes)), passes)
        if has_them:
            assert outcome.refusal is None
            assert bakery.head.attesting_power == 256
            assert bakery.head.kinds["attestation_with_dal"] == 1
        else:
            assert outcome.refusal.reason == "sandbox.unsupported_operation"
