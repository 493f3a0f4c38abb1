"""How a device is called: by the key at its root, in three spellings.

The key is the Ed25519 key at 44'/1729'. A key's URI names the device by that key's hash
(``tz1…``), by the first 8 hex digits of it, or as Octez does by four words. The words come from
two lists that no package carries; where an operator has them in a file (``FORGEPOOL_LEDGER_WORDS``:
1,308 adjectives, then 283 animals, one a line), words are understood too.

Source: Octez ``src/lib_signer_backends/unix/ledger_names.ml``; Signatory ``pkg/vault/ledger``.
"""

from collections.abc import Sequence
from hashlib import blake2b, sha256
from typing import Final, NamedTuple

from signers.errors import BadRequest, MalformedBytes
from signers.formats.hashes import blake2b_20
from signers.formats.tagged_keys import tagged_hash

_ED25519_TAG: Final = b"\0"
_ADJECTIVES: Final = 1308
_ANIMALS: Final = 283
_ADJECTIVES_SHA256: Final = "b27b583f8c97bdfcc53fbb223ae236f33b9e588684a54e307b5e70e9e84c9e92"
_ANIMALS_SHA256: Final = "3ec4e982d85683045bf98888047a17475b66e71debcdd8136f52e6b4f2c07a72"


class UnknownDeviceName(BadRequest):
    """A key's URI calls its device what cannot be understood here: use the root key's hash."""

    code = "unknown_device_name"


class WordLists(NamedTuple):
    """Octez' words, in its order."""

    adjectives: Sequence[str]
    animals: Sequence[str]


def read_word_lists(text: str) -> WordLists:
    """Read the two lists, one word a line. Raises MalformedBytes unless they are Octez' own."""
    words = text.split()
    lists = WordLists(words[:_ADJECTIVES], words[_ADJECTIVES:])
    if (
        len(words) != _ADJECTIVES + _ANIMALS
        or sha256("\n".join(lists.adjectives).encode()).hexdigest() != _ADJECTIVES_SHA256
        or sha256("\n".join(lists.animals).encode()).hexdigest() != _ANIMALS_SHA256
    ):
        raise MalformedBytes("these are not the adjectives and animals of Octez")
    return lists


def word_numbers(data: bytes) -> tuple[int, int, int, int]:
    """Which words some bytes are called by: adjective, animal, adjective, animal."""
    numbers = []
    for count in (_ADJECTIVES, _ANIMALS, _ADJECTIVES, _ANIMALS):
        data = blake2b(data, digest_size=32).digest()
        numbers.append(int.from_bytes(data, "little") % count)
    return numbers[0], numbers[1], numbers[2], numbers[3]


def four_words(root_key: bytes, lists: WordLists) -> str:
    """Octez' name of the device with this Ed25519 root key."""
    a, b, c, d = word_numbers(_ED25519_TAG + blake2b_20(root_key))
    return "-".join((lists.adjectives[a], lists.animals[b], lists.adjectives[c], lists.animals[d]))


def short_id(root_key: bytes) -> str:
    """The first 8 hex digits of the root key's hash."""
    return blake2b_20(root_key)[:4].hex()


def is_called(name: str, root_key: bytes, lists: WordLists | None) -> bool:
    """Whether a device is the one that a URI means. Raises UnknownDeviceName."""
    if name.count("-") == 3:
        if lists is None:
            raise UnknownDeviceName(
                "a device called by four words needs Octez' word lists: see docs/ledger.md, or "
                "call it by the hash of its root key, as `forgepool ledger list` shows it"
            )
        return name == four_words(root_key, lists)
    if len(name) == 8:
        return name.lower() == short_id(root_key)
    try:
        return tagged_hash(name) == _ED25519_TAG + blake2b_20(root_key)
    except MalformedBytes:
        raise UnknownDeviceName(f"no device is called {name[:40]!r}") from None
