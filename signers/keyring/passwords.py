"""The passwords of encrypted keys: which are known, and in which order they are tried.

A password file has one password a line. They are tried in their order, but one that has opened
a key goes first from then on: most often all keys have the same. When none fits, whoever is at
the terminal is asked, three times at most. Nothing here shows a password.

Source: Octez ``src/lib_signer_backends/encrypted.ml`` (order, number of questions).
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from signers.errors import BadRequest
from signers.formats.networks import BlsScheme
from signers.keyring.encrypted_key import EncryptedKey
from signers.keyring.keys import SecretKey
from signers.keyring.wallet_file import Stamp, stamp_of

PASSWORD_ENV = "FORGEPOOL_PASSWORD"
QUESTIONS_MAX = 3
# Each password that does not fit costs 25 ms for each key.
PASSWORDS_MAX = 1_000
PASSWORD_FILE_BYTES_MAX = 1024 * 1024

# Asks for the password of a key of this name; None when nobody answers.
Ask = Callable[[str], bytes | None]


class WrongPassword(BadRequest):
    """No known password opens the key: add its own to the password file."""

    code = "wrong_password"


class NoPassword(BadRequest):
    """The key is encrypted and no password is known: name a password file."""

    code = "no_password"


class BadPasswordFile(BadRequest):
    """The password file cannot be read: look at its path, mode and size."""

    code = "bad_password_file"


class Passwords:
    """The passwords that are known to a process; threads may share them."""

    __slots__ = ("_ask", "_file", "_known", "stamp")

    def __init__(self, known: Iterable[bytes] = (), ask: Ask | None = None) -> None:
        self._known = tuple(known)
        self._ask = ask
        self._file: Path | None = None
        self.stamp: Stamp | None = None  # of the file, when it was read

    @classmethod
    def from_surroundings(cls, file: Path | None, ask: Ask | None = None) -> "Passwords":
        """Take those of a file, then that of the environment variable FORGEPOOL_PASSWORD.

        Raises BadPasswordFile.
        """
        stamp = stamp_of(file)
        known = [] if file is None else _read(file)
        if (one := os.environ.get(PASSWORD_ENV)) is not None:
            known.append(os.fsencode(one))
        passwords = cls(known, ask)
        passwords._file, passwords.stamp = file, stamp
        return passwords

    def current_stamp(self) -> Stamp | None:
        """Return what differs from `stamp` once the file has changed."""
        return stamp_of(self._file)

    def reread(self) -> "Passwords":
        """Return those of the file and the environment as they are now. Raises BadPasswordFile."""
        if self.current_stamp() == self.stamp:
            return self
        return Passwords.from_surroundings(self._file, self._ask)

    @property
    def first(self) -> bytes | None:
        """The password to put a new key under, None when none is known."""
        return next(iter(self._known), None)

    def open(self, key: EncryptedKey, name: str, scheme: BlsScheme | None) -> SecretKey:
        """Open a key with whatever password fits; `name` is what the question calls it.

        Raises WrongPassword, NoPassword, MalformedBytes.
        """
        for password in self._known:
            if (opened := key.open(password, scheme)) is not None:
                self._prefer(password)
                return opened
        for _ in range(QUESTIONS_MAX):
            answer = None if self._ask is None else self._ask(name)
            if answer is None:
                break
            if (opened := key.open(answer, scheme)) is not None:
                self._prefer(answer)
                return opened
        else:
            raise WrongPassword(f"{QUESTIONS_MAX} wrong passwords for the encrypted key {name}")
        if not self._known:
            raise NoPassword(
                f"the key {name} is encrypted and no password is known: give it in "
                f"{self._file or 'a file (--password-filename)'} or in {PASSWORD_ENV}"
            )
        count = len(self._known)
        known = f"none of the {count} known passwords" if count > 1 else "the one known password"
        raise WrongPassword(
            f"the encrypted key {name} is not opened by {known}: add its own to "
            f"{self._file or 'a password file (--password-filename)'}"
        )

    def _prefer(self, password: bytes) -> None:
        known = self._known
        if known[:1] != (password,):
            # Of two threads that do this at once one may be forgotten: it is a matter of speed,
            # but for an answered question, and questions are asked by one thread alone.
            self._known = (password, *(each for each in known if each != password))

    def __repr__(self) -> str:
        return f"<{len(self._known)} passwords>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("passwords are neither pickled nor copied")


def _read(file: Path) -> list[bytes]:
    """Read one password a line; an empty line is none, other spaces belong to the password."""
    try:
        with file.open("rb") as stream:
            content = stream.read(PASSWORD_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadPasswordFile(f"{file}: {error.strerror}") from None
    passwords = [line for line in content.splitlines() if line]
    if len(content) > PASSWORD_FILE_BYTES_MAX or len(passwords) > PASSWORDS_MAX:
        raise BadPasswordFile(
            f"{file} has more than {PASSWORDS_MAX} passwords or {PASSWORD_FILE_BYTES_MAX} bytes"
        )
    return passwords
