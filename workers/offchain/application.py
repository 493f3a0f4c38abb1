"""Which application on which chain: the key that the ring gives to one worker.

Source: Linera, `linera-base/src/identifiers.rs`: chain and application ids are 32-byte hashes,
written as 64 lower-case hexadecimal digits.
"""

from __future__ import annotations

import re

from msgspec import Struct

from broker.applications import ID_DIGITS, application_key, checked_id

_BEGINNING = re.compile(r"[0-9a-f]{1,128}|[0-9a-f]{64}/[0-9a-f]{0,64}")


class Application(Struct, frozen=True, order=True):
    """An application where it runs."""

    chain_id: str
    application_id: str

    @property
    def key(self) -> str:
        """Both ids in one word of 128 digits: the name on the ring, on topics and in events."""
        return self.chain_id + self.application_id

    @classmethod
    def of_key(cls, key: str) -> Application:
        """The application of a key.

        Raises:
            Misconfigured: it is not two ids in one word.
        """
        return cls(checked_id(key[:ID_DIGITS], "chain"), checked_id(key[ID_DIGITS:], "application"))

    @classmethod
    def parse(cls, text: str, chain_id: str) -> Application:
        """Read ``APPLICATION``, ``CHAIN/APPLICATION`` or a key, as people write them.

        Args:
            chain_id: the chain when the text names none; empty: there is no such default.

        Raises:
            Misconfigured: saying which part is wrong, and how it is written.
        """
        return cls.of_key(application_key(text, chain_id))

    def begins_with(self, text: str) -> bool:
        """Whether people may mean it by that: an id cut short, or both behind each other."""
        names = (self.application_id, str(self), self.key)
        return any(name.startswith(text) for name in names)

    def __str__(self) -> str:
        return f"{self.chain_id}/{self.application_id}"


def is_beginning(text: str) -> bool:
    """Whether any application's name could begin with it; else it is misspelled."""
    return _BEGINNING.fullmatch(text) is not None
