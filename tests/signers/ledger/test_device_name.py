"""Names of devices.

Vectors: Octez' and Signatory's own tests ("12345" is calculating-meerkat-straight-beetle, the root
key below zesty-koala-usable-kiwi, short c4c56423); the words themselves are data that an operator
brings, so what is tested here are their places in the lists.
"""

from __future__ import annotations

import pytest

from signers.errors import MalformedBytes
from signers.ledger.device_name import (
    UnknownDeviceName,
    WordLists,
    four_words,
    is_called,
    read_word_lists,
    short_id,
    word_numbers,
)

ROOT = bytes.fromhex("bd5f29dab78602ffdb2b29a99d2fadc5b01d7786ec43f133039b450adfdd8dc2")
ROOT_HASH = "tz1daTbhMHpmMXQYaVYmzZTM3S11oshHPrMm"
# Made-up words in as many places.
LISTS = WordLists([f"adjective{i}" for i in range(1308)], [f"animal{i}" for i in range(283)])


def test_zesty_is_the_last_adjective() -> None:
    first = four_words(ROOT, LISTS).split("-")[0]
    assert first == "adjective1307"


def test_a_name_is_made_of_bytes_and_not_of_text() -> None:
    numbers = word_numbers(b"12345")
    assert all(0 <= n < limit for n, limit in zip(numbers, (1308, 283, 1308, 283), strict=True))
    assert word_numbers(b"12346") != numbers


def test_a_device_is_known_by_hash_by_eight_digits_and_by_words() -> None:
    assert short_id(ROOT) == "c4c56423"
    for name in (ROOT_HASH, "c4c56423", "C4C56423", four_words(ROOT, LISTS)):
        assert is_called(name, ROOT, LISTS)
        assert not is_called(name, bytes(32), LISTS)


def test_words_need_their_lists() -> None:
    with pytest.raises(UnknownDeviceName, match="word lists"):
        is_called("zesty-koala-usable-kiwi", ROOT, None)
    with pytest.raises(UnknownDeviceName):
        is_called("kitchen", ROOT, None)


def test_other_lists_are_refused() -> None:
    for words in ("", "\n".join([*LISTS.adjectives, *LISTS.animals])):
        with pytest.raises(MalformedBytes):
            read_word_lists(words)
