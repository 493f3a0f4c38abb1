"""Which application on which chain: the key that the ring gives to one worker.

Source: Linera, `linera-base/src/identifiers.rs`: chain and application ids are 32-byte hashes,
written as 64 lower-case hexadecimal digits.
"""

from __future__ import annotations

import re

from msgspec import Struct

from broker.errors import Misconfigured

ID_DIGITS = 64
_ID = re.compile(r"[0-9a-f]{64}\Z")


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
        chain, slash, application = text.rpartition("/")
        if not slash and len(text) == 2 * ID_DIGITS:
            return cls.of_key(text)
        if not slash and not chain_id:
            raise Misconfigured(
                f"application {text}: on which chain? Set tasks.chain_id, "
                "or write CHAIN/APPLICATION"
            )
        chain = chain if slash else chain_id
        return cls(checked_id(chain, "chain"), checked_id(application, "application"))

    def __str__(self) -> str:
        return f"{self.chain_id}/{self.application_id}"


def checked_id(text: str, what: str) -> str:
    """The id as it is, if it is one. Raises Misconfigured."""
    if _ID.match(text) is None:
        raise Misconfigured(f"a {what} id is 64 digits of 0-9a-f, not {text[:80]!r}")
    return text
