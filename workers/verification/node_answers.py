"""Asks a node what checks need to know; runs in the worker's child process.

Source: Octez RPC ``helpers/validators``, ``context/delegates/…/consensus_key``, ``header/raw``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from broker.verification import ANCESTORS_MAX
from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.block_header import read_shell
from signers.formats.codec import Reader
from signers.formats.content_kind import ANONYMOUS_PASS, VOTING_PASS
from signers.formats.hashes import blake2b_20, blake2b_32
from signers.formats.networks import Network
from signers.formats.tagged_keys import hash_text, tagged_public_key
from workers.node.answers import ConsensusConstants, ConsensusKey, Constants
from workers.node.rpc import ChainRpc
from workers.node.transport import Node
from workers.preparation.account_lookup import CALLS_AT_ONCE, AccountLookup
from workers.preparation.chain_view import forging_constants
from workers.preparation.preparation_errors import NodeAnswerMalformed, NodeTimeout, NotOnNode
from workers.verification.node_questions import (
    AccountTold,
    ChainTold,
    ChainWanted,
    IncludedTold,
    IncludedWanted,
    Question,
    RightsTold,
    RightsWanted,
    RulesTold,
    RulesWanted,
    StateTold,
    StateWanted,
    Told,
    VoterTold,
)

# Keys of delegates: a hash is of one key for ever. Mainnet has some hundred delegates, and 10,000
# keys take 2 MB.
KEYS_KEPT_MAX = 10_000
# Headers by their hashes, for walks down from the head; each takes some 400 bytes.
HEADERS_KEPT_MAX = 4 * ANCESTORS_MAX
# What was told for a question whose time ran out: a full block has 3,000 sources, and an operation
# may name a branch 360 blocks back. The next try goes on from there. 300 bytes each.
ACCOUNTS_KEPT_MAX = 16_384
INCLUDED_KEPT_MAX = 1_024
# Of a level whose bakers are not the owners of its slots. Round 63 of mainnet begins three hours
# after the level's first.
ROUNDS_ASKED = 64
FINAL_DEPTH = 2  # Tenderbake: what has two blocks on top is final


class NodeAnswers:
    """What one node says of the chains that it is asked about. Raises PreparationError."""

    def __init__(self, node: Node, network: Network) -> None:
        self._node = node
        self._network = network
        self._accounts = AccountLookup(network)
        self._keys: OrderedDict[str, bytes] = OrderedDict()
        self._headers: OrderedDict[bytes, bytes] = OrderedDict()
        self._left: OrderedDict[tuple[bytes, bytes], AccountTold] = (
            OrderedDict()
        )  # by block, source
        self._included_in: OrderedDict[bytes, list[bytes]] = OrderedDict()

    async def answer(self, chain_id: str, question: Question, *, deadline: float) -> Told:
        """The answer to one question; `deadline` is in seconds of the event loop's clock."""
        chain = ChainRpc(self._node, chain_id)
        try:
            match question:
                case RulesWanted():
                    return await self._rules(chain, deadline)
                case RightsWanted():
                    return await self._rights(chain, question.level, deadline)
                case ChainWanted():
                    return await self._chain(chain, question.known, deadline)
                case StateWanted():
                    return await self._state(chain, question, deadline)
                case IncludedWanted():
                    return await self._included(chain, question, deadline)
        except (MalformedBytes, ValueError) as error:
            raise NodeAnswerMalformed(f"{type(question).__name__}: {error}") from None

    async def _rules(self, chain: ChainRpc, deadline: float) -> RulesTold:
        protocols = await chain.protocols("head", deadline=deadline)
        constants, consensus = await asyncio.gather(
            chain.constants("head", deadline=deadline),
            chain.consensus_constants("head", deadline=deadline),
        )
        return _rules(protocols.next_protocol, constants, consensus)

    # -- rights --

    async def _rights(self, chain: ChainRpc, level: int, deadline: float) -> RightsTold:
        validators = await chain.validators("head", level, deadline=deadline)
        voters: list[VoterTold] = []
        remaining = iter(validators)

        async def read() -> None:
            for each in remaining:
                slots = tuple(sorted(each.slots))
                if slots:
                    key = await self._key(chain, each.delegate, each.consensus_key, deadline)
                    companion = None
                    if each.companion_key is not None:
                        companion = await self._companion(
                            chain, each.delegate, each.companion_key, deadline
                        )
                    voters.append(
                        VoterTold(
                            each.delegate,
                            each.consensus_key,
                            key,
                            slots,
                            each.companion_key,
                            companion,
                        )
                    )

        await asyncio.gather(*(read() for _ in range(CALLS_AT_ONCE)))
        bakers: list[VoterTold] = []
        constants = await chain.consensus_constants("head", deadline=deadline)
        if constants.swrr_new_baker_lottery_enable:
            for one in await chain.bakers("head", level, ROUNDS_ASKED, deadline=deadline):
                key = await self._key(chain, one.delegate, one.consensus_key, deadline)
                bakers.append(VoterTold(one.delegate, one.consensus_key, key, ()))
        return RightsTold(level, voters, bakers)

    async def _key(self, chain: ChainRpc, delegate: str, hash_: str, deadline: float) -> bytes:
        if hash_ not in self._keys:
            answer = await chain.consensus_key("head", delegate, deadline=deadline)
            self._keep_keys(answer)
        if hash_ not in self._keys:  # it was changed since that level
            text = await chain.manager_key("head", hash_, deadline=deadline)
            if text is not None:
                self._keep_key(text)
        return self._known_key(hash_)

    async def _companion(
        self, chain: ChainRpc, delegate: str, hash_: str, deadline: float
    ) -> bytes:
        if hash_ not in self._keys:
            self._keep_keys(await chain.companion_key("head", delegate, deadline=deadline))
        return self._known_key(hash_)

    def _known_key(self, hash_: str) -> bytes:
        try:
            return self._keys[hash_]
        except KeyError:
            raise NodeAnswerMalformed(f"the node does not tell the key of {hash_}") from None

    def _keep_keys(self, answer: ConsensusKey) -> None:
        for each in (answer.active, *answer.pendings):
            if each is not None:
                self._keep_key(each.pk)

    def _keep_key(self, text: str) -> None:
        """Keep a key under the hash that it has, whatever the node says."""
        tagged = tagged_public_key(text)
        self._keys[hash_text(tagged[:1] + blake2b_20(tagged[1:]), self._network)] = tagged
        if len(self._keys) > KEYS_KEPT_MAX:
            self._keys.popitem(last=False)

    # -- the chain --

    async def _chain(self, chain: ChainRpc, known: bytes, deadline: float) -> ChainTold:
        rules = await self._rules(chain, deadline)
        head = await chain.header("head", deadline=deadline)
        final = await chain.hash(f"{head.hash}~{min(FINAL_DEPTH, head.level)}", deadline=deadline)
        stops_at = base58.decode(base58.BLOCK_HASH, final)
        headers = await self._down_to(chain, head.hash, known or stops_at, deadline)
        below: list[bytes] = []
        lowest = blake2b_32(headers[0])
        if lowest != known:
            name = base58.encode(base58.BLOCK_HASH, lowest)
            branch = await chain.branch(name, rules.operations_ttl, deadline=deadline)
            below = [base58.decode(base58.BLOCK_HASH, text) for text in branch[1:]]
        validators = await chain.validators("head", head.level, deadline=deadline)
        return ChainTold(rules, stops_at, headers, len(validators), head.chain_id, below)

    async def _down_to(
        self, chain: ChainRpc, head: str, last: bytes, deadline: float
    ) -> list[bytes]:
        """The headers from a block down to an ancestor, or to the bound; oldest first.

        The genesis is left out: its hash is chosen, not that of its header.
        """
        hash_ = base58.decode(base58.BLOCK_HASH, head)
        headers: list[bytes] = []
        while len(headers) < ANCESTORS_MAX:
            raw = await self._header(chain, hash_, deadline)
            shell = read_shell(Reader(raw))
            headers.append(raw)
            if hash_ == last or shell.level <= 1:
                break
            hash_ = shell.predecessor
        return headers[::-1]

    async def _header(self, chain: ChainRpc, hash_: bytes, deadline: float) -> bytes:
        raw = self._headers.get(hash_)
        if raw is None:
            name = base58.encode(base58.BLOCK_HASH, hash_)
            raw = bytes.fromhex(await chain.raw_header(name, deadline=deadline))
            if blake2b_32(raw) != hash_:
                raise NodeAnswerMalformed(f"the header of {name} has another hash")
            self._headers[hash_] = raw
            if len(self._headers) > HEADERS_KEPT_MAX:
                self._headers.popitem(last=False)
        return raw

    # -- a block's state --

    async def _state(self, chain: ChainRpc, asked: StateWanted, deadline: float) -> StateTold:
        rules = await chain.consensus_constants("head", deadline=deadline)
        for place, hash_ in enumerate(asked.blocks):
            name = base58.encode(base58.BLOCK_HASH, hash_)
            try:
                branch = await chain.branch(
                    name, rules.max_operations_time_to_live + 1, deadline=deadline
                )
            except NotOnNode:
                continue
            if not branch or branch[0] != name:
                continue
            accounts = await self._accounts_at(chain, hash_, asked.sources, deadline)
            hashes = [base58.decode(base58.BLOCK_HASH, text) for text in branch]
            return StateTold(place, hashes, accounts)
        raise NotOnNode("the node knows none of these blocks")

    async def _accounts_at(
        self, chain: ChainRpc, block: bytes, sources: tuple[bytes, ...], deadline: float
    ) -> list[AccountTold]:
        name = base58.encode(base58.BLOCK_HASH, block)
        left = self._left
        told = {source: left[block, source] for source in sources if (block, source) in left}
        asked = [source for source in sources if source not in told]
        facts = await self._accounts.facts(chain, name, asked, deadline=deadline)
        for source, each in facts.items():
            account = AccountTold(source, each.balance, each.counter, each.public_key)
            told[source] = left[block, source] = account
        while len(left) > ACCOUNTS_KEPT_MAX:
            left.popitem(last=False)
        if len(told) < len(sources):
            raise NodeTimeout(f"{len(told)} of {len(sources)} accounts were told")
        return [told[source] for source in sources]

    async def _included(
        self, chain: ChainRpc, asked: IncludedWanted, deadline: float
    ) -> IncludedTold:
        found = []
        for hash_ in asked.blocks:
            operations = self._included_in.get(hash_)
            if operations is None:
                name = base58.encode(base58.BLOCK_HASH, hash_)
                passes = await chain.operation_hashes(name, deadline=deadline)
                operations = [
                    base58.decode(base58.OPERATION_HASH, text)
                    for one_pass in passes[VOTING_PASS : ANONYMOUS_PASS + 1]
                    for text in one_pass
                ]
                self._included_in[hash_] = operations
                if len(self._included_in) > INCLUDED_KEPT_MAX:
                    self._included_in.popitem(last=False)
            found.append(operations)
        return IncludedTold(found)


def _rules(protocol: str, constants: Constants, consensus: ConsensusConstants) -> RulesTold:
    """Raises ValueError."""
    numbers = forging_constants(constants)
    return RulesTold(
        protocol,
        numbers.minimal_block_delay_s,
        numbers.delay_increment_per_round_s,
        numbers.proof_of_work_threshold,
        numbers.gas_per_block,
        numbers.gas_per_operation,
        numbers.storage_per_operation,
        consensus.consensus_committee_size,
        consensus.threshold,
        consensus.max_operations_time_to_live,
        consensus.max_operation_data_length,
    )
