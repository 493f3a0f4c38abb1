"""Merkle hashes of operations and payloads, against values of Octez and of real blocks."""

import pytest

from signers.formats import base58, hashes


def operations_hash_text(passes: list[list[str]]) -> str:
    raw = [[base58.decode(base58.OPERATION_HASH, text) for text in row] for row in passes]
    return base58.encode(base58.OPERATIONS_HASH, hashes.operations_hash(raw))


@pytest.mark.parametrize(
    ("passes", "expected"),
    [
        # Octez' own constants for empty blocks.
        ([], "LLoZS2LW3rEi7KYU4ouBQtorua37aWWCtpDmv1n2x3xoKi6sVXLWp"),
        ([[]], "LLoaGLRPRx3Zf8kB4ACtgku8F4feeBiskeb41J1ciwfcXB3KzHKXc"),
        ([[], [], [], []], "LLoa7bxRTKaQN2bLYoitYB6bU2DvLnBAqrVjZcvJ364cTcX2PZYKU"),
        (
            [
                ["opNoTGfrSBj1k2deQvh5mZGXm6tBhBZz5YHRQsxStTFrjWjwV3q"],
                [],
                [],
                ["opS8fwbeZEv9riec1GzYCSuxtBEVeuJzLhwtRV7DAsR3BurRRRV"],
            ],
            "LLoamgTB4Jdh1Wk9xaWyq9oYXXKVh1qfPHv5EFcULoCmfVdMqWSpF",
        ),
    ],
)
def test_operations_hash(passes: list[list[str]], expected: str) -> None:
    assert operations_hash_text(passes) == expected


def test_payload_hash_of_a_real_block() -> None:
    # ParisC test network, level 989795: one operation outside the consensus pass.
    predecessor = base58.decode(
        base58.BLOCK_HASH, "BL2Ba8XNJYRTHUjapPQYNxuymQNA2u2PWhsuEXRrTT9pvEm9E65"
    )
    operation = base58.decode(
        base58.OPERATION_HASH, "opS8fwbeZEv9riec1GzYCSuxtBEVeuJzLhwtRV7DAsR3BurRRRV"
    )
    payload = hashes.payload_hash(predecessor, 0, [operation])
    assert base58.encode(base58.PAYLOAD_HASH, payload) == (
        "vh2ifehMZB2C7GFb2M4YycExTMWAY5PnDC4PoPtDmWh7yNNVbfLj"
    )


def test_a_list_is_filled_with_its_last_leaf() -> None:
    leaves = [bytes([number]) * 32 for number in range(5)]
    filled = leaves + [leaves[-1]] * 3
    assert hashes.operation_list_hash(leaves) == hashes.operation_list_hash(filled)
    assert hashes.operation_list_hash(leaves) != hashes.operation_list_hash(leaves[:4])
