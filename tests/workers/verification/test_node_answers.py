"""What a node is asked for checks, on real sockets, and how little is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bakery import ACCOUNTS, Bakery, genesis_of

from signers.formats.networks import MAVRYK, TEZOS
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey
from workers.node.rpc import ChainRpc
from workers.node.transport import Node
from workers.preparation.preparation_errors import NodeAnswerMalformed, NodeTimeout, NotOnNode
from workers.sandbox.chain import Chain
from workers.sandbox.node import SandboxNode
from workers.sandbox.rpc import RpcServer
from workers.sandbox.services import services_of
from workers.sandbox.services.rights import RightsServices
from workers.verification.node_answers import ROUNDS_ASKED, NodeAnswers
from workers.verification.node_questions import (
    ChainTold,
    ChainWanted,
    IncludedTold,
    IncludedWanted,
    RightsTold,
    RightsWanted,
    RulesTold,
    RulesWanted,
    StateTold,
    StateWanted,
)

Ask = Callable[[Any], Awaitable[Any]]


def ask_all(bakery: Bakery, scenario: Callable[[Ask], Awaitable[None]]) -> None:
    """Run a scenario that asks the node of a bakery."""

    async def main() -> None:
        sandbox = SandboxNode(bakery.chain)
        server = RpcServer(
            services_of(sandbox),
            sandbox.streams,
            sandbox.dialect.protocol_prefix,
            lambda: bakery.now,
            chain_id=sandbox.chain_id,
        )
        port = await server.start("127.0.0.1", 0)
        node = Node(f"http://127.0.0.1:{port}")
        answers = NodeAnswers(node, bakery.network)

        async def ask(question: Any) -> Any:
            deadline = asyncio.get_running_loop().time() + 20
            return await answers.answer(sandbox.chain_id, question, deadline=deadline)

        try:
            await scenario(ask)
        finally:
            await node.aclose()
            await server.stop()

    asyncio.run(main())


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=lambda n: n.name)
def test_what_checks_need(network: Any) -> None:
    bakery = Bakery(Chain(genesis_of(network)))
    bakery.bake_to(5)
    blocks = {block.level: block for block in bakery.chain.tree.ancestors(bakery.head)}
    rules, committee = bakery.chain.rules, bakery.chain.rules.rights.committee(6)

    async def scenario(ask: Ask) -> None:
        told = await ask(RulesWanted())
        assert isinstance(told, RulesTold)
        assert told.protocol == network.protocol.hash
        assert told.committee_size == rules.constants.consensus_committee_size
        assert told.consensus_threshold == rules.constants.consensus_threshold
        rights = await ask(RightsWanted(6))
        assert isinstance(rights, RightsTold)
        expected = {rules.names.address(a): tuple(s) for a, s in committee.slots.items()}
        assert {voter.delegate: voter.slots for voter in rights.voters} == expected
        drawn = [told.delegate for told in rights.bakers]
        by_slot = [rules.names.address(committee.baker(round_)) for round_ in range(ROUNDS_ASKED)]
        assert drawn == (by_slot if network is TEZOS else []), "here the same, but asked for"
        for voter in (*rights.voters, *rights.bakers):
            key = PublicKey.from_tagged(voter.key)
            assert key.curve is Curve.ED25519
            assert key.hash(network) == voter.consensus_hash
        source = ACCOUNTS[1].address
        state = await ask(StateWanted((b"\1" * 32, blocks[5].hash), (source,)))
        assert isinstance(state, StateTold)
        assert (state.base, state.branch[:2]) == (1, [blocks[5].hash, blocks[4].hash])
        account = bakery.account(ACCOUNTS[1])
        [told_account] = state.accounts
        assert (told_account.balance, told_account.counter, told_account.public_key) == (
            account.balance, account.counter, account.public_key,
        )  # fmt: skip
        with pytest.raises(NotOnNode):
            await ask(StateWanted((b"\1" * 32,), ()))
        included = await ask(IncludedWanted((blocks[5].hash, blocks[4].hash)))
        assert included == IncludedTold([[], []])

    ask_all(bakery, scenario)


def test_what_was_told_before_the_time_ran_out_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bakery = Bakery(Chain(genesis_of()))
    bakery.bake_to(3)
    block, source = bakery.head.hash, ACCOUNTS[1].address
    asked: list[str] = []
    account, operation_hashes = ChainRpc.account, ChainRpc.operation_hashes

    async def count_account(rpc: ChainRpc, name: str, *args: Any, **other: Any) -> Any:
        asked.append("account")
        return await account(rpc, name, *args, **other)

    async def count_hashes(rpc: ChainRpc, name: str, *args: Any, **other: Any) -> Any:
        asked.append("hashes")
        return await operation_hashes(rpc, name, *args, **other)

    monkeypatch.setattr(ChainRpc, "account", count_account)
    monkeypatch.setattr(ChainRpc, "operation_hashes", count_hashes)

    async def scenario(ask: Ask) -> None:
        with pytest.raises(NodeTimeout):  # the last is one that no node tells of
            await ask(StateWanted((block,), (source, bytes([99]) + source[1:])))
        state = await ask(StateWanted((block,), (source,)))
        assert state.accounts[0].counter == bakery.account(ACCOUNTS[1]).counter
        with pytest.raises(NotOnNode):
            await ask(IncludedWanted((block, b"\1" * 32)))
        assert await ask(IncludedWanted((block,))) == IncludedTold([[]])

    ask_all(bakery, scenario)
    assert asked == ["account", "hashes", "hashes"]


def test_the_chain_down_to_what_is_known_or_final() -> None:
    bakery = Bakery(Chain(genesis_of()))
    bakery.bake_to(7)
    raw = {block.level: block for block in bakery.chain.tree.ancestors(bakery.head)}

    async def scenario(ask: Ask) -> None:
        for known, first in ((b"", 5), (raw[6].hash, 6), (raw[3].hash, 3), (b"\1" * 32, 1)):
            told = await ask(ChainWanted(known))
            assert isinstance(told, ChainTold)
            assert told.final == raw[5].hash
            assert told.headers == [raw[level].raw_header for level in range(first, 8)]
            assert told.delegates == len(bakery.bakers)
            is_known = known == raw[first].hash
            below = [] if is_known else [raw[level].hash for level in range(first - 1, -1, -1)]
            assert told.below == below, "what votes may name, unless the asker knows it"

    ask_all(bakery, scenario)


def test_a_young_chain_has_only_its_genesis_to_be_final() -> None:
    bakery = Bakery(Chain(genesis_of()))

    async def scenario(ask: Ask) -> None:
        told = await ask(ChainWanted(b""))
        assert told.headers == [bakery.head.raw_header]

    ask_all(bakery, scenario)


def test_a_key_that_has_another_hash_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    bakery = Bakery(Chain(genesis_of()))
    keys = bakery.chain.rules.consensus_keys
    monkeypatch.setattr(bakery.chain.rules, "consensus_keys", dict.fromkeys(keys, bytes(33)))

    async def scenario(ask: Ask) -> None:
        told = await ask(RightsWanted(2))  # the keys are found where accounts are
        for voter in told.voters:
            assert PublicKey.from_tagged(voter.key).hash(MAVRYK) == voter.consensus_hash

    ask_all(bakery, scenario)


def test_rights_of_a_level_at_which_all_bakers_attest_are_not_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bakery = Bakery(Chain(genesis_of(TEZOS)))
    told = RightsServices._validators_of_level
    monkeypatch.setattr(
        RightsServices,
        "_validators_of_level",
        lambda *given: told(*given) | {"all_bakers_attest_activated": True},
    )

    async def scenario(ask: Ask) -> None:
        with pytest.raises(NodeAnswerMalformed, match="all bakers attest"):
            await ask(RightsWanted(2))

    ask_all(bakery, scenario)
