"""What differs between networks and between their protocols, as data.

Mavryk grew out of Tezos: the binary formats are shared, so one reader serves both, and what
differs is listed here. A protocol that is not listed has formats close to its neighbours';
decoding never asks for a protocol, only for a network.

Source: Octez ``src/proto_*``, Mavryk ``src/proto_001_PtAtLas`` and ``src/proto_002_PtBoreas``,
``src/lib_crypto/signature_v*.ml``, the default parameters of each protocol.
"""

from dataclasses import dataclass
from enum import Enum

from signers.errors import MalformedBytes, UnknownNetwork
from signers.formats import base58
from signers.formats.base58 import Prefix

# The watermark: the byte in front of what is signed that says what kind of thing it is. After
# the consensus watermarks comes the chain id, after the generic one does not.
GENERIC_WATERMARK = 0x03
AUTHENTICATION_WATERMARK = 0x04
BLOCK_WATERMARK = 0x11
PREATTESTATION_WATERMARK = 0x12
ATTESTATION_WATERMARK = 0x13
DAL_ATTESTATION_WATERMARK = 0x14

# The tag of a vote inside an operation, the same on both networks.
PREATTESTATION_TAG = 0x14
ATTESTATION_TAG = 0x15
DAL_ATTESTATION_TAG = 0x16
ATTESTATION_WITH_DAL_TAG = 0x17
PREATTESTATIONS_AGGREGATE_TAG = 0x1E
ATTESTATIONS_AGGREGATE_TAG = 0x1F
# What a tz4 key signs instead, without slot and DAL; never in an operation on the wire.
BLS_PREATTESTATION_TAG = 0x28
BLS_ATTESTATION_TAG = 0x29


class BlsScheme(Enum):
    """How BLS signatures of a protocol are made: the same key and message, other bytes."""

    AUGMENTED = "aug"  # the public key in front of the message
    POSSESSION = "pop"  # the message alone, the key proven once


# By the version of signatures as Octez counts them; in version 0 there is no BLS. Version 3
# added ML-DSA and left BLS as it was.
BLS_SCHEME_OF_VERSION = {
    1: BlsScheme.AUGMENTED,
    2: BlsScheme.POSSESSION,
    3: BlsScheme.POSSESSION,
}


class DalVotes(Enum):
    """Where a protocol puts the votes on data availability."""

    NONE = "none"
    OWN_OPERATION = "own operation"  # dal_attestation, tag 16, watermark 14
    IN_ATTESTATION = "in attestation"  # attestation_with_dal, tag 17


@dataclass(frozen=True, slots=True)
class Protocol:
    """One version of the rules of a network, and what of it concerns a signer.

    `bls_votes`: a tz4 consensus key signs votes without slot and DAL, and such votes are
    aggregated in blocks. The delays are the mainnet defaults, in seconds.
    """

    name: str
    hash: str
    bls_scheme: BlsScheme
    dal_votes: DalVotes
    bls_votes: bool
    adaptive_issuance_vote: bool
    minimal_block_delay_s: int
    delay_increment_per_round_s: int

    @property
    def votes_in_lowest_slot(self) -> bool:
        """Whether a delegate votes in its lowest slot and no other.

        Since Seoul, which has also brought BLS votes. Where it may take any slot of its own, two
        votes in two slots are an offence; where it may not, evidence names the slot.
        """
        return self.bls_votes


@dataclass(frozen=True, slots=True)
class Network:
    """A family of chains: its names for keys and contracts, and its protocols, newest first.

    `key_hash_prefixes` stand in the order of their binary tags: Ed25519, secp256k1, P-256,
    BLS12-381, then ML-DSA-44 where it exists. `chains` maps a name to its chain id, as far as
    it is known: any other chain id is as good.
    `amount_type` is what Michelson calls the type of an amount of coins.
    """

    name: str
    key_hash_prefixes: tuple[Prefix, ...]
    protocols: tuple[Protocol, ...]
    chains: dict[str, str]
    amount_type: str

    def chain_id(self, named: str) -> str:
        """Return the chain id that the name of a chain stands for; a chain id is itself.

        Raises MalformedBytes.
        """
        chain = self.chains.get(named, named)
        try:
            base58.decode(base58.CHAIN_ID, chain)
        except MalformedBytes:
            raise MalformedBytes(
                f"{named[:40]!r} is no chain id, nor the name of a chain of {self.name} "
                f"that is known here ({', '.join(self.chains)}). A node tells its own at "
                "/chains/main/chain_id"
            ) from None
        return chain

    @property
    def protocol(self) -> Protocol:
        """The protocol of new blocks."""
        return self.protocols[0]

    @property
    def bls_scheme(self) -> BlsScheme:
        """How BLS keys of this network sign new blocks, votes and operations."""
        return self.protocol.bls_scheme


def network_by_name(name: str) -> Network:
    """Return the network that is called so. Raises UnknownNetwork."""
    try:
        return NETWORKS[name]
    except KeyError:
        known = ", ".join(sorted(NETWORKS))
        raise UnknownNetwork(f"no network {name[:40]!r}; known are {known}") from None


_AUG, _POP = BlsScheme.AUGMENTED, BlsScheme.POSSESSION
_NO_DAL, _DAL_OPERATION, _DAL_IN_ATTESTATION = DalVotes

TEZOS = Network(
    name="tezos",
    key_hash_prefixes=(
        Prefix("Ed25519 public key hash", bytes.fromhex("06a19f"), 20),
        Prefix("secp256k1 public key hash", bytes.fromhex("06a1a1"), 20),
        Prefix("P-256 public key hash", bytes.fromhex("06a1a4"), 20),
        Prefix("BLS public key hash", bytes.fromhex("06a1a6"), 20),
        Prefix("ML-DSA public key hash", bytes.fromhex("06a1a9"), 20),
    ),
    protocols=(
        Protocol(
            "Ushuaia", "PsUshuai9QapM5TGj1JpuVGkdxz5GykdnEvS6Rh8SUVrARvZLCY",
            _POP, _DAL_IN_ATTESTATION, True, False, 6, 3,
        ),
        Protocol(
            "Tallinn", "PtTALLiNtPec7mE7yY4m3k26J8Qukef3E3ehzhfXgFZKGtDdAXu",
            _POP, _DAL_IN_ATTESTATION, True, False, 6, 3,
        ),
        Protocol(
            "Seoul", "PtSeouLouXkxhg39oWzjxDWaCydNfR3RxCUrNe4Q9Ro8BTehcbh",
            _POP, _DAL_IN_ATTESTATION, True, True, 8, 4,
        ),
        Protocol(
            "Rio", "PsRiotumaAMotcRoDWW1bysEhQy2n1M5fy8JgRp8jjRfHGmfeA7",
            _AUG, _DAL_IN_ATTESTATION, False, True, 8, 4,
        ),
        Protocol(
            "Quebec", "PsQuebecnLByd3JwTiGadoG4nGWi3HYiLXUjkibeFV8dCFeVMUg",
            _AUG, _DAL_IN_ATTESTATION, False, True, 8, 4,
        ),
        Protocol(
            "ParisC", "PsParisCZo7KAh1Z1smVd9ZMZ1HHn5gkzbM94V3PLCpknFWhUAi",
            _AUG, _DAL_IN_ATTESTATION, False, True, 10, 5,
        ),
        Protocol(
            "Paris", "PtParisBxoLz5gzMmn3d9WBQNoPSZakgnkMC2VNuQ3KXfUtUQeZ",
            _AUG, _DAL_IN_ATTESTATION, False, True, 10, 5,
        ),
        Protocol(
            "Oxford", "ProxfordYmVfjWnRcgjWH36fW6PArwqykTFzotUxRs6gmTcZDuH",
            _AUG, _DAL_OPERATION, False, True, 15, 8,
        ),
        Protocol(
            "Nairobi", "PtNairobiyssHuh87hEhfVBGCVrK3WnS8Z2FT4ymB5tAa4r1nQf",
            _AUG, _DAL_OPERATION, False, False, 15, 8,
        ),
        Protocol(
            "Mumbai", "PtMumbai2TmsJHNGRkD8v8YDbtao7BLUC3wjASn1inAKLFCjaH1",
            _AUG, _DAL_OPERATION, False, False, 15, 8,
        ),
        Protocol(
            "Lima", "PtLimaPtLMwfNinJi9rCfDPWea8dFgTZ1MeJ9f1m2SRic6ayiwW",
            _AUG, _DAL_OPERATION, False, False, 30, 15,
        ),
        Protocol(
            "Kathmandu", "PtKathmankSpLLDALzWw7CGD2j2MtyveTwboEYokqUCP4a1LxMg",
            _AUG, _NO_DAL, False, False, 30, 15,
        ),
        Protocol(
            "Jakarta", "PtJakart2xVj7pYXJBXrqHgd82rdkLey5ZeeGwDgPp9rhQUbSqY",
            _AUG, _NO_DAL, False, False, 30, 15,
        ),
        Protocol(
            "Ithaca", "Psithaca2MLRFYargivpo7YvUr7wUDqyxrdhC5CQq78mRvimz6A",
            _AUG, _NO_DAL, False, False, 30, 15,
        ),
    ),
    chains={"mainnet": "NetXdQprcVkpaWU", "ghostnet": "NetXnHfVqm9iesp"},
    amount_type="mutez",
)  # fmt: skip

MAVRYK = Network(
    name="mavryk",
    key_hash_prefixes=(
        Prefix("Ed25519 public key hash", bytes.fromhex("05bac4"), 20),
        Prefix("secp256k1 public key hash", bytes.fromhex("05bac7"), 20),
        Prefix("P-256 public key hash", bytes.fromhex("05bac9"), 20),
        Prefix("BLS public key hash", bytes.fromhex("05bacc"), 20),
    ),
    protocols=(
        Protocol(
            "Boreas", "PtBoreasK2KPuKbeYtXeEdudEHS7YcMFHE9amwheUc4kejTxgRi",
            _AUG, _DAL_IN_ATTESTATION, False, True, 10, 5,
        ),
        Protocol(
            "Atlas", "PtAtLasdzXg4XxeVNtWheo13nG4wHXP22qYMqFcT3fyBpWkFero",
            _AUG, _DAL_OPERATION, False, True, 15, 8,
        ),
    ),
    # The long-running test network, called Atlasnet at first. That of the main one was not yet
    # published when this was written.
    chains={"basenet": "NetXvyTAafh8goH"},
    amount_type="mumav",
)  # fmt: skip

NETWORKS = {network.name: network for network in (TEZOS, MAVRYK)}

CHAIN_IDS = {
    name: chain_id for network in NETWORKS.values() for name, chain_id in network.chains.items()
}
CHAIN_NAMES = {chain_id: name for name, chain_id in CHAIN_IDS.items()}

BLS_SCHEME_OF_PROTOCOL = {
    protocol.hash: protocol.bls_scheme
    for network in NETWORKS.values()
    for protocol in network.protocols
}
