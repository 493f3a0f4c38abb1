"""The bounded containers, and that the quarantine has no others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from broker.quarantine.areas import AgedMap, BoundedMap, BoundedQueue, LevelTable, Tally

CORE = Path(__file__).parents[2] / "broker" / "quarantine"
# They are the bounded containers, or live for one turn, in which everything is bounded.
OF_A_TURN = {"areas.py", "turn.py", "records.py", "storing.py", "invariants.py"}
# What waits at the rim is of open items, whose number the core bounds.
RIM = {"event_stream.py", "service.py", "store_thread.py"}
UNBOUNDED = {"dict", "list", "set", "deque", "defaultdict", "OrderedDict", "Counter", "bytearray"}
DISPLAYS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)


def unbounded(source: str) -> list[int]:
    """Lines on which an attribute of an object is given a container of no bound."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        kept = any(isinstance(target, ast.Attribute) for target in targets)
        made = isinstance(value, DISPLAYS) or (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Name)
            and value.func.id in UNBOUNDED
        )
        if kept and made:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("name", sorted(p.name for p in CORE.glob("*.py")))
def test_only_bounded_containers_are_kept(name: str) -> None:
    if name not in OF_A_TURN | RIM:
        assert unbounded((CORE / name).read_text()) == []


@pytest.mark.parametrize(
    "line", ["self.x = {}", "self.x: list[int] = []", "self.x = deque()", "a.b = set(c)"]
)
def test_another_container_would_be_found(line: str) -> None:
    assert unbounded(line) == [1]


def test_a_full_map_takes_no_new_key() -> None:
    area: BoundedMap[str, int] = BoundedMap(2)
    assert [area.put(key, 0) for key in "abca"] == [True, True, False, True]
    assert area.list_keys() == ["a", "b"]
    assert area.full


def test_an_aged_map_gives_its_oldest_back() -> None:
    area: AgedMap[str, int] = AgedMap(2)
    assert [area.put(key, i) for i, key in enumerate("abac")] == [None, None, None, 2]
    assert area.items() == [("b", 1), ("c", 3)]
    area.renew("b")
    assert area.put("d", 4) == 3


def test_a_full_queue_takes_nothing_at_either_end() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    assert [queue.put(1), queue.put_first(0), queue.put(2), queue.put_first(2)] == [
        True,
        True,
        False,
        False,
    ]
    assert queue.take(5) == [0, 1]


def test_a_level_table_lets_the_lowest_go() -> None:
    table: LevelTable[str, int] = LevelTable(8)
    for i in range(8):
        assert table.put(10 + i // 4, f"k{i}", i)
    assert table.put(12, "new", 0)
    assert "k0" not in table
    assert "k7" in table
    assert table.cut == 10
    assert not table.put(9, "lower", 0) or len(table) <= 8
    assert len(table) <= 8


def test_of_a_level_that_lasts_for_ever_the_latest_are_kept() -> None:
    table: LevelTable[int, int] = LevelTable(8)
    for i in range(1_000):
        assert table.put(5, i, i)
        assert len(table) <= 8
    assert 999 in table
    assert 0 not in table
    assert table.cut == 5


def test_a_pruned_level_table_takes_nothing_below_its_floor() -> None:
    table: LevelTable[str, int] = LevelTable(8)
    table.put(1, "low", 0)
    table.put(5, "high", 0)
    table.prune(5)
    assert not table.put(4, "late", 0)
    assert [key for key in ("low", "high", "late") if key in table] == ["high"]
    assert table.cut == -1, "what is too old was not pushed out"


def test_a_tally_counts_strange_names_together() -> None:
    tally = Tally(2)
    for name in "abcda":
        tally.add(name)
    assert tally.all() == {"a": 2, "b": 1, "other": 2}
