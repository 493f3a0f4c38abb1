"""Which tokens a module shows, which keys they have, and what a URI calls each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pkcs11 import Attribute, KeyType, ObjectClass, PKCS11Error, Session, Token

from signers.backends.key_uri import Pkcs11Key
from signers.keyring.keys import PublicKey
from signers.pkcs11.module import open_module
from signers.pkcs11.token_errors import Ambiguous, NotForToken, error_of
from signers.pkcs11.token_key import public_key_of, read_public_key

_KEY_TYPES = (KeyType.EC, KeyType.EC_EDWARDS)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key of a token; `problem` says why its public key is not known."""

    place: Pkcs11Key
    public_key: PublicKey | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ListedToken:
    """A token with its keys."""

    label: str
    serial: str
    manufacturer: str
    model: str
    keys: tuple[ListedKey, ...]


def list_module(
    file: str, label: str | None, pin: str | None, timeout_s: float
) -> list[ListedToken]:
    """List the tokens of a module, or one of them: with a PIN its keys that can sign.

    Without a PIN the public keys. A PIN is shown to one token; if several fit, Ambiguous is raised,
    as are the other errors of `token_errors`.
    """
    module = open_module(file)
    try:
        with module.turn(timeout_s):
            tokens = [token for token in module.tokens() if label in (None, token.label)]
            if pin is not None and len(tokens) > 1:
                raise Ambiguous(f"{len(tokens)} tokens are there: say to which the PIN belongs")
            labels = [token.label for token in tokens]
            return [
                _list_token(
                    token,
                    _place(token, file, is_alone=labels.count(token.label) == 1),
                    token.open() if pin is None else module.session(token, pin),
                    ObjectClass.PUBLIC_KEY if pin is None else ObjectClass.PRIVATE_KEY,
                )
                for token in tokens
            ]
    except PKCS11Error as failure:
        raise error_of(failure) from failure
    finally:
        module.close()


def _place(token: Token, file: str, *, is_alone: bool) -> Pkcs11Key:
    serial = token.serial.decode(errors="replace")
    if is_alone and token.label:
        return Pkcs11Key(token=token.label, module_path=file)
    return Pkcs11Key(token=token.label or None, serial=serial, module_path=file)


def _list_token(
    token: Token, place: Pkcs11Key, session: Session, listed: ObjectClass
) -> ListedToken:
    keys = [
        _list_key(session, place, key)
        for kind in _KEY_TYPES
        for key in list(session.get_objects({Attribute.CLASS: listed, Attribute.KEY_TYPE: kind}))
    ]
    return ListedToken(
        token.label,
        token.serial.decode(errors="replace"),
        token.manufacturer_id,
        token.model,
        tuple(sorted(keys, key=lambda key: (key.place.object or "", key.place.id or b""))),
    )


def _list_key(session: Session, token: Pkcs11Key, key: Any) -> ListedKey:
    place = Pkcs11Key(
        token=token.token,
        serial=token.serial,
        module_path=token.module_path,
        object=key.label or None,
        id=key.id or None,
    )
    try:
        is_public = key.object_class is ObjectClass.PUBLIC_KEY
        public_key = read_public_key(key) if is_public else public_key_of(session, key)
    except (Ambiguous, NotForToken) as error:
        return ListedKey(place, None, str(error))
    problem = "" if public_key else "the token shows no public key for it"
    return ListedKey(place, public_key, problem)
