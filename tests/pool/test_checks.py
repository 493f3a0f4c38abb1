"""A pool whose workers check what comes from a chain, asked on the request socket."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import msgspec
import pytest
import zmq
from pool_process import ANSWER_S, an_empty_pool, until
from test_blocks import Chain, block_of, push

from broker import wire
from broker.messages import (
    ATTESTATION_READY,
    FORGE_AND_SIGN_ATTESTATIONS,
    PAYLOAD_BYTES_MAX,
    CheckAsked,
    Checked,
    Vote,
    VoteBatch,
)
from broker.quarantine.cleared_chain import ANCESTORS_BYTES_MAX
from broker.sockets import connect, receive, send
from broker.verification import (
    Ancestor,
    ChainFacts,
    Check,
    CheckBody,
    CheckItem,
    CheckSlice,
    Judgement,
    Position,
    Verdict,
    VerdictBody,
    VoteFacts,
)
from signers.formats import base58

pytestmark = pytest.mark.process


class Asker:
    """Asks for checks as the quarantine does."""

    def __init__(self, address: str, chain_id: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = connect(self._context, zmq.DEALER, address, None)
        self._chain_id = chain_id
        self._numbers = count(1)
        self.room = 0

    def send(self, check: Check, items: list[CheckItem], position: Position) -> int:
        number = next(self._numbers)
        body = msgspec.msgpack.encode(CheckBody(check, self._chain_id, position, items))
        asked = CheckAsked([CheckSlice(number, 100, body, 10_000)])
        until(lambda: send(self._socket, [wire.encode(asked)]))
        return number

    def answers(self, *numbers: int) -> dict[int, tuple[list[Verdict], str]]:
        """Verdicts and problem of each of these slices."""
        found: dict[int, tuple[list[Verdict], str]] = {}
        end = time.monotonic() + ANSWER_S
        while set(found) < set(numbers):
            assert time.monotonic() < end, "no answer"
            if not self._socket.poll(100):
                continue
            frames = receive(self._socket)
            assert frames is not None
            reply = wire.decode_reply(frames[-1])
            assert isinstance(reply, Checked)
            self.room = reply.room
            for answer in reply.answers:
                verdicts = (
                    msgspec.msgpack.decode(answer.body, type=VerdictBody).verdicts
                    if answer.body
                    else []
                )
                found[answer.number] = verdicts, answer.problem
        return found

    def judge(self, check: Check, items: list[CheckItem], position: Position) -> list[Verdict]:
        number = self.send(check, items, position)
        verdicts, problem = self.answers(number)[number]
        assert problem == ""
        return sorted(verdicts, key=lambda verdict: verdict.number)

    def stand(self) -> ChainFacts:
        """Where the node says that the chain is."""
        [verdict] = self.judge(Check.CHAIN, [CheckItem(0, b"")], Position(0, 0, 0, 0, 0))
        assert isinstance(verdict.facts, ChainFacts), verdict
        return verdict.facts

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()


def position_of(facts: ChainFacts) -> Position:
    head = facts.blocks[-1]
    now_ms = int(time.time() * 1000)
    return Position(now_ms, max(0, head.level - 2), head.level, head.round, head.timestamp_s)


class Played(NamedTuple):
    """A pool, two blocks that it has baked, and all their attestations."""

    chain: Chain
    asker: Asker
    blocks: list[dict[str, Any]]
    votes: list[bytes]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    with an_empty_pool() as pool:
        chain = Chain(pool)
        chain.start()
        chain.serve(2)
        blocks, votes = [], []
        with pool.client() as client:
            for _ in range(2):
                blocks.append(bake(chain, client))
                votes += attest(chain, client)
        asker = Asker(pool.endpoints.requests, pool.chain_id)
        yield Played(chain, asker, blocks, votes)
        asker.close()


def bake(chain: Chain, client: Any) -> dict[str, Any]:
    """Forge the next block with the pool and inject it."""
    level = chain.head()["level"] + 1
    id_ = push(client, chain.baker(level), chain.wanted())
    block = block_of(client, id_)
    assert until(lambda: taken(chain, block), what="the block's time to come")
    return block


def taken(chain: Chain, block: dict[str, Any]) -> str:
    """The hash of a block once the node takes it; it does not before its time."""
    try:
        return chain.inject_block(block)
    except OSError:
        return ""


def attest(chain: Chain, client: Any) -> list[bytes]:
    """Have the pool sign every delegate's attestation of the head, and inject them."""
    head = chain.head()
    path = f"/chains/main/blocks/head/helpers/validators?level={head['level']}"
    votes = [Vote(v["delegate"], min(v["slots"])) for v in chain.rpc(path)]
    batch = VoteBatch(
        chain.pool.chain_id, head["predecessor"], head["level"], 0, head["payload_hash"]
    )
    id_ = client.push_votes(FORGE_AND_SIGN_ATTESTATIONS, batch, votes, ttl_ms=30_000)
    events = client.wait(id_, ANSWER_S)
    assert {event.event for event in events} == {ATTESTATION_READY}
    for event in events:
        chain.rpc("/injection/operation", event.body.hex())
    return [event.body for event in events]


def test_blocks_and_votes_of_a_running_chain_are_valid(played: Played) -> None:
    chain, asker, blocks, votes = played
    headers = [block["header"] for block in blocks]
    stand = asker.stand()
    assert [block.level for block in stand.blocks][-2:] == [2, 3]
    assert stand.headers[-2:] == headers
    assert stand.delegates == len(chain.pool.keys)
    position = position_of(stand)
    bad = bytes([votes[0][-1] ^ 1])
    items = [CheckItem(n, raw) for n, raw in enumerate([*votes, votes[0][:-1] + bad, b"junk"])]
    verdicts = asker.judge(Check.VOTE, items, position)
    wrong = {v.number: v.reason for v in verdicts if v.judgement != Judgement.VALID}
    assert wrong == {len(votes): "bad_signature", len(votes) + 1: "malformed"}
    voted = {v.facts.delegate for v in verdicts[: len(votes)] if isinstance(v.facts, VoteFacts)}
    assert voted <= set(chain.pool.delegates)
    early = msgspec.structs.replace(position, final_level=0)
    [first, second] = asker.judge(
        Check.HEADER, [CheckItem(n, raw) for n, raw in enumerate(headers)], early
    )
    assert (first.judgement, second.judgement) == (Judgement.VALID, Judgement.VALID)
    [whole, torn] = asker.judge(
        Check.BLOCK,
        [
            CheckItem(n, headers[1], body, [Ancestor(raw) for raw in stand.headers[-2::-1]])
            for n, body in enumerate((blocks[1]["operations"], blocks[0]["operations"]))
        ],
        early,
    )
    assert (whole.judgement, torn.judgement) == (Judgement.VALID, Judgement.BODY_INVALID), whole
    # As much as one check may bring: a full body, and a portion of its ancestors' operations.
    full = [[], [], [], [bytes(32 * 1024)] * (PAYLOAD_BYTES_MAX // (32 * 1024))]
    portion = [[], [], [], [bytes(ANCESTORS_BYTES_MAX)]]
    below = [
        Ancestor(raw, portion if n == 0 else None) for n, raw in enumerate(stand.headers[-2::-1])
    ]
    [stuffed] = asker.judge(Check.BLOCK, [CheckItem(0, headers[1], full, below)], early)
    assert stuffed.judgement == Judgement.BODY_INVALID
    branch = base58.decode(base58.BLOCK_HASH, chain.head()["hash"])
    again = headers[0][:-1] + bytes([headers[0][-1] ^ 1])
    [made] = asker.judge(
        Check.EVIDENCE, [CheckItem(0, headers[0], other=again, branch=branch)], position
    )
    assert made.judgement == Judgement.VALID
    assert len(made.made) > 2 * len(headers[0])


def test_a_killed_worker_is_told_lost_and_the_other_goes_on(played: Played) -> None:
    chain, asker, _, votes = played
    until(lambda: len(chain.pool.signing_pids()) == 2)
    position = position_of(asker.stand())
    pids = list(chain.pool.signing_pids().values())
    for pid in pids:
        chain.pool.signal(pid, signal.SIGSTOP)
    items = [CheckItem(n, raw) for n, raw in enumerate(votes)]
    numbers = [asker.send(Check.VOTE, items, position) for _ in range(4)]
    until(lambda: sum(w["checking"] for w in chain.pool.workers()) == 4)
    chain.pool.signal(pids[0], signal.SIGKILL)
    chain.pool.signal(pids[1], signal.SIGCONT)
    answers = asker.answers(*numbers)
    problems = sorted(problem for _, problem in answers.values())
    assert problems[-2:] == ["worker_lost"] * 2
    assert chain.pool.status()["checks"]["worker_lost"] >= 2
    until(lambda: len(chain.pool.signing_pids()) == 2, what="the killed worker's successor")
    verdicts = asker.judge(Check.VOTE, items, position_of(asker.stand()))
    assert {verdict.judgement for verdict in verdicts} == {Judgement.VALID}
