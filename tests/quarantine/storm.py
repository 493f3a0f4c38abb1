"""A seeded storm: a hostile network, an honest baker in it, workers that die, restarts.

Everything that happens follows from the seed. After each step the core is validated; at the end
nothing may be left, every request has ended exactly once, and the honest one's items are cleared.
"""

from __future__ import annotations

from random import Random

import msgspec
from quarantine_script import Script
from scripted_chain import Block, Vote, digest, encode, vote_for

from broker.messages import HELD
from broker.quarantine.bounds import Bounds
from broker.verification import CheckAnswer

# Small enough that a few thousand items reach every bound.
BOUNDS = Bounds(
    ingress_votes=512,
    ingress_blocks=400,
    ingress_votes_per_peer=256,
    ingress_blocks_per_peer=16,
    storing=256,
    release_per_turn=64,
    held_blocks=32,
    held_blocks_bytes=8_192,
    held_blocks_per_peer=8,
    held_for_time=4,
    held_votes=128,
    held_for_rights=16,
    held_for_rights_per_peer=8,
    missing=16,
    bad=64,
    isolated=8,
    seen=512,
    cleared_blocks=64,
    cleared_levels=12,
    cleared_bytes=4_096,
    live_blocks=16,
    block_votes_per_turn=8,
    ended_requests=1_024,
    peers=24,
    table=600,
    seconds=32,
    depth_levels=20,
    evidence=16,
    denounced=64,
    probes=8,
)
HONEST = "honest"
PEERS = 60
ITEMS_PER_STEP = 20
RESTART_EVERY = 97  # steps


class Storm:
    """One run over so many items."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.script = Script(BOUNDS)
        self.top = self.script.root  # of the honest chain
        self.chain = [self.top]  # the honest one's blocks
        self.honest: dict[str, bytes] = {}  # what the honest one sent, by name
        self.kept_back: set[str] = set()  # of it: what a worker had for two seconds, in vain
        self.sent = 0
        self.blocks: list[Block] = [self.top]  # some that were sent, to be sent again
        self.votes = [vote_for(self.top, "d0")]

    def run(self, items: int) -> None:
        """Send so many, then wait until all of them have ended."""
        steps = 0
        while self.sent < items:
            for _ in range(ITEMS_PER_STEP):
                self._send()
            self._pass_time()
            steps += 1
            if steps % RESTART_EVERY == 0:
                self._drain_workers()
                self.script.restart(after_s=self.random.random())
        self.script.run()
        self.script.later(200)
        self._check_ends()

    def _send(self) -> None:
        self.sent += 1
        number = self.sent
        chance = self.random.random()
        if number % 100 == 0:
            self._send_honest(number)
        elif chance < 0.25 and number % 5 == 0:
            self._send_votes(number)
        elif chance < 0.25:
            self.script.vote(self._any_vote(number), self._peer(), name=f"vote{number}")
        elif chance < 0.35:
            self._again(number)
        elif chance < 0.45:
            junk = msgspec.structs.replace(self.random.choice(self.votes), signature=b"%d" % number)
            self.script.vote(junk, self._peer(), name=f"junk{number}")
        elif chance < 0.5:
            header = msgspec.structs.replace(self.top.child().header, signature=b"%d" % number)
            self.script.block(Block(header), self._peer(), name=f"forged{number}")
        else:
            self._send_block(number)

    def _send_honest(self, number: int) -> None:
        """The next block of the chain, then votes for it."""
        name = f"honest{number}"
        if number % 400 == 0:
            held = [self._vote() for _ in range(self.random.randrange(8))]
            held.append(vote_for(self.top, "d1+d2+d3"))
            self.top = self.top.child(baker=f"good{number}").holding(*held)
            self.chain.append(self.top)
            self.blocks = [*self.blocks[-31:], self.top]
            self.honest[name] = self.top.raw
            self.script.block(self.top, HONEST, name=name)
        else:
            vote = vote_for(self.top, f"good{number}")
            self.honest[name] = encode(vote)
            self.script.vote(vote, HONEST, name=name)

    def _vote(self) -> Vote:
        """A vote for the honest chain's head, which may name any block as its branch."""
        vote = vote_for(self.top, f"d{self.random.randrange(40)}")
        if self.random.random() < 0.2:
            branch = self.random.choice((digest(b"nobody's"), self.random.choice(self.blocks).hash))
            vote = msgspec.structs.replace(vote, branch=branch)
        return vote

    def _send_votes(self, number: int) -> None:
        """Several at once, some of them perhaps twice."""
        votes = [self._any_vote(number + n) for n in range(self.random.randrange(1, 8))]
        votes += votes[: self.random.randrange(3)]
        self.sent += len(votes) - 1
        names = [f"vote{number}.{n}" for n in range(len(votes))]
        self.script.votes(votes, self._peer(), names=names)

    def _any_vote(self, number: int) -> Vote:
        chance = self.random.random()
        vote = self._vote()
        if chance < 0.3:
            vote = msgspec.structs.replace(vote, level=vote.level + self.random.choice((-9, 1, 2)))
        elif chance < 0.5:
            vote = msgspec.structs.replace(vote, payload_hash=digest(b"%d" % number))
        elif chance < 0.6:
            vote = msgspec.structs.replace(vote, signature=b"good again %d" % number)
        self.votes = [*self.votes[-31:], vote]
        return vote

    def _send_block(self, number: int) -> None:
        chance = self.random.random()
        base = self.random.choice(self.chain[-2:] if chance > 0.6 else self.blocks)
        round_ = 1 + self.random.randrange(6)
        # Whoever builds on anything but the honest chain finds no quorum for his predecessor.
        bad = "" if base in self.chain else "no_quorum"
        nonce = self.random.randrange(4)
        block = base.child(round_=round_, nonce=nonce, bad=bad)
        if chance < 0.2:
            orphan = digest(b"orphan %d" % self.random.randrange(200))
            block = Block(msgspec.structs.replace(block.header, predecessor=orphan))
        elif chance < 0.3:
            block = Block(msgspec.structs.replace(block.header, bad="wrong_timestamp"))
        elif chance < 0.4:
            block = Block(block.header, [[], [], [], [b"%d" % number]])
        elif chance < 0.5:
            early = int(self.script.unix_now) + self.random.choice((4, 600))
            block = Block(msgspec.structs.replace(block.header, timestamp_s=early))
        elif chance < 0.55:
            block = Block(msgspec.structs.replace(block.header, level=2**31 - 1))
        if block.header.level < base.header.level + 2 and chance > 0.5:
            self.blocks = [*self.blocks[-31:], block]
        self.script.block(block, self._peer(), name=f"block{number}")

    def _again(self, number: int) -> None:
        """Something old, from another peer."""
        if self.random.random() < 0.5:
            self.script.block(self.random.choice(self.blocks), self._peer(), name=f"old{number}")
        else:
            self.script.vote(self.random.choice(self.votes), self._peer(), name=f"old{number}")

    def _peer(self) -> str:
        return f"peer{self.random.randrange(PEERS)}"

    def _pass_time(self) -> None:
        script, chance = self.script, self.random.random()
        script.turn()
        if chance < 0.9:
            script.confirm()
        asked, script.unanswered = script.unanswered, []
        for slice_ in asked:
            luck = self.random.random()
            if luck < 0.004:
                script.reply(CheckAnswer(slice_.number, problem="worker_lost"))
            elif luck < 0.02:
                script.reply(CheckAnswer(slice_.number, problem="busy"))
            elif luck < 0.025:
                self.kept_back |= {n for n, raw in self.honest.items() if raw in slice_.body}
                continue  # never answered
            else:
                script.reply(script.worker.answer(slice_))
        if chance < 0.02:
            script.unix_now += self.random.choice((-30, 30))
        step = self.random.choice((0.0, 0.01, 0.05, 0.4))
        script.now += step
        script.unix_now += step

    def _drain_workers(self) -> None:
        """Else what is in flight would be lost with the process, until its clients push again."""
        self.script.later(2.5)  # a slice that nobody answers is asked again by then

    def _check_ends(self) -> None:
        script = self.script
        core = script.core
        core.validate()
        assert core.accounting.held == core.accounting.in_flight == 0, core.gauges()
        ends: dict[str, list[tuple[str, str]]] = {}
        for name, event, code in script.events:
            if event != HELD:
                ends.setdefault(name, []).append((event, code))
        twice = {name: end for name, end in ends.items() if len(end) != 1}
        assert not twice, twice
        assert len(ends) == self.sent, "some never ended"
        for name in self.honest:
            # The head has gone on by two levels, perhaps, when it is asked about again.
            late = [("stale", "too_old")] if name in self.kept_back else []
            assert ends[name][0] in [("cleared", ""), *late], (name, ends[name])
        offences = [(e.kind, e.level, e.round, e.delegate) for e in script.slashable]
        assert len(offences) == len(set(offences)), "an offence was told twice"
        assert not [event for event in script.peers if event.peer == HONEST and event.weight]


def storm(seed: int, items: int) -> Storm:
    """Run one; raises AssertionError with what went wrong."""
    run = Storm(seed)
    run.run(items)
    return run
