"""docs/protocol.md is enough: a client with plain `zmq` and `msgpack` against a real pool."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from plain_client import PlainClient
from pool_process import BRANCH, CHAIN_ID, Key, PoolProcess, noop, until
from test_protocol_document import TEXT, shown

pytestmark = pytest.mark.process

HERE = Path(__file__).parent
PAYLOAD_HASH = "vh1g87ZG6scSYxKhspAUzprQVuLAyoa5qMBKcUfjgnQGnFb3dJcG"


def votes_payload(level: int, round: int = 0, **changes: Any) -> bytes:
    payload = {"chain_id": CHAIN_ID, "branch": BRANCH, "level": level, "round": round,
               "payload_hash": PAYLOAD_HASH}  # fmt: skip
    return msgpack.packb(payload | changes)


def push_votes(client: PlainClient, pool: PoolProcess, **fields: Any) -> bytes:
    votes = [[delegate, slot] for slot, delegate in enumerate(pool.delegates)]
    kind = "forge_and_sign_attestations"
    return client.push(kind, votes_payload(pool.next_level()), **{"votes": votes} | fields)


def client_of(pool: PoolProcess) -> PlainClient:
    name = f"plain-{os.urandom(4).hex()}"
    return PlainClient(pool.endpoints.requests, pool.endpoints.events, name)


def test_the_client_imports_nothing_of_ours() -> None:
    tree = ast.parse((HERE / "plain_client.py").read_text())
    imported = {name.name for n in ast.walk(tree) if isinstance(n, ast.Import) for name in n.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "os", "time", "typing", "msgpack", "zmq"}


def test_votes_are_accepted_and_signed(running: PoolProcess) -> None:
    with client_of(running) as client:
        for kind, watermark, event in (
            ("forge_and_sign_preattestations", 0x12, "preattestation_ready"),
            ("forge_and_sign_attestations", 0x13, "attestation_ready"),
        ):
            level = running.next_level()
            votes = [[delegate, slot] for slot, delegate in enumerate(running.delegates)]
            id = client.push(kind, votes_payload(level), votes=votes)
            ends = {end["delegate"]: end for end in client.wait(id)}
            assert client.acks[id]["status"] == "accepted"
            for slot, key in enumerate(running.keys):
                end = ends[key.key_hash]
                assert end["event"] == event
                assert key.has_signed(watermark, end["body"])
                operation = end["body"]
                assert operation[32] == {0x12: 0x14, 0x13: 0x15}[watermark]
                assert int.from_bytes(operation[33:35]) == slot
                assert int.from_bytes(operation[35:39]) == level


def test_bytes_are_signed_as_they_are(running: PoolProcess) -> None:
    key = running.keys[0]
    with client_of(running) as client:
        (end,) = client.wait(client.push("sign", noop("hello"), delegate=key.key_hash))
        assert end["event"] == "signed"
        assert key.has_signed_bytes(noop("hello"), end["body"])
        (end,) = client.wait(client.push("sign", b"\x13nonsense", delegate=key.key_hash))
        assert (end["event"], end["code"]) == ("refused", "malformed")


def test_what_a_rule_forbids_is_refused_with_its_code(running: PoolProcess) -> None:
    delegate = running.delegates[0]
    kind = "forge_and_sign_attestations"
    with client_of(running) as client:
        level = running.next_level()
        client.wait(client.push(kind, votes_payload(level), votes=[[delegate, 0]]))
        other_payload = "vh1gZku6sv5c2kkgeKwRVwSNMtdV67ETQXbMDksbewVt38Bb2Z88"
        for payload, code in (
            (votes_payload(level - 1), "watermark_below"),
            (votes_payload(level, payload_hash=other_payload), "watermark_conflict"),
            (votes_payload(level + 1, chain_id="NetXZHmfb2qeytX"), "wrong_chain"),
            (votes_payload(level + 1, branch="B nonsense"), "malformed"),
            (b"nonsense", "malformed"),
        ):
            (end,) = client.wait(client.push(kind, payload, votes=[[delegate, 0]]))
            assert (end["event"], end.get("code")) == ("refused", code)
        (end,) = client.wait(
            client.push(kind, votes_payload(running.next_level()), votes=[[delegate, 0, "5"]])
        )
        assert end["event"] == "attestation_ready"
        assert end["body"][32] == 0x17


def test_pushes_that_cannot_be_taken_are_refused_with_their_code(running: PoolProcess) -> None:
    delegate, kind = running.delegates[0], "forge_and_sign_attestations"
    with client_of(running) as client:
        for refused, code in (
            (client.push("paint", b"", delegate=delegate), "unknown_kind"),
            (client.push("sign", b"", delegate="mv1nobody"), "unknown_delegate"),
            (client.push("sign", b""), "malformed"),
            (client.push(kind, b"", votes=[[delegate, 0], [delegate, 1]]), "malformed"),
            (client.push(kind, b"", delegate=delegate), "malformed"),
        ):
            client.until(lambda id=refused: id in client.acks)
            ack = client.acks[refused]
            assert (ack["status"], ack["code"]) == ("refused", code)
            assert ack["text"]


def test_an_id_stands_for_one_request(running: PoolProcess) -> None:
    delegate = running.delegates[0]
    with client_of(running) as client:
        id = client.push("sign", noop("one"), delegate=delegate)
        (first,) = client.wait(id)
        again = {"id": id, "kind": "sign", "payload": noop("one"), "delegate": delegate}
        for request, status in (
            (again | {"ttl_ms": 77}, "duplicate"),  # the time to live is not part of it
            (again | {"payload": noop("two")}, "refused"),
            (again | {"delegate": running.delegates[1]}, "refused"),
        ):
            before = len(client.answers)
            client.send({"type": "push", "client": client.name, "requests": [request]})
            (ack,) = client.next_answer(before)["acks"]
            assert ack["status"] == status
            assert ack.get("code", "") == ("id_reused" if status == "refused" else "")
        client.until(lambda: client.repetitions == 1)  # its end was published again
        assert client.ends[id, delegate] == first
        # The scope of an id is its client.
        with client_of(running) as other:
            other.send({"type": "push", "client": other.name, "requests": [again]})
            other.until(lambda: (id, delegate) in other.ends)


def test_pending_work_can_be_cancelled_by_who_pushed_it(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 1000})
    with client_of(pool) as client, client_of(pool) as other:
        active, *pending = (client.push("sign", noop(str(i)), delegate=slow) for i in range(3))
        client.until(lambda: len(client.acks) == 3)
        answer = other.ask({"type": "cancel", "client": other.name})
        assert (answer["count"], answer["active"]) == (0, 0)
        answer = client.ask({"type": "cancel", "client": client.name, "id": pending[0]})
        assert (answer["type"], answer["count"], answer["active"]) == ("cancelled", 1, 0)
        answer = client.ask({"type": "cancel", "client": client.name, "delegate": slow})
        assert (answer["count"], answer["active"]) == (1, 1)
        assert [client.wait(id)[0]["event"] for id in pending] == ["cancelled"] * 2
        assert client.wait(active)[0]["event"] == "signed"


def test_a_request_expires_in_the_queue_and_not_when_it_is_active(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 700})
    with client_of(pool) as client:
        active, late = (
            client.push("sign", noop(str(i)), delegate=slow, ttl_ms=300) for i in range(2)
        )
        assert client.wait(late)[0]["event"] == "expired"
        assert client.wait(active)[0]["event"] == "signed"


def test_a_gap_is_filled_by_a_replay(running: PoolProcess) -> None:
    with client_of(running) as client:
        ends = [client.wait(push_votes(client, running)) for _ in range(2)]
        everything = {"type": "replay", "topic": client.topic.decode(), "epoch": client.epoch,
                      "first": 1}  # fmt: skip
        answer = client.ask(everything)
        assert (answer["type"], answer["first"], answer["more"]) == ("replayed", 1, False)
        assert answer["events"] == [end for of in ends for end in of]
        assert client.ask(everything | {"first": 9})["events"] == answer["events"][8:]
        assert client.ask(everything | {"first": 13})["events"] == []
        delegate = running.delegates[0]
        of_delegate = client.ask(everything | {"topic": f"d/{delegate}"})["events"]
        assert {event["delegate"] for event in of_delegate} == {delegate}
        assert [event for event in answer["events"] if event in of_delegate] == of_delegate[-2:]
        assert len(client.ask(everything | {"topic": "all"})["events"]) >= 12
        assert client.ask(everything | {"epoch": "0" * 16})["oldest"] == 0
        # As if the messages had been lost: the next head shows it, and the replay brings them.
        client.expected, client.ends = 1, {}
        client.until(lambda: len(client.ends) == 12)
        assert client.expected == 13


def test_the_heads_come_once_a_second_and_show_a_lost_last_event(running: PoolProcess) -> None:
    with client_of(running) as client:
        client.wait(push_votes(client, running))
        heads = []
        client._take_message = lambda *message: heads.append(message)
        client.until(lambda: len(heads) == 2)
        assert heads == [(client.topic, client.epoch, 7, [])] * 2


def test_a_restarted_broker_is_noticed_and_nothing_is_lost(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 1000})
    with client_of(pool) as client:
        epoch = client.epoch
        done = push_votes(client, pool, votes=[[pool.delegates[1], 0]])
        client.wait(done)
        active = client.push("sign", noop("active"), delegate=slow)
        pending = client.push("sign", noop("pending"), delegate=slow)
        client.until(lambda: len(client.acks) == 3)
        pool.wait_for_active(1)
        pool.signal(pool.broker_pid, signal.SIGKILL)
        assert client.wait(active)[0]["event"] == "signed"
        assert client.wait(pending)[0]["event"] == "signed"
        assert client.epoch != epoch
        # The log outlives the broker: the old epoch can be asked for.
        old = client.ask({"type": "replay", "topic": client.topic.decode(), "epoch": epoch,
                          "first": 1})  # fmt: skip
        assert [event["id"] for event in old["events"]] == [done]


def test_messages_that_are_none_are_answered_with_an_error(running: PoolProcess) -> None:
    with client_of(running) as client:
        for frames in (
            (b"",), (b"\xc1",), (bytes(range(256)),), (msgpack.packb("push"),),
            (msgpack.packb({"type": "push"}),), (msgpack.packb({"type": "shutdown"}),),
            (b"", msgpack.packb({"type": "status"})),  # what a REQ socket would send
        ):  # fmt: skip
            before = len(client.answers)
            client.send_bytes(*frames)
            answer = client.next_answer(before)
            assert (answer["type"], answer["code"]) == ("error", "malformed")
            assert answer["text"]
        assert client.ask({"type": "status"})["status"]["open_tasks"] == 0
        assert client.wait(push_votes(client, running))[0]["event"] == "attestation_ready"


def test_the_admin_socket_cancels_everybodys_work_and_shuts_down(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 800})
    with client_of(pool) as client, zmq.Context() as context, context.socket(zmq.DEALER) as admin:
        admin.linger = 0
        admin.connect(pool.endpoints.admin)

        def ask(message: dict[str, Any]) -> dict[str, Any]:
            admin.send(msgpack.packb(message))
            assert admin.poll(10_000)
            answer: dict[str, Any] = msgpack.unpackb(admin.recv())
            return answer

        ids = [client.push("sign", noop(str(i)), delegate=slow) for i in range(3)]
        client.until(lambda: len(client.acks) == 3)
        assert ask({"type": "cancel"})["count"] == 2
        assert ask({"type": "status"})["status"]["events"] == {"cancelled": 2}
        assert ask({"type": "shutdown"})["type"] == "done"
        assert sorted(client.wait(id)[0]["event"] for id in ids) == [
            "cancelled",
            "cancelled",
            "signed",
        ]
    until(lambda: pool.serving.poll() is not None)
    assert pool.serving.returncode == 0


# -- the page's own bytes and program -------------------------------------------------------------


def test_the_bytes_of_the_page_go_to_a_pool_and_come_back(pool: PoolProcess) -> None:
    (push,) = msgpack.unpackb(shown("push"))["requests"]
    key = Key(push["votes"][0][0], *re.findall(r"`(edpk\w+)`", TEXT))
    # The page's key: its seed is 32 bytes 01.
    secret = "unencrypted:edsk2gLvWRYgkCPVKPjXag2uSGDjQh5YGUThMgLXUhzbrJWXdvvYoj"
    pool.run("keys", "import", "example", secret, "--fresh", "--yes")
    pool.serve(1)
    with PlainClient(pool.endpoints.requests, pool.endpoints.events, "me") as client:

        def as_shown(name: str) -> bytes:
            epoch = msgpack.unpackb(shown("acks"))["epoch"]
            return shown(name).replace(epoch.encode(), client.epoch.encode())

        messages = []
        client._take_message = lambda topic, *content: messages.append((topic, content))
        client.send_bytes(shown("push"))
        assert client.next_answer(0) == msgpack.unpackb(as_shown("acks"))
        client.until(lambda: any(events for _, (_, _, events) in messages))
        topic, content = next(m for m in messages if m[1][2])
        assert topic == b"c/me"
        assert msgpack.packb(content) == as_shown("event")
        assert key.has_signed(0x13, content[2][0]["body"])


def test_the_program_of_the_page_runs(running: PoolProcess, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "client.py"
    file.write_text(program)
    where = running.endpoints
    done = subprocess.run(
        [sys.executable, str(file), where.requests, where.events, running.delegates[0]],
        capture_output=True, text=True, timeout=20, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "'status': 'accepted'" in done.stdout
    assert re.search(r"^signed [0-9a-f]{128}", done.stdout, re.MULTILINE)
