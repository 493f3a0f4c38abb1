"""Which HTTP status each end without a signature has: what clients of signers know.

400 the bytes are wrong, 403 a rule says no, 404 there is no such key, 409 the key has signed
something else or higher, 503 not now. Octez-signer answers 500 to all of these; Signatory, and
clients such as Taquito, tell them apart.
"""

from __future__ import annotations

from broker.messages import CANCELLED, EVENT_REFUSED, EXPIRED, FAILED, Ack, Event
from workers.gateway.answers import (
    BAD_REQUEST,
    CONFLICT,
    FORBIDDEN,
    INTERNAL_ERROR,
    NOT_FOUND,
    UNAVAILABLE,
    Denial,
)

_STATUS_OF_REFUSAL = {
    "malformed": BAD_REQUEST,
    "bad_request": BAD_REQUEST,
    "unsupported_curve": BAD_REQUEST,
    "unknown_delegate": NOT_FOUND,
    "unknown_key": NOT_FOUND,
    "watermark_below": CONFLICT,
    "watermark_conflict": CONFLICT,
    "signature_lost": CONFLICT,
    "device_watermark": CONFLICT,
}
# Of what failed: what no repeat can help against before somebody has looked at it.
_BROKEN = frozenset(
    {
        "bad_result", "device_misconfigured", "no_password", "pkcs11_other_key",
        "pkcs11_pin_locked", "pkcs11_wrong_pin", "poison", "signer_wrong_signature",
        "store_broken", "store_corrupt", "store_defect", "store_missing", "store_replaced",
        "unknown_device_name", "wrong_password", "wrong_store",
    }
)  # fmt: skip
# Of what the broker did not take.
_STATUS_OF_PUSH = {
    "malformed": BAD_REQUEST,
    "unknown_kind": INTERNAL_ERROR,  # a broker that is older than this gateway
    "unknown_delegate": NOT_FOUND,
    "id_reused": INTERNAL_ERROR,
}


def of_event(event: Event) -> Denial:
    """Say why a task that has ended has no signature."""
    match event.event:
        case "refused":
            status = _STATUS_OF_REFUSAL.get(event.code, FORBIDDEN)
            return Denial(status, event.code or EVENT_REFUSED, event.text)
        case "failed" if event.code in _BROKEN:
            return Denial(INTERNAL_ERROR, event.code, event.text)
        case "failed":
            return Denial(UNAVAILABLE, event.code or FAILED, event.text, may_repeat=True)
        case "expired":
            text = event.text or "its deadline passed in the queue; no mark was touched"
            return Denial(UNAVAILABLE, EXPIRED, text, may_repeat=True)
        case "cancelled":
            text = event.text or "the operator has cancelled it; no mark was touched"
            return Denial(UNAVAILABLE, CANCELLED, text, may_repeat=True)
    return Denial(INTERNAL_ERROR, "unknown_event", f"the pool said {event.event[:40]!r}")


def of_refused_push(ack: Ack) -> Denial:
    """Say why the broker did not take a request, or was not heard of."""
    status = _STATUS_OF_PUSH.get(ack.code, UNAVAILABLE)
    return Denial(status, ack.code, ack.text, may_repeat=status == UNAVAILABLE)
