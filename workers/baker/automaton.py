"""The baker at work: streams of a node in, requests to the pool out, results into the node.

A thin loop around `baker_state`. What it hears becomes a stimulus, what the core wants is done;
nothing is decided here. A stream or a question that fails is tried again after a pause.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from broker.client import new_id
from broker.client_session import Refused
from broker.messages import (
    ATTESTATION_READY,
    BLOCK_READY,
    FORGE_AND_SIGN_ATTESTATIONS,
    FORGE_AND_SIGN_BLOCK,
    FORGE_AND_SIGN_PREATTESTATIONS,
    PREATTESTATION_READY,
    BlockReady,
    Event,
    Request,
    Vote,
    VoteBatch,
)
from signers.formats import base58
from signers.formats.networks import Network
from signers.formats.signable import Kind
from workers.baker.baker_rpc import BakerRpc
from workers.baker.baker_state import BakerState
from workers.baker.commands import (
    BlockWanted,
    Command,
    OperationsWanted,
    ParentWanted,
    RightsWanted,
    VotesWanted,
)
from workers.baker.node_news import proposal_of_block, proposal_of_head, votes_in, votes_of
from workers.baker.stimuli import (
    ParentSeen,
    ProposalSeen,
    RightsKnown,
    Stimulus,
    TimePassed,
    VotesSeen,
)
from workers.node.answers import BlockToInject, RawOperation
from workers.node.patience import follow, insist, soon
from workers.node.rpc import ChainRpc
from workers.preparation.block_request import (
    ForgeBlock,
    Fresh,
    Reproposal,
    ToggleVote,
    encode_forge_block,
)
from workers.preparation.preparation_errors import PreparationError

log = logging.getLogger("forgepool.baker")
REQUEST_KINDS = {
    Kind.PREATTESTATION: FORGE_AND_SIGN_PREATTESTATIONS,
    Kind.ATTESTATION: FORGE_AND_SIGN_ATTESTATIONS,
}


class Automaton:
    """Bakes and votes on one chain for the delegates of `state`.

    `push` gives a request to the pool; `hear` must be called with the pool's news.
    """

    def __init__(
        self,
        state: BakerState,
        network: Network,
        chain: ChainRpc,
        rpc: BakerRpc,
        push: Callable[[Request], None],
        *,
        liquidity_baking_vote: ToggleVote = "pass",
        adaptive_issuance_vote: ToggleVote = "pass",
    ) -> None:
        self._state = state
        self._network = network
        self._chain = chain
        self._rpc = rpc
        self._push = push
        self._liquidity_baking_vote = liquidity_baking_vote
        self._adaptive_issuance_vote = adaptive_issuance_vote
        self._tasks: set[asyncio.Task[None]] = set()
        self._stimulated = asyncio.Event()
        self.counts: Counter[str] = Counter()  # what was done, by name

    async def run(self) -> None:
        """Bake until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(self._rpc.node, self._rpc.heads, self._head_seen))
                group.create_task(
                    follow(self._rpc.node, self._rpc.validated_blocks, self._block_seen)
                )
                group.create_task(
                    follow(self._rpc.node, self._rpc.consensus_operations, self._votes_seen)
                )
                group.create_task(self._keep_time())
        finally:
            for task in self._tasks:
                task.cancel()

    # -- what is heard --

    def _head_seen(self, line: Any) -> None:
        self._handle(ProposalSeen(proposal_of_head(line)))

    def _block_seen(self, line: Any) -> None:
        self._handle(ProposalSeen(proposal_of_block(line)))

    def _votes_seen(self, line: Any) -> None:
        votes = votes_of(line, self._network)
        if votes:
            self._handle(VotesSeen(votes))

    async def _keep_time(self) -> None:
        """Let the core act when its deadline comes; anything else that it hears may move it."""
        while True:
            now = time.time()
            deadline = self._state.deadline(now)
            wait = None if deadline is None else max(0.0, deadline - now)
            self._stimulated.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._stimulated.wait()
            except TimeoutError:
                self._handle(TimePassed())

    def hear(self, news: object) -> None:
        """Take news of the pool: an operation or a block to inject, or a reason why not."""
        match news:
            case Event(event=event, body=body) if event == BLOCK_READY:
                self._start(self._inject_block(body))
            case Event(event=event, body=body) if event in (
                PREATTESTATION_READY,
                ATTESTATION_READY,
            ):
                self._handle(VotesSeen(votes_in([body], self._network)))
                self._start(self._inject_vote(event, body))
            case Event():
                self.counts[news.event] += 1
                log.warning(
                    "not_signed delegate=%s event=%s code=%s text=%s",
                    news.delegate,
                    news.event,
                    news.code,
                    news.text,
                )
            case Refused(ack):
                self.counts["lost"] += 1
                log.warning("not_accepted code=%s text=%s", ack.code, ack.text)
            case _:
                self.counts["lost"] += 1
                log.warning("events_lost news=%s", news)

    def _handle(self, stimulus: Stimulus) -> None:
        for command in self._state.handle(stimulus, time.time()):
            self._perform(command)
        self._stimulated.set()

    # -- what is wanted --

    def _perform(self, command: Command) -> None:
        match command:
            case RightsWanted():
                self._start(self._ask_rights(command))
            case ParentWanted():
                self._start(self._ask_parent(command))
            case OperationsWanted():
                self._start(self._ask_operations(command))
            case VotesWanted():
                self._push(self._vote_request(command))
            case BlockWanted():
                log.info("block_wanted level=%d round=%d", command.level, command.round)
                self._push(self._block_request(command))

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_rights(self, wanted: RightsWanted) -> None:
        rights = await insist(
            self._rpc.node, lambda deadline: self._rpc.rights(wanted.level, deadline=deadline)
        )
        self._handle(RightsKnown(rights))

    async def _ask_parent(self, wanted: ParentWanted) -> None:
        parent = await insist(
            self._rpc.node, lambda deadline: self._rpc.proposal(wanted.hash, deadline=deadline)
        )
        self._handle(ParentSeen(parent))

    async def _ask_operations(self, wanted: OperationsWanted) -> None:
        proposal = wanted.proposal
        operations = await insist(
            self._rpc.node,
            lambda deadline: self._rpc.operations(proposal.hash, self._network, deadline=deadline),
        )
        self._handle(ProposalSeen(replace(proposal, operations=operations)))

    def _vote_request(self, wanted: VotesWanted) -> Request:
        batch = VoteBatch(
            self._chain.chain,
            base58.encode(base58.BLOCK_HASH, wanted.branch),
            wanted.level,
            wanted.round,
            base58.encode(base58.PAYLOAD_HASH, wanted.payload_hash),
        )
        votes = [Vote(delegate, slot) for delegate, slot in wanted.delegates]
        return Request(
            new_id(),
            REQUEST_KINDS[wanted.kind],
            msgspec.msgpack.encode(batch),
            votes=votes,
            ttl_ms=_milliseconds_until(wanted.until),
        )

    def _block_request(self, wanted: BlockWanted) -> Request:
        consensus = list(wanted.consensus_operations)
        content: Fresh | Reproposal = Fresh(consensus)
        if wanted.payload is not None:
            content = Reproposal(
                base58.encode(base58.PAYLOAD_HASH, wanted.payload.payload_hash),
                wanted.payload.payload_round,
                [list(one) for one in wanted.payload.operations],
                consensus,
            )
        payload = ForgeBlock(
            self._chain.chain,
            base58.encode(base58.BLOCK_HASH, wanted.predecessor),
            wanted.level,
            wanted.round,
            content,
            self._liquidity_baking_vote,
            self._adaptive_issuance_vote,
        )
        return Request(
            new_id(),
            FORGE_AND_SIGN_BLOCK,
            encode_forge_block(payload),
            wanted.delegate,
            ttl_ms=_milliseconds_until(wanted.until),
        )

    # -- what is injected --

    async def _inject_vote(self, event: str, operation: bytes) -> None:
        try:
            await self._chain.inject_operation(operation, deadline=soon())
        except PreparationError as error:
            self.counts["votes_not_injected"] += 1
            log.warning("vote_not_injected reason=%s", error)
        else:
            self.counts[event] += 1

    async def _inject_block(self, body: bytes) -> None:
        ready = msgspec.msgpack.decode(body, type=BlockReady)
        operations = [
            [
                RawOperation(base58.encode(base58.BLOCK_HASH, each[:32]), each[32:].hex())
                for each in one
            ]
            for one in ready.operations
        ]
        block = BlockToInject(ready.header.hex(), operations)
        try:
            await self._chain.inject_block(block, deadline=soon())
        except PreparationError as error:
            self.counts["blocks_not_injected"] += 1
            log.warning("block_not_injected hash=%s reason=%s", ready.hash, error)
        else:
            self.counts[BLOCK_READY] += 1
            log.info("block_injected hash=%s", ready.hash)


def _milliseconds_until(moment: float) -> int:
    """From now to `moment` (Unix seconds), at least one."""
    return max(1, int((moment - time.time()) * 1000))
