"""Asking a remote signer, once, for the public key of a key that is about to be written down.

Settings of the pool (certificates, who we are) are not known here: a signer that wants them before
it tells a public key counts as one that could not be asked.
"""

from collections.abc import Mapping
from typing import Final

from signers.backends.backend import BackEnd
from signers.backends.key_uri import HttpKey, RemoteKey, TcpKey, UnixKey
from signers.backends.signer_environment import http_headers
from signers.backends.socket_signer import SocketSigner
from signers.keyring.keys import PublicKey

# Somebody waits at a terminal; a signer that is there answers this in milliseconds.
INQUIRY_S: Final = 4.0


def ask_public_key(key: RemoteKey, environment: Mapping[str, str]) -> PublicKey:
    """Ask the signer that a URI names for its key. Raises the errors of `backend`."""
    signer = _signer(key, environment)
    try:
        return signer.public_key(key.key_hash, INQUIRY_S)
    finally:
        signer.close()


def _signer(key: RemoteKey, environment: Mapping[str, str]) -> BackEnd:
    match key:
        case HttpKey(base):
            # Every `forgepool keys` would wait for httpcore, and few ask a signer over HTTP.
            from signers.backends.http_signer import HttpSigner, tls_context

            tls = tls_context(None, None) if base.startswith("https:") else None
            return HttpSigner(base, connections=1, headers=http_headers(environment), tls=tls)
        case TcpKey(host, port):
            return SocketSigner((host, port))
        case UnixKey(path):
            return SocketSigner(path)
