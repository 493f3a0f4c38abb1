"""How an answer is written on a signer's socket.

Source: Octez ``src/lib_signer_services/signer_messages.ml``, ``src/bin_signer/socket_daemon.ml``.
"""

from __future__ import annotations

from typing import assert_never

from signers.backends.error_trace import ErrorTrace
from signers.backends.socket_protocol import (
    authorized_keys_answer,
    error_answer,
    known_keys_answer,
    nonce_answer,
    public_key_answer,
    signature_answer,
    supports_nonces_answer,
)
from signers.formats.tagged_keys import tagged_hash, tagged_public_key
from workers.gateway.answers import (
    Answer,
    AuthorizedKeys,
    Denial,
    KnownKeys,
    Nonce,
    NonceSupport,
    PossessionProof,
    PublicKeyText,
    Signature,
)


def write_answer(answer: Answer) -> bytes:
    """Write an answer, without its frame."""
    match answer:
        case Signature(raw, _) | PossessionProof(raw):
            return signature_answer(raw)
        case PublicKeyText(text):
            return public_key_answer(tagged_public_key(text))
        case AuthorizedKeys(key_hashes):
            hashes = None if key_hashes is None else [tagged_hash(each) for each in key_hashes]
            return authorized_keys_answer(hashes)
        case KnownKeys(key_hashes):
            return known_keys_answer(map(tagged_hash, key_hashes))
        case Nonce(raw):
            return nonce_answer(raw)
        case NonceSupport(is_there):
            return supports_nonces_answer(is_there)
        case Denial():
            return error_answer(ErrorTrace.failure(answer.message))
        case _:
            assert_never(answer)
