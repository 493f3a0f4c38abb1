"""Networks and protocols as data: every name and hash is one, and newest comes first."""

import pytest

from signers.errors import MalformedBytes, UnknownNetwork
from signers.formats import base58
from signers.formats.networks import (
    CHAIN_IDS,
    CHAIN_NAMES,
    MAVRYK,
    NETWORKS,
    TEZOS,
    BlsScheme,
    DalVotes,
    Network,
    network_by_name,
)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
def test_names_and_hashes_are_well_formed(network: Network) -> None:
    assert network_by_name(network.name) is network
    for protocol in network.protocols:
        assert len(base58.decode(base58.PROTOCOL_HASH, protocol.hash)) == 32
    assert len({protocol.hash for protocol in network.protocols}) == len(network.protocols)
    for chain_id in network.chains.values():
        assert len(base58.decode(base58.CHAIN_ID, chain_id)) == 4
    texts = {base58.encode(prefix, bytes(20))[:3] for prefix in network.key_hash_prefixes}
    start = "tz" if network is TEZOS else "mv"
    assert texts == {f"{start}{n + 1}" for n in range(len(network.key_hash_prefixes))}


def test_the_newest_protocols_are_those_of_new_blocks() -> None:
    assert TEZOS.protocol.hash.startswith("PsUshuai")
    assert MAVRYK.protocol.hash.startswith("PtBoreas")


def test_what_differs_for_a_signer() -> None:
    atlas = MAVRYK.protocols[-1]
    assert (atlas.name, atlas.dal_votes) == ("Atlas", DalVotes.OWN_OPERATION)
    assert MAVRYK.protocol.dal_votes is DalVotes.IN_ATTESTATION
    assert all(protocol.bls_scheme is BlsScheme.AUGMENTED for protocol in MAVRYK.protocols)
    assert not any(protocol.bls_votes for protocol in MAVRYK.protocols)
    by_name = {protocol.name: protocol for protocol in TEZOS.protocols}
    assert (by_name["Seoul"].bls_scheme, by_name["Seoul"].bls_votes) == (BlsScheme.POSSESSION, True)
    assert (by_name["Rio"].bls_scheme, by_name["Rio"].bls_votes) == (BlsScheme.AUGMENTED, False)


def test_a_chain_has_an_id_and_may_have_a_name() -> None:
    assert TEZOS.chain_id("mainnet") == TEZOS.chain_id("NetXdQprcVkpaWU") == "NetXdQprcVkpaWU"
    assert CHAIN_NAMES[MAVRYK.chain_id("basenet")] == "basenet"
    assert len(CHAIN_NAMES) == len(CHAIN_IDS) == sum(len(n.chains) for n in NETWORKS.values())
    with pytest.raises(MalformedBytes, match=r"'mainnet' is no chain id.*\(basenet\)"):
        MAVRYK.chain_id("mainnet")


@pytest.mark.parametrize("name", ["", "Tezos", "bitcoin", "x" * 1000])
def test_an_unknown_network_is_an_error_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownNetwork, match="mavryk, tezos"):
        network_by_name(name)
