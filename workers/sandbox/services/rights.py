"""Services about levels, rounds and who has which rights: `/helpers/…`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from workers.sandbox.block_tree import Block
from workers.sandbox.committee import Committee
from workers.sandbox.directory import BadCall, Call, Directory
from workers.sandbox.levels import cycle_levels, level_info
from workers.sandbox.names import time_text
from workers.sandbox.node import Json, SandboxNode
from workers.sandbox.refusal import failure

_HELPERS = "/chains/{chain}/blocks/{block}/helpers"

# The rounds that `baking_rights` looks at unless it is told otherwise.
_MAX_ROUND = 64
# A whole cycle, or as many single levels: more is asked for by mistake.
_LEVELS_MAX = 1000
_ROUNDS_MAX = 10_000


class RightsServices:
    """Levels, rounds, committees."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node
        self._rights = node.rules.rights

    def add_to(self, directory: Directory) -> None:
        services: dict[str, Callable[[Call], object]] = {
            "current_level": self.current_level,
            "levels_in_current_cycle": self.levels_in_current_cycle,
            "round": lambda call: self._node.block_of(call).round,
            "baking_rights": self.baking_rights,
            "attestation_rights": self.attestation_rights,
            "validators": self.validators,
        }
        for name, service in services.items():
            directory.serve("GET", f"{_HELPERS}/{name}", service)

    def current_level(self, call: Call) -> Json:
        block = self._node.block_of(call)
        offset = call.query.number("offset") or 0
        if offset < 0:
            raise failure("The offset of a level is negative.")
        return level_info(self._node.constants, block.level + offset).to_json()

    def levels_in_current_cycle(self, call: Call) -> Json:
        block = self._node.block_of(call)
        cycle = level_info(self._node.constants, block.level).cycle
        cycle += call.query.number("offset") or 0
        if cycle < 0:
            raise failure("There is no such cycle.")
        first, last = cycle_levels(self._node.constants, cycle)
        return {"first": first, "last": last}

    def baking_rights(self, call: Call) -> list[Json]:
        block = self._node.block_of(call)
        delegates = self._node.delegates_in(call)
        max_round = call.query.number("max_round")
        max_round = _MAX_ROUND if max_round is None else max_round
        if not 0 <= max_round <= _ROUNDS_MAX:
            raise BadCall(f"Failed to parse the query string: max_round: 0 to {_ROUNDS_MAX}")
        every_round = call.query.flag("all")
        rights = []
        for level in self._levels(call, default=block.level + 1):
            committee = self._rights.committee(level)
            seen: set[bytes] = set()
            for round in range(max_round + 1):
                baker = committee.baker(round)
                if (baker in seen and not every_round) or (delegates and baker not in delegates):
                    continue
                seen.add(baker)
                name = self._node.names.address(baker)
                rights.append(
                    {
                        "level": level,
                        "delegate": name,
                        "round": round,
                        **self._estimated_time(block, level, round),
                        "consensus_key": name,
                    }
                )
        return rights

    def attestation_rights(self, call: Call) -> list[Json]:
        block = self._node.block_of(call)
        asked = self._node.delegates_in(call)
        power = self._node.dialect.attesting_power
        rights = []
        for level in self._levels(call, default=block.level):
            delegates = [
                {
                    "delegate": name,
                    "first_slot": slots[0],
                    power: len(slots),
                    "consensus_key": name,
                }
                for name, slots in self._slots(self._rights.committee(level), asked)
            ]
            # As recorded from real nodes: the highest first slot comes first.
            delegates.reverse()
            rights.append(
                {
                    "level": level,
                    "delegates": delegates,
                    **self._estimated_time(block, level, 0),
                }
            )
        return rights

    def validators(self, call: Call) -> list[Json]:
        block = self._node.block_of(call)
        asked = self._node.delegates_in(call)
        by_level = self._node.dialect.validators_by_level
        validators: list[Json] = []
        for level in self._levels(call, default=block.level):
            slots_of = self._slots(self._rights.committee(level), asked)
            if by_level:
                validators.append(self._validators_of_level(level, slots_of))
            else:
                validators += (
                    {"level": level, "delegate": name, "slots": slots, "consensus_key": name}
                    for name, slots in slots_of
                )
        return validators

    def _validators_of_level(
        self, level: int, slots_of: Iterator[tuple[str, tuple[int, ...]]]
    ) -> Json:
        constants = self._node.constants
        return {
            "level": level,
            "consensus_threshold": str(constants.consensus_threshold),
            "consensus_committee": str(constants.consensus_committee_size),
            "all_bakers_attest_activated": False,
            "delegates": [
                {
                    "delegate": name,
                    "rounds": slots,
                    "consensus_key": name,
                    "attesting_power": str(len(slots)),
                    "attestation_slot": slots[0],
                }
                for name, slots in slots_of
            ],
        }

    def _slots(
        self, committee: Committee, asked: frozenset[bytes] | None
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        for delegate, slots in committee.slots.items():
            if asked is None or delegate in asked:
                yield self._node.names.address(delegate), slots

    def _levels(self, call: Call, default: int) -> list[int]:
        levels = set(call.query.numbers("level"))
        for cycle in call.query.numbers("cycle"):
            first, last = cycle_levels(self._node.constants, cycle)
            levels.update(range(first, last + 1))
        if any(not 0 <= level <= 0x7FFF_FFFF for level in levels) or len(levels) > _LEVELS_MAX:
            raise BadCall("Failed to parse the query string: level: out of range, or too many")
        return sorted(levels) or [default]

    def _estimated_time(self, block: Block, level: int, round: int) -> Json:
        """Return when a round begins if every level before it ends in its round 0."""
        levels_between = level - block.level - 1
        if levels_between < 0:
            return {}
        durations = self._node.rules.durations
        start = durations.timestamp(block.header.timestamp, block.round, 0)
        start += levels_between * durations.duration_s(0)
        return {"estimated_time": time_text(start + durations.offset_s(round))}
