"""Every wrong block is refused with its reason, and the chain goes on as if nothing was."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from signers.formats import block_header
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.hashes import operations_hash
from signers.formats.signable import Kind
from workers.sandbox.accounts import make_transfer
from workers.sandbox.block_tree import BLOCKS_PER_LEVEL_MAX
from workers.sandbox.chain import Outcome

# Level 7 has no seed nonce commitment, level 8 has one.
HEAD = 6


@pytest.fixture
def chain(bakery: Any) -> Any:
    bakery.bake_to(HEAD)
    return bakery


def assert_refused(bakery: Any, outcome: Outcome, reason: str) -> None:
    """The block is refused for this reason, has left no trace, and a right one is welcome."""
    assert outcome.refusal is not None
    assert outcome.refusal.reason == reason
    assert bakery.head.level == HEAD
    assert bakery.chain.statistics.refused_blocks == {reason: 1}
    assert bakery.bake().level == HEAD + 1


def inject(bakery: Any, header: BlockHeader, passes: Any) -> Outcome:
    outcome: Outcome = bakery.inject(bakery.signed(header), passes)
    return outcome


HEADERS: dict[str, Callable[[BlockHeader], BlockHeader]] = {
    "block_header.wrong_timestamp": lambda h: replace(h, timestamp=h.timestamp + 1),
    "validate.block.invalid_payload_hash": lambda h: replace(h, payload_hash=bytes(32)),
    "validator.inconsistent_operations_hash": lambda h: replace(
        h, operations_hash=operations_hash([[], [], [], []])
    ),
    "block_header.invalid_commitment": lambda h: replace(h, seed_nonce_hash=bytes(32)),
    "block_header.invalid_payload_round": lambda h: replace(h, payload_round=1),
    "node.state.block.inconsistent_context_hash": lambda h: replace(h, context=bytes(32)),
    "invalid_level": lambda h: replace(h, level=h.level + 1),
    "invalid_proto_level": lambda h: replace(h, proto=2),
    "unexpected_number_of_passes": lambda h: replace(h, validation_passes=3),
    "non_increasing_timestamp": lambda h: replace(h, timestamp=h.timestamp - 1),
    "wrong_fitness": lambda h: replace(
        h, fitness=Fitness.tenderbake(level=h.level, round=0, predecessor_round=1)
    ),
    "non_increasing_fitness": lambda h: replace(
        h, fitness=Fitness.tenderbake(level=h.level - 2, round=0, predecessor_round=0)
    ),
}


@pytest.mark.parametrize("reason", HEADERS)
def test_a_header_that_is_wrong_in_one_field(chain: Any, reason: str) -> None:
    passes = chain.passes(chain.attestations(chain.head), [chain.transfer_of(1)])
    header = HEADERS[reason](chain.header(passes))
    assert_refused(chain, inject(chain, header, passes), reason)


def test_a_fitness_of_another_protocol(chain: Any) -> None:
    passes = chain.passes(chain.attestations(chain.head))
    elements = (b"\x02", (HEAD + 1).to_bytes(4), b"", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00")
    header = chain.stamped(replace(chain.header(passes), fitness=Fitness(elements)))
    signature = chain.baker(HEAD + 1, 0).sign_block(header, chain.chain.rules.chain_id)
    raw = block_header.encode(replace(header, signature=signature))
    assert_refused(chain, chain.inject(raw, passes), "invalid_fitness")


def test_a_missing_commitment(chain: Any) -> None:
    chain.bake_to(HEAD + 1)
    passes = chain.passes(chain.attestations(chain.head))
    header = replace(chain.header(passes), seed_nonce_hash=None)
    outcome = inject(chain, header, passes)
    assert outcome.refusal is not None
    assert outcome.refusal.reason == "block_header.invalid_commitment"
    assert "Missing seed's nonce commitment" in str(outcome.refusal)
    assert chain.bake().header.seed_nonce_hash is not None


def test_a_signature_of_the_baker_of_another_round(chain: Any) -> None:
    passes = chain.passes(chain.attestations(chain.head))
    right, other = chain.baker(HEAD + 1, 0), chain.baker(HEAD + 1, 1)
    assert right is not other
    outcome = chain.inject(chain.signed(chain.header(passes), other), passes)
    assert_refused(chain, outcome, "block_header.invalid_block_signature")


def test_a_header_changed_after_it_was_signed(chain: Any) -> None:
    passes = chain.passes(chain.attestations(chain.head))
    raw = bytearray(chain.signed(chain.header(passes)))
    raw[-1] ^= 1
    outcome = chain.inject(bytes(raw), passes)
    assert_refused(chain, outcome, "block_header.invalid_block_signature")


def test_too_little_work(chain: Any) -> None:
    passes = chain.passes(chain.attestations(chain.head))
    header = chain.header(passes)
    threshold = chain.chain.rules.constants.proof_of_work_threshold
    while block_header.pow_is_enough(block_header.pow_stamp(header), threshold):
        nonce = int.from_bytes(header.proof_of_work_nonce) + 1
        header = replace(header, proof_of_work_nonce=nonce.to_bytes(8))
    key = chain.baker(HEAD + 1, 0)
    signature = key.sign_block(header, chain.chain.rules.chain_id)
    raw = block_header.encode(replace(header, signature=signature))
    assert_refused(chain, chain.inject(raw, passes), "block_header.invalid_stamp")


def test_the_future(chain: Any) -> None:
    passes = chain.passes(chain.attestations(chain.head))
    raw = chain.signed(chain.header(passes))
    early = chain.head.header.timestamp - 0.001
    outcome = chain.chain.inject_block(raw, passes, early)
    assert str(outcome.refusal) == "Block in the future."
    assert_refused(chain, outcome, "failure")


def test_an_unknown_predecessor(chain: Any) -> None:
    passes = chain.passes(chain.attestations(chain.head))
    outcome = inject(chain, replace(chain.header(passes), predecessor=bytes(32)), passes)
    assert "Unknown predecessor (BKiHLREqU3JkXfzEDYAkmmfX48gBDtYhMrpA98s7Aq4SzbUAB6M)" in str(
        outcome.refusal
    )
    assert_refused(chain, outcome, "failure")


def test_a_second_activation(chain: Any) -> None:
    passes = chain.passes(())
    genesis = chain.chain.tree.genesis
    outcome = inject(chain, chain.header(passes, predecessor=genesis), passes)
    assert_refused(chain, outcome, "failure")


@pytest.mark.parametrize("raw", [b"", b"\x00" * 300, bytes(400)])
def test_bytes_that_are_no_header(chain: Any, raw: bytes) -> None:
    outcome = chain.chain.inject_block(raw, ((),) * 4, chain.now)
    assert str(outcome.refusal) == "Cannot parse block header."
    assert_refused(chain, outcome, "failure")


def test_votes_that_the_protocol_does_not_have(new_bakery: Callable[..., Any]) -> None:
    from signers.formats.networks import TEZOS

    tezos = new_bakery(TEZOS)
    tezos.bake_to(HEAD)
    passes = tezos.passes(tezos.attestations(tezos.head))
    outcome = inject(tezos, replace(tezos.header(passes), per_block_votes=0x0A), passes)
    assert str(outcome.refusal) == "Cannot parse block header."
    assert_refused(tezos, outcome, "failure")


def test_more_blocks_of_one_level_than_are_kept(chain: Any) -> None:
    predecessor = chain.head
    votes = chain.attestations(predecessor)
    for round in range(BLOCKS_PER_LEVEL_MAX):
        passes = chain.passes(votes)
        assert inject(chain, chain.header(passes, round=round, predecessor=predecessor), passes)
    passes = chain.passes(votes)
    header = chain.header(passes, predecessor=predecessor, round=BLOCKS_PER_LEVEL_MAX)
    assert "keeps 128 blocks" in str(inject(chain, header, passes).refusal)


# -- operations of a block --


def refused_with(chain: Any, passes: Any, reason: str) -> None:
    assert_refused(chain, inject(chain, chain.header(passes), passes), reason)


def test_a_quorum_is_required_of_the_third_level_on(bakery: Any) -> None:
    assert bakery.bake().kinds == {}
    passes = bakery.passes(())
    outcome = inject(bakery, bakery.header(passes), passes)
    assert outcome.refusal is not None
    assert outcome.refusal.reason == "validate.block.not_enough_attestations"
    assert outcome.refusal.trace[-1].fields == {"required": 171, "provided": 0}


def test_an_attestation_of_the_activation_block(bakery: Any) -> None:
    activation = bakery.head
    votes = bakery.votes(Kind.ATTESTATION, activation)
    passes = bakery.passes(votes)
    outcome = inject(bakery, bakery.header(passes), passes)
    assert outcome.refusal is not None
    assert outcome.refusal.reason == "validate.unexpected_attestation_in_block"


def test_a_quorum_counts_slots_and_not_heads(chain: Any) -> None:
    committee = chain.chain.rules.rights.committee(HEAD)
    first_slots = sorted(slots[0] for slots in committee.slots.values())
    power = 0
    chosen = []
    for slot in first_slots:
        if power + committee.power(slot) < 171:
            chosen.append(slot)
            power += committee.power(slot)
    passes = chain.passes(chain.attestations(chain.head, slots=chosen))
    refused_with(chain, passes, "validate.block.not_enough_attestations")


def test_a_threshold_of_nothing_needs_no_votes(new_bakery: Callable[..., Any]) -> None:
    bakery = new_bakery(consensus_threshold=0)
    for _ in range(3):
        passes = bakery.passes(())
        assert inject(bakery, bakery.header(passes), passes).refusal is None
    assert bakery.head.level == 4


@pytest.mark.parametrize(
    ("reason", "other"),
    [
        ("validate.consensus_operation_for_old_level", {"level": HEAD - 1}),
        ("validate.consensus_operation_for_future_level", {"level": HEAD + 1}),
        ("validate.consensus_operation_for_future_round", {"round": 1}),
        ("validate.wrong_payload_hash_for_consensus_operation", {"payload_hash": bytes(32)}),
        ("operation.invalid_signature", {"chain_id": b"else"}),
        ("outdated_operation", {"branch": bytes(32)}),
    ],
)
def test_an_attestation_for_something_else(chain: Any, reason: str, other: Any) -> None:
    right = chain.attestations(chain.head)
    wrong = chain.attestations(chain.head, slots=[0], **other)
    refused_with(chain, chain.passes([*right[1:], *wrong]), reason)


def test_an_attestation_in_a_slot_that_is_not_the_first(chain: Any) -> None:
    committee = chain.chain.rules.rights.committee(HEAD)
    slots = next(slots for slots in committee.slots.values() if len(slots) > 1)
    wrong = chain.attestations(chain.head, slots=[slots[1]])
    right = chain.attestations(chain.head)
    refused_with(
        chain, chain.passes([*right, *wrong]), "validate.wrong_slot_for_consensus_operation"
    )


def test_an_attestation_twice(chain: Any) -> None:
    right = chain.attestations(chain.head)
    refused_with(
        chain,
        chain.passes([*right, right[0]]),
        "validate.double_inclusion_of_consensus_operation",
    )


@pytest.fixture
def proposal(chain: Any) -> Any:
    """A proposal of the next level, and the chain where it is at stake."""
    predecessor = chain.head
    block = chain.bake()
    return predecessor, block


def test_a_preattestation_in_a_fresh_block(chain: Any, proposal: Any) -> None:
    predecessor, block = proposal
    votes = [*chain.attestations(predecessor), *chain.preattestations(block)]
    passes = chain.passes(votes)
    header = chain.header(passes, predecessor=predecessor, round=1, payload_round=0)
    outcome = inject(chain, header, passes)
    assert outcome.refusal is not None
    assert outcome.refusal.reason == "validate.unexpected_preattestation_in_block"


def test_a_lock_without_a_quorum(chain: Any, proposal: Any) -> None:
    predecessor, block = proposal
    few = chain.preattestations(block)[:2]
    for votes, reason in (
        (few, "validate.block.insufficient_locked_round_evidence"),
        ([], "wrong_fitness"),
    ):
        passes = chain.passes([*chain.attestations(predecessor), *votes])
        header = chain.header(
            passes, predecessor=predecessor, round=1, payload_round=0, locked_round=0
        )
        outcome = inject(chain, header, passes)
        assert outcome.refusal is not None
        assert outcome.refusal.reason == reason
        assert chain.head is block


def test_preattestations_of_another_payload_or_round(chain: Any, proposal: Any) -> None:
    predecessor, block = proposal
    attestations = chain.attestations(predecessor)
    for round, other, reason in (
        (1, {"payload_hash": bytes(32)}, "validate.wrong_payload_hash_for_consensus_operation"),
        (1, {"round": 1}, "validate.preattestation_round_too_high"),
        (3, {"round": 1}, "validate.consensus_operation_for_future_round"),
    ):
        votes = chain.preattestations(block, **other)
        passes = chain.passes([*attestations, *votes])
        header = chain.header(
            passes, predecessor=predecessor, round=round, payload_round=0, locked_round=0
        )
        outcome = inject(chain, header, passes)
        assert outcome.refusal is not None
        assert outcome.refusal.reason == reason


def test_an_operation_in_another_pass(chain: Any) -> None:
    passes = ((), (), (), chain.attestations(chain.head))
    refused_with(chain, passes, "invalid_pass")


def test_an_operation_that_is_none(chain: Any) -> None:
    votes = chain.attestations(chain.head)
    garbage = chain.head.hash + b"\x15" + bytes(80)
    refused_with(chain, chain.passes([*votes, garbage]), "cannot_parse_operation")


def test_an_operation_that_was_included_before(chain: Any) -> None:
    included = chain.head.operations[0][0].signed
    votes = chain.attestations(chain.head)
    refused_with(chain, chain.passes([*votes, included]), "replayed_operation")


def test_three_lists_of_operations(chain: Any) -> None:
    passes = (chain.attestations(chain.head), (), ())
    header = chain.header((*passes, ()))
    assert_refused(chain, inject(chain, header, passes), "unexpected_number_of_passes")


def test_more_anonymous_operations_than_a_block_may_hold(chain: Any) -> None:
    revelations = [
        chain.head.hash + b"\x01" + level.to_bytes(4) + bytes(32) + bytes(64)
        for level in range(133)
    ]
    passes = (chain.attestations(chain.head), (), revelations, ())
    refused_with(chain, passes, "too_many_operations")


def test_an_operation_that_is_too_large(chain: Any, accounts: list[Any]) -> None:
    # 700 transactions of some 50 bytes each: over the 32 KiB of one operation.
    from signers.formats.operation import Operation, decode_operation
    from workers.sandbox.accounts import sign_operation

    one = decode_operation(chain.transfer(accounts[1]), chain.network)
    batch = Operation(one.branch, one.contents * 700, None)
    large = sign_operation(accounts[1], batch)
    passes = chain.passes(chain.attestations(chain.head), [large])
    refused_with(chain, passes, "oversized_operation")


@pytest.mark.parametrize(
    ("reason", "other"),
    [
        ("contract.counter_in_the_past", {"counter": 0}),
        ("contract.counter_in_the_future", {"counter": 2}),
        ("mav.subtraction_underflow", {"fee": 20_000_000_000}),
        ("gas_limit_too_high", {"gas_limit": 1_040_001}),
        ("storage_limit_too_high", {"storage_limit": 60_001}),
        ("gas_exhausted.operation", {"gas_limit": 165}),
        ("outdated_operation", {"branch": bytes(32)}),
    ],
)
def test_a_transfer_that_is_not_valid(
    chain: Any, accounts: list[Any], reason: str, other: Any
) -> None:
    votes = chain.attestations(chain.head)
    passes = chain.passes(votes, [chain.transfer(accounts[1], **other)])
    refused_with(chain, passes, reason)


def test_a_transfer_signed_by_somebody_else(chain: Any, accounts: list[Any]) -> None:
    signed = bytearray(chain.transfer(accounts[1]))
    signed[-64:] = chain.transfer(accounts[2])[-64:]
    passes = chain.passes(chain.attestations(chain.head), [bytes(signed)])
    refused_with(chain, passes, "operation.invalid_signature")


def test_a_transfer_without_a_signature(chain: Any, accounts: list[Any]) -> None:
    signed = chain.transfer(accounts[1])[:-64] + bytes(64)
    passes = chain.passes(chain.attestations(chain.head), [signed])
    refused_with(chain, passes, "operation.missing_signature")


def test_two_operations_of_one_source(chain: Any, accounts: list[Any]) -> None:
    """Both alone are valid, and together they would spend the same coin twice."""
    twice = [chain.transfer(accounts[1], amount=amount) for amount in (1, 2)]
    passes = chain.passes(chain.attestations(chain.head), twice)
    refused_with(chain, passes, "validate.operation.manager_restriction")


def test_an_unrevealed_source(chain: Any, accounts: list[Any]) -> None:
    passes = chain.passes(chain.attestations(chain.head), [chain.transfer(accounts[6])])
    refused_with(chain, passes, "contract.unrevealed_key")


def test_a_source_that_the_chain_has_never_heard_of(
    chain: Any, accounts: list[Any], strangers: list[Any]
) -> None:
    signed = make_transfer(
        chain.network,
        strangers[0],
        branch=chain.head.hash,
        counter=1,
        destination=accounts[0].address,
        amount=1,
    )
    passes = chain.passes(chain.attestations(chain.head), [signed])
    refused_with(chain, passes, "implicit.empty_implicit_contract")


def test_more_gas_than_a_block_has(chain: Any, accounts: list[Any]) -> None:
    hungry = [chain.transfer(key, gas_limit=1_040_000) for key in accounts[1:3]]
    passes = chain.passes(chain.attestations(chain.head), hungry)
    refused_with(chain, passes, "gas_exhausted.block")


def test_a_kind_of_operation_that_the_sandbox_does_not_play(
    chain: Any, accounts: list[Any]
) -> None:
    from signers.formats.manager_operation import REGISTER_GLOBAL_CONSTANT
    from signers.formats.operation import Content, Operation
    from workers.sandbox.accounts import sign_operation

    fields = {"source": accounts[1].address, "fee": 1000, "counter": 1, "gas_limit": 1000}
    fields |= {"storage_limit": 0, "value": b"\x03\x0b"}
    content = Content(111, REGISTER_GLOBAL_CONSTANT, fields)
    signed = sign_operation(accounts[1], Operation(chain.head.hash, (content,), None))
    passes = chain.passes(chain.attestations(chain.head), [signed])
    refused_with(chain, passes, "sandbox.unsupported_operation")


def test_the_trace_of_a_protocol_error_has_the_general_error_in_front(chain: Any) -> None:
    passes = chain.passes(())
    outcome = inject(chain, chain.header(passes), passes)
    assert outcome.refusal is not None
    outer, inner = outcome.refusal.to_json("proto.002-PtBoreas.")
    assert outer["id"] == "validator.invalid_block"
    assert outer["error"] == "economic_protocol_error"
    assert outer["trace"] == [inner]
    assert inner == {
        "kind": "permanent",
        "id": "proto.002-PtBoreas.validate.block.not_enough_attestations",
        "required": 171,
        "provided": 0,
    }
