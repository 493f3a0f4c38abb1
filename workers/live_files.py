"""The files that a worker takes changes of while it runs: its keys and the policy.

It looks at them once a second, unless the operator wants to be asked; and in a reload it reads
them when told, and goes by what it has read when all the workers could read it.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from broker.messages import ReloadAnswer, ReloadAsked, ReloadStep
from signers.errors import SignersError
from signers.policy.decision import Policy
from signers.policy.policy_changes import policy_changes, shortened
from signers.policy.policy_file import PolicyFile, PolicyReading
from signers.policy.rule import listing
from workers.key_ring import KeyReading, KeyRing

log = logging.getLogger("forgepool.worker")

LOOK_S = 1.0  # how often the files are looked at


class _Reading(NamedTuple):
    """What was read for a reload and is not gone by yet."""

    number: int
    keys: KeyReading
    policy: PolicyReading


class LiveFiles:
    """Keys and policy of one worker, as they are in force."""

    def __init__(self, keys: KeyRing, policy: PolicyFile, *, watched: bool) -> None:
        """Args: unless `watched`, changes are taken over by a reload only."""
        self._keys = keys
        self._policy = policy
        self._watched = watched
        self._reading: _Reading | None = None
        self.next_look = 0.0
        self._has_looked = False

    @property
    def policy(self) -> Policy:
        return self._policy.policy

    def look(self, now: float) -> bool:
        """Look whether it is time, and whether the files have changed; True when the keys have."""
        if now < self.next_look:
            return False
        self.next_look = now + LOOK_S
        if not self._watched and self._has_looked:
            return False
        self._has_looked = True
        problem = self._policy.problem
        if self._policy.look():
            log.info("policy_taken")
        if self._policy.problem not in ("", problem):
            log.error("policy_unreadable, the one before stays: %s", self._policy.problem)
        problem, unusable = self._keys.problem, self._keys.unusable
        changed = self._keys.look()
        if self._keys.problem not in ("", problem):
            log.error("key_store_unreadable %s", self._keys.problem)
        for key_hash, why in self._keys.unusable.items():
            if unusable.get(key_hash) != why:
                log.error("key_unusable key=%s why=%r", key_hash, why)
        return changed

    def reload(self, asked: ReloadAsked) -> tuple[ReloadAnswer | None, bool]:
        """Do a step of a reload; the answer, and whether the keys have changed by it."""
        if asked.step == ReloadStep.READ:
            return self._read(asked.number), False
        reading, self._reading = self._reading, None
        if asked.step != ReloadStep.TAKE:
            return None, False
        if reading is None or reading.number != asked.number:
            problem = "what was read for this reload is not here any more"
            return ReloadAnswer(asked.number, asked.step, problem=problem), False
        self._policy.take(reading.policy)
        changed = self._keys.take(reading.keys)
        log.info("reloaded number=%d policy=%s", asked.number, reading.policy.version)
        return ReloadAnswer(asked.number, asked.step), changed

    def _read(self, number: int) -> ReloadAnswer:
        step = int(ReloadStep.READ)
        try:
            reading = _Reading(number, self._keys.read(), self._policy.read())
        except (SignersError, OSError) as e:
            self._reading = None
            return ReloadAnswer(number, step, problem=str(e))
        self._reading = reading
        changes = [*self._key_changes(reading.keys), *self._policy_changes(reading.policy)]
        return ReloadAnswer(number, step, reading.policy.version, shortened(changes))

    def _key_changes(self, reading: KeyReading) -> list[str]:
        before, after = set(self._keys.hashes), reading.hashes
        changes = [f"keys added: {listing(after - before)}"] if after - before else []
        changes += [f"keys removed: {listing(before - after)}"] if before - after else []
        if reading.passwords is not self._keys.passwords:
            changes.append("passwords: read again from their file")
        return changes + [f"no signer for {key}: {why}" for key, why in reading.unusable.items()]

    def _policy_changes(self, reading: PolicyReading) -> list[str]:
        return policy_changes(self._policy.policy, reading.policy)
