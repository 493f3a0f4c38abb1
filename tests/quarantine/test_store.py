"""The quarantine's file and the thread that writes it: real SQLite, real fsyncs."""

from __future__ import annotations

import select
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from broker.errors import Misconfigured
from broker.quarantine import store as quarantine_store
from broker.quarantine.records import (
    Batch,
    ClearedBlock,
    ClearedVote,
    EvidenceRecord,
    HeldRecord,
    SignedRecord,
)
from broker.quarantine.store import LAYOUT, QuarantineStore, Window, open_store, read_cleared
from broker.quarantine.store_thread import Answer, Forget, Probed, Stored, StoreThread, Trouble
from broker.verification import HeaderFacts

CHAIN = "NetXdQprcVkpaWU"
ANSWER_MS = 10_000
ATTESTATION = 2


def signed(
    level: int, hash_: bytes, *, statement: bytes = b"s", delegate: str = "d"
) -> SignedRecord:
    return SignedRecord(ATTESTATION, level, 0, delegate, statement, hash_, b"raw " + hash_)


def vote(level: int, hash_: bytes) -> ClearedVote:
    return ClearedVote(signed(level, hash_), ("p1",), "feeder", hash_[:16])


def block(level: int, hash_: bytes) -> ClearedBlock:
    facts = HeaderFacts(hash_, b"before", level, 0, 1_700_000_000, b"p", 0, b"f", "baker")
    return ClearedBlock(facts, b"header", [[b"o"], [], [], []], ("p1",), "feeder", hash_[:16])


def held(fingerprint: bytes) -> HeldRecord:
    return HeldRecord(
        fingerprint, b"h", "verify_vote", "feeder", b"id", ("p1", "p2"), b"raw", None, 5, "target"
    )


def evidence(level: int) -> EvidenceRecord:
    return EvidenceRecord(ATTESTATION, level, 0, "d", b"one", b"two", b"operation")


def batch(
    number: int = 1,
    *,
    held: list[HeldRecord] | None = None,
    seen: list[SignedRecord] | None = None,
    blocks: list[ClearedBlock] | None = None,
    votes: list[ClearedVote] | None = None,
    evidence: list[EvidenceRecord] | None = None,
) -> Batch:
    return Batch(number, held or [], seen or [], blocks or [], votes or [], evidence or [])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quarantine.db"


@pytest.fixture
def store(path: Path) -> Iterator[QuarantineStore]:
    store = QuarantineStore(path, CHAIN)
    yield store
    store.close()


def test_what_was_stored_is_there_for_the_next_process(path: Path) -> None:
    store = QuarantineStore(path, CHAIN)
    kept = batch(
        held=[held(b"a"), held(b"b")],
        seen=[signed(7, b"x"), signed(8, b"y")],
        blocks=[block(7, b"B7"), block(8, b"B8")],
        votes=[vote(7, b"x"), vote(8, b"y")],
        evidence=[evidence(7)],
    )
    store.commit([kept, batch(2, votes=[vote(8, b"z")])], forget=[held(b"a").key])
    store.close()
    again = QuarantineStore(path, CHAIN)
    assert again.held() == [held(b"b")]
    assert again.cleared_blocks() == kept.blocks
    assert again.cleared_votes() == [(b"x", 7), (b"y", 8), (b"z", 8)]
    told = {("feeder", b"B7"), ("feeder", b"y")}
    assert again.untold_cleared(told) == [block(8, b"B8"), vote(8, b"z")]
    assert again.untold_cleared(set()) == [], "a log that was lost tells nothing"
    assert again.latest_seen(10) == kept.seen
    assert again.latest_seen(1) == kept.seen[-1:]
    assert again.untold() == kept.evidence
    again.commit([], told=kept.evidence)
    assert again.untold() == []
    assert again.denounced() == [(ATTESTATION, 7, 0, "d")]
    again.close()


def test_a_record_that_is_forgotten_late_takes_no_other_request_along(
    store: QuarantineStore,
) -> None:
    first = held(b"a")
    again = msgspec.structs.replace(first, id=b"other")
    store.commit([batch(held=[first])])
    store.commit([batch(2, held=[again])], forget=[first.key])
    assert store.held() == [again]


def test_what_is_below_the_window_is_forgotten(store: QuarantineStore) -> None:
    levels = range(5, 9)
    store.commit(
        [
            batch(n, blocks=[block(n, b"B%d" % n)], votes=[vote(n, b"v%d" % n)],
                  seen=[signed(n, b"s%d" % n)], evidence=[evidence(n)])
            for n in levels
        ]
    )  # fmt: skip
    store.commit([], told=[evidence(5)], window=Window(cleared_from=7, seen_from=6))
    assert [each.facts.level for each in store.cleared_blocks()] == [7, 8]
    assert [level for _, level in store.cleared_votes()] == [7, 8]
    assert [each.level for each in store.latest_seen(9)] == [6, 7, 8]
    # What nobody was told yet stays.
    assert [each[1] for each in store.denounced()] == [6, 7, 8]


def test_a_probe_finds_what_a_delegate_has_signed_there(store: QuarantineStore) -> None:
    first, other = signed(7, b"x"), signed(7, b"y", statement=b"t")
    elsewhere = [signed(8, b"z"), signed(7, b"w", delegate="e")]
    store.commit([batch(seen=[signed(6, b"u"), *elsewhere])])
    assert store.commit([], probes=[first]) == [[]]
    assert store.commit([], probes=[first, other]) == [[first], [first]]
    assert store.commit([], probes=[signed(7, b"third")]) == [[first, other]]
    assert store.commit([], probes=[first]) == [[first, other]]


def test_probes_of_one_commit_find_what_they_would_one_after_the_other(
    store: QuarantineStore, tmp_path: Path
) -> None:
    """Rows of one level and of several, places that nothing or too much is known of."""
    rows = [
        [signed(7, b"a"), signed(8, b"b")],
        [signed(8, b"c", statement=b"t"), signed(7, b"d", delegate="e")],
        [signed(7, b"f", statement=b"t"), signed(7, b"g", statement=b"v")],
    ]
    probes = [
        signed(7, b"h"), signed(8, b"i"), signed(7, b"d", delegate="e"), signed(9, b"j"),
        signed(9, b"j"), signed(9, b"k", statement=b"t"), signed(9, b"l"), signed(6, b"m"),
        signed(7, b"n", delegate="e"),
    ]  # fmt: skip
    store.commit([batch(seen=row) for row in rows])
    together = store.commit([], probes=probes)
    other = QuarantineStore(tmp_path / "other.db", CHAIN)
    other.commit([batch(seen=row) for row in rows])
    assert together == [found for each in probes for found in other.commit([], probes=[each])]
    assert store.latest_seen(99) == other.latest_seen(99)
    assert [len(found) for found in together] == [3, 2, 1, 0, 1, 1, 2, 0, 1]
    other.close()


def test_the_rows_of_a_level_are_read_once_for_all_its_probes(
    store: QuarantineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A level with more than fits in memory has thousands of rows, and each turn as many probes."""
    store.commit([batch(seen=[signed(7, b"%d" % n, delegate=f"d{n}")]) for n in range(50)])
    read = []
    decode = quarantine_store._seen
    monkeypatch.setattr(quarantine_store, "_seen", lambda row: read.append(1) or decode(row))
    store.commit([], probes=[signed(7, b"p%d" % n, delegate=f"p{n}") for n in range(50)])
    assert len(read) == 50
    monkeypatch.undo()
    assert len(store.latest_seen(200)) == 100


def test_cleared_items_are_found_by_hash_and_level(store: QuarantineStore, path: Path) -> None:
    store.commit(
        [batch(n, blocks=[block(n, b"B%d" % n)], votes=[vote(n, b"v%d" % n)]) for n in (5, 6)]
    )
    assert read_cleared(path, b"B5", None, 9) == ([block(5, b"B5")], [])
    assert read_cleared(path, b"v6", None, 9) == ([], [vote(6, b"v6")])
    assert read_cleared(path, None, 6, 9) == ([block(6, b"B6")], [vote(6, b"v6")])
    # The newest, and one more than asked for, so that one knows that there are others.
    blocks, votes = read_cleared(path, None, None, 0)
    assert (blocks, votes) == ([block(6, b"B6")], [vote(6, b"v6")])


def test_another_chain_and_another_layout_are_refused(path: Path) -> None:
    QuarantineStore(path, CHAIN).close()
    with pytest.raises(Misconfigured, match=f"of chain {CHAIN}, the node is on NetXother"):
        QuarantineStore(path, "NetXother")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '9' WHERE name = 'layout'")
    db.close()
    with pytest.raises(Misconfigured, match=f"layout 9, this release knows {LAYOUT}"):
        QuarantineStore(path, CHAIN)


def test_a_damaged_file_is_put_aside(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    store, kept, damage = open_store(path, CHAIN, 1_700_000_000, QuarantineStore.held)
    assert "not a database" in damage
    assert kept == []
    store.commit([batch(held=[held(b"a")])])
    store.close()
    aside = path.with_name("quarantine.db.damaged-1700000000")
    assert aside.read_bytes().startswith(b"no database")


def damage(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE seen SET records = ?", (b"\xc1",))
    db.close()


def test_so_is_one_with_a_record_that_cannot_be_read(path: Path) -> None:
    store = QuarantineStore(path, CHAIN)
    store.commit([batch(seen=[signed(7, b"x")])])
    store.close()
    damage(path)
    store, kept, why = open_store(path, CHAIN, 1_700_000_000, lambda s: s.latest_seen(9))
    assert (kept, "quarantine.db" in why) == ([], True)
    store.close()
    assert path.with_name("quarantine.db.damaged-1700000000").exists()


# -- the thread -----------------------------------------------------------------------------------


class ThreadScript:
    def __init__(self, path: Path) -> None:
        self.thread = StoreThread(QuarantineStore(path, CHAIN))
        self._poll = select.poll()
        self._poll.register(self.thread.fileno(), select.POLLIN)

    def hears(self, count: int) -> list[Answer]:
        heard: list[Answer] = []
        while len(heard) < count:
            assert self._poll.poll(ANSWER_MS), f"no answer, after {heard}"
            heard += self.thread.receive()
        return heard


@pytest.fixture
def script(path: Path) -> Iterator[ThreadScript]:
    script = ThreadScript(path)
    yield script
    script.thread.close()


def test_what_was_told_to_be_stored_is_on_disk(script: ThreadScript, path: Path) -> None:
    record = signed(7, b"x")
    script.thread.submit(batch(3, votes=[vote(7, b"v")]))
    assert script.hears(1) == [Stored([3])]
    assert read_cleared(path, None, 7, 9)[1] == [vote(7, b"v")]
    script.thread.submit(record)
    script.thread.submit(Forget([b"a"], []))
    assert script.hears(1) == [Probed(record, [])]


def test_a_store_that_cannot_be_written_is_tried_until_it_can(
    script: ThreadScript, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    script.thread.submit(batch(3, held=[held(b"a")]))
    assert script.hears(1) == [Trouble("database is locked")]
    script.thread.submit(batch(4, held=[held(b"b")]))
    other.execute("ROLLBACK")
    other.close()
    assert script.hears(3) == [Trouble(""), Stored([3]), Stored([4])]


def test_a_record_that_cannot_be_read_ends_the_store_and_says_so(
    script: ThreadScript, path: Path
) -> None:
    script.thread.submit(batch(3, seen=[signed(7, b"x")]))
    script.hears(1)
    damage(path)
    script.thread.submit(signed(7, b"y"))
    with pytest.raises(msgspec.DecodeError):
        script.hears(1)


def test_the_end_does_not_wait_for_a_disk_that_takes_nothing(path: Path) -> None:
    script = ThreadScript(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    script.thread.submit(batch(3, held=[held(b"a")]))
    script.hears(1)
    script.thread.close()
    other.execute("ROLLBACK")
    other.close()
    again = QuarantineStore(path, CHAIN)
    assert again.held() == [], "what nobody was told is not there"
    again.close()
