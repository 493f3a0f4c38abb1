"""How long trouble may last, from the constants that decide it: nothing is measured here.

`scripts/bench recovery` measures; a busy machine may take longer, and no test should.
"""

from __future__ import annotations

from broker.client_session import SILENCE_AFTER_DEADLINE_S
from broker.membership import LEASE_S
from broker.supervisor import LOOK_S
from broker.topics import HEADS_EVERY_S
from signers.marks.store_lock import STALL_S
from workers.worker import HEARTBEAT_S, SIGNER_LIMIT_S


def test_a_stopped_holder_of_the_stores_lock_is_ended_within_three_seconds() -> None:
    """A waiting worker notices it, says so in its next heartbeat, and the supervisor looks."""
    assert STALL_S + HEARTBEAT_S + LOOK_S < 3.0


def test_a_client_waits_for_the_end_that_a_late_signer_causes() -> None:
    """One that is asked at the deadline has its whole limit; an event may come a second late."""
    assert SILENCE_AFTER_DEADLINE_S > SIGNER_LIMIT_S + 2 * HEADS_EVERY_S


def test_a_busy_moment_ends_no_lease() -> None:
    assert 5 * HEARTBEAT_S < LEASE_S
