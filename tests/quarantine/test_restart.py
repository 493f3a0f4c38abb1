"""Scenarios 19, 37, 38: what a killed quarantine finds again."""

from __future__ import annotations

import msgspec
from quarantine_script import CLIENT, Script, name_of, name_of_vote
from scripted_chain import GOOD, Block, ScriptedWorker, digest, encode, genesis, vote_for

from broker.messages import Request
from broker.quarantine.offers import VERIFY_BLOCK
from broker.quarantine.records import BLOCK, KIND_OF_VOTE, ClearedBody
from broker.verification import Check, Judgement, Verdict


def held_pair(script: Script) -> tuple[Block, Block]:
    parent, child = script.root.chain(2)
    script.block(child, "friend")
    script.vote(vote_for(child, "d"))
    script.run()
    assert len(script.core.held()) == 2
    return parent, child


def test_37_what_is_held_is_checked_again_and_then_released() -> None:
    script = Script()
    parent, child = held_pair(script)
    script.worker.checked.clear()
    script.restart(after_s=5)
    script.run()
    checked = [hash_ for check, hash_ in script.worker.checked if check != Check.CHAIN]
    assert sorted(checked) == sorted([child.hash, digest(encode(vote_for(child, "d")))])
    assert len(script.core.held()) == 2
    assert [w.sources for w in script.wanted][-1] == ("friend",)
    script.block(parent)
    script.run()
    assert script.counts() == {"cleared": 3}
    assert [e for _, e, _ in script.events].count("held") == 2, "held is told once"
    assert script.store.held == {}


def test_37a_what_was_cleared_meanwhile_releases_at_once() -> None:
    script = Script()
    parent, child = held_pair(script)
    script.worker.node.append(parent)
    script.restart()
    script.run()
    assert script.ends(name_of(child)) == ["cleared"]


def test_37b_what_has_expired_is_dropped_without_a_check() -> None:
    script = Script()
    _, child = held_pair(script)
    script.worker.checked.clear()
    script.restart(after_s=61)
    script.run()
    assert script.counts() == {"expired": 2}
    assert (Check.HEADER, child.hash) not in script.worker.checked
    assert script.store.held == {}


def test_37_a_vote_of_a_chain_with_long_rounds_waits_as_long_as_before() -> None:
    worker = ScriptedWorker([genesis()])
    worker.round_ms = 30_000
    script = Script(worker=worker)
    proposal = script.root.child()
    vote = vote_for(proposal, "d")
    script.vote(vote)
    script.later(50)
    script.restart(after_s=5)
    script.block(proposal)
    script.run()
    assert script.last(name_of_vote(vote)) == ("cleared", "")


def test_37_time_in_the_grave_counts() -> None:
    script = Script()
    _, child = held_pair(script)
    script.restart(after_s=40)
    script.later(19)
    assert script.last(name_of(child)) == ("held", "parent")
    script.later(2)
    assert script.last(name_of(child)) == ("expired", "parent")


def test_37d_a_record_that_claims_too_much_is_believed_nothing() -> None:
    script = Script()
    _, child = held_pair(script)
    [record] = [r for r in script.store.held.values() if r.kind == VERIFY_BLOCK]
    forged = Block(msgspec.structs.replace(child.header, signature=b"forged"))
    script.store.held[record.key] = msgspec.structs.replace(
        record, raw=forged.raw, hash=forged.hash
    )
    script.restart()
    script.run()
    assert script.last(name_of(child)) == ("rejected", "bad_signature")


def test_38_killed_between_the_parent_s_commit_and_the_release() -> None:
    script = Script()
    parent, child = held_pair(script)
    script.block(parent)
    while len(script.store.blocks) < 2:  # the root and the parent
        script.turn()
        if len(script.store.blocks) < 2:
            script.confirm()
            script.answer()
    assert script.ends(name_of(parent)) == []
    script.restart()
    script.run()
    assert script.ends(name_of(child)) == ["cleared"]


def test_a_held_item_that_was_stored_as_cleared_is_told_so() -> None:
    script = Script()
    parent, child = held_pair(script)
    script.block(parent)
    while len(script.store.blocks) < 3:
        script.turn()
        if len(script.store.blocks) < 3:
            script.confirm()
            script.answer()
    assert script.ends(name_of(child)) == []
    script.restart()
    script.run()
    assert script.ends(name_of(child)) == ["cleared"]


def test_what_was_told_is_not_told_again_even_if_its_record_was_not_forgotten() -> None:
    script = Script()
    parent, child = held_pair(script)
    records = dict(script.store.held)
    script.block(parent)
    script.run()
    script.store.held = records
    script.restart()
    script.run()
    assert script.ends(name_of(child)) == ["cleared"]
    assert script.store.held == {}


def test_a_request_pushed_again_after_the_restart_gets_its_old_end_published_again() -> None:
    script = Script()
    block = script.root.child()
    script.block(block, id_=b"i" * 16)
    script.run()
    script.restart()
    assert script.block(block, id_=b"i" * 16).status == "duplicate"
    script.run()
    assert script.ends(name_of(block)) == ["cleared", "cleared"]
    assert script.core.accounting.received == 0


def test_a_request_pushed_again_while_it_is_held_stays_one() -> None:
    script = Script()
    parent, child = script.root.chain(2)
    script.block(child, id_=b"i" * 16)
    script.run()
    script.restart()
    assert script.block(child, id_=b"i" * 16).status == "duplicate"
    script.block(parent)
    script.run()
    assert script.ends(name_of(child)) == ["cleared"]


def test_one_id_stands_for_one_item() -> None:
    script = Script()
    one, two = script.root.child(round_=0), script.root.child(round_=1)
    assert script.block(one, id_=b"i" * 16).status == "accepted"
    assert script.block(two, id_=b"i" * 16).code == "id_reused"
    script.run()
    assert script.block(two, id_=b"i" * 16).code == "id_reused"


def test_what_is_no_request_is_refused_and_counted_nowhere() -> None:
    script = Script()
    vote = vote_for(script.root, "d", signature=GOOD)
    for kind, payload, code in (
        ("verify_block", encode({"peer": "p", "raw": encode(vote)}), "malformed"),
        ("verify_vote", b"\xc1", "malformed"),
        ("verify_vote", b"\x81\xa4peer\xa1\xff", "malformed"),  # no UTF-8
        ("verify_vote", b"\x82\xa4peer\xa1p\xa1x" + b"\x91" * 5_000 + b"\x90", "malformed"),
        ("verify_block", b"\x81\xa1x" + b"\x91" * 5_000 + b"\x90", "malformed"),
        ("verify_vote", encode({"peer": "", "raw": b""}), "malformed"),
        ("verify_vote", encode({"peer": "p", "raw": b"", "delegate": "m" * 10_000}), "malformed"),
        ("sign", b"", "unknown_kind"),
    ):
        request = Request(bytes(16), kind, payload)
        ack = script.core.pushed(CLIENT, request, script.now, script.unix_now)
        assert (ack.status, ack.code) == ("refused", code)
    assert script.core.accounting.received == 0


def test_an_operator_drops_or_releases_what_is_held() -> None:
    script = Script()
    _, child = held_pair(script)
    vote = vote_for(child, "d")
    assert script.core.drop(child.hash, script.now) == 1
    assert script.core.release(digest(encode(vote)), script.now) == 1
    script.run()
    assert script.last(name_of(child)) == ("shed", "dropped")
    assert script.last(name_of_vote(vote)) == ("held", "target")
    assert script.worker.checked.count((Check.VOTE, digest(encode(vote)))) == 2


def test_a_released_block_that_turns_out_bad_leaves_its_parent_to_nobody() -> None:
    script = Script()
    block = script.root.chain(2)[1]
    script.block(block)
    script.run()
    assert len(script.core.missing) == 1
    script.worker.overrides[block.raw] = Verdict(0, Judgement.INVALID, "no_rights")
    script.core.release(block.hash, script.now)
    script.run()
    assert script.last(name_of(block)) == ("rejected", "no_rights")
    assert len(script.core.missing) == 0


def test_of_two_records_of_the_same_bytes_one_goes_on() -> None:
    script = Script()
    parent, child = script.root.chain(2)
    script.block(child, id_=b"i" * 16)
    script.run()
    [record] = script.store.held.values()
    script.core.drop(child.hash, script.now)
    script.block(child, id_=b"j" * 16)
    script.run()
    # Killed before the end of the first was logged, and its record forgotten.
    script.store.log = [ended for ended in script.store.log if ended.id != b"i" * 16]
    script.store.held = {record.key: record} | script.store.held
    script.restart()
    script.run()
    assert script.events[-1][1:] == ("duplicate", "open")
    script.block(parent)
    script.run()
    assert script.ends(name_of(child)) == ["shed", "duplicate", "cleared"]
    assert script.store.held == {}


def test_what_was_cleared_stands_in_its_event_also_after_a_restart() -> None:
    script = Script()
    block = script.root.child()
    script.block(block, id_=b"i" * 16)
    script.vote(vote_for(block, "d"), id_=b"j" * 16)
    script.run()
    script.restart()
    header = block.header
    for id_, kind, hash_ in (
        (b"i" * 16, BLOCK, block.hash),
        (b"j" * 16, KIND_OF_VOTE["attestation"], digest(encode(vote_for(block, "d")))),
    ):
        _, event = script.core.requests.ended.get((CLIENT, id_), (b"", None))
        assert event is not None
        body = msgspec.msgpack.decode(event.body, type=ClearedBody)
        assert body == ClearedBody(kind, hash_, header.level, header.round)


def test_what_was_stored_and_not_told_is_told_after_the_restart() -> None:
    script = Script()
    first, second = script.root.chain(2)
    votes = [vote_for(first, name) for name in ("d1", "d2")]
    script.block(first)
    script.vote(votes[0])
    script.run()
    script.block(second)
    script.vote(votes[1])
    while not (len(script.store.blocks) == 3 and len(script.store.votes) == 2):
        script.turn()
        script.answer()
    assert script.counts() == {"cleared": 2}
    for _ in range(2):  # and only once
        script.restart()
        script.run()
        assert sorted(script.cleared()) == sorted(
            [name_of(first), name_of(second), *map(name_of_vote, votes)]
        )
