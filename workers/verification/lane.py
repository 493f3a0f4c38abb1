"""The verification lane: slices in, verdicts out, a little work at a time.

    slice ──► items ready ──► judged ──► all of a slice's verdicts: answered
                 ▲    │
                 └────┴ parked: the node was asked for what the check lacks

`work` stops when the time it was given is over, so whoever calls it hears what has come meanwhile.
The node is asked by somebody else; until then an item is parked, for half of its slice's time at
most, and then judged with what is known.

Pure: slices, the node's answers and the time go in, `answers` and `questions` come out. `clock`
tells when to stop, so that a process that was made to wait looks at its socket at once; `cpu` tells
what a slice has cost, on a busy machine too. Both are in seconds.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import islice
from math import inf

import msgspec

from broker.verification import (
    MAIN_CHAIN,
    Check,
    CheckAnswer,
    CheckBody,
    CheckItem,
    CheckSlice,
    Position,
    Verdict,
    VerdictBody,
)
from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.networks import Network
from workers.verification.block_check import block_steps
from workers.verification.chain_rules import ChainRules
from workers.verification.chain_verdict import chain_verdict
from workers.verification.evidence_check import make_evidence
from workers.verification.header_check import check_header
from workers.verification.known_chain import KnownChain
from workers.verification.node_questions import (
    ChainTold,
    ChainWanted,
    NodeQuestion,
    NotTold,
    Question,
    RulesWanted,
    Told,
)
from workers.verification.verdicts import Reason, unchecked
from workers.verification.vote_check import VoteCheck

# Chains at once: one, and another while an operator moves from a test network to the next.
CHAINS_MAX = 2
NO_CHAIN = bytes(4)  # nobody signs for it
QUESTION_TTL_MS = 5_000  # a cold start asks for the keys of some hundred delegates, 1 ms each
QUESTIONS_MAX = 64  # to the node at once; what is missing beyond is judged as not known

_bodies = msgspec.msgpack.Decoder(CheckBody)
_encode = msgspec.msgpack.encode

Steps = Iterator[Verdict | None]


class _Slice:
    """One slice under way."""

    __slots__ = (
        "body",
        "chain",
        "deadline",
        "is_mixed",
        "number",
        "park_until",
        "spent_s",
        "verdicts",
    )  # fmt: skip

    def __init__(self, asked: CheckSlice, body: CheckBody, chain: KnownChain, now: float) -> None:
        ttl_s = asked.ttl_ms / 1000
        self.number = asked.number
        self.body = body
        self.chain = chain
        self.deadline = now + ttl_s
        self.park_until = now + ttl_s / 2
        self.verdicts: list[Verdict] = []
        self.spent_s = 0.0
        self.is_mixed = False  # some item was put behind others


class _Work:
    """One item of a slice, and how far its check has come."""

    __slots__ = ("item", "of", "steps")

    def __init__(self, of: _Slice, item: CheckItem) -> None:
        self.of = of
        self.item = item
        self.steps: Steps | None = None


class _Votes:
    """The votes of a slice from one place on, which share all that is not their own."""

    __slots__ = ("of", "place")

    def __init__(self, of: _Slice) -> None:
        self.of = of
        self.place = 0

    def one_by_one(self) -> list[_Work]:
        return [_Work(self.of, item) for item in self.of.body.items[self.place :]]


class Lane:
    """What a worker has to check; see the module's text."""

    def __init__(
        self,
        network: Network,
        *,
        clock: Callable[[], float],
        cpu: Callable[[], float],
        has_node: bool,
    ) -> None:
        self.answers: list[CheckAnswer] = []  # to be sent; whoever sends them empties the list
        self.questions: list[NodeQuestion] = []  # to be asked; likewise
        self._network = network
        self._clock = clock
        self._cpu = cpu
        self._has_node = has_node
        self._chains: OrderedDict[str, KnownChain] = OrderedDict()
        self._slices: dict[int, _Slice] = {}
        self._ready: deque[_Work | _Votes] = deque()
        self._parked: dict[tuple[str, Question], list[_Work]] = {}
        self._asked: dict[int, tuple[str, Question]] = {}
        self._next_question = 0
        self._votes: tuple[tuple[KnownChain, ChainRules, Position], VoteCheck] | None = None

    def __bool__(self) -> bool:
        """Whether there is something to work on now."""
        return bool(self._ready)

    def take(self, asked: CheckSlice, now: float) -> None:
        """Take a slice; exactly one answer to it comes out."""
        try:
            body = _bodies.decode(asked.body)
            chain = self._chain(body.chain_id)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MalformedBytes):
            self.answers.append(CheckAnswer(asked.number, problem="malformed"))
            return
        slice_ = _Slice(asked, body, chain, now)
        if not body.items:
            self._answer(slice_)
            return
        self._slices[asked.number] = slice_
        if chain.may_have_changed(body.position.head_level) and self._has_node:
            self._ask(slice_, RulesWanted(), now)  # nobody waits for it
        votes = _Votes(slice_)
        self._ready.extend([votes] if body.check == Check.VOTE else votes.one_by_one())

    def work(self, now: float, budget_s: float) -> None:
        """Judge items until the time is spent; the last may go over it.

        By no more than 1.5 ms, which is what the signature of a tz4 key takes. CPU time is asked
        for where a slice begins or ends, as that costs 2 µs, and the clock a tenth.
        """
        until, began = self._clock() + budget_s, self._cpu()
        is_over = False
        while self._ready and not is_over:
            first = self._ready[0]
            of = first.of
            if isinstance(first, _Votes):
                is_over = self._judge_votes(first, now, until)
            else:
                is_over = self._judge_items(of, now, until)
            began = self._spent(of, began)
            self._answer_if_done(of)

    def _spent(self, of: _Slice, began: float) -> float:
        """Charge the CPU since `began` to a slice; gives the CPU clock."""
        this = self._cpu()
        of.spent_s += this - began
        return this

    def answered(self, number: int, told: Told | NotTold, now: float) -> None:
        """The node has answered a question, or nobody has."""
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        chain = self._chains.get(asked[0])
        question = asked[1]
        waiting = self._parked.pop(asked, [])
        if isinstance(question, ChainWanted):
            for work in waiting:
                verdict = chain_verdict(work.item.number, told)
                if chain is not None and not isinstance(told, NotTold):
                    _learn(chain, question, told, now)
                self._end(work, verdict)
                self._answer_if_done(work.of)
            return
        if chain is not None:
            _learn(chain, question, told, now)
        self._ready.extendleft(reversed(waiting))  # they came before what is ready now

    def wake(self, now: float) -> None:
        """Judge what has waited for the node for too long with what is known."""
        for key, waiting in list(self._parked.items()):
            late = [work for work in waiting if work.of.park_until <= now]
            if late:
                self._parked[key] = [work for work in waiting if work.of.park_until > now]
                self._ready.extend(late)

    def deadline(self) -> float:
        """When `wake` must be called at the latest."""
        return min(
            (work.of.park_until for waiting in self._parked.values() for work in waiting),
            default=inf,
        )

    # -- items ------------------------------------------------------------------------------------

    def _judge_items(self, of: _Slice, now: float, until: float) -> bool:
        """Judge what is ready and of one slice; whether the time is over."""
        ready, clock = self._ready, self._clock
        while ready and isinstance(work := ready[0], _Work) and work.of is of:
            ready.popleft()
            self._judge(work, now)
            if clock() >= until:
                return True
        return False

    def _judge_votes(self, votes: _Votes, now: float, until: float) -> bool:
        """The same for votes, which come first of what is ready."""
        of, clock = votes.of, self._clock
        rules, missing, verdicts = of.chain.rules, of.chain.missing, of.verdicts
        if rules is None or now >= of.deadline:
            self._ready.popleft()
            self._ready.extendleft(reversed(votes.one_by_one()))
            return False
        check, is_over = self._vote_check(of, rules).check, False
        missing.clear()
        for item in islice(of.body.items, votes.place, None):
            votes.place += 1
            try:
                verdict = check(item.number, item.raw)
            except Exception as error:
                verdict = _our_bug(item, error)
            if missing:
                self._park_or_end(_Work(of, item), verdict, now)
                missing.clear()
            else:
                verdicts.append(verdict)
            if clock() >= until:
                is_over = True
                break
        if votes.place == len(of.body.items):
            self._ready.popleft()
        return is_over

    def _vote_check(self, of: _Slice, rules: ChainRules) -> VoteCheck:
        """What slices of one moment share: several of them come in a message."""
        same = (of.chain, rules, of.body.position)
        if self._votes is None or self._votes[0] != same:
            self._votes = same, VoteCheck(rules, of.chain.rights, of.body.position)
        return self._votes[1]

    def _judge(self, work: _Work, now: float) -> None:
        slice_ = work.of
        if now >= slice_.deadline:
            text = "there was no time for it"
            self._end(work, unchecked(work.item.number, Reason.OUT_OF_TIME, text))
            return
        slice_.chain.missing.clear()
        try:
            if work.steps is None:
                work.steps = self._steps(work, slice_.chain, slice_.body.position)
            verdict = next(work.steps)
        except Exception as error:
            verdict = _our_bug(work.item, error)
        if verdict is None:
            slice_.is_mixed = True
            self._ready.append(work)  # others get their turn in between
        else:
            self._park_or_end(work, verdict, now)

    def _park_or_end(self, work: _Work, verdict: Verdict, now: float) -> None:
        """Let an item wait for what the node is asked, if its check lacked something."""
        slice_ = work.of
        chain = slice_.chain
        if chain.missing and now < slice_.park_until:
            question = chain.to_ask(now) if self._has_node else None
            if question is not None and self._ask(slice_, question, now):
                work.steps = None
                slice_.is_mixed = True
                self._parked.setdefault((slice_.body.chain_id, question), []).append(work)
                return
        self._end(work, verdict)

    def _steps(self, work: _Work, chain: KnownChain, position: Position) -> Steps:
        """The check of an item: None whenever others may go on, the verdict last."""
        item, number = work.item, work.item.number
        check = work.of.body.check
        if check == Check.CHAIN:
            chain.missing.append(ChainWanted(item.raw))
            yield unchecked(number, Reason.NODE_UNAVAILABLE, "no node tells where the chain is")
            return
        rules = chain.rules
        if rules is None:
            yield unchecked(number, Reason.CHAIN_UNKNOWN, "the node has not told the rules")
        elif check == Check.VOTE:
            yield self._vote_check(work.of, rules).check(number, item.raw)
        elif check == Check.HEADER:
            yield check_header(number, item.raw, rules, chain.rights, position)
        elif check == Check.BLOCK:
            yield from block_steps(item, rules, chain, position)
        elif check == Check.EVIDENCE:
            pair = item.raw, item.other
            yield make_evidence(number, *pair, item.branch, rules.protocol, item.slot)
        else:
            yield unchecked(number, Reason.INTERNAL, f"there is no check {check}")

    # -- ends -------------------------------------------------------------------------------------

    def _end(self, work: _Work, verdict: Verdict) -> None:
        work.of.verdicts.append(verdict)

    def _answer_if_done(self, slice_: _Slice) -> None:
        is_done = len(slice_.verdicts) == len(slice_.body.items)
        if is_done and self._slices.pop(slice_.number, None) is not None:
            self._answer(slice_)

    def _answer(self, slice_: _Slice) -> None:
        if slice_.is_mixed:  # verdicts go in the order of the items
            places = {item.number: place for place, item in enumerate(slice_.body.items)}
            slice_.verdicts.sort(key=lambda verdict: places[verdict.number])
        body = VerdictBody(slice_.verdicts, int(slice_.spent_s * 1e6))
        self.answers.append(CheckAnswer(slice_.number, _encode(body)))

    # -- the node ---------------------------------------------------------------------------------

    def _chain(self, chain_id: str) -> KnownChain:
        """What is known of a chain. Raises MalformedBytes."""
        chain = self._chains.get(chain_id)
        if chain is None:
            raw = NO_CHAIN if chain_id == MAIN_CHAIN else base58.decode(base58.CHAIN_ID, chain_id)
            chain = self._chains[chain_id] = KnownChain(raw, self._network)
            if len(self._chains) > CHAINS_MAX:
                self._chains.popitem(last=False)
        self._chains.move_to_end(chain_id)
        return chain

    def _ask(self, slice_: _Slice, question: Question, now: float) -> bool:
        """Have the node asked, unless that is under way; whether an answer will come."""
        key = slice_.body.chain_id, question
        if key in self._asked.values():
            return True
        if len(self._asked) >= QUESTIONS_MAX:
            return False
        ttl_ms = min(QUESTION_TTL_MS, max(1, int((slice_.park_until - now) * 1000)))
        self._asked[self._next_question] = key
        self.questions.append(
            NodeQuestion(self._next_question, slice_.body.chain_id, question, ttl_ms)
        )
        self._next_question += 1
        return True


def _learn(chain: KnownChain, question: Question, told: Told | NotTold, now: float) -> None:
    """Remember what the node has said, or that it will not be asked again at once."""
    if isinstance(told, NotTold):
        chain.not_told(question, now)
        return
    try:
        if isinstance(told, ChainTold):
            chain.told(RulesWanted(), told.rules)
        else:
            chain.told(question, told)
    except (ValueError, MalformedBytes):
        chain.not_told(question, now)


def _our_bug(item: CheckItem, error: Exception) -> Verdict:
    """An exception of a check says nothing about the item."""
    return unchecked(item.number, Reason.INTERNAL, repr(error)[:200])
