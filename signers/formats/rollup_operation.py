"""Rollup operations: smart rollups (since Mumbai), transaction rollups (Jakarta to Mumbai).

Source: protocol ``operation_repr.ml``, ``sc_rollup_game_repr.ml``, ``sc_rollup_proof_repr.ml``,
``sc_rollup_commitment_repr.ml``; for the removed kinds the schemas of protocols 013 to 017 in
Octez ``client-libs/kaitai-struct-files``.
"""

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats import layout as lay
from signers.formats.codec import Reader
from signers.formats.content_kind import manager_kind
from signers.formats.layout import Layout, chosen, listed, optional, record, text_of

_ROLLUP = text_of(base58.SMART_ROLLUP)
_COMMITMENT_HASH = text_of(base58.SMART_ROLLUP_COMMITMENT)
_STATE_HASH = text_of(base58.SMART_ROLLUP_STATE)
_PVM_KIND = lay.named("PVM", {0: "arith", 1: "wasm_2_0_0", 2: "riscv"})
_RAW_DATA_BYTES_MAX = 4096

SMART_ROLLUP_ORIGINATE = manager_kind(
    "smart_rollup_originate",
    pvm_kind=_PVM_KIND,
    kernel=lay.BYTES,
    parameters_ty=lay.EXPRESSION,
    whitelist=optional(listed(lay.KEY_HASH)),
)
SMART_ROLLUP_ORIGINATE_WITH_PROOF = manager_kind(
    "smart_rollup_originate",
    pvm_kind=_PVM_KIND,
    kernel=lay.BYTES,
    origination_proof=lay.BYTES,
    parameters_ty=lay.EXPRESSION,
)
SMART_ROLLUP_ADD_MESSAGES = manager_kind("smart_rollup_add_messages", message=listed(lay.BYTES))
SMART_ROLLUP_CEMENT = manager_kind("smart_rollup_cement", rollup=_ROLLUP)
SMART_ROLLUP_CEMENT_COMMITMENT = manager_kind(
    "smart_rollup_cement", rollup=_ROLLUP, commitment=_COMMITMENT_HASH
)
SMART_ROLLUP_PUBLISH = manager_kind(
    "smart_rollup_publish",
    rollup=_ROLLUP,
    commitment=record(
        compressed_state=_STATE_HASH,
        inbox_level=lay.LEVEL,
        predecessor=_COMMITMENT_HASH,
        number_of_ticks=lay.I64,
    ),
)


def _read_raw_data(reader: Reader) -> bytes:
    length = reader.u16()
    if length > _RAW_DATA_BYTES_MAX:
        raise MalformedBytes(f"{length} bytes of raw data are more than a page")
    return reader.take(length)


_RAW_DATA = Layout(
    _read_raw_data,
    lambda value: len(value).to_bytes(2) + value,
    lambda value, _: value.hex(),
)
_NOTHING = record()
_REVEAL_PROOF = chosen(
    "reveal proof",
    "reveal_proof_kind",
    {
        0: ("raw_data_proof", record(raw_data=_RAW_DATA)),
        1: ("metadata_proof", _NOTHING),
        2: (
            "dal_page_proof",
            record(
                dal_page_id=record(
                    published_level=lay.LEVEL, slot_index=lay.U8, page_index=lay.I16
                ),
                dal_proof=lay.BYTES,
            ),
        ),
        3: ("dal_parameters_proof", _NOTHING),
    },
)
_INPUT_PROOF = chosen(
    "input proof",
    "input_proof_kind",
    {
        0: (
            "inbox_proof",
            record(level=lay.LEVEL, message_counter=lay.NATURAL, serialized_proof=lay.BYTES),
        ),
        1: ("reveal_proof", record(reveal_proof=_REVEAL_PROOF)),
        2: ("first_input", _NOTHING),
    },
)
_STEP = lay.untagged(
    "step of a refutation",
    {
        0: listed(record(state=optional(_STATE_HASH), tick=lay.NATURAL)),
        1: record(pvm_step=lay.BYTES, input_proof=optional(_INPUT_PROOF)),
    },
)
_REFUTATION = chosen(
    "refutation",
    "refutation_kind",
    {
        0: (
            "start",
            record(
                player_commitment_hash=_COMMITMENT_HASH,
                opponent_commitment_hash=_COMMITMENT_HASH,
            ),
        ),
        1: ("move", record(choice=lay.NATURAL, step=_STEP)),
    },
)
SMART_ROLLUP_REFUTE = manager_kind(
    "smart_rollup_refute", rollup=_ROLLUP, opponent=lay.KEY_HASH, refutation=_REFUTATION
)
SMART_ROLLUP_TIMEOUT = manager_kind(
    "smart_rollup_timeout",
    rollup=_ROLLUP,
    stakers=record(alice=lay.KEY_HASH, bob=lay.KEY_HASH),
)
SMART_ROLLUP_EXECUTE_OUTBOX_MESSAGE = manager_kind(
    "smart_rollup_execute_outbox_message",
    rollup=_ROLLUP,
    cemented_commitment=_COMMITMENT_HASH,
    output_proof=lay.BYTES,
)
SMART_ROLLUP_RECOVER_BOND = manager_kind(
    "smart_rollup_recover_bond", rollup=_ROLLUP, staker=lay.KEY_HASH
)


# Transaction rollups. Their own hashes have texts that no tool uses any more: shown in hex.

_TX_ROLLUP = text_of(base58.TX_ROLLUP)
_HASH = lay.fixed(32)
_TX_AMOUNT = lay.untagged("ticket amount", {0: lay.U8, 1: lay.U16, 2: lay.I32, 3: lay.I64})

TX_ROLLUP_ORIGINATION = manager_kind("tx_rollup_origination")
TX_ROLLUP_SUBMIT_BATCH = manager_kind(
    "tx_rollup_submit_batch",
    rollup=_TX_ROLLUP,
    content=lay.BYTES,
    burn_limit=optional(lay.MUTEZ),
)
TX_ROLLUP_COMMIT = manager_kind(
    "tx_rollup_commit",
    rollup=_TX_ROLLUP,
    commitment=record(
        level=lay.I32,
        messages=listed(_HASH),
        predecessor=lay.untagged("predecessor", {0: lay.UNIT, 1: _HASH}),
        inbox_merkle_root=_HASH,
    ),
)
TX_ROLLUP_RETURN_BOND = manager_kind("tx_rollup_return_bond", rollup=_TX_ROLLUP)
TX_ROLLUP_FINALIZE_COMMITMENT = manager_kind("tx_rollup_finalize_commitment", rollup=_TX_ROLLUP)
TX_ROLLUP_REMOVE_COMMITMENT = manager_kind("tx_rollup_remove_commitment", rollup=_TX_ROLLUP)
_TX_REJECTION = {
    "rollup": _TX_ROLLUP,
    "level": lay.I32,
    "message": chosen(
        "rollup message",
        "message_kind",
        {
            0: ("batch", record(batch=lay.BYTES)),
            1: (
                "deposit",
                record(
                    sender=lay.KEY_HASH,
                    destination=lay.fixed(20),
                    ticket_hash=_HASH,
                    amount=_TX_AMOUNT,
                ),
            ),
        },
    ),
    "message_position": lay.NATURAL,
    "message_path": listed(_HASH),
    "message_result_hash": _HASH,
    "message_result_path": listed(_HASH),
    "previous_message_result": record(context_hash=_HASH, withdraw_list_hash=_HASH),
    "previous_message_result_path": listed(_HASH),
}
TX_ROLLUP_REJECTION = manager_kind("tx_rollup_rejection", **_TX_REJECTION, proof=lay.BYTES)
# Jakarta wrote the proof without its length; nothing can follow it in an operation.
TX_ROLLUP_REJECTION_OF_JAKARTA = manager_kind(
    "tx_rollup_rejection",
    **_TX_REJECTION,
    proof=Layout(Reader.rest, bytes, lambda value, _: value.hex()),
)
TX_ROLLUP_DISPATCH_TICKETS = manager_kind(
    "tx_rollup_dispatch_tickets",
    tx_rollup=_TX_ROLLUP,
    level=lay.I32,
    context_hash=text_of(base58.CONTEXT_HASH),
    message_index=lay.I32,
    message_result_path=listed(_HASH),
    tickets_info=listed(
        record(
            contents=lay.EXPRESSION,
            ty=lay.EXPRESSION,
            ticketer=lay.CONTRACT,
            amount=_TX_AMOUNT,
            claimer=lay.KEY_HASH,
        )
    ),
)
