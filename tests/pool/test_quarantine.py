"""The quarantine by real processes: its sockets, its store, workers that check, a node to ask.

A chain is baked on one node; the pool under test has another node of the same chain, which stays at
its beginning. So everything that the bakers have said is news, and nothing is held to be true
because a node says so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec
import psutil
import pytest
import zmq
from msgpack import packb
from nacl.signing import SigningKey
from pool_process import ANSWER_S, END_S, an_empty_pool, until
from test_blocks import Chain
from test_checks import attest, bake

from broker import wire
from broker.client import Client, RequestRefused, new_id
from broker.config import QuarantineSettings, quarantine_endpoints
from broker.errors import EXIT_MISCONFIGURED, EXIT_OCCUPIED, NoAnswer
from broker.messages import ATTESTATION_READY, Acks, Event, Push, Request, StatusWanted
from broker.quarantine.admin_client import QuarantineAdmin
from broker.quarantine.administration import HeldItems, HeldWanted
from broker.quarantine.offers import vote_ids
from broker.quarantine.records import EvidenceRecord
from broker.quarantine.store import STORE_NAME
from broker.sockets import connect
from signers.formats import base58
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK
from signers.formats.operation import decode_operation

pytestmark = pytest.mark.process

BLOCKS = 5
STRANGERS = 16_000  # more than a second of work for two workers
ALL_STRANGERS_S = 60.0  # on a busy machine
SIGNATURE_BYTES = 64
PAYLOAD_HASH_AT = slice(-32 - SIGNATURE_BYTES, -SIGNATURE_BYTES)  # of an attestation without DAL


class Baked:
    """A chain's first blocks and their attestations, and a pool whose node knows none of them."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.pool = chain.pool
        self.blocks: list[dict[str, Any]] = []
        self.votes: list[list[bytes]] = []  # by block
        start_at = str(int(time.time()))
        chain.start("--start-at", start_at)
        chain.serve(2)
        with self.pool.client() as client:
            chain.inject_transfer()
            for _ in range(BLOCKS):
                self.blocks.append(bake(chain, client))
                self.votes.append(attest(chain, client))
        self.pool.terminate()
        chain.node.terminate()
        chain.node.wait(END_S)
        chain.start("--start-at", start_at)
        chain.serve(2)

    def signed_again(self, vote: bytes, delegate: str) -> bytes:
        """The vote for another payload, as its delegate must never sign it."""
        other = vote[: PAYLOAD_HASH_AT.start] + blake2b_32(b"other payload")
        return other + self._signature(other, delegate)

    def naming(self, vote: bytes, branch: bytes, delegate: str) -> bytes:
        """The vote with another block as its branch."""
        other = branch + vote[len(branch) : -SIGNATURE_BYTES]
        return other + self._signature(other, delegate)

    @property
    def genesis(self) -> bytes:
        """The hash of the chain's first block."""
        return base58.decode(base58.BLOCK_HASH, self.chain.rpc("/chains/main/blocks/0/hash"))

    def owner_of(self, vote: bytes) -> str:
        """The delegate who has signed a vote."""
        unsigned, signature = vote[:-SIGNATURE_BYTES], vote[-SIGNATURE_BYTES:]
        [owner] = [d for d in self.pool.delegates if self._signature(unsigned, d) == signature]
        return owner

    def _signature(self, vote: bytes, delegate: str) -> bytes:
        message = b"\x13" + base58.decode(base58.CHAIN_ID, self.pool.chain_id) + vote
        return self._secret(delegate).sign(blake2b_32(message)).signature

    def _secret(self, delegate: str) -> SigningKey:
        directory = self.pool.state_dir / "keys"
        [alias] = [
            each["name"]
            for each in json.loads((directory / "public_key_hashs").read_text())
            if each["value"] == delegate
        ]
        [uri] = [
            each["value"]
            for each in json.loads((directory / "secret_keys").read_text())
            if each["name"] == alias
        ]
        return SigningKey(base58.decode(base58.ED25519_SEED, uri.removeprefix("unencrypted:")))


class Running:
    """A quarantine process, fresh or restarted, and ways to talk to it."""

    def __init__(self, baked: Baked) -> None:
        self.baked = baked
        self.state_dir = baked.pool.state_dir
        self.directory = self.state_dir / "quarantine"
        self.endpoints = quarantine_endpoints(self.state_dir, QuarantineSettings())
        self.config = baked.pool.directory / "quarantine.toml"
        self.config.write_text("[quarantine]\ndelegates = 1\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self.baked.pool.start_command(
            "quarantine", "run", "--config", str(self.config)
        )
        until(lambda: self.status().get("chain_id"), what="the chain")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(END_S)

    def end(self) -> None:
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(END_S) in (0, -signal.SIGKILL)

    def ask(self, question: Any) -> Any:
        with QuarantineAdmin(self.endpoints) as admin:
            return admin.ask(question)

    def status(self) -> dict[str, Any]:
        with suppress(NoAnswer):
            found: dict[str, Any] = self.ask(StatusWanted()).status
            return found
        return {}

    def held(self) -> int:
        answer = self.ask(HeldWanted())
        assert isinstance(answer, HeldItems)
        return len(answer.items)

    def client(self, name: str = "feeder") -> Client:
        client = Client(self.endpoints, name)
        client.wait_live(ANSWER_S)
        return client

    def forgepool(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.baked.pool.run("quarantine", *arguments, check=check)


@pytest.fixture(scope="module")
def baked() -> Iterator[Baked]:
    with an_empty_pool() as pool:
        yield Baked(Chain(pool))


@pytest.fixture
def running(baked: Baked) -> Iterator[Running]:
    """A quarantine that has never seen anything."""
    running = Running(baked)
    shutil.rmtree(running.directory, ignore_errors=True)
    running.start()
    yield running
    running.end()


def push_block(client: Client, block: dict[str, Any], peer: str = "p1") -> bytes:
    offer = {"peer": peer, "header": block["header"], "operations": block["operations"]}
    return client.push_one("verify_block", "any", msgspec.msgpack.encode(offer), ttl_ms=60_000)


def push_vote(client: Client, vote: bytes, peer: str = "p1") -> bytes:
    offer = {"peer": peer, "raw": vote}
    return client.push_one("verify_vote", "any", msgspec.msgpack.encode(offer), ttl_ms=60_000)


def end_of(client: Client, id: bytes) -> Event:
    return client.wait(id, ANSWER_S)[-1]


def names(events: list[Event]) -> list[str]:
    return [f"{event.event} {event.code}".strip() for event in events]


def test_a_chain_in_reverse_order_clears_in_its_order(running: Running) -> None:
    blocks = running.baked.blocks
    with running.client() as client:
        ids = {push_block(client, block): n for n, block in reversed(list(enumerate(blocks)))}
        cleared: list[int] = []
        until(lambda: cleared.extend(_cleared(client, ids)) or len(cleared) == BLOCKS)
        assert cleared == list(range(BLOCKS))
        head = running.status()
        assert (head["head_level"], head["outcomes"]) == (BLOCKS + 1, {"cleared": BLOCKS})
        # The same once more, by another peer: known, and nobody's fault.
        again = end_of(client, push_block(client, blocks[0], "p2"))
        assert names([again]) == ["duplicate cleared"]
    bounds_for = f"bounds_for={len(running.baked.pool.keys)}"
    assert bounds_for in running.baked.pool.log(), "as the chain says, not as the settings do"
    shown = running.forgepool("show", "--cleared", "--level", "2", "--json").stdout
    assert json.loads(shown)["header"] == blocks[0]["header"].hex()


def _cleared(client: Client, ids: dict[bytes, int]) -> list[int]:
    return [
        ids[news.id]
        for news in client.poll(0.1)
        if isinstance(news, Event) and news.event == "cleared"
    ]


def test_votes_are_cleared_and_what_is_wrong_with_others_is_said(running: Running) -> None:
    baked = running.baked
    good, *others = baked.votes[0]
    bad = good[:-1] + bytes([good[-1] ^ 1])
    with running.client() as client, Client(running.endpoints, "quarantine") as notices:
        notices.wait_live(ANSWER_S)
        waiting = push_vote(client, good)
        until(lambda: running.held() == 1, what="a vote that waits for its block")
        ids = [push_vote(client, vote, "p2") for vote in (bad, b"junk")]
        assert [end_of(client, id).code for id in ids] == ["bad_signature", "malformed"]
        assert end_of(client, push_block(client, baked.blocks[0])).event == "cleared"
        assert names(client.wait(waiting, ANSWER_S)) == ["held target", "cleared"]
        ids = [push_vote(client, vote) for vote in others]
        assert [end_of(client, id).event for id in ids] == ["cleared"] * len(others)
        # As a branch they name the genesis, of which the node tells, and a block of nobody.
        owner = baked.owner_of(others[0])
        live = end_of(client, push_vote(client, baked.naming(others[0], baked.genesis, owner)))
        push_vote(client, baked.naming(good, b"\1" * 32, baked.owner_of(good)))
        assert live.event == "cleared"
        until(lambda: running.held() == 1, what="the vote that stands on nothing")
    status = running.status()
    received = status["received"]
    assert received == sum(status["outcomes"].values()) + status["held"] + status["in_flight"]
    reported = until(lambda: running.baked.pool.status()["services"].get("quarantine"))
    assert reported["received"] >= 0
    assert {"late_answers", "offences_skipped", "offences_too_old"} <= reported.keys()
    assert status["offences"] == dict.fromkeys(("skipped", "too_old", "not_made", "probes_shed"), 0)
    votes = running.forgepool("show", "--cleared", "--json").stdout.splitlines()
    shown = {json.loads(line).get("operation") for line in votes}
    assert {vote.hex() for vote in baked.votes[0]} <= shown


def test_what_was_held_when_it_was_killed_is_held_again_and_ends_once(running: Running) -> None:
    first, *later = running.baked.blocks
    with running.client() as client:
        ids = [push_block(client, block) for block in later]
        until(lambda: running.held() == len(later), what="blocks without their parent")
        running.kill()
        running.start()
        until(lambda: running.held() == len(later), what="the same, checked again")
        assert end_of(client, push_block(client, first)).event == "cleared"
        ends = [names(client.wait(id, ANSWER_S)) for id in ids]
    assert [end[-1] for end in ends] == ["cleared"] * len(later)
    assert all("cleared" not in end[:-1] for end in ends)
    assert running.status()["held"] == 0


def push_votes(client: Client, votes: list[bytes], peer: str = "p1") -> list[bytes]:
    """Push several at once; the id of each."""
    offer = msgspec.msgpack.encode({"peer": peer, "raws": votes})
    id = client.push_one("verify_votes", "any", offer, ttl_ms=60_000)
    return vote_ids(id, len(votes))


def test_votes_that_were_pushed_at_once_end_once_each_over_a_kill(running: Running) -> None:
    votes, block = running.baked.votes[0], running.baked.blocks[0]
    with running.client() as client:
        ids = push_votes(client, [*votes, b"junk"])
        until(lambda: running.held() == len(votes), what="votes that wait for their block")
        assert names(client.wait(ids[-1], ANSWER_S)) == ["rejected malformed"]
        running.kill()
        running.start()
        until(lambda: running.held() == len(votes), what="the same votes after a kill")
        push_block(client, block)
        for id in ids[:-1]:
            assert names(client.wait(id, ANSWER_S)) == ["held target", "cleared"]
        assert client.session.open == 0
        # The same again, all known by now: one is as good as the other.
        again = [end_of(client, id) for id in push_votes(client, votes, "p2")]
        assert names(again) == ["duplicate cleared"] * len(votes)


def test_more_votes_than_a_turn_takes_all_come_to_an_end(running: Running) -> None:
    with running.client() as client:
        offers = [
            {"peer": f"p{n}", "raws": [b"junk %d %d" % (n, i) for i in range(500)]}
            for n in range(5)
        ]
        requests = [
            Request(new_id(), "verify_votes", msgspec.msgpack.encode(each), "any", ttl_ms=60_000)
            for each in offers
        ]
        client.push_all(requests)
        ends = [end_of(client, id) for each in requests for id in vote_ids(each.id, 500)]
        assert {event.event for event in ends} <= {"rejected", "shed"}
        assert running.status()["received"] == 2_500


def test_a_message_of_requests_that_are_known_is_looked_at_bit_by_bit(running: Running) -> None:
    """Each costs a decoding, hashes and events that are published again."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        socket = connect(context, zmq.DEALER, running.endpoints.requests, None)
        payload = msgspec.msgpack.encode({"peer": "p", "raws": [b"%d" % n for n in range(400)]})
        request = Request(new_id(), "verify_votes", payload, "any", ttl_ms=60_000)
        socket.send(wire.encode(Push("pusher", [request] * 6)))
        assert socket.poll(ANSWER_S * 1000)
        acks = wire.decode_reply(socket.recv_multipart()[-1])
        assert isinstance(acks, Acks)
        assert [ack.code or ack.status for ack in acks.acks] == [
            "accepted", "duplicate", "duplicate", "busy", "busy", "busy",
        ]  # fmt: skip
        socket.close(100)
    finally:
        context.term()
    until(lambda: sum(running.status()["outcomes"].values()) == 400)


def test_two_votes_of_a_delegate_are_reported_once_with_the_evidence(running: Running) -> None:
    baked = running.baked
    vote, in_block = baked.votes[0][:2]
    owner = baked.owner_of(vote)
    with running.client() as client:
        assert end_of(client, push_block(client, baked.blocks[0])).event == "cleared"
        assert end_of(client, push_vote(client, vote)).delegate == owner
        other = baked.signed_again(vote, owner)
        push_vote(client, other)
        # The vote that this one conflicts with comes in a block only, and after the restart.
        push_vote(client, baked.signed_again(in_block, baked.owner_of(in_block)))
        [told] = until(lambda: _slashable(running), what="the offence")
        until(lambda: running.held() == 2, what="both votes for nothing")
        running.kill()
        running.start()
        push_vote(client, other, "p2")
        push_vote(client, baked.signed_again(vote, owner)[:-1] + b"\0", "p3")
        assert end_of(client, push_block(client, baked.blocks[1])).event == "cleared"
        until(lambda: len(_slashable(running)) == 2, what="the offence in the block")
    assert _slashable(running)[0] == told
    assert _slashable(running)[1].delegate == baked.owner_of(in_block)
    evidence = msgspec.msgpack.decode(told.body, type=EvidenceRecord)
    assert {evidence.first, evidence.second} == {vote, other}
    [content] = decode_operation(evidence.operation, MAVRYK).contents
    assert content.name == "double_attestation_evidence"


def _slashable(running: Running) -> list[Event]:
    """Every offence that the log tells of, oldest first."""
    from broker.event_log import EventLog

    log = EventLog(running.directory / "events", "reader")
    records = [record for _, record in log.load()]
    log.close()
    events = [e for record in records for group in record.clients for e in group.events]
    return [event for event in events if event.event == "slashable"]


def test_an_operator_drops_and_releases_what_is_held(running: Running) -> None:
    with running.client() as client:
        id = push_block(client, running.baked.blocks[2])
        until(lambda: running.held() == 1)
        row = json.loads(running.forgepool("show", "--json").stdout)
        assert (row["kind"], row["waits_for"], row["peers"]) == ("verify_block", "parent", ["p1"])
        assert "waits for parent B" in running.forgepool("show").stdout
        assert running.forgepool("release", row["hash"]).stdout == "1 checked again\n"
        until(lambda: running.held() == 1, what="it still waits for its parent")
        assert running.forgepool("drop", row["hash"]).stdout == "1 dropped\n"
        assert names(client.wait(id, ANSWER_S))[-1] == "shed dropped"
    again = running.forgepool("drop", row["hash"], check=False)
    assert (again.returncode, again.stderr) == (1, "nothing is held under that hash\n")
    wrong = running.forgepool("drop", "nonsense", check=False)
    assert wrong.returncode == click.UsageError.exit_code
    assert "is no hash of a block" in wrong.stderr


def test_garbage_on_its_sockets_changes_nothing(running: Running) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    addresses = running.endpoints.requests, running.endpoints.admin
    try:
        for address in addresses:
            socket = connect(context, zmq.DEALER, address, None)
            until(lambda socket=socket: _sent(socket, [b"\xc1", b""]))  # type: ignore[misc]
            for frames in ([b""], [b"\xff" * 2000], [b"a", b"b", b"c"], [b"\x81\xa4type\xa4push"]):
                socket.send_multipart(frames)
            socket.close(100)
    finally:
        context.term()
    with running.client() as client:
        with pytest.raises(RequestRefused, match="malformed"):
            client.wait(client.push_one("verify_vote", "any", b"\xc1"), ANSWER_S)
        with pytest.raises(RequestRefused, match="unknown_kind"):
            client.wait(client.push_one("sign", "any", b""), ANSWER_S)
        assert end_of(client, push_block(client, running.baked.blocks[0])).event == "cleared"


def _sent(socket: zmq.Socket[bytes], frames: list[bytes]) -> bool:
    try:
        socket.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True


def test_own_duties_are_served_while_strangers_wait(running: Running) -> None:
    """Scenario 36: no gossip stands before a duty, however much of it there is."""
    pool, good = running.baked.pool, running.baked.votes[0][0]
    with running.client() as client, pool.client() as baker:
        # Of each peer two, for which nobody is banned.
        offers = [
            Request(
                new_id(),
                "verify_vote",
                packb({"peer": f"p{n // 2}", "raw": good[:-8] + n.to_bytes(8)}),
            )
            for n in range(STRANGERS)
        ]
        for n in range(0, STRANGERS, 1000):
            client.push_all(offers[n : n + 1000])
        until(lambda: running.status()["received"], what="the strangers")
        duty = pool.attest(baker, 1_000_000, pool.delegates[:1])
        assert [event.event for event in baker.wait(duty, ANSWER_S)] == [ATTESTATION_READY]
        status = running.status()
        assert sum(status["outcomes"].values()) < STRANGERS, "strangers still wait"
        # Whoever checks them may be killed: no worker ends, and each stranger has his end.
        signers = pool.signing_pids()
        for worker in signers.values():
            for child in psutil.Process(worker).children():
                if "workers.verification.verifier_process" in child.cmdline():
                    child.kill()
        ended = lambda: sum(running.status()["outcomes"].values()) == STRANGERS  # noqa: E731
        until(ended, ALL_STRANGERS_S, "the strangers' ends")
        assert running.status()["outcomes"]["rejected"] == STRANGERS, "none was isolated"
        assert pool.signing_pids() == signers
    assert "verifier_died" in pool.log()


def test_half_messages_of_many_connections_hold_nothing_up(running: Running) -> None:
    """Scenario 39: who never ends his greeting keeps a descriptor, and nobody waiting."""
    path = running.endpoints.requests.removeprefix("ipc://")
    slow = []
    try:
        for _ in range(200):
            stranger = socket.socket(socket.AF_UNIX)
            slow.append(stranger)
            stranger.connect(path)
            stranger.sendall(b"\xff\0\0")
        with running.client() as client:
            assert end_of(client, push_block(client, running.baked.blocks[0])).event == "cleared"
    finally:
        for stranger in slow:
            stranger.close()


def test_a_damaged_store_is_put_aside_and_one_of_another_chain_refused(running: Running) -> None:
    store = running.directory / STORE_NAME
    running.end()
    store.write_bytes(os.urandom(100_000))
    running.start()
    aside = [path.name for path in running.directory.iterdir() if "damaged" in path.name]
    assert aside
    assert "quarantine_store_damaged" in running.baked.pool.log()
    running.end()
    _rename_chain(store)
    refused = running.forgepool("run", check=False)
    assert refused.returncode == EXIT_MISCONFIGURED
    assert "is of chain NetXother" in refused.stderr
    shutil.rmtree(running.directory)
    running.start()


def _rename_chain(store: Path) -> None:
    import sqlite3

    db = sqlite3.connect(store)
    with db:
        db.execute("UPDATE meta SET value = 'NetXother' WHERE name = 'chain_id'")
    db.close()


def test_a_second_one_says_that_one_is_running(running: Running) -> None:
    second = running.forgepool("run", check=False)
    assert second.returncode == EXIT_OCCUPIED
    assert "its quarantine" in second.stderr
    assert running.status()["chain_id"] == running.baked.pool.chain_id
