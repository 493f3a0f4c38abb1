"""Whole preparations against a node: what is in the block, and what ends without one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from signers.formats import base58
from signers.formats.block_header import decode, pow_is_enough, pow_stamp, votes_of
from signers.formats.hashes import blake2b_32, operations_hash, payload_hash
from tests.workers.preparation.scripted_node import CHAIN, PREDECESSOR, ScriptedNode
from tests.workers.preparation.views import CONSTANTS, MAVRYK, VIEW, view
from tests.workers.preparation.wallet import Wallet, as_pending
from workers.node.transport import Node
from workers.preparation.block_preparation import BlockPreparation
from workers.preparation.block_request import (
    ExtraOperation,
    ForgeBlock,
    Fresh,
    Reproposal,
    encode_forge_block,
)
from workers.preparation.preparation_errors import (
    DeadlinePassed,
    InvalidRequest,
    MalformedRequest,
    NodeAnswerMalformed,
    NodeTimeout,
    NodeUnavailable,
    NotOnNode,
    PreparationError,
)
from workers.preparation.preparation_job import PreparationJob, PreparedBlock

LIVE, DEAD = VIEW.predecessor, bytes([5]) * 32
ALICE, BOB, CAROL = Wallet(1), Wallet(2), Wallet(3)


def request(content: Fresh | Reproposal | None = None, **fields: Any) -> ForgeBlock:
    fields = {
        "chain_id": CHAIN,
        "predecessor": PREDECESSOR,
        "level": VIEW.level + 1,
        "round": 0,
    } | fields
    return ForgeBlock(content=content or Fresh(), **fields)


def prepare(
    node: ScriptedNode,
    wanted: ForgeBlock | bytes,
    *,
    within_s: float = 5.0,
    seed_nonce: bytes | None = None,
    repeat: int = 1,
) -> PreparedBlock:
    payload = wanted if isinstance(wanted, bytes) else encode_forge_block(wanted)

    async def scenario() -> PreparedBlock:
        nodes = {"main": Node(node.url)}
        preparation = BlockPreparation(nodes, MAVRYK, randomness=lambda count: b"\x2a" * count)
        try:
            for _ in range(repeat):
                deadline = asyncio.get_running_loop().time() + within_s
                job = PreparationJob(1, payload, ALICE.address, 1000, seed_nonce)
                prepared = await preparation.prepare(job, deadline=deadline)
            return prepared
        finally:
            await nodes["main"].aclose()

    return asyncio.run(scenario())


def fails(
    node: ScriptedNode, wanted: ForgeBlock | bytes, error: type, why: str, **how: Any
) -> None:
    with pytest.raises(error, match=why):
        prepare(node, wanted, **how)


def vote(slot: int = 0, **fields: Any) -> bytes:
    fields = {
        "level": VIEW.level,
        "round_": VIEW.round,
        "payload_hash": VIEW.payload_hash,
        "slot": slot,
    } | fields
    return BOB.vote(LIVE, **fields)


# -- fresh blocks ---------------------------------------------------------------------------------


def test_an_empty_block_stands_on_its_predecessor() -> None:
    with ScriptedNode() as node:
        prepared = prepare(node, request(round=2, liquidity_baking_vote="off"))
    header = decode(prepared.unsigned_header)
    assert header.signature is None
    assert (header.level, header.round, header.payload_round) == (101, 2, 2)
    assert header.predecessor == VIEW.predecessor == prepared.predecessor
    assert header.context == VIEW.resulting_context
    # 10 s for the predecessor's round 0, then rounds 0 and 1 of 10 s and 15 s.
    assert header.timestamp == VIEW.timestamp + 10 + 25
    assert header.fitness.locked_round is None
    assert votes_of(header.per_block_votes) == ("off", "pass")
    assert prepared.operations == [[], [], [], []]
    assert header.operations_hash == operations_hash([[]] * 4)
    assert pow_is_enough(pow_stamp(header), CONSTANTS.proof_of_work_threshold)
    assert (prepared.level, prepared.round, prepared.seed_nonce) == (101, 2, None)


def test_the_mempool_and_the_clients_own_operations_fill_the_block() -> None:
    attestation, mine = vote(0), BOB.transaction(LIVE, fee=300)
    theirs = [vote(1), ALICE.transaction(LIVE, fee=2_000), CAROL.transaction(LIVE, fee=9_000)]
    with ScriptedNode() as node:
        node.pending = theirs
        for wallet in (ALICE, BOB, CAROL):
            node.account(wallet)
        wanted = Fresh(
            consensus_operations=[attestation], extra_operations=[ExtraOperation(mine, 5)]
        )
        prepared = prepare(node, request(wanted))
    assert prepared.operations == [
        sorted([attestation, theirs[0]]),
        [],
        [],
        [mine, theirs[2], theirs[1]],
    ]
    header = decode(prepared.unsigned_header)
    hashes = [[blake2b_32(each) for each in one] for one in prepared.operations]
    assert header.operations_hash == operations_hash(hashes)
    assert header.payload_hash == payload_hash(VIEW.predecessor, 0, hashes[3])


def test_operations_that_cannot_be_in_the_block_are_left_out() -> None:
    good = ALICE.transaction(LIVE)
    with ScriptedNode() as node:
        for wallet in (ALICE, BOB):
            node.account(wallet)
        node.pending = [
            good,
            BOB.transaction(DEAD),
            BOB.transaction(LIVE, counter=2),
            CAROL.transaction(LIVE),  # has no account
            vote(level=VIEW.level - 1),
        ]
        bad_signature = BOB.transaction(LIVE)[:-1] + b"\0"
        wanted = Fresh(
            consensus_operations=[b"\x07" * 60, vote(round_=3)],
            extra_operations=[ExtraOperation(bad_signature)],
        )
        prepared = prepare(node, request(wanted))
    assert prepared.operations == [[], [], [], [good]]


def test_without_the_mempool_only_the_clients_operations_count() -> None:
    with ScriptedNode() as node:
        node.account(ALICE)
        node.pending = [ALICE.transaction(LIVE)]
        assert prepare(node, request(Fresh(mempool=False))).operations == [[], [], [], []]
        assert not any("mempool" in path for path in node.asked)


def test_the_nodes_own_forging_is_used_for_rare_kinds_and_checked() -> None:
    # An activation: anonymous, and none of the kinds that are written here.
    signed = LIVE + bytes.fromhex("04" + "11" * 20 + "22" * 20) + bytes(64)
    with ScriptedNode() as node:
        node.pending = [signed]
        node.answers[f"/chains/{CHAIN}/blocks/head/helpers/forge/operations"] = signed[:-64].hex()
        assert prepare(node, request()).operations == [[], [], [signed], []]
        lie = bytearray(signed[:-64])
        lie[40] ^= 1
        node.answers[f"/chains/{CHAIN}/blocks/head/helpers/forge/operations"] = lie.hex()
        assert prepare(node, request()).operations == [[], [], [], []]


def test_a_block_without_the_mempool_is_better_than_none() -> None:
    mempool = f"/chains/{CHAIN}/mempool/pending_operations"
    with ScriptedNode() as node:
        node.broken.add(mempool)
        assert prepare(node, request()).operations == [[], [], [], []]
        node.broken.clear()
        node.hanging.add(mempool)
        assert prepare(node, request(), within_s=1.0).operations == [[], [], [], []]


def test_a_level_that_commits_to_a_nonce_has_one() -> None:
    with ScriptedNode(view(expected_commitment=True)) as node:
        drawn = prepare(node, request())
        given = prepare(node, request(), seed_nonce=b"\x01" * 32)
        fails(node, request(), MalformedRequest, "32 bytes", seed_nonce=b"short")
    assert drawn.seed_nonce == b"\x2a" * 32
    assert given.seed_nonce == b"\x01" * 32
    for prepared in (drawn, given):
        assert decode(prepared.unsigned_header).seed_nonce_hash == blake2b_32(prepared.seed_nonce)


def test_the_same_request_gives_the_same_block_and_fewer_questions() -> None:
    with ScriptedNode() as node:
        node.account(ALICE)
        node.pending = [ALICE.transaction(LIVE)]
        first = prepare(node, request())
        asked = len(node.asked)
        again = prepare(node, request(), repeat=2)
    assert first == again
    assert len(node.asked) - asked < 2 * asked, "the predecessor's view is remembered"


# -- re-proposals ---------------------------------------------------------------------------------


def reproposal(node: ScriptedNode, **fields: Any) -> Reproposal:
    """The block that `node` gave at round 0, again."""
    node.account(ALICE)
    node.pending = [ALICE.transaction(LIVE)]
    first = prepare(node, request())
    header = decode(first.unsigned_header)
    fields = {
        "payload_hash": base58.encode(base58.PAYLOAD_HASH, header.payload_hash),
        "payload_round": 0,
        "payload": first.operations[1:],
        "consensus_operations": [vote(0)],
    } | fields
    return Reproposal(**fields)


def test_a_reproposal_keeps_its_payload_whatever_the_mempool_holds_now() -> None:
    with ScriptedNode() as node:
        content = reproposal(node)
        node.pending = [BOB.transaction(LIVE)]
        prepared = prepare(node, request(content, round=1))
    header = decode(prepared.unsigned_header)
    assert base58.encode(base58.PAYLOAD_HASH, header.payload_hash) == content.payload_hash
    assert (header.payload_round, header.round, header.fitness.locked_round) == (0, 1, None)
    assert prepared.operations == [[vote(0)], *content.payload]


def test_preattestations_lock_the_round() -> None:
    with ScriptedNode() as node:
        content = reproposal(node)
        digest = base58.decode(base58.PAYLOAD_HASH, content.payload_hash)
        locking = BOB.vote(
            LIVE, level=101, round_=1, payload_hash=digest, slot=2, attestation=False
        )
        content = reproposal(node, consensus_operations=[vote(0), locking])
        prepared = prepare(node, request(content, round=2))
    header = decode(prepared.unsigned_header)
    assert (header.payload_round, header.round, header.fitness.locked_round) == (0, 2, 1)
    assert prepared.operations[0] == sorted([vote(0), locking])


def test_another_payload_under_the_same_hash_is_refused() -> None:
    with ScriptedNode() as node:
        content = reproposal(node, payload=[[], [], [BOB.transaction(LIVE)]])
        fails(node, request(content, round=1), InvalidRequest, "does not have the payload hash")
        content = reproposal(node, payload_round=1)
        fails(node, request(content, round=1), InvalidRequest, "does not have the payload hash")


# -- the node applies -----------------------------------------------------------------------------


def preapplying(node: ScriptedNode, *, without: int = 0, **shell: Any) -> None:
    """Let `node` apply a block, leaving out its last `without` manager operations."""

    def preapply(body: Any) -> Any:
        kept = [list(one) for one in body["operations"]]
        del kept[3][len(kept[3]) - without :]
        passes, hashes = [], []
        by_hash = {as_pending(each)["hash"]: each for each in node.pending}
        for one in kept:
            signed = [
                next(
                    each
                    for each in by_hash.values()
                    if as_pending(each)["contents"] == operation["contents"]
                )
                for operation in one
            ]
            passes.append(
                {
                    "applied": [
                        {
                            "hash": as_pending(each)["hash"],
                            "branch": as_pending(each)["branch"],
                            "data": each[32:].hex(),
                        }
                        for each in signed
                    ],
                    "refused": [],
                }
            )
            hashes.append([blake2b_32(each) for each in signed])
        header = {
            "level": VIEW.level + 1,
            "proto": VIEW.proto,
            "predecessor": PREDECESSOR,
            "timestamp": "2023-11-14T22:13:30Z",
            "validation_pass": 4,
            "operations_hash": base58.encode(base58.OPERATIONS_HASH, operations_hash(hashes)),
            "fitness": ["02", f"{VIEW.level + 1:08x}", "", "ffffffff", "00000000"],
            "context": base58.encode(base58.CONTEXT_HASH, VIEW.resulting_context),
        }
        node.drafts.append(body)
        return {"shell_header": header | shell, "operations": passes}

    node.drafts = []
    node.answers[node.path("helpers/preapply/block")] = preapply


def applied(**fields: Any) -> ForgeBlock:
    return request(validation="node", **fields)


def test_the_node_decides_what_is_in_a_block_that_it_applies() -> None:
    with ScriptedNode() as node:
        node.pending = [ALICE.transaction(LIVE, fee=5_000), BOB.transaction(LIVE)]
        preapplying(node, without=1)
        prepared = prepare(node, applied())
        assert not any("contracts" in path for path in node.asked), "no account was asked for"
    assert prepared.operations == [[], [], [], node.pending[:1]]
    header = decode(prepared.unsigned_header)
    hashes = [blake2b_32(each) for each in prepared.operations[3]]
    assert header.payload_hash == payload_hash(VIEW.predecessor, 0, hashes)
    draft = node.drafts[0]["protocol_data"]
    assert draft["protocol"] == VIEW.protocol
    assert draft["liquidity_baking_toggle_vote"] == draft["adaptive_issuance_vote"] == "pass"
    assert draft["signature"].startswith("sig")
    assert len(node.drafts[0]["operations"][3]) == 2


def test_a_forced_application_and_a_change_of_protocol_go_through_the_node() -> None:
    with ScriptedNode() as node:
        preapplying(node)
        prepare(node, request(force_apply=True))
        assert len(node.drafts) == 1
    with ScriptedNode(view(protocol_changes=True)) as node:
        preapplying(node, proto=2, context=base58.encode(base58.CONTEXT_HASH, b"\x01" * 32))
        header = decode(prepare(node, request()).unsigned_header)
        assert (header.proto, header.context) == (2, b"\x01" * 32)
        assert node.drafts[0]["protocol_data"]["protocol"] == "PsNextProtocol"


@pytest.mark.parametrize(
    "shell",
    [
        {"level": 7},
        {"timestamp": "2023-11-14T22:13:31Z"},
        {"predecessor": base58.encode(base58.BLOCK_HASH, bytes(32))},
        {"operations_hash": base58.encode(base58.OPERATIONS_HASH, bytes(32))},
        {"fitness": ["02", "00000065", "", "ffffffff", "00000001"]},
        {"fitness": ["zz"]},
        {"context": "Co"},
        {"validation_pass": 3},
    ],
)
def test_a_node_that_computes_otherwise_is_not_believed(shell: dict) -> None:
    with ScriptedNode() as node:
        preapplying(node, **shell)
        fails(node, applied(), NodeAnswerMalformed, "preapply")


def test_a_node_that_slips_in_an_operation_is_not_believed() -> None:
    foreign = CAROL.transaction(LIVE)
    with ScriptedNode() as node:
        preapplying(node)
        honest = node.answers[node.path("helpers/preapply/block")]

        def dishonest(body: Any) -> Any:
            answer = honest(body)
            shown = {"branch": as_pending(foreign)["branch"], "data": foreign[32:].hex()}
            answer["operations"][3]["applied"].append(shown)
            return answer

        node.answers[node.path("helpers/preapply/block")] = dishonest
        fails(node, applied(), NodeAnswerMalformed, "nobody proposed")


def test_a_reproposal_that_the_node_cannot_apply_is_no_block() -> None:
    with ScriptedNode() as node:
        content = reproposal(node, consensus_operations=[])
        preapplying(node, without=1)
        wanted = request(content, round=1, force_apply=True)
        fails(node, wanted, InvalidRequest, "cannot apply every operation")


# -- what ends without a block --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "payload of forge_and_sign_block"),
        (b"\x80", "missing required field `chain_id`"),
        (b"\xc1\xff", "payload of forge_and_sign_block"),
        (encode_forge_block(request(chain_id="NetXxkAx4woPLyv")), "checksum"),
        (encode_forge_block(request(predecessor=PREDECESSOR[:-1] + "1")), "checksum"),
        (
            encode_forge_block(
                request(Reproposal(PREDECESSOR, 0, [[], [], []], consensus_operations=[]))
            ),
            "not a block payload hash",
        ),
    ],
)
def test_a_payload_that_is_none_is_malformed(payload: bytes, why: str) -> None:
    with ScriptedNode() as node:
        fails(node, payload, MalformedRequest, why)
        assert node.asked == []


def test_a_misspelt_option_is_not_ignored() -> None:
    payload = encode_forge_block(request()).replace(b"\x85", b"\x86", 1) + b"\xa5fresh\xc3"
    with ScriptedNode() as node:
        fails(node, payload, MalformedRequest, "unknown field `fresh`")


def test_a_block_of_another_level_or_node_is_invalid() -> None:
    with ScriptedNode() as node:
        fails(node, request(level=103), InvalidRequest, "has level 101, not 103")
        fails(node, request(node="spare"), InvalidRequest, "no node is called 'spare'")


def test_a_predecessor_that_the_node_does_not_know_may_come_later() -> None:
    unknown = base58.encode(base58.BLOCK_HASH, bytes(32))
    with ScriptedNode() as node:
        fails(node, request(predecessor=unknown), NotOnNode, unknown)


def test_a_node_that_hangs_ends_the_preparation_at_its_deadline() -> None:
    with ScriptedNode() as node:
        node.hanging.add(node.path("live_blocks"))
        fails(node, request(), NodeTimeout, "live_blocks", within_s=0.3)


def test_a_node_that_is_gone_is_unavailable() -> None:
    with ScriptedNode() as node:
        pass
    fails(node, request(), NodeUnavailable, "GET")


def test_a_node_that_contradicts_itself_is_malformed() -> None:
    with ScriptedNode() as node:
        node.answers[node.path("helpers/current_level")] = {
            "level": 7,
            "cycle": 0,
            "expected_commitment": False,
        }
        fails(node, request(), NodeAnswerMalformed, "puts level 7 on top of level 100")


def test_a_search_that_takes_too_long_ends_at_the_deadline() -> None:
    hard = replace(CONSTANTS, proof_of_work_threshold=0)
    with ScriptedNode(view(constants=hard)) as node:
        fails(node, request(), DeadlinePassed, "proof of work", within_s=0.5)


def test_every_error_has_a_code_of_its_own() -> None:
    def tree(error: type[PreparationError]) -> list[type[PreparationError]]:
        return [error, *(each for child in error.__subclasses__() for each in tree(child))]

    codes = [error.code for error in tree(PreparationError)]
    assert len(codes) == len(set(codes))
