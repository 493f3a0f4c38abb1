"""What may pass to the pool, and as what; and what the pool's end of it means to the client.

A request to sign becomes a `sign` of the pool with a deadline. Its id is derived from what is
asked, so a client that asks again, on this connection or another, is told the same: while the
request is open both wait for one end, and after a success the broker repeats it. After any other
end the next repeat is a fresh attempt.

Pure: requests, listings and ends go in; answers, and requests for the pool, come out.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from broker.client_session import Refused
from broker.messages import (
    DERIVE_NONCE,
    EVENT_REFUSED,
    PROVE_POSSESSION,
    READY_EVENT,
    REQUEST_ID_BYTES,
    SIGN,
    TELL_PUBLIC_KEY,
    Event,
    Request,
)
from signers.backends.socket_protocol import (
    AskAuthorizedKeys,
    AskKnownKeys,
    AskNonce,
    AskNonceHash,
    AskPossessionProof,
    AskPublicKey,
    AskSupportsNonces,
    Sign,
    authentication_bytes,
    possession_authentication_bytes,
)
from signers.backends.socket_protocol import Request as Question
from signers.errors import MalformedBytes, SignersError
from signers.formats.hashes import blake2b_32
from signers.formats.networks import NETWORKS, BlsScheme, Network
from signers.formats.signable import Signable, read_signable
from signers.formats.tagged_keys import BLS_TAG, hash_text
from signers.keyring.curve import CURVE_OF_TAG
from signers.keyring.keys import PublicKey
from workers.gateway import denials
from workers.gateway.answers import (
    BAD_REQUEST,
    FORBIDDEN,
    NOT_FOUND,
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
from workers.gateway.key_listing import KeyListing

# Octez' clients give a signer's socket 8 s and then ask again: what is not signed by now
# need not be, and the answer still arrives in time.
TTL_MS_DEFAULT = 7_000
# Questions whose last attempt gave no signature, and how many there were: about 150 bytes each.
# Of a forgotten one the broker may repeat the old end once more.
ATTEMPTS_MAX = 10_000
# Public keys that no file lists, about 200 bytes each; the first to be learnt is forgotten first.
LEARNT_MAX = 16_384


# Questions that say who asks, where that is required; and all that are about one key.
Authenticated = Sign | AskPossessionProof | AskNonce | AskNonceHash
OfKey = Authenticated | AskPublicKey | AskSupportsNonces


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the operator allows; each is an option of the command."""

    require_authentication: bool = False
    list_known_keys: bool = False
    prove_possession: bool = False
    ttl_ms: int = TTL_MS_DEFAULT


@dataclass(frozen=True, slots=True)
class Ask:
    """A question that only the pool can answer."""

    request: Request
    client: str  # key hash that the client has authenticated with; empty: nobody in particular
    wanted: OfKey
    signable: Signable | None  # None: no bytes of the client are signed
    question: bytes  # the same for an identical repeat
    attempt: int


class Gate:
    """The rules of one gateway, and which attempt each question is at."""

    def __init__(self, options: GateOptions, salt: bytes) -> None:
        """Args: `salt` is random and of this process: no id is that of an earlier gateway."""
        self._options = options
        self._salt = salt[: blake2b.SALT_SIZE]
        self._attempts: OrderedDict[bytes, int] = OrderedDict()
        self._learnt: dict[str, str] = {}  # public keys that the pool has told, by hash

    def admit(self, question: Question, listing: KeyListing) -> Ask | Answer:
        """Answer a question, or say what to ask the pool."""
        try:
            return self._admit(question, listing)
        except MalformedBytes as e:
            return Denial(BAD_REQUEST, e.code, str(e))

    def _admit(self, question: Question, listing: KeyListing) -> Ask | Answer:
        match question:
            case Sign():
                return self._sign(question, listing)
            case AskPublicKey():
                return self._public_key(question, listing)
            case AskAuthorizedKeys():
                if not self._options.require_authentication:
                    return AuthorizedKeys(None)
                hashes = (_hash_of(key, listing.network.name) for key in listing.authorized)
                return AuthorizedKeys(tuple(hashes))
            case AskKnownKeys():
                if not self._options.list_known_keys:
                    text = (
                        "keys are not listed here: start the gateway with --allow-list-known-keys"
                    )
                    return Denial(FORBIDDEN, "not_allowed", text)
                return KnownKeys(tuple(listing.public_keys))
            case AskSupportsNonces():
                # The pool's policy and the kind of the key decide: one is derived, from nothing.
                key_hash = _text_of(question.key_hash, listing.network.name)
                if key_hash not in listing.public_keys:
                    return _unknown(key_hash)
                return self._to_pool(DERIVE_NONCE, "", key_hash, question, b"")
            case AskNonce() | AskNonceHash():
                return self._nonce(question, listing)
            case AskPossessionProof():
                return self._prove_possession(question, listing)

    def _public_key(self, wanted: AskPublicKey, listing: KeyListing) -> Ask | Answer:
        """The client directory has it, or the key's owner is asked, once."""
        key_hash = _text_of(wanted.key_hash, listing.network.name)
        if key_hash not in listing.public_keys:
            return _unknown(key_hash)
        text = listing.public_keys[key_hash] or self._learnt.get(key_hash)
        if text is not None:
            return PublicKeyText(text)
        return self._to_pool(TELL_PUBLIC_KEY, "", key_hash, wanted, b"")

    def _nonce(self, wanted: AskNonce | AskNonceHash, listing: KeyListing) -> Ask | Denial:
        # Octez declares other tags for these, but client and server use that of a signature.
        message = authentication_bytes(wanted.key_hash, wanted.data)
        passed = self._let_in(wanted, message, listing)
        if isinstance(passed, Denial):
            return passed
        client, key_hash = passed
        return self._to_pool(DERIVE_NONCE, client, key_hash, wanted, wanted.data)

    def _sign(self, wanted: Sign, listing: KeyListing) -> Ask | Denial:
        message = authentication_bytes(wanted.key_hash, wanted.data)
        passed = self._let_in(wanted, message, listing)
        if isinstance(passed, Denial):
            return passed
        client, key_hash = passed
        if wanted.key_hash[0] == BLS_TAG:
            _check_version(wanted.version, listing.network)
        signable = read_signable(wanted.data)
        return self._to_pool(SIGN, client, key_hash, wanted, wanted.data, signable)

    def _prove_possession(self, wanted: AskPossessionProof, listing: KeyListing) -> Ask | Denial:
        if not self._options.prove_possession:
            text = "keys are not proven here: start the gateway with --allow-to-prove-possession"
            return Denial(FORBIDDEN, "not_allowed", text)
        message = possession_authentication_bytes(wanted.key_hash, wanted.over)
        passed = self._let_in(wanted, message, listing)
        if isinstance(passed, Denial):
            return passed
        client, key_hash = passed
        if wanted.key_hash[0] != BLS_TAG:
            raise MalformedBytes(f"{key_hash} is no BLS key; only those prove their possession")
        return self._to_pool(PROVE_POSSESSION, client, key_hash, wanted, wanted.over or b"")

    def _let_in(
        self, wanted: Authenticated, message: bytes, listing: KeyListing
    ) -> tuple[str, str] | Denial:
        """Return who asks, and the hash of the key, if he may and there is one."""
        client = self._client(message, wanted.authentication, listing)
        if isinstance(client, Denial):
            return client
        key_hash = _text_of(wanted.key_hash, listing.network.name)
        return (client, key_hash) if key_hash in listing.public_keys else _unknown(key_hash)

    def _client(self, message: bytes, signature: bytes | None, listing: KeyListing) -> str | Denial:
        """Return the hash of the authorized key that has signed; empty where none needs to."""
        if not self._options.require_authentication:
            return ""
        if signature is None:
            text = "missing authentication signature field"
            return Denial(FORBIDDEN, "not_authenticated", text)
        for key in listing.authorized:
            if _has_signed(key, message, signature, listing.network):
                return _hash_of(key, listing.network.name)
        return Denial(FORBIDDEN, "not_authenticated", "invalid authentication signature")

    def _to_pool(
        self,
        kind: str,
        client: str,
        key_hash: str,
        wanted: OfKey,
        payload: bytes,
        signable: Signable | None = None,
    ) -> Ask:
        question = self._name(type(wanted).__name__, client, key_hash, payload)
        attempt = self._attempts.get(question, 0)
        id = blake2b(question, digest_size=REQUEST_ID_BYTES, key=attempt.to_bytes(8)).digest()
        request = Request(id, kind, payload, key_hash, ttl_ms=self._options.ttl_ms)
        return Ask(request, client, wanted, signable, question, attempt)

    def _name(self, wanted: str, client: str, key_hash: str, payload: bytes) -> bytes:
        """What makes two questions one; what one client may have, another may be denied."""
        name = blake2b(digest_size=32, salt=self._salt)
        for part in (wanted.encode(), client.encode(), key_hash.encode(), payload):
            name.update(len(part).to_bytes(4) + part)
        return name.digest()

    def conclude(self, ask: Ask, end: Event | Refused) -> Answer:
        """Turn the pool's end of a request into the client's answer."""
        if isinstance(end, Event) and end.event == READY_EVENT[ask.request.kind]:
            self._attempts.pop(ask.question, None)
            return self._success(ask, end.body)
        self._attempts[ask.question] = ask.attempt + 1
        self._attempts.move_to_end(ask.question)
        if len(self._attempts) > ATTEMPTS_MAX:
            self._attempts.popitem(last=False)
        if isinstance(end, Refused):
            return denials.of_refused_push(end.ack)
        if isinstance(ask.wanted, AskSupportsNonces) and end.event == EVENT_REFUSED:
            return NonceSupport(False)
        return denials.of_event(end)

    def _success(self, ask: Ask, body: bytes) -> Answer:
        match ask.wanted:
            case AskPublicKey():
                key_hash = ask.request.delegate or ""
                if len(self._learnt) >= LEARNT_MAX:
                    del self._learnt[next(iter(self._learnt))]
                text = self._learnt[key_hash] = PublicKey.from_tagged(body).text()
                return PublicKeyText(text)
            case AskPossessionProof():
                return PossessionProof(body)
            case AskNonce():
                return Nonce(body)
            case AskNonceHash():
                return Nonce(blake2b_32(body))
            case AskSupportsNonces():
                return NonceSupport(True)
        return Signature(body, CURVE_OF_TAG[ask.wanted.key_hash[0]])


@lru_cache(16_384)  # a text costs more than a signature
def _text_of(tagged: bytes, network_name: str) -> str:
    return hash_text(tagged, NETWORKS[network_name])


def _has_signed(key: PublicKey, message: bytes, signature: bytes, network: Network) -> bool:
    try:
        return key.verify(message, signature, network.protocol.bls_scheme)
    except SignersError:
        return False  # a curve that cannot be checked here authorizes nobody


@lru_cache(1_024)
def _hash_of(key: PublicKey, network_name: str) -> str:
    return key.hash(NETWORKS[network_name])


def _unknown(key_hash: str) -> Denial:
    text = f"there is no key {key_hash} here; see `forgepool keys list`"
    return Denial(NOT_FOUND, "unknown_key", text)


def _check_version(version: int | None, network: Network) -> None:
    """Refuse to sign by another scheme than the client will check by. Raises MalformedBytes."""
    by_possession = network.protocol.bls_scheme is BlsScheme.POSSESSION
    if version is not None and version not in ((2, 3) if by_possession else (1,)):
        raise MalformedBytes(
            f"BLS keys of {network.name} do not make signatures of version {version}"
        )
