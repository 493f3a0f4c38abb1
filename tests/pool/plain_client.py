"""A client written from docs/protocol.md alone, with plain `zmq` and `msgpack`: nothing of ours.

It follows the page's rules: live before it pushes, each request kept until its end, pushed again
when no ack comes, when the epoch changes and after `gone`; gaps replayed, each end taken once.
"""

from __future__ import annotations

import os
import time
from typing import Any, Self

import msgpack
import zmq

ACK_S, ACK_S_MAX = 0.25, 4.0
LIVE_AGAIN_S = 0.5
REPLAY_AGAIN_S = 1.0
HEADS_MISSING_S = 3.0


class PlainClient:
    def __init__(self, requests: str, events: str, name: str) -> None:
        self.name = name
        self.topic = f"c/{name}".encode()
        self.epoch = ""
        self.expected = 0
        self.answers: list[dict[str, Any]] = []  # everything that came on the request socket
        self.ends: dict[tuple[bytes, str], dict[str, Any]] = {}  # by id and delegate
        self.repetitions = 0
        self.acks: dict[bytes, dict[str, Any]] = {}
        self._kept: dict[bytes, dict[str, Any]] = {}  # requests without their ends
        self._deadlines: dict[bytes, float] = {}
        self._ack_due: dict[bytes, tuple[float, float]] = {}  # when to push again, and the pause
        self._replay_due: float | None = None
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.linger, self._dealer.immediate = 0, True
        self._dealer.connect(requests)
        self._sub = self._context.socket(zmq.SUB)
        self._sub.linger = 0
        self._sub.connect(events)
        self._sub.subscribe(self.topic)
        self._live_topic = b""
        self._live_asked = self._heard = 0.0
        self.live = False

    def __enter__(self) -> Self:
        self.until(lambda: self.live)
        return self

    def __exit__(self, *_: object) -> None:
        self._dealer.close()
        self._sub.close()
        self._context.term()

    # -- what a user calls ------------------------------------------------------------------------

    def push(self, kind: str, payload: bytes, ttl_ms: int = 10_000, **fields: Any) -> bytes:
        request = {"id": os.urandom(16), "kind": kind, "payload": payload} | fields
        self._kept[request["id"]] = request
        self._deadlines[request["id"]] = time.monotonic() + ttl_ms / 1000
        self._send_push(request["id"], ACK_S)
        return request["id"]

    def send(self, message: object) -> None:
        """Send any value on the request socket."""
        self.send_bytes(msgpack.packb(message))

    def send_bytes(self, *frames: bytes) -> None:
        assert self._dealer.poll(5000, zmq.POLLOUT)
        self._dealer.send_multipart(frames, zmq.NOBLOCK)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a question; returns the next answer that is not about a push."""
        before = len(self.answers)
        self.send(message)
        return self.next_answer(before, lambda a: a["type"] != "acks")

    def next_answer(self, before: int, wanted: Any = lambda answer: True) -> dict[str, Any]:
        self.until(lambda: any(wanted(a) for a in self.answers[before:]))
        return next(a for a in self.answers[before:] if wanted(a))

    def wait(self, id: bytes) -> list[dict[str, Any]]:
        """The ends of all tasks of a request."""
        self.until(lambda: id not in self._kept)
        return [end for (of, _), end in self.ends.items() if of == id]

    def until(self, condition: Any, wait_s: float = 20.0) -> None:
        end = time.monotonic() + wait_s
        while not condition():
            assert time.monotonic() < end, f"not in {wait_s} s"
            self.step()

    # -- the rules --------------------------------------------------------------------------------

    def step(self) -> None:
        now = time.monotonic()
        if self.live and now - self._heard > HEADS_MISSING_S:
            self.live = False  # no head: the connection is not what it was
        if not self.live and now - self._live_asked > LIVE_AGAIN_S:
            self._ask_live(now)
        for id, (due, pause) in list(self._ack_due.items()):
            if self.live and now >= due:
                self._send_push(id, min(ACK_S_MAX, 2 * pause))
        if self._replay_due is not None and now >= self._replay_due:
            self._replay_due = now + REPLAY_AGAIN_S
            self.send({"type": "replay", "topic": self.topic.decode(), "epoch": self.epoch,
                       "first": self.expected})  # fmt: skip
        if zmq.select([self._dealer, self._sub], [], [], 0.02)[0]:
            while self._dealer.poll(0):
                self._take_answer(msgpack.unpackb(self._dealer.recv()))
            while self._sub.poll(0):
                topic, content = self._sub.recv_multipart()
                self._take_message(topic, *msgpack.unpackb(content))

    def _ask_live(self, now: float) -> None:
        if self._live_topic:
            self._sub.unsubscribe(self._live_topic)
        self._live_topic = b"live/" + os.urandom(8).hex().encode() + b"/" + self.topic
        self._live_asked = now
        self._sub.subscribe(self._live_topic)

    def _send_push(self, id: bytes, pause: float) -> None:
        left_ms = max(1, int((self._deadlines[id] - time.monotonic()) * 1000))
        request = self._kept[id] | {"ttl_ms": left_ms}
        self._ack_due[id] = (time.monotonic() + pause, pause)
        if self._dealer.poll(0, zmq.POLLOUT):
            self.send({"type": "push", "client": self.name, "requests": [request]})

    def _push_all_again(self) -> None:
        for id in self._kept:
            self._send_push(id, ACK_S)

    def _take_answer(self, answer: dict[str, Any]) -> None:
        self.answers.append(answer)
        if answer["type"] == "acks":
            self._note_epoch(answer["epoch"])
            for ack in answer["acks"]:
                self.acks[ack["id"]] = ack
                self._ack_due.pop(ack["id"], None)
                if ack["status"] == "refused" and not ack.get("retry_ms"):
                    self._kept.pop(ack["id"], None)
                elif ack["status"] == "refused" and ack["id"] in self._kept:
                    pause = ack["retry_ms"] / 1000
                    self._ack_due[ack["id"]] = (time.monotonic() + pause, pause)
        elif answer["type"] == "replayed" and answer["epoch"] == self.epoch:
            self._take_events(answer["first"], answer["events"])
            if not answer["more"]:
                self._replay_due = None
        elif answer["type"] == "gone" and answer["epoch"] == self.epoch:
            self.expected = max(self.expected, answer["oldest"])
            self._replay_due = None
            self._push_all_again()

    def _take_message(self, topic: bytes, epoch: str, first: int, events: list[Any]) -> None:
        if topic == self._live_topic:
            self._sub.unsubscribe(topic)
            self._live_topic, self.live = b"", True
            self._push_all_again()
        elif topic != self.topic:
            return  # SUB filters by prefix
        self._heard = time.monotonic()
        self._note_epoch(epoch)
        self.expected = self.expected or first
        if first > self.expected:
            self._replay_due = self._replay_due or time.monotonic()
        else:
            self._take_events(first, events)

    def _note_epoch(self, epoch: str) -> None:
        if epoch != self.epoch:
            known, self.epoch = self.epoch, epoch
            if known:
                self.expected, self._replay_due = 1, None
                self._push_all_again()

    def _take_events(self, first: int, events: list[dict[str, Any]]) -> None:
        for number, event in enumerate(events, first):
            if number != self.expected:
                continue
            self.expected += 1
            task = event["id"], event["delegate"]
            if task in self.ends:
                self.repetitions += 1
                continue
            self.ends[task] = event
            request = self._kept.get(event["id"])
            if request is not None:
                delegates = [vote[0] for vote in request.get("votes") or [[request["delegate"]]]]
                if all((event["id"], delegate) in self.ends for delegate in delegates):
                    del self._kept[event["id"]]
                    self._ack_due.pop(event["id"], None)
