"""What a signer that is elsewhere can be asked, and the ways in which it does not sign.

Whoever calls `sign` checks the signature against the public key before it is used; nothing here
repeats a request that may have been received.
"""

from dataclasses import dataclass
from typing import Protocol

from signers.backends.error_trace import ErrorTrace
from signers.errors import Alarm, BadRequest, MalformedBytes, Refused, SignersError, Unavailable
from signers.formats.hashes import blake2b_20, blake2b_32
from signers.formats.tagged_keys import public_key_text, tagged_hash
from signers.keyring.keys import PublicKey, SecretKey

# A signer that does not accept within this time is down; the kernel would try for minutes.
CONNECT_S_MAX = 2.0
# Tezos' signature version with proofs of possession and ML-DSA; other keys than BLS have one form.
BLS_VERSION_OF_TEZOS = 3


class SignerUnavailable(Unavailable):
    """The signer cannot be reached; it was asked for nothing. Try again later."""

    code = "signer_unavailable"


class SignerTimeout(Unavailable):
    """The signer was asked and did not answer in time; it may have signed."""

    code = "signer_timeout"


class SignerLost(Unavailable):
    """The signer was asked and the connection broke; it may have signed."""

    code = "signer_lost"


class SignerMalformed(Unavailable):
    """The signer's answer is none of its protocol: look at what is listening there."""

    code = "signer_malformed"


class SignerFailed(Unavailable):
    """The signer says that it could not sign: look at its own log."""

    code = "signer_failed"


class SignerBusy(Unavailable):
    """More waits for this signer than is reasonable: try again later."""

    code = "signer_busy"


class SignerRejected(Refused):
    """A rule of the signer said no: its watermark, its magic bytes, its list of clients."""

    code = "signer_rejected"


class SignerUnknownKey(BadRequest):
    """The signer does not have this key: correct secret_keys, or give it the key."""

    code = "signer_unknown_key"


class SignerWrongSignature(Alarm):
    """The signer gave a signature that is not the key's: do not trust it before you know why."""

    code = "signer_wrong_signature"


# After these there is surely no signature, nor will there be one: the signer was not asked, or says
# itself that it gave none. After all others nobody knows.
HAS_NOT_SIGNED = (
    SignerUnavailable,
    SignerBusy,
    SignerFailed,
    SignerRejected,
    SignerUnknownKey,
)
# These say that a signer is there and speaks, even if it does not sign.
IS_ALIVE = (SignerFailed, Refused, BadRequest)


class BackEnd(Protocol):
    """A signer that is elsewhere. Its methods block, each for `timeout_s` at most, in a thread."""

    def sign(self, public_key: PublicKey, key_hash: str, message: bytes, timeout_s: float) -> bytes:
        """Have a message signed, watermark included. Raises the errors of this module."""
        ...

    def public_key(self, key_hash: str, timeout_s: float) -> PublicKey:
        """Ask for a key, which has this hash. Raises the errors of this module."""
        ...

    def close(self) -> None:
        """Let go of connections and devices."""
        ...


@dataclass(frozen=True, slots=True)
class ClientKey:
    """The key by which we show a remote signer who we are."""

    secret: SecretKey

    @property
    def tagged_hash(self) -> bytes:
        public_key = self.secret.public_key
        return bytes([public_key.curve.value.tag]) + blake2b_20(public_key.raw)

    def sign(self, message: bytes) -> bytes:
        return self.secret.sign(message, blake2b_32(message))


def authentication(
    client_key: ClientKey | None, authorized: list[bytes] | None, message: bytes
) -> bytes | None:
    """Return what shows a signer who we are; None when it does not ask. Raises SignerRejected."""
    if authorized is None:
        return None
    if client_key is None or client_key.tagged_hash not in authorized:
        whose = "no authentication_key is set" if client_key is None else "ours is not among them"
        raise SignerRejected(
            f"it signs for clients with one of {len(authorized)} authorized keys, and {whose}"
        )
    return client_key.sign(message)


def key_with_hash(tagged: bytes, key_hash: str) -> PublicKey:
    """Read the public key that a signer has answered. Raises SignerMalformed for another's."""
    try:
        key = PublicKey.read(public_key_text(tagged))
    except MalformedBytes as e:
        raise SignerMalformed(f"its public key of {key_hash}: {e}") from None
    if tagged[:1] + blake2b_20(key.raw) != tagged_hash(key_hash):
        raise SignerMalformed(f"it gave another key's public key for {key_hash}")
    return key


# What octez-signer's traces say when a rule forbids. Its HTTP status is 500 for everything.
_RULES = ("high watermark", "already signed", "magic byte", "authentication", "not allowed")
_UNKNOWN = ("no keys for", "not found")


def error_of_trace(trace: ErrorTrace) -> SignersError:
    """Tell from a signer's own words which of the errors it means."""
    text = trace.text
    lower = text.lower()
    if any(words in lower for words in _RULES):
        return SignerRejected(text)
    if any(words in lower for words in _UNKNOWN):
        return SignerUnknownKey(text)
    return SignerFailed(text)
