"""Preparing a block, step by step: from a client's request to an unsigned header with its work.

`prepare` reads as the list of steps. Nothing is signed and no key is known here; whether the
block may be signed is decided afterwards by the watermark.

Source: Octez `lib_delegate/baking_actions.ml` (prepare_block).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.block_header import BlockHeader
from signers.formats.block_header import encode as encode_header
from signers.formats.content_kind import CONSENSUS_PASS
from signers.formats.hashes import blake2b_32, payload_hash
from signers.formats.networks import Network
from workers.node.rpc import ChainRpc
from workers.node.transport import Node
from workers.preparation.account_lookup import AccountLookup
from workers.preparation.block_forge import Proposal, forge_header, per_block_votes, shell_bytes
from workers.preparation.block_request import ForgeBlock, Fresh, Reproposal, decode_forge_block
from workers.preparation.chain_view import ChainView
from workers.preparation.consensus_operations import (
    attestations_of_predecessor,
    preattestations_of_payload,
)
from workers.preparation.eligible_operations import managers_of, valid_managers, without_managers
from workers.preparation.mempool import pending_operations
from workers.preparation.node_application import accept_shell, applied_proposal, preapply_request
from workers.preparation.predecessor_views import PredecessorViews
from workers.preparation.preparation_errors import (
    DeadlinePassed,
    InvalidRequest,
    MalformedRequest,
    PreparationError,
)
from workers.preparation.preparation_job import PreparationJob, PreparedBlock
from workers.preparation.proof_of_work import slices
from workers.preparation.seed_nonces import SEED_NONCE_BYTES, new_seed_nonce, seed_nonce_hash
from workers.preparation.selection import select
from workers.preparation.submitted_operation import SubmittedOperation, read_operation

log = logging.getLogger("forgepool.preparer")

# The share of the time left that waiting for the mempool, or for accounts, may take. A block
# without some operations is better than none.
SHARE_OF_TIME = 0.4


@dataclass(frozen=True, slots=True)
class _Asked:
    """One preparation: what is asked, of whom, and until when (seconds of the loop's clock)."""

    request: ForgeBlock
    chain: ChainRpc
    view: ChainView
    deadline: float
    votes_on_issuance: bool

    @property
    def node_applies(self) -> bool:
        """Whether the node applies it: it must, or nobody here knows the protocol that it obeys."""
        request = self.request
        return request.validation == "node" or request.force_apply or self.view.protocol_changes

    def share_of_time(self) -> float:
        """When a step must end that the block can do without."""
        now = asyncio.get_running_loop().time()
        return now + max(0.0, self.deadline - now) * SHARE_OF_TIME

    def select(self, eligible: Iterable[SubmittedOperation]) -> tuple[tuple[bytes, ...], ...]:
        """The four passes of a block that holds as much of `eligible` as it can."""
        candidates = [each.candidate() for each in eligible]
        return select(candidates, gas_per_block=self.view.constants.gas_per_block)


class BlockPreparation:
    """Prepares blocks with the help of some nodes of one network; the first is the default.

    `randomness` gives so many random bytes: `os.urandom`.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        network: Network,
        *,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._nodes = nodes
        self._network = network
        self._randomness = randomness
        self._accounts = {name: AccountLookup(network) for name in nodes}
        self._views = {name: PredecessorViews() for name in nodes}

    async def prepare(self, job: PreparationJob, *, deadline: float) -> PreparedBlock:
        """Prepare one block. Raises PreparationError.

        `deadline` is in seconds of the event loop's clock.
        """
        request = decode_forge_block(job.request)
        _check_texts(request)
        node = self._node_name(request)
        chain = ChainRpc(self._nodes[node], request.chain_id)
        view = await self._views[node].view(chain, request.predecessor, deadline=deadline)
        _check_level(request, view)
        asked = _Asked(request, chain, view, deadline, self._votes_on_issuance(view))
        votes = per_block_votes(
            request.liquidity_baking_vote,
            request.adaptive_issuance_vote,
            votes_on_issuance=asked.votes_on_issuance,
        )
        seed_nonce = self._seed_nonce(job, view)
        proposal = await self._proposal(asked, self._accounts[node])
        header, proposal = await self._forge(asked, proposal, votes, seed_nonce)
        unsigned = await _with_proof_of_work(asked, header)
        return PreparedBlock(
            job=job.job,
            chain_id=view.chain_id,
            unsigned_header=unsigned,
            operations=[list(one) for one in proposal.operations],
            predecessor=view.predecessor,
            level=header.level,
            round=request.round,
            seed_nonce=seed_nonce,
        )

    # -- what is known before there are operations --

    def _node_name(self, request: ForgeBlock) -> str:
        name = next(iter(self._nodes)) if request.node is None else request.node
        if name not in self._nodes:
            raise InvalidRequest(f"no node is called {name!r}; known are {', '.join(self._nodes)}")
        return name

    def _votes_on_issuance(self, view: ChainView) -> bool:
        """Whether headers of the next protocol vote on adaptive issuance."""
        known = {protocol.hash: protocol for protocol in self._network.protocols}
        return known.get(view.protocol, self._network.protocol).adaptive_issuance_vote

    def _seed_nonce(self, job: PreparationJob, view: ChainView) -> bytes | None:
        if not view.expected_commitment:
            return None
        if job.seed_nonce is None:
            return new_seed_nonce(self._randomness)
        if len(job.seed_nonce) != SEED_NONCE_BYTES:
            raise MalformedRequest(f"a seed nonce has {SEED_NONCE_BYTES} bytes")
        return job.seed_nonce

    # -- which operations --

    async def _proposal(self, asked: _Asked, accounts: AccountLookup) -> Proposal:
        match asked.request.content:
            case Reproposal() as again:
                return self._reproposal(asked, again)
            case Fresh() as fresh:
                submitted = await self._submitted(asked, fresh)
                eligible = await self._eligible(asked, accounts, submitted)
                return Proposal(asked.select(eligible), payload_round=asked.request.round)

    def _reproposal(self, asked: _Asked, again: Reproposal) -> Proposal:
        """The payload as it was, with today's votes; the payload itself is not even decoded."""
        payload = tuple(tuple(one) for one in again.payload)
        hashes = [blake2b_32(operation) for one in payload for operation in one]
        promised = base58.decode(base58.PAYLOAD_HASH, again.payload_hash)
        if payload_hash(asked.view.predecessor, again.payload_round, hashes) != promised:
            raise InvalidRequest("the payload does not have the payload hash of the request")
        votes = self._read_all(again.consensus_operations)
        attestations = attestations_of_predecessor(asked.view, votes)
        preattestations, locked_round = preattestations_of_payload(
            asked.view,
            votes,
            payload_hash=promised,
            payload_round=again.payload_round,
            round_=asked.request.round,
        )
        consensus = asked.select(attestations + preattestations)[CONSENSUS_PASS]
        return Proposal((consensus, *payload), again.payload_round, locked_round)

    async def _submitted(self, asked: _Asked, fresh: Fresh) -> list[SubmittedOperation]:
        """Everything that somebody wants in the block, with a live branch."""
        wanted = self._read_all(fresh.consensus_operations)
        for extra in fresh.extra_operations:
            wanted += self._read_all([extra.operation], priority=extra.priority)
        if fresh.mempool:
            until = asked.share_of_time()
            try:
                wanted += await pending_operations(asked.chain, self._network, deadline=until)
            except PreparationError as error:
                log.warning("mempool_left_out reason=%s", error)
        return [each for each in wanted if each.branch in asked.view.live_blocks]

    async def _eligible(
        self, asked: _Asked, accounts: AccountLookup, submitted: list[SubmittedOperation]
    ) -> list[SubmittedOperation]:
        """What may be in the block. A node that applies it also decides what is valid."""
        managers = managers_of(submitted)
        if not asked.node_applies:
            managers = await valid_managers(
                asked.chain,
                asked.view,
                asked.request.predecessor,
                accounts,
                managers,
                deadline=asked.share_of_time(),
            )
        return without_managers(asked.view, submitted) + managers

    def _read_all(self, operations: Iterable[bytes], priority: int = 0) -> list[SubmittedOperation]:
        read = []
        for data in operations:
            try:
                read.append(read_operation(data, self._network, priority=priority))
            except MalformedBytes as error:
                log.warning("operation_left_out from=request reason=%s", error)
        return read

    # -- the block --

    async def _forge(
        self, asked: _Asked, proposal: Proposal, votes: int, seed_nonce: bytes | None
    ) -> tuple[BlockHeader, Proposal]:
        """The header, without its proof of work, and what is in the block after all."""

        def forge(proposal: Proposal) -> BlockHeader:
            return forge_header(
                asked.view,
                asked.request.round,
                proposal,
                votes=votes,
                seed_nonce_hash=None if seed_nonce is None else seed_nonce_hash(seed_nonce),
                nonce_prefix=asked.request.proof_of_work_nonce_prefix,
            )

        header = forge(proposal)
        if not asked.node_applies:
            return header, proposal
        answer = await asked.chain.preapply_block(
            asked.request.predecessor,
            preapply_request(
                asked.view,
                header,
                proposal,
                self._network,
                votes_on_issuance=asked.votes_on_issuance,
            ),
            timestamp=header.timestamp,
            deadline=asked.deadline,
        )
        applied = applied_proposal(answer, proposal)
        if isinstance(asked.request.content, Reproposal) and applied.payload != proposal.payload:
            raise InvalidRequest("the node cannot apply every operation of the re-proposal")
        return accept_shell(forge(applied), answer.shell_header), applied


async def _with_proof_of_work(asked: _Asked, header: BlockHeader) -> bytes:
    """The unsigned header with a nonce that meets the threshold, found slice by slice."""
    loop = asyncio.get_running_loop()
    search = slices(
        encode_header(header),
        shell_bytes(header),
        asked.request.proof_of_work_nonce_prefix,
        asked.view.constants.proof_of_work_threshold,
    )
    for found in search:
        if found is not None:
            return found
        if loop.time() >= asked.deadline:
            break
        await asyncio.sleep(0)
    raise DeadlinePassed("no proof of work was found before the deadline")


def _check_level(request: ForgeBlock, view: ChainView) -> None:
    if request.level != view.level + 1:
        raise InvalidRequest(
            f"a block on {request.predecessor} has level {view.level + 1}, not {request.level}"
        )


def _check_texts(request: ForgeBlock) -> None:
    """Raise MalformedRequest unless the hashes of a request are what they say."""
    try:
        base58.decode(base58.CHAIN_ID, request.chain_id)
        base58.decode(base58.BLOCK_HASH, request.predecessor)
        if isinstance(request.content, Reproposal):
            base58.decode(base58.PAYLOAD_HASH, request.content.payload_hash)
    except MalformedBytes as error:
        raise MalformedRequest(f"payload of forge_and_sign_block: {error}") from None
