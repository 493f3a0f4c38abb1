"""Offences of delegates: seen in the table, made into evidence by a worker, told once.

When the pool has too much to do this is what is given up first: what conflicts is then still
bounded by the table, but not recorded and not denounced.
"""

from __future__ import annotations

from broker.quarantine.areas import BoundedMap
from broker.quarantine.bounds import Bounds
from broker.quarantine.flights import EvidenceJob
from broker.quarantine.records import EvidenceRecord, Offence, SignedRecord
from broker.quarantine.slashing_table import DEEP, FIRST, SECOND, TOO_OLD, SlashingTable
from broker.verification import Verdict


class Offences:
    """The detection; `active` is set by whoever knows the load."""

    __slots__ = ("_block_votes_left", "_block_votes_max", "_jobs", "_probes_max", "active", "lost",
                 "probes_shed", "skipped", "table", "too_old")  # fmt: skip

    def __init__(self, bounds: Bounds) -> None:
        self.table = SlashingTable(bounds)
        self.active = True
        # Objects that came while it was not active, and votes of blocks beyond those of a turn.
        self.skipped = 0
        self.too_old = 0  # below the detection depth
        self.lost = 0  # evidence that no worker could make, or for which there was no room
        self.probes_shed = 0
        self._probes_max = bounds.probes
        self._block_votes_max = self._block_votes_left = bounds.block_votes_per_turn
        self._jobs: BoundedMap[Offence, EvidenceJob] = BoundedMap(bounds.evidence)

    def next_turn(self, *, active: bool) -> None:
        """A turn is over; whether the next one looks for offences."""
        self.active = active
        self._block_votes_left = self._block_votes_max

    def may_look_at(self, block_votes: int) -> bool:
        """Whether there is time in this turn for the votes of a block; else they are skipped."""
        if not self.active or block_votes > self._block_votes_left:
            self.skipped += block_votes
            return False
        self._block_votes_left -= block_votes
        return True

    def note(
        self,
        record: SignedRecord,
        standing: int,
        seen: list[SignedRecord],
        probes: list[SignedRecord],
        number: int,
    ) -> EvidenceJob | None:
        """Something that was entered: have it kept, and evidence made of a conflict.

        Args:
            standing: what the table said.
            seen: gets what the store is to keep.
            probes: gets what is to be asked of the store.
            number: for the job, if there is one.
        """
        if standing == TOO_OLD:
            self.too_old += 1
        elif not self.active:
            self.skipped += 1
        elif standing == FIRST:
            seen.append(record)
        elif standing == SECOND:
            seen.append(record)
            return self.denounce(record, self.table.first_of(record), number)
        elif standing == DEEP:
            if len(probes) < self._probes_max:
                probes.append(record)
            else:
                self.probes_shed += 1
        return None

    def denounce(
        self, record: SignedRecord, other: SignedRecord | None, number: int
    ) -> EvidenceJob | None:
        """A delegate has signed two conflicting things: a job, unless it was told before."""
        if other is None:
            return None
        offence = (record.kind, record.level, record.round, record.delegate or other.delegate)
        if not offence[3] or offence in self._jobs or offence in self.table.denounced:
            return None
        if record.level <= self.table.denounced.cut:
            self.lost += 1  # what was told of this level is not all known: never tell it twice
            return None
        first, second = (record, other) if record.hash < other.hash else (other, record)
        job = EvidenceJob(number, offence, first, second)
        if not self._jobs.put(offence, job):
            self.lost += 1
            return None
        return job

    def made(self, job: EvidenceJob, verdict: Verdict) -> EvidenceRecord:
        """A worker has made the operation."""
        kind, level, round_, delegate = job.offence
        return EvidenceRecord(
            kind, level, round_, delegate, job.first.raw, job.second.raw, verdict.made
        )

    def told(self, job: EvidenceJob) -> None:
        """The evidence is stored: it is not made again."""
        self._jobs.pop(job.offence, None)
        self.table.denounced.put(job.offence[1], job.offence, None)

    def lose(self, job: EvidenceJob) -> None:
        """No worker could make it; a later conflict of that place may."""
        self._jobs.pop(job.offence, None)
        self.lost += 1

    def counts(self) -> dict[str, int]:
        """What was not looked at, or not denounced, since the start."""
        return {
            "skipped": self.skipped,
            "too_old": self.too_old,
            "not_made": self.lost,
            "probes_shed": self.probes_shed,
        }

    def __len__(self) -> int:
        return len(self._jobs)
