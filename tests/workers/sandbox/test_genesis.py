"""How a chain begins."""

from collections.abc import Callable
from typing import Any

from signers.formats import base58, block_header
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS
from workers.sandbox.accounts import SandboxKey, sandbox_keys
from workers.sandbox.chain import Chain
from workers.sandbox.genesis import activation_block, genesis_block


def test_the_chain_id_follows_from_the_genesis_hash(genesis: Callable[..., Any]) -> None:
    one = genesis()
    assert one.chain_id == blake2b_32(one.hash)[:4]
    # The rule, on the genesis of Tezos' main network.
    mainnet = base58.decode(
        base58.BLOCK_HASH, "BLockGenesisGenesisGenesisGenesisGenesisf79b5d1CoW2"
    )
    chain_id = base58.encode(base58.CHAIN_ID, blake2b_32(mainnet)[:4])
    assert chain_id == TEZOS.chains["mainnet"]


def test_seed_network_and_protocol_make_another_chain(genesis: Callable[..., Any]) -> None:
    from dataclasses import replace

    chains = [genesis(), genesis(MAVRYK, 1), genesis(TEZOS), replace(genesis(), seed=b"other")]
    assert len({chain.chain_id for chain in chains}) == 4


def test_the_activation_commits_to_everything_that_the_chain_begins_with(
    genesis: Callable[..., Any],
) -> None:
    from dataclasses import replace

    one = genesis()
    first = activation_block(one)
    assert genesis_block(one).hash == one.hash == first.header.predecessor
    assert first.hash == blake2b_32(first.raw_header)
    assert block_header.write_shell(first.header) + first.protocol_data == first.raw_header
    poorer = replace(one, accounts=one.accounts[:-1])
    assert activation_block(poorer).resulting_context_hash != first.resulting_context_hash
    assert activation_block(replace(one, timestamp=1)).hash != first.hash


def test_a_baker_has_a_twentieth_frozen(genesis: Callable[..., Any]) -> None:
    from workers.sandbox.ledger import Ledger

    chain = Chain(genesis())
    (address, *_) = chain.rules.consensus_keys
    assert chain.head.context is not None
    account = Ledger(chain.head.context).account(address)
    assert account is not None
    assert (account.balance, account.frozen) == (3_800_000_000_000, 200_000_000_000)
    assert account.delegate == address


def test_keys_come_from_the_seed_and_do_not_show_their_secret() -> None:
    (key, other) = sandbox_keys("s", "baker", 2)
    assert sandbox_keys("s", "baker", 1) == [key]
    assert len({k.address for k in (key, other, *sandbox_keys("t", "baker", 1))}) == 3
    assert key.seed.hex() not in repr(key)
    assert key.secret_key_text not in repr(key)
    assert SandboxKey(base58.decode(base58.ED25519_SEED, key.secret_key_text)) == key
    assert key.address_text(MAVRYK).startswith("mv1")
    assert key.address_text(TEZOS).startswith("tz1")
