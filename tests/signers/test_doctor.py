"""`forgepool watermarks doctor`: what it finds, what it proposes, what it does."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result
from interchange_cases import (
    CHAIN,
    CHAIN_TEXT,
    DIGEST,
    OTHER_CHAIN,
    OTHER_CHAIN_TEXT,
    OTHER_DIGEST,
    TZ1,
    TZ2,
    TZ4,
    at,
)
from watermark_cases import code, sign

from signers.formats.networks import TEZOS
from signers.formats.signable import Kind
from signers.interchange import chain_head
from signers.interchange.chain_head import NodeUnavailable, read_head
from signers.interchange.diagnosis import (
    AHEAD_LEVELS_MAX,
    HEAD_AGE_S_MAX,
    LAG_LEVELS_MAX,
    ChainHead,
    Diagnosis,
    diagnose,
)
from signers.interchange.forgepool_file import write_forgepool_file
from signers.interchange.recorded_mark import RecordedMark
from signers.marks.mark_table import MarkTable
from signers.marks.store_copies import (
    StoreView,
    back_up,
    read_administration,
    read_store,
    restore,
)
from signers.marks.store_tables import StoreContent, StoreIdentity
from signers.marks.watermark import EVERYONE, FRESH, floor_mark
from signers.marks.watermark_store import WatermarkStore
from signers.marks.watermarks_command import watermarks

NOW = 2_000_000_000

# -- the diagnosis --------------------------------------------------------------------------------


def view_of(*levels: int, **ceilings: int) -> StoreView:
    """A store whose keys have attested these levels."""
    marks = MarkTable(CHAIN)
    for number, (key, level) in enumerate(zip((TZ1, TZ2, TZ4), levels, strict=False)):
        marks.number(key, number)
        marks.bind(key, key, enabled=True)
        marks.set_mark(key, at(level) if level > 0 else floor_mark(Kind.ATTESTATION, CHAIN, level))
    for holder, level in ceilings.items():
        marks.set_ceiling(EVERYONE if holder == "everyone" else holder, level)
    identity = StoreIdentity("uuid", "host", "tezos", CHAIN)
    return StoreView(identity, StoreContent(marks, 1, 1), {})


def diagnosis(
    view: StoreView,
    level: int | None = None,
    *recorded: RecordedMark,
    age_s: int = 5,
    chain: bytes = CHAIN,
) -> Diagnosis:
    head = None if level is None else ChainHead(chain, level, NOW - age_s)
    return diagnose(view, [], head, recorded, NOW)


def codes(found: Diagnosis) -> list[str]:
    return [finding.code for finding in found.findings]


def test_a_store_that_keeps_up_needs_nothing() -> None:
    for top in (100 - LAG_LEVELS_MAX, 100, 100 + AHEAD_LEVELS_MAX):
        found = diagnosis(view_of(top, 3), 100)
        assert found == Diagnosis([], ([], None, []))


def test_a_store_behind_the_head_is_proposed_a_floor_there() -> None:
    found = diagnosis(view_of(50, FRESH), 100)
    assert codes(found) == ["behind"]
    assert "level 50, the head is at 100" in found.findings[0].text
    assert found.proposal == ([], 100, [TZ1, TZ2])


def test_a_mark_above_the_head_is_named() -> None:
    found = diagnosis(view_of(100, 101 + AHEAD_LEVELS_MAX), 100)
    assert codes(found) == ["above_head"]
    assert TZ2 in found.findings[0].text


def test_a_head_that_is_old_or_of_another_chain_concludes_nothing() -> None:
    for found, problem in (
        (diagnosis(view_of(50), 100, age_s=HEAD_AGE_S_MAX + 1), "stale_head"),
        (diagnosis(view_of(50), 100, chain=OTHER_CHAIN), "wrong_chain"),
    ):
        assert codes(found) == [problem]
        assert found.proposal == ([], None, [])


def test_a_ceiling_that_the_chain_has_reached_is_named() -> None:
    found = diagnosis(view_of(100, everyone=100, **{TZ1: 101}), 100)
    assert codes(found) == ["ceiling_reached"]
    assert "everyone signs until level 100" in found.findings[0].text


def test_marks_of_files_that_are_higher_are_to_be_taken_over() -> None:
    higher, lower = RecordedMark(TZ1, at(60)), RecordedMark(TZ2, at(40))
    stranger = RecordedMark("tz1WGcYos3hL7GXYXjKrMnSFdkT7FyXnFBvf", at(99))
    conflict = RecordedMark(TZ4, at(70, 0, OTHER_DIGEST))
    found = diagnosis(view_of(50, 50, 70), None, higher, lower, stranger, conflict)
    assert codes(found) == ["conflict", "file_higher", "unknown_key"]
    assert [finding.is_concern for finding in found.findings] == [True, True, False]
    assert TZ4 in found.findings[0].text
    assert found.proposal == ([higher], None, [])


# -- the node -------------------------------------------------------------------------------------


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """A node's RPC server that gives one answer; its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.path == "/chains/main/blocks/head/header"
            self.send_response(status if is_known else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def header(level: int, chain: str = CHAIN_TEXT, age_s: int = 1) -> bytes:
    moment = datetime.fromtimestamp(int(time.time()) - age_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps({"chain_id": chain, "level": level, "timestamp": moment}).encode()


def test_the_head_is_read_from_the_node() -> None:
    with answering(header(77, age_s=30)) as url:
        head = read_head(url)
    assert (head.chain_id, head.level) == (CHAIN, 77)
    assert time.time() - head.at < 60


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (header(77), 404),
        (header(77), 302),
        (b"", 200),
        (b"[]", 200),
        (header(-1), 200),
        (header(2**31), 200),
        (header(77, chain="NetX"), 200),
        (header(77).replace(b"Z", b""), 200),
        (b'{"chain_id":"NetXdQprcVkpaWU","level":7,"timestamp":"soon"}', 200),
        (b" " * (chain_head.ANSWER_BYTES_MAX + 1) + header(77), 200),
    ],
    ids=range(10),  # the time is in some bodies, and all processes must agree on the names
)
def test_what_is_no_nodes_answer_is_unavailable(body: bytes, status: int) -> None:
    with answering(body, status) as url, pytest.raises(NodeUnavailable, match=r"127\.0\.0\.1"):
        read_head(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "127.0.0.1:1", "ftp://127.0.0.1", "http://["]
)
def test_a_node_that_is_not_there_is_unavailable(url: str) -> None:
    with pytest.raises(NodeUnavailable):
        read_head(url)


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORGEPOOL_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "watermarks.db"
    WatermarkStore.create(path, network="tezos", chain_id=CHAIN)
    with WatermarkStore.open(path, wal_bytes=0) as store:
        with store.begin() as transaction:
            transaction.enable(TZ1, TZ1, floor=FRESH)
            transaction.commit()
        sign(store, TZ1, at(50))
    return path


def run(*words: Any, ends: int = 0) -> Result:
    result = CliRunner().invoke(watermarks, ["doctor", *map(str, words)])
    assert result.exit_code == ends, result.output + repr(result.exception)
    return result


def test_without_a_node_or_files_it_says_what_it_did_not_check(pool: Path) -> None:
    told = run().stdout
    assert "- not checked: the head of the chain (give --node URL)" in told
    assert "- not checked: the marks of other signers (give their files)" in told
    assert "proposed: nothing" in told


def test_what_cannot_be_checked_is_said_and_is_a_concern(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"format":')
    told = run("--node", "http://127.0.0.1:1", tmp_path / "broken.json", tmp_path / "no", ends=1)
    assert "! not checked: the head of the chain: http://127.0.0.1:1" in told.stdout
    assert "broken.json: line 1" in told.stdout
    assert "No such file" in told.stdout


def test_after_a_restore_it_proposes_a_floor_and_applies_it(pool: Path, tmp_path: Path) -> None:
    back_up(pool, tmp_path / "backup")
    with WatermarkStore.open(pool, wal_bytes=0) as store:
        sign(store, TZ1, at(80))  # which the backup does not know
    for file in pool.parent.iterdir():
        file.unlink()
    restore(tmp_path / "backup", pool, floor=60)
    with answering(header(100)) as url:
        told = run("--node", url, ends=1).stdout
        assert "- this store was restored: made from a backup" in told
        assert "! the highest mark of the store is at level 60, the head is at 100" in told
        assert f"proposed: floor 100 for {TZ1}" in told
        assert "Nothing was changed" in told
        assert read_store(pool).content.marks.mark(TZ1, Kind.BLOCK).level == 60
        assert run("--node", url, "--apply", ends=2).stdout == ""  # not confirmed
        assert "Done." in run("--node", url, "--apply", "--yes").stdout
        assert "proposed: nothing" in run("--node", url, "--apply", "--yes").stdout
    with WatermarkStore.open(pool, wal_bytes=0) as store:
        verdicts = sign(store, TZ1, at(80, 0, OTHER_DIGEST), at(100), at(101))
    assert [code(verdict) for verdict in verdicts] == [
        "watermark_below",
        "watermark_below",
        "advance",
    ]
    entry = read_administration(pool)[-1]
    assert (entry.command, entry.changes) == ("watermarks doctor", [f"{TZ1}: floor 100"])


def test_it_takes_over_what_files_know_better(pool: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "one", tmp_path / "two"
    file.write_bytes(write_forgepool_file([RecordedMark(TZ1, at(70, 2))], CHAIN, TEZOS))
    other.write_bytes(write_forgepool_file([RecordedMark(TZ1, at(60, 2))], CHAIN, TEZOS))
    found = json.loads(run(file, other, "--json", ends=1).stdout)
    assert found["proposal"]["marks"] == [
        {"holder": TZ1, "kind": "attestation", "place": f"{file}: marks[0]"}
    ]
    assert found["applied"] is False
    found = json.loads(run(file, other, "--apply", "--yes", "--json").stdout)
    assert found["applied"] is True
    assert read_store(pool).content.marks.mark(TZ1, Kind.ATTESTATION) == at(70, 2, DIGEST)


def test_a_node_of_another_chain_leads_to_no_floor(pool: Path) -> None:
    with answering(header(100, chain=OTHER_CHAIN_TEXT)) as url:
        told = run("--node", url, "--apply", "--yes", ends=1).stdout
    assert f"the node is of the chain {OTHER_CHAIN_TEXT}" in told
    assert read_store(pool).content.marks.mark(TZ1, Kind.BLOCK).level == FRESH
