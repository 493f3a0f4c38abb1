"""Operations that nobody pays for: revelations, evidence of double baking, and amendment votes.

Source: protocol ``operation_repr.ml``, ``seed_repr.ml``, ``vote_repr.ml``.
"""

from typing import Any

from signers.errors import MalformedBytes
from signers.formats import base58, block_header
from signers.formats import layout as lay
from signers.formats.block_header import BlockHeader
from signers.formats.codec import Reader
from signers.formats.content_kind import ANONYMOUS_PASS, VOTING_PASS, ContentKind
from signers.formats.layout import Layout, listed, record, sized
from signers.formats.networks import Network


def _read_signed_header(reader: Reader) -> BlockHeader:
    header = block_header.decode(reader.rest())
    if header.signature is None:
        raise MalformedBytes("a block header in evidence of double baking has no signature")
    return header


def _show_header(header: BlockHeader, _: Network) -> dict[str, Any]:
    return block_header.to_json(header)


_HEADER = sized(Layout(_read_signed_header, block_header.encode, _show_header))
_VDF_ELEMENT = lay.fixed(100)


def _anonymous_kind(name: str, **fields: Layout) -> ContentKind:
    return ContentKind(name, ANONYMOUS_PASS, record(**fields), needs_signature=False)


SEED_NONCE_REVELATION = _anonymous_kind(
    "seed_nonce_revelation", level=lay.LEVEL, nonce=lay.fixed(32)
)
VDF_REVELATION = _anonymous_kind("vdf_revelation", solution=lay.tupled(_VDF_ELEMENT, _VDF_ELEMENT))
DOUBLE_BAKING_EVIDENCE = _anonymous_kind("double_baking_evidence", bh1=_HEADER, bh2=_HEADER)
ACTIVATE_ACCOUNT = _anonymous_kind(
    "activate_account", pkh=lay.ED25519_KEY_HASH, secret=lay.fixed(20)
)
# The one of this pass that is signed: by the consensus key that takes the delegate's funds.
DRAIN_DELEGATE = ContentKind(
    "drain_delegate",
    ANONYMOUS_PASS,
    record(consensus_key=lay.KEY_HASH, delegate=lay.KEY_HASH, destination=lay.KEY_HASH),
)
PROPOSALS = ContentKind(
    "proposals",
    VOTING_PASS,
    record(source=lay.KEY_HASH, period=lay.I32, proposals=listed(lay.PROTOCOL_HASH)),
)
BALLOT = ContentKind(
    "ballot",
    VOTING_PASS,
    record(
        source=lay.KEY_HASH,
        period=lay.I32,
        proposal=lay.text_of(base58.PROTOCOL_HASH),
        ballot=lay.named("ballot", {0: "yay", 1: "nay", 2: "pass"}),
    ),
)
# Valid in no block: a way to sign a text that can do nothing on chain.
FAILING_NOOP = ContentKind("failing_noop", None, record(arbitrary=lay.BYTES))
