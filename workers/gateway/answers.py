"""What the gateway answers, whichever way the question came: values, not bytes."""

from __future__ import annotations

from dataclasses import dataclass

from signers.keyring.curve import Curve

BAD_REQUEST = 400
FORBIDDEN = 403
NOT_FOUND = 404
METHOD_NOT_ALLOWED = 405
NOT_ACCEPTABLE = 406
CONFLICT = 409
TOO_LARGE = 413
UNSUPPORTED_TYPE = 415
INTERNAL_ERROR = 500
UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Signature:
    """Answers a request to sign."""

    raw: bytes
    curve: Curve


@dataclass(frozen=True, slots=True)
class PublicKeyText:
    """Answers a question for a public key, as ``edpk…`` or the like."""

    text: str


@dataclass(frozen=True, slots=True)
class AuthorizedKeys:
    """Says with which keys a client may authenticate; None: nobody needs to."""

    key_hashes: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """Lists the hashes of the keys that there are."""

    key_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PossessionProof:
    """Proves that a BLS key is held."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Nonce:
    """Answers a question for a deterministic nonce, or for its hash: 32 bytes."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class NonceSupport:
    """Says whether nonces are derived from a key for whoever asks."""

    is_there: bool


@dataclass(frozen=True, slots=True)
class Denial:
    """Why there is no other answer: an HTTP status, a code for programs, a sentence for people.

    `may_repeat`: the same bytes may get another answer later.
    """

    status: int
    code: str
    text: str
    may_repeat: bool = False
    allow: str = ""  # which methods the path takes, for METHOD_NOT_ALLOWED

    @property
    def message(self) -> str:
        """Code and text in one, since clients of this protocol show people one text."""
        return f"{self.code}: {self.text}"


Answer = (
    Signature
    | PublicKeyText
    | AuthorizedKeys
    | KnownKeys
    | PossessionProof
    | Nonce
    | NonceSupport
    | Denial
)
