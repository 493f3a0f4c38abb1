"""The variables of the environment that hold secrets, for processes that are to have none."""

from __future__ import annotations

from collections.abc import Mapping

from signers.backends.signer_environment import HTTP_HEADERS_ENVS
from signers.keyring.passwords import PASSWORD_ENV
from signers.pkcs11.pin import PIN_ENV

_SECRETS = frozenset({PASSWORD_ENV, PIN_ENV, *HTTP_HEADERS_ENVS})


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without passwords, PINs, and what remote signers are shown."""
    return {name: value for name, value in environment.items() if name not in _SECRETS}
