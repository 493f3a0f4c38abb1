"""Blocks as big as they get, on predecessors that no node has: no message outgrows its bound."""

from __future__ import annotations

import msgspec
from quarantine_script import Script, name_of
from scripted_chain import Block, ScriptedWorker, digest, encode

from broker import wire
from broker.messages import MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX, CheckAsked
from broker.quarantine.cleared_chain import ANCESTORS_BYTES_MAX
from broker.verification import CheckAnswer, CheckBody, CheckItem, CheckSlice, Judgement, Verdict

MIB = 1024 * 1024
VOTES_BYTES, MANAGERS_BYTES = 3 * MIB, MIB // 2  # of a pass; a block may have 5 MiB of all
OPERATION_BYTES = 32 * 1024


class ForgetfulNode(ScriptedWorker):
    """A worker whose node has the first block alone: it wants the operations of all others."""

    def __init__(self, node: list[Block]) -> None:
        super().__init__(node)
        self.read: set[bytes] = set()  # blocks whose operations it was given
        self.rounds = 0
        self.most = 0  # bytes of the biggest message

    def answer(self, asked: CheckSlice) -> CheckAnswer:
        self.most = max(self.most, len(wire.encode(CheckAsked([asked]))))
        return super().answer(asked)

    def _block(self, body: CheckBody, item: CheckItem, block: Block) -> Verdict:
        verdict = super()._block(body, item, block)
        if not item.ancestors or verdict.judgement != Judgement.VALID:
            return verdict
        for ancestor in item.ancestors:
            if ancestor.operations is not None:
                assert not ancestor.operations[0], "votes"
                self.read.add(digest(ancestor.header))
        hashes = [digest(ancestor.header) for ancestor in item.ancestors]
        if lacks := [h for h in hashes if h not in self.read and h != self.node[0].hash]:
            self.rounds += 1
            return Verdict(item.number, Judgement.ANCESTORS_WANTED, wanted=lacks)
        return verdict


def full(block: Block) -> Block:
    """The same block with as many operations as it may hold."""
    passes = [
        [bytes(OPERATION_BYTES)] * (size // OPERATION_BYTES)
        for size in (VOTES_BYTES, OPERATION_BYTES, 4 * OPERATION_BYTES, MANAGERS_BYTES)
    ]
    header = msgspec.structs.replace(block.header, operations_hash=digest(encode(passes)))
    return Block(header, passes)


def test_a_full_block_on_many_full_ones() -> None:
    script = Script()
    worker = script.worker = ForgetfulNode([script.root])
    top = script.root
    for _ in range(12):
        top = full(top.child())
        script.block(top)
        script.run()
        assert script.last(name_of(top)) == ("cleared", "")
        script.later(1)
    worker.read.clear()  # the worker is a new one
    worker.rounds = 0
    top = full(top.child())
    script.block(top)
    script.run()
    assert script.last(name_of(top)) == ("cleared", "")
    assert worker.rounds == 12, "one full block fits into a portion"
    biggest_item = VOTES_BYTES + MANAGERS_BYTES
    assert biggest_item < worker.most < MESSAGE_BYTES_MAX
    # What the biggest payload that can be pushed would add to what was sent here.
    assert worker.most - biggest_item + PAYLOAD_BYTES_MAX < MESSAGE_BYTES_MAX


def test_small_ones_travel_together() -> None:
    script = Script()
    worker = script.worker = ForgetfulNode([script.root])
    blocks = script.root.chain(20)
    for block in blocks:
        script.block(block)
        script.run()
        script.later(1)
    worker.read.clear()
    worker.rounds = 0
    top = blocks[-1].child()
    script.block(top)
    script.run()
    assert script.last(name_of(top)) == ("cleared", "")
    assert worker.rounds == 1
    assert worker.most < ANCESTORS_BYTES_MAX
