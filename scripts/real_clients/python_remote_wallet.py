"""Use pytezos or pymavryk with a key that forgepool's gateway holds, as octez-client would.

Runs in the client's own environment and imports nothing of this project:
`python_remote_wallet.py NAME`, with JSON on standard input: the node's `url`, the `gateway` that
wants to know who asks, the public `key` and hash (`remote`) of the account whose secret the pool
has, the secret key of another account (`secret_key`), which is authorized to ask, and the chain's
id in hex (`chain`). Neither library knows remote signers: `Signer` speaks the protocol for them.
Prints one line for each step; the first one that fails is the last, and the status is 1.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

AMOUNT = 1_000_004  # mutez (mumav)
BLOCKS_WAIT = 10
TIMEOUT_S = 30.0
NOBODY = "tz1SodoUsWVe1Yey9eMFbqRUtNpBWfir5NRr"  # the first of Octez' key_encoding_vectors


class Denied(Exception):
    """The signer did not sign: its status, and the sentence of its error trace."""

    def __init__(self, status: int, body: bytes) -> None:
        [error] = json.loads(body)
        self.status = status
        super().__init__(f"{status} {error['msg']}")


class Signer:
    """The calls of octez-client to a remote signer, authenticated with a key."""

    def __init__(self, url: str, client_key: Any, decode: Callable[[bytes], bytes]) -> None:
        self._url = url
        self._client_key = client_key
        self._decode = decode

    def call(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(f"{self._url}{path}", method=method)
        request.add_header("Accept", "application/json, application/bson, application/octet-stream")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Denied(error.code, error.read()) from None

    def sign(self, key_hash: str, data: bytes) -> str:
        """Ask who is authorized, show who we are, and let the bytes be signed."""
        authorized = self.call("GET", "/authorized_keys").get("authorized_keys")
        query = ""
        if authorized is not None:
            assert self._client_key.public_key_hash() in authorized, authorized
            tagged = b"\x00" + self._decode(key_hash.encode())
            proof = self._client_key.sign(b"\x04\x01" + tagged + data)
            query = f"?authentication={proof}"
        answer = self.call("POST", f"/keys/{key_hash}{query}", data.hex())
        return str(answer["signature"])


class Wallet:
    """An account whose key is remote, and another one, seen through a client library."""

    def __init__(self, name: str, given: dict[str, Any]) -> None:
        library = importlib.import_module(name)
        decode = importlib.import_module(f"{name}.crypto.encoding").base58_decode
        client = getattr(library, name)
        self.payee = client.using(shell=given["url"], key=given["secret_key"])
        self.signer = Signer(given["gateway"], self.payee.key, decode)
        key = library.Key.from_encoded_key(given["key"])
        key.sign = self._sign  # what the library asks for each signature
        self.key = key
        self.payer = client.using(shell=given["url"], key=key)
        self.remote = given["remote"]
        self.chain_id = bytes.fromhex(given["chain"])

    def _sign(self, message: bytes, generic: bool = False) -> str:
        signature = self.signer.sign(self.remote, message)
        self.key.verify(signature, message)  # raises when it is another's
        return signature

    def public_key(self) -> str:
        found = self.signer.call("GET", f"/keys/{self.remote}")["public_key"]
        assert found == self.key.public_key()
        return str(found)

    def transfer(self) -> str:
        payee = self.payee.key.public_key_hash()
        before = int(self.payee.account()["balance"])
        operation = self.payer.transaction(destination=payee, amount=AMOUNT).autofill().sign()
        done = operation.inject(min_confirmations=1, num_blocks_wait=BLOCKS_WAIT)
        assert int(self.payee.account()["balance"]) == before + AMOUNT
        return f"{AMOUNT} in a block, {done['hash']}"

    def vote(self) -> str:
        """A vote is signed, its repeat identically, another one at its place never."""
        vote, other = self._vote("a"), self._vote("b")
        first = self._sign(vote)
        assert self._sign(vote) == first
        error = refusal(lambda: self._sign(other))
        assert error.status == 409, error
        assert self._sign(vote) == first
        return f"{first[:12]}… twice; another: {str(error)[:70]}…"

    def _vote(self, content: str) -> bytes:
        """An attestation of level 7, round 0, by nobody's slot: it is not for the chain."""
        payload_hash = hashlib.sha256(content.encode()).digest()
        watermark = b"\x13" + self.chain_id
        return (
            watermark + bytes(32) + b"\x15\x00\x01\x00\x00\x00\x07\x00\x00\x00\x00" + payload_hash
        )

    def refusals(self) -> str:
        nobody = refusal(lambda: self.signer.call("GET", f"/keys/{NOBODY}"))
        garbage = refusal(lambda: self._sign(b"\x13garbage"))
        target = f"/keys/{self.remote}"
        stranger = refusal(lambda: self.signer.call("POST", target, self._vote("a").hex()))
        assert [nobody.status, garbage.status, stranger.status] == [404, 400, 403]
        return f"{nobody.status} unknown key, {garbage.status} garbage, {stranger}"


def refusal(call: Callable[[], object]) -> Denied:
    try:
        call()
    except Denied as raised:
        return raised
    raise AssertionError("it was not refused")


STEPS: tuple[tuple[str, Callable[[Wallet], str]], ...] = (
    ("asks the gateway for the public key", Wallet.public_key),
    ("transfers, signed by the pool", Wallet.transfer),
    ("votes through the gateway", Wallet.vote),
    ("is refused by the gateway", Wallet.refusals),
)


def main() -> int:
    name = sys.argv[1]
    wallet = Wallet(name, json.load(sys.stdin))
    for title, step in STEPS:
        try:
            print(f"{name}: {title}: {step(wallet)}", flush=True)
        except Exception:
            traceback.print_exc()
            print(f"{name}: {title}: FAILED", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
