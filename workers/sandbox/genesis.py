"""The first two blocks, which nobody bakes: genesis, and the activation of the protocol.

As on a real sandbox, level 0 is a name without content and level 1 activates the protocol and
gives the first accounts their balances; the first baked block is level 2, and it holds no
attestations because nobody attests an activation. Two liberties are taken: the activation
block has a Tenderbake fitness (a real one carries whatever the activator wrote), and its
signature is 64 zero bytes, for the sandbox makes it by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from signers.formats import base58, block_header, codec
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.hashes import blake2b_32, operations_hash
from signers.formats.networks import Network, Protocol
from workers.sandbox.block_tree import Block, Era
from workers.sandbox.constants import Constants
from workers.sandbox.context import Context
from workers.sandbox.ledger import Account, Ledger, Progress

# The protocol of every chain before its first activation, on Tezos and Mavryk alike.
GENESIS_PROTOCOL = "PrihK96nBAFSxVL1GLJTVhu9YnzkMFiBeuJRPA8NwuZVZCE1L6i"

# A delegate's frozen deposit is this part of its stake, as in Octez' own sandbox: a bootstrap
# baker of 4,000,000 keeps 3,800,000 to spend.
_FROZEN_PART = 20
_ACTIVATE_COMMAND = b"\x00"
_EMPTY_BSON = bytes.fromhex("0500000000")


@dataclass(frozen=True, slots=True)
class BootstrapAccount:
    """Who has what at the beginning, in mutez (mumav).

    `address` is a tagged public key hash, `public_key` the tagged key, None when it is not
    revealed yet. `stake` over zero makes a baker; it is then the whole of its funds.
    """

    address: bytes
    public_key: bytes | None
    balance: int = 0
    stake: int = 0


@dataclass(frozen=True, slots=True)
class Genesis:
    """Everything a chain begins with; equal genesis, equal chain."""

    network: Network
    protocol: Protocol
    constants: Constants
    seed: bytes
    timestamp: int  # of the activation block, Unix seconds; level 2 begins one round later
    accounts: Sequence[BootstrapAccount]

    @property
    def hash(self) -> bytes:
        """The hash of block 0."""
        name = f"forgepool sandbox {self.network.name} {self.protocol.hash} "
        return blake2b_32(name.encode() + self.seed)

    @property
    def chain_id(self) -> bytes:
        """The first four bytes of the hash of block 0's hash (``chain_id.ml``)."""
        return blake2b_32(self.hash)[:4]


def genesis_block(genesis: Genesis) -> Block:
    """Return block 0: its own predecessor, known by a hash that is no hash of its header."""
    header = _header(genesis, level=0, proto=0, predecessor=genesis.hash, context=Context().hash)
    return Block(
        era=Era.GENESIS,
        hash=genesis.hash,
        header=header,
        raw_header=block_header.write_shell(header),
        protocol_data=b"",
        operations=(),
        receipts=(),
        context=Context(),
        resulting_context_hash=Context().hash,
        arrived=float(genesis.timestamp),
    )


def activation_block(genesis: Genesis) -> Block:
    """Return block 1, which activates the protocol and makes the first accounts."""
    context = _initial_context(genesis)
    header = _header(genesis, level=1, proto=1, predecessor=genesis.hash, context=Context().hash)
    protocol_data = b"".join(
        (
            _ACTIVATE_COMMAND,
            base58.decode(base58.PROTOCOL_HASH, genesis.protocol.hash),
            codec.sized(b"".join(codec.sized(element) for element in header.fitness.elements)),
            codec.sized(_EMPTY_BSON),
            bytes(64),
        )
    )
    raw_header = block_header.write_shell(header) + protocol_data
    return Block(
        era=Era.ACTIVATION,
        hash=blake2b_32(raw_header),
        header=header,
        raw_header=raw_header,
        protocol_data=protocol_data,
        operations=(),
        receipts=(),
        context=context,
        resulting_context_hash=context.hash,
        arrived=float(genesis.timestamp),
    )


def _header(
    genesis: Genesis, *, level: int, proto: int, predecessor: bytes, context: bytes
) -> BlockHeader:
    """Return a header of which only the shell part means anything."""
    fitness = Fitness.tenderbake(level=level, round=0, predecessor_round=0)
    return BlockHeader(
        level=level,
        proto=proto,
        predecessor=predecessor,
        timestamp=genesis.timestamp,
        validation_passes=0,
        operations_hash=operations_hash([]),
        fitness=fitness if level else Fitness(()),
        context=context,
        payload_hash=bytes(32),
        payload_round=0,
        proof_of_work_nonce=bytes(8),
        seed_nonce_hash=None,
        per_block_votes=0,
        signature=None,
    )


def _initial_context(genesis: Genesis) -> Context:
    ledger = Ledger(Context())
    ledger.put_progress(Progress(level=1, global_counter=0))
    for account in genesis.accounts:
        frozen = account.stake // _FROZEN_PART
        ledger.put_account(
            account.address,
            Account(
                balance=account.balance + account.stake - frozen,
                counter=0,
                public_key=account.public_key,
                delegate=account.address if account.stake else None,
                frozen=frozen,
            ),
        )
    return ledger.context()
