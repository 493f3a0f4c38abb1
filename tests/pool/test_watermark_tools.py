"""The watermark tools beside a pool that signs: what they change holds from the next vote on."""

import json
from pathlib import Path

import pytest
from pool_process import PoolProcess, names

from broker.messages import ATTESTATION_READY, REFUSED, Event

pytestmark = pytest.mark.process


def codes(news: list[object]) -> set[str]:
    return {event.code for event in news if isinstance(event, Event)}


def test_a_ceiling_holds_from_the_next_vote_on_until_it_is_lifted(pool: PoolProcess) -> None:
    pool.serve()
    with pool.client() as client:
        assert names(client.wait(pool.attest(client, 10))) == [ATTESTATION_READY] * 6
        pool.run("watermarks", "sign-until", "11", "--all", "--yes")
        assert names(client.wait(pool.attest(client, 11))) == [ATTESTATION_READY] * 6
        refused = client.wait(pool.attest(client, 12))
        assert names(refused) == [REFUSED] * 6
        assert codes(refused) == {"sign_until"}
        pool.run("watermarks", "sign-until", "--clear", "--all", "--yes")
        assert names(client.wait(pool.attest(client, 12))) == [ATTESTATION_READY] * 6


def test_imported_marks_hold_from_the_next_vote_on(pool: PoolProcess, tmp_path: Path) -> None:
    pool.serve()
    with pool.client() as client:
        assert names(client.wait(pool.attest(client, 10))) == [ATTESTATION_READY] * 6
        file = tmp_path / "marks.json"
        pool.run("watermarks", "export", str(file))
        marks = json.loads(file.read_text())
        for mark in marks["marks"]:
            mark.update(level=20, round=None, digest=None)
        file.write_text(json.dumps(marks))
        pool.run("watermarks", "import", str(file), "--yes")
        assert codes(client.wait(pool.attest(client, 20))) == {"watermark_below"}
        assert names(client.wait(pool.attest(client, 21))) == [ATTESTATION_READY] * 6
