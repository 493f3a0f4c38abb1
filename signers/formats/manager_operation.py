"""Manager operations: what an account signs and pays for.

Source: protocol ``operation_repr.ml``, ``contract_repr.ml``, ``entrypoint_repr.ml``,
``dal_operations_repr.ml``.
"""

from signers.formats import base58
from signers.formats import layout as lay
from signers.formats.content_kind import manager_kind
from signers.formats.layout import listed, optional, record, text_of

_PARAMETERS = record(entrypoint=lay.ENTRYPOINT, value=lay.EXPRESSION)
_SCRIPT = record(code=lay.EXPRESSION, storage=lay.EXPRESSION)

# A tz4 key proves that it is held (since Seoul), or votes could be forged by adding keys.
REVEAL = manager_kind("reveal", public_key=lay.PUBLIC_KEY, proof=optional(lay.BLS_PROOF))
REVEAL_WITHOUT_PROOF = manager_kind("reveal", public_key=lay.PUBLIC_KEY)
TRANSACTION = manager_kind(
    "transaction",
    amount=lay.MUTEZ,
    destination=lay.CONTRACT,
    parameters=optional(_PARAMETERS),
)
# Jakarta let an account send to a transaction rollup too.
TRANSACTION_ALSO_TO_ROLLUP = manager_kind(
    "transaction",
    amount=lay.MUTEZ,
    destination=lay.untagged(
        "destination",
        {0: lay.KEY_HASH, 1: lay.padded(base58.CONTRACT), 2: lay.padded(base58.TX_ROLLUP)},
    ),
    parameters=optional(_PARAMETERS),
)
ORIGINATION = manager_kind(
    "origination", balance=lay.MUTEZ, delegate=optional(lay.KEY_HASH), script=_SCRIPT
)
DELEGATION = manager_kind("delegation", delegate=optional(lay.KEY_HASH))
REGISTER_GLOBAL_CONSTANT = manager_kind("register_global_constant", value=lay.EXPRESSION)
SET_DEPOSITS_LIMIT = manager_kind("set_deposits_limit", limit=optional(lay.MUTEZ))
INCREASE_PAID_STORAGE = manager_kind(
    "increase_paid_storage", amount=lay.INTEGER, destination=lay.ORIGINATED
)
UPDATE_CONSENSUS_KEY = manager_kind(
    "update_consensus_key", pk=lay.PUBLIC_KEY, proof=optional(lay.BLS_PROOF)
)
# Rio's proof could be of any curve.
UPDATE_CONSENSUS_KEY_OF_RIO = manager_kind(
    "update_consensus_key", pk=lay.PUBLIC_KEY, proof=optional(lay.SIGNATURE_PROOF)
)
UPDATE_CONSENSUS_KEY_WITHOUT_PROOF = manager_kind("update_consensus_key", pk=lay.PUBLIC_KEY)
UPDATE_COMPANION_KEY = manager_kind(
    "update_companion_key", pk=lay.PUBLIC_KEY, proof=optional(lay.BLS_PROOF)
)
TRANSFER_TICKET = manager_kind(
    "transfer_ticket",
    ticket_contents=lay.EXPRESSION,
    ticket_ty=lay.EXPRESSION,
    ticket_ticketer=lay.CONTRACT,
    ticket_amount=lay.NATURAL,
    destination=lay.CONTRACT,
    entrypoint=lay.TEXT,
)

_DAL_COMMITMENT = {
    "commitment": text_of(base58.DAL_COMMITMENT),
    "commitment_proof": lay.fixed(96),
}
DAL_PUBLISH_COMMITMENT = manager_kind(
    "dal_publish_commitment", slot_header=record(slot_index=lay.U8, **_DAL_COMMITMENT)
)
DAL_PUBLISH_SLOT_HEADER = manager_kind(
    "dal_publish_slot_header", slot_header=record(slot_index=lay.U8, **_DAL_COMMITMENT)
)
# Until Nairobi the level was said, later it is that of the block.
DAL_PUBLISH_SLOT_HEADER_AT_LEVEL = manager_kind(
    "dal_publish_slot_header",
    slot_header=record(published_level=lay.LEVEL, slot_index=lay.U8, **_DAL_COMMITMENT),
)

# ZK rollups: in every protocol since Mumbai, enabled on no main network.
_SCALAR = lay.fixed(32)
_ZK_ROLLUP = text_of(base58.ZK_ROLLUP)
_ZK_OPERATION = record(
    op_code=lay.I32,
    price=record(id=lay.fixed(32), amount=lay.INTEGER),
    l1_dst=lay.KEY_HASH,
    rollup_id=_ZK_ROLLUP,
    payload=listed(_SCALAR),
)
_ZK_TICKET = lay.untagged(
    "ticket",
    {
        0: lay.UNIT,
        1: record(
            contents=lay.EXPRESSION_IN_PLACE,
            ty=lay.EXPRESSION_IN_PLACE,
            ticketer=lay.CONTRACT,
        ),
    },
)
_ZK_PRIVATE_INPUT = {"new_state": listed(_SCALAR), "fee": _SCALAR}
ZK_ROLLUP_ORIGINATION = manager_kind(
    "zk_rollup_origination",
    public_parameters=lay.BYTES,
    circuits_info=listed(
        lay.tupled(lay.TEXT, lay.named("circuit", {0: "public", 1: "private", 2: "fee"}))
    ),
    init_state=listed(_SCALAR),
    nb_ops=lay.I32,
)
ZK_ROLLUP_PUBLISH = manager_kind(
    "zk_rollup_publish", zk_rollup=_ZK_ROLLUP, op=listed(lay.tupled(_ZK_OPERATION, _ZK_TICKET))
)
ZK_ROLLUP_UPDATE = manager_kind(
    "zk_rollup_update",
    zk_rollup=_ZK_ROLLUP,
    update=record(
        pending_pis=listed(
            lay.tupled(lay.TEXT, record(**_ZK_PRIVATE_INPUT, exit_validity=lay.BOOLEAN))
        ),
        private_pis=listed(lay.tupled(lay.TEXT, record(**_ZK_PRIVATE_INPUT))),
        fee_pi=record(new_state=listed(_SCALAR)),
        proof=lay.BYTES,
    ),
)
