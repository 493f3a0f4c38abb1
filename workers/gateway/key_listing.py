"""Which keys there are, and whose authentication counts: what a client directory says in public."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from signers.formats.networks import TEZOS, Network
from signers.keyring.keys import PublicKey


@dataclass(frozen=True, slots=True)
class KeyListing:
    """Public key by key hash, both as texts; None where the public key is not known.

    `authorized` are the keys with which clients may authenticate.
    """

    public_keys: Mapping[str, str | None] = field(default_factory=dict)
    network: Network = TEZOS  # a client directory is of one network: that of its first key
    authorized: Sequence[PublicKey] = ()
