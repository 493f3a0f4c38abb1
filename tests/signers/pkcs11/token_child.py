"""A process with a PKCS#11 module: does what lines of JSON say, on a token signer of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pkcs11
from pkcs11 import Attribute, ObjectClass

from signers.backends.key_uri import Pkcs11Key, read_key_uri
from signers.errors import SignersError
from signers.keyring.keys import PublicKey
from signers.pkcs11.module import open_module
from signers.pkcs11.module_file import module_file
from signers.pkcs11.pin import read_pin
from signers.pkcs11.token_signer import TokenSigner

TIMEOUT_S = 20.0
SIGNERS: dict[str, TokenSigner] = {}  # by authority
PLACES: dict[str, Pkcs11Key] = {}  # by hash


def signer(uri: str, key_hash: str) -> TokenSigner:
    place = read_key_uri(uri, {})
    assert isinstance(place, Pkcs11Key)
    PLACES[key_hash] = place
    if place.authority not in SIGNERS:
        file = module_file(place.module_path, place.module_name, os.environ)
        SIGNERS[place.authority] = TokenSigner(
            open_module(file), PLACES.get, lambda key: read_pin(key, os.environ)
        )
    return SIGNERS[place.authority]


def sign(uri: str, hash: str, message: str, key: str | None) -> dict[str, str]:
    asked = signer(uri, hash)
    public_key = PublicKey.read(key) if key else asked.public_key(hash, TIMEOUT_S)
    return {"signature": asked.sign(public_key, hash, bytes.fromhex(message), TIMEOUT_S).hex()}


def sign_at_once(keys: list[dict[str, Any]], threads: int, times: int) -> list[str]:
    """Sign with all keys in all threads, many times; the signatures in the order of the keys."""
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda given: sign(**given)["signature"], keys * times)
    return list(done)


def destroy(module: str, token: str, label: str, pin: str) -> bool:
    """Delete a private key."""
    with pkcs11.lib(module).get_token(token_label=token).open(rw=True, user_pin=pin) as session:
        session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=label).destroy()
    return True


def destroy_public(module: str, token: str, label: str, pin: str) -> bool:
    """Delete a public key, as if only the private one had been written."""
    with pkcs11.lib(module).get_token(token_label=token).open(rw=True, user_pin=pin) as session:
        wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: label}
        for each in list(session.get_objects(wanted)):
            each.destroy()
    return True


def close() -> bool:
    """Let go of all tokens; what is asked then begins anew."""
    for each in SIGNERS.values():
        each.close()
    SIGNERS.clear()
    return True


def sign_while_a_call_hangs(uri: str, hash: str, message: str, key: str) -> dict[str, str]:
    """Sign while another call is in the module; close it too, which waits for nobody for long."""
    asked = signer(uri, hash)
    place = PLACES[hash]
    module = open_module(module_file(place.module_path, place.module_name, os.environ))
    with module.turn(TIMEOUT_S):
        module.close()
        signature = asked.sign(PublicKey.read(key), hash, bytes.fromhex(message), 0.05)
    return {"signature": signature.hex()}


def fork_and_sign(**given: Any) -> str:
    """Try to sign in a forked child; its answer."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, answer_of(sign, given).encode())
        os._exit(0)
    os.close(writing)
    os.wait()
    with os.fdopen(reading) as pipe:
        return pipe.read()


def answer_of(do: Callable[..., Any], given: dict[str, Any]) -> str:
    try:
        return json.dumps(do(**given))
    except SignersError as error:
        return json.dumps({"code": error.code, "text": str(error)})


def main() -> None:
    does = (sign, sign_at_once, sign_while_a_call_hangs, destroy, destroy_public, close,
            fork_and_sign)  # fmt: skip
    actions = {each.__name__: each for each in does}
    for line in sys.stdin:
        given = json.loads(line)
        print(answer_of(actions[given.pop("what")], given), flush=True)


if __name__ == "__main__":
    main()
