"""How `forgepool status` writes down what services report."""

from __future__ import annotations

from broker.cli import LINE_LETTERS, service_lines


def test_many_numbers_are_folded_and_none_is_cut() -> None:
    numbers = {f"held_for_parent_{i}": i for i in range(64)}
    lines = service_lines("quarantine", numbers)
    assert max(map(len, lines)) <= LINE_LETTERS
    assert lines[0].startswith("service quarantine held_for_parent_1=1 ")
    assert all(line.startswith(" " * len("service quarantine ")) for line in lines[1:])
    assert [each for line in lines for each in line.split()][2:] == [
        f"{name}={number}" for name, number in numbers.items() if number
    ]


def test_a_service_that_has_done_nothing_has_a_line() -> None:
    assert service_lines("gateway", {"signed": 0}) == ["service gateway -"]
