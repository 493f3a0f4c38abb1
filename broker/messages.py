"""Every message between clients, broker and workers, as values.

The wire form of each is one MessagePack value in one ZeroMQ frame (`wire.py`). What clients see
are maps with named fields; what only broker and workers exchange are arrays, because a vote
passes these four times. docs/protocol.md describes both for people who write their own client.

Addresses and hashes are base58check texts as on the node's RPC. Times on the wire are
milliseconds: a span (`ttl_ms`) wherever possible, since clocks of two hosts differ.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct

from broker.applications import (
    APPLICATIONS_MAX,
    EVENTS_PER_MESSAGE_MAX,
    ApplicationHold,
    ApplicationInPool,
    ApplicationKey,
    ApplicationShare,
    Epoch,
    Milliseconds,
    TaskEvent,
    Troubles,
    Watched,
)
from broker.verification import CheckAnswer, CheckSlice

# The small values that pass by the hundred thousand are made with gc=False: they hold no other
# container, so the garbage collector need not look at them.

PROTOCOL_VERSION = 1
# How much estimated CPU a worker takes at once, in microseconds: about three batches of 256 votes,
# so that one is signed, one committed and one decoded, and urgent work still overtakes the rest.
CREDIT_US_DEFAULT = 3 * 256 * 30

# Bounds. A vote of 2,048 committee slots fits in one request; a payload holds a whole reproposal
# (passes of 4 MiB + 32 KiB + 132 KiB + 512 KiB) with room for the map around it.
REQUEST_ID_BYTES = 16
REQUESTS_PER_PUSH_MAX = 1024
VOTES_PER_REQUEST_MAX = 4096
PAYLOAD_BYTES_MAX = 6 * 1024 * 1024
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
TTL_MS_MAX = 24 * 3600 * 1000
TTL_MS_DEFAULT = 60_000  # nothing is open for ever
# More than the workers of one host can have in hand.
CHECK_SLICES_PER_MESSAGE_MAX = 256

RequestId = Annotated[bytes, Meta(min_length=REQUEST_ID_BYTES, max_length=REQUEST_ID_BYTES)]
# A tz4/mv4 hash has 36 characters; the key of an application has 128 digits.
KeyHash = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9]+\Z")]
# A vote's texts are as bounded, but `wire` checks the letters of a whole batch at once.
VoteKeyHash = Annotated[
    str, Meta(min_length=1, max_length=128, extra={"pattern": r"^[A-Za-z0-9]+\Z"})
]
VoteBitset = Annotated[str, Meta(min_length=1, max_length=1024, extra={"pattern": r"^[0-9]+\Z"})]
ClientName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+\Z")]
TOPIC_LETTERS_MAX = 160
Topic = Annotated[str, Meta(min_length=1, max_length=TOPIC_LETTERS_MAX)]


# -- requests -------------------------------------------------------------------------------------

FORGE_AND_SIGN_BLOCK = "forge_and_sign_block"
FORGE_AND_SIGN_PREATTESTATIONS = "forge_and_sign_preattestations"
FORGE_AND_SIGN_ATTESTATIONS = "forge_and_sign_attestations"
SIGN = "sign"
PROVE_POSSESSION = "prove_possession"
DERIVE_NONCE = "derive_nonce"
TELL_PUBLIC_KEY = "tell_public_key"


class Urgency(IntEnum):
    """Which work goes first when a worker cannot take everything: lower is sooner."""

    BLOCK = 0
    VOTE = 1
    SIGN = 2


URGENCY = {
    FORGE_AND_SIGN_BLOCK: Urgency.BLOCK,
    FORGE_AND_SIGN_PREATTESTATIONS: Urgency.VOTE,
    FORGE_AND_SIGN_ATTESTATIONS: Urgency.VOTE,
    SIGN: Urgency.SIGN,
    PROVE_POSSESSION: Urgency.SIGN,
    DERIVE_NONCE: Urgency.SIGN,
    TELL_PUBLIC_KEY: Urgency.SIGN,
}
VOTE_KINDS = frozenset({FORGE_AND_SIGN_PREATTESTATIONS, FORGE_AND_SIGN_ATTESTATIONS})


class Vote(Struct, array_like=True, frozen=True, gc=False):
    """One delegate's part of a batch of votes."""

    delegate: VoteKeyHash  # hash of the consensus key that signs
    slot: Annotated[int, Meta(ge=0, le=0xFFFF)]  # the delegate's first committee slot
    dal: VoteBitset | None = None
    # DAL attestation bitset as a decimal number; absent: no DAL content
    companion: KeyHash | None = None
    # hash of the key that signs the DAL content of a tz4 vote; absent: no such content is signed


class VoteBatch(Struct, frozen=True):
    """Payload of a vote request: what all its votes have in common."""

    chain_id: str  # "Net..."
    branch: str  # "B...", the block hash that the operation names as its branch
    level: Annotated[int, Meta(ge=0, le=0x7FFFFFFF)]
    round: Annotated[int, Meta(ge=0, le=0x7FFFFFFF)]
    payload_hash: str  # "vh..."


class Request(Struct, omit_defaults=True, frozen=True):
    """One thing that a client wants done."""

    id: RequestId  # chosen by the client, scoped to it
    kind: str  # one of URGENCY
    payload: Annotated[bytes, Meta(max_length=PAYLOAD_BYTES_MAX)]  # opaque to the broker
    delegate: KeyHash | None = None  # for every kind but votes
    votes: Annotated[list[Vote], Meta(max_length=VOTES_PER_REQUEST_MAX)] | None = None
    ttl_ms: Annotated[int, Meta(ge=1, le=TTL_MS_MAX)] | None = None  # from acceptance
    deadline_unix_ms: Annotated[int, Meta(ge=0)] | None = None  # used when ttl_ms is absent


# -- client to broker -----------------------------------------------------------------------------


class Push(Struct, tag="push", tag_field="type"):
    """Ask for work; answered by Acks in the order of the requests."""

    client: ClientName
    requests: Annotated[list[Request], Meta(min_length=1, max_length=REQUESTS_PER_PUSH_MAX)]


class Cancel(Struct, tag="cancel", tag_field="type", omit_defaults=True):
    """Cancel what is pending: one request, one delegate's, or (neither given) everything.

    On the request socket only the client's own work is touched; on the admin socket `client`
    may be absent: then everybody's is. Active work is never interrupted.
    """

    client: ClientName | None = None
    id: RequestId | None = None
    delegate: KeyHash | None = None


class Replay(Struct, tag="replay", tag_field="type"):
    """Ask for logged events of a topic, from number `first` of that epoch on."""

    topic: Topic
    epoch: str
    first: Annotated[int, Meta(ge=1)]


class StatusWanted(Struct, tag="status", tag_field="type"):
    """Ask how the pool is."""


class CheckAsked(Struct, tag="check", tag_field="type"):
    """Have workers check what comes from the network; answered by one or several Checked.

    Each slice gets one answer. None is kept or repeated: who misses one asks again. Without slices
    it asks how much room there is.
    """

    slices: Annotated[list[CheckSlice], Meta(max_length=CHECK_SLICES_PER_MESSAGE_MAX)]


REPORT_S = 5.0  # how often a service reports
REPORT_NUMBERS_MAX = 64
ReportName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9_]+\Z")]
ReportNumber = Annotated[int, Meta(ge=0)]


class Report(Struct, tag="report", tag_field="type"):
    """A service beside the pool says how it is: `status` shows it. Not answered.

    Sent again every few seconds; one that is not is forgotten.
    """

    client: ClientName
    numbers: Annotated[dict[ReportName, ReportNumber], Meta(max_length=REPORT_NUMBERS_MAX)]


class Shutdown(Struct, tag="shutdown", tag_field="type", omit_defaults=True):
    """Admin: cancel what is pending, wait for what is active, then end."""

    now: bool = False  # end without waiting


class Reload(Struct, tag="reload", tag_field="type", omit_defaults=True):
    """Admin: all workers read keys and policy again and go by them, or none does."""

    dry_run: bool = False  # only say what would change


class WorkerEnded(Struct, tag="worker_ended", tag_field="type", omit_defaults=True):
    """Admin, from the supervisor: the process of a worker is gone, whatever its lease says."""

    pid: int
    how: str  # "killed by signal 9", "exit status 3"
    # The worker's; another one may have the number by now, or in another container. Absent: any.
    name: str = ""

    def is_of(self, name: str, pid: int) -> bool:
        return pid == self.pid and self.name in ("", name)


class AwaitWorkers(Struct, tag="await_workers", tag_field="type"):
    """Admin, from the supervisor: these are its workers.

    A broker that has just started dispatches nothing before they said hello.
    """

    pids: list[int]


ApplicationKeys = Annotated[list[ApplicationKey], Meta(max_length=APPLICATIONS_MAX)]
WatchedApplications = Annotated[list[Watched], Meta(max_length=APPLICATIONS_MAX)]


class WatchApplications(Struct, tag="watch_applications", tag_field="type", omit_defaults=True):
    """Admin: process these applications too; an entry with a known key replaces that one."""

    applications: WatchedApplications
    replace: bool = False  # process only these, of all that were named by this message


class UnwatchApplications(Struct, tag="unwatch_applications", tag_field="type"):
    """Admin: process these no more. Done, or a Problem when the settings name one of them."""

    keys: ApplicationKeys


class ApplicationsWanted(Struct, tag="applications", tag_field="type"):
    """Admin: ask which applications the pool processes; answered by ApplicationList."""


class TasksChanged(Struct, tag="tasks_changed", tag_field="type"):
    """Admin: somebody has written into the journal what is to be done with tasks of these.

    Or has mended what stopped them. In compat mode, which has neither, it is an error.
    """

    keys: ApplicationKeys


ClientMessage = Push | Cancel | Replay | StatusWanted | CheckAsked | Report
AdminMessage = (
    Cancel
    | Replay
    | StatusWanted
    | Shutdown
    | Reload
    | WorkerEnded
    | AwaitWorkers
    | WatchApplications
    | UnwatchApplications
    | ApplicationsWanted
    | TasksChanged
)


# -- broker to client -----------------------------------------------------------------------------

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
REFUSED = "refused"


class Ack(Struct, omit_defaults=True, gc=False):
    """The answer to one request of a push."""

    id: bytes
    status: str  # accepted | duplicate | refused
    code: str = ""  # for refused: malformed, unknown_kind, busy, id_reused, shutting_down
    text: str = ""
    retry_ms: int = 0  # for busy


class Acks(Struct, tag="acks", tag_field="type"):
    epoch: str  # changes when the broker restarts: push again what is still wanted
    acks: list[Ack]


class Cancelled(Struct, tag="cancelled", tag_field="type"):
    epoch: str
    count: int  # tasks that were pending and are now cancelled
    active: int  # tasks that match but are active: they run to their end


class Event(Struct, omit_defaults=True, gc=False):
    """The end of one task. `body` depends on `event`: see docs/protocol.md."""

    id: bytes
    delegate: str
    event: str
    body: bytes = b""
    code: str = ""  # for refused, failed
    text: str = ""


class Events(Struct, array_like=True):
    """What travels on a topic, behind the frame with the topic's name: numbers first, first+1, …

    Without events it is the topic's head: `first` is then the number that comes next.
    """

    epoch: str
    first: int
    events: list[Event]


class Replayed(Struct, tag="replayed", tag_field="type"):
    """A part of the answer to Replay; the last part has `more` false."""

    topic: str
    epoch: str
    first: int
    events: list[Event]
    more: bool


class Gone(Struct, tag="gone", tag_field="type"):
    """The log does not reach back that far."""

    topic: str
    epoch: str
    oldest: int  # number of the next event that is kept, or that will come; 0: not known


class Status(Struct, tag="status", tag_field="type"):
    epoch: str
    status: dict[str, object]


class ReloadedWorker(Struct, omit_defaults=True):
    """What a reload was for one worker."""

    name: str
    pid: int
    taken: bool = False  # it goes by what it has read
    problem: str = ""  # why it does not, or would not


class Reloaded(Struct, tag="reloaded", tag_field="type"):
    """The end of a reload: taken by all workers, or by none if one of them has a problem."""

    epoch: str
    taken: bool
    changes: list[str]  # what is different now, or would be; a line each
    workers: list[ReloadedWorker]
    problem: str  # why it was not taken; empty when it was, and for a dry run


class Problem(Struct, tag="error", tag_field="type"):
    """The message as a whole was not understood or not allowed."""

    code: str
    text: str


class Done(Struct, tag="done", tag_field="type"):
    """An admin message was carried out."""

    epoch: str


class Checked(Struct, tag="checked", tag_field="type"):
    """Slices that were asked for by CheckAsked have ended."""

    epoch: str
    answers: list[CheckAnswer]
    room: int  # how many slices the workers could take now


class ApplicationList(Struct, tag="application_list", tag_field="type"):
    """The applications that the pool processes, by their keys."""

    epoch: str
    applications: list[ApplicationInPool]


ReplyMessage = (
    Acks
    | Cancelled
    | Replayed
    | Gone
    | Status
    | Reloaded
    | Problem
    | Done
    | Checked
    | ApplicationList
)

# The events that end a task. Refused: a rule said no. Failed: we or a back-end broke.
BLOCK_READY = "block_ready"
PREATTESTATION_READY = "preattestation_ready"
ATTESTATION_READY = "attestation_ready"
SIGNED = "signed"
POSSESSION_PROVEN = "possession_proven"
NONCE_DERIVED = "nonce_derived"
PUBLIC_KEY_TOLD = "public_key_told"
EVENT_REFUSED = "refused"
FAILED = "failed"
CANCELLED = "cancelled"
EXPIRED = "expired"

# An event of the quarantine that ends nothing: the item waits, and its end is still to come.
HELD = "held"

READY_EVENT = {
    FORGE_AND_SIGN_BLOCK: BLOCK_READY,
    FORGE_AND_SIGN_PREATTESTATIONS: PREATTESTATION_READY,
    FORGE_AND_SIGN_ATTESTATIONS: ATTESTATION_READY,
    SIGN: SIGNED,
    PROVE_POSSESSION: POSSESSION_PROVEN,
    DERIVE_NONCE: NONCE_DERIVED,
    TELL_PUBLIC_KEY: PUBLIC_KEY_TOLD,
}
# Topics
ALL_TOPIC = "all"
CLIENT_TOPIC = "c/"  # + client name
DELEGATE_TOPIC = "d/"  # + key hash
LIVE_TOPIC = "live/"  # + random text + "/" + topic: answered once with that topic's head


class BlockReady(Struct):
    """Body of `block_ready`."""

    header: bytes  # signed
    operations: list[list[bytes]]  # four passes of signed operations, to be injected with it
    hash: str  # "B..."
    seed_nonce: bytes | None = None  # where the header commits to one


# -- broker and worker ----------------------------------------------------------------------------


class Outcome(IntEnum):
    """How a worker ended a task."""

    READY = 0
    REFUSED = 1
    FAILED = 2
    EXPIRED = 3


READY = int(Outcome.READY)  # what nearly every vote's result says


class Held(Struct, array_like=True, frozen=True, gc=False):
    """A task that a worker still has, named so that a restarted broker can know it again."""

    client: str
    id: bytes
    delegate: str
    attempt: int = 1


class WorkerHello(Struct, tag=0, array_like=True):
    """First message of a worker on a connection, repeated when the broker does not know it."""

    version: int
    name: str  # its place on the ring; a restarted worker keeps it
    incarnation: int  # grows with each start of a worker of this name
    pid: int
    store: str  # uuid of its watermark store; "" = it has none
    host: str
    credit_us: int  # how much estimated CPU it takes at once
    epoch: str  # the broker it knew before; "" = none
    held: list[Held]  # active tasks of that epoch
    can_sign: bool = True
    runs_tasks: bool = False  # processes applications


class EncryptedKeys(Struct, array_like=True):
    """How far a worker is with opening the encrypted keys that it owns."""

    total: int
    opened: int
    failed: int  # tried, and no password opens them, or they cannot be read
    problems: list[str] = []  # of the failed the first few: which key, and what to do


class Heartbeat(Struct, tag=1, array_like=True):
    incarnation: int
    store_wait_ms: int = 0  # the store has been waited for so long; 0: not waiting
    stalled_by: int = 0  # pid that has held the store's lock for too long; 0: nobody
    note: str = ""
    encrypted: EncryptedKeys | None = None  # None: it owns no encrypted key


class Result(Struct, array_like=True, gc=False):
    task: int
    attempt: int
    outcome: int  # Outcome; a plain int, since an enum member costs four times as much to decode
    body: bytes | tuple[str, str]  # READY: the event's body; otherwise (code, text)
    occupied: bool = False  # the key stays busy until Freed (a signer past its limit)


class Results(Struct, tag=2, array_like=True):
    """Ends of tasks; kept by the worker until the broker acknowledges `number`."""

    number: int
    results: list[Result]


class OrphanResult(Struct, array_like=True, gc=False):
    """The end of a task that another epoch's broker had assigned."""

    client: str
    id: bytes
    delegate: str
    fingerprint: bytes
    kind: str
    outcome: int
    body: bytes | tuple[str, str]
    occupied: bool = False  # the key stays busy until the same result comes without this


class OrphanResults(Struct, tag=3, array_like=True):
    number: int
    results: list[OrphanResult]


class Freed(Struct, tag=4, array_like=True):
    """Keys that an earlier `occupied` result left busy are free."""

    tasks: list[int]


class CreditBack(Struct, tag=5, array_like=True):
    """A slow back-end has taken these tasks: they no longer count against the credit."""

    tasks: list[int]


class KeysKnown(Struct, tag=7, array_like=True):
    """Hashes of the keys in the worker's key store; sent after the hello and on a change."""

    keys: list[str]


class Leaving(Struct, tag=6, array_like=True):
    """The worker takes nothing new; it stays until what it holds has ended."""

    why: str
    done: bool = False  # its last word: nothing of it runs any more


class PreparedAhead(Struct, tag=8, array_like=True):
    """A block that was prepared beside the queue waits in the worker, or there is none."""

    task: int
    outcome: int = READY  # to be signed; else how the task ends
    code: str = ""
    text: str = ""


class ReloadStep(IntEnum):
    """What a worker is asked to do in a reload."""

    READ = 0  # keys and policy, without going by them
    TAKE = 1  # go by what was read
    DROP = 2  # forget what was read


class ReloadAnswer(Struct, tag=9, array_like=True):
    """A step of a reload is done, or cannot be."""

    number: int
    step: int  # ReloadStep
    version: str = ""  # the same for workers that have read the same policy
    changes: list[str] = []
    problem: str = ""


class SlicesChecked(Struct, tag=10, array_like=True):
    """Ends of slices; not acknowledged and not repeated."""

    answers: list[CheckAnswer]


class ApplicationsHeld(Struct, tag=11, array_like=True):
    """Which applications the worker still has, also those that it is letting go of.

    Sent after each Welcome, after each list, and when it has let go of something: then nothing of
    it runs any more, and nothing is on its way to the chain.
    """

    # Of the last list that it has seen, whoever sent it; "" and 0: it has seen none.
    epoch: str
    number: Annotated[int, Meta(ge=0)]
    held: Annotated[list[ApplicationHold], Meta(max_length=APPLICATIONS_MAX)]
    # Of the list, those of which its journal knows a higher epoch, and which: it has not taken
    # them. The broker's own file must have been lost.
    fenced: Annotated[list[ApplicationHold], Meta(max_length=APPLICATIONS_MAX)] = []


class TaskEvents(Struct, tag=12, array_like=True):
    """What has happened to tasks; kept in the worker's journal until it is acknowledged."""

    number: Annotated[int, Meta(ge=0)]
    events: Annotated[list[TaskEvent], Meta(max_length=EVENTS_PER_MESSAGE_MAX)]


class TaskNumbers(Struct, tag=13, array_like=True):
    """How the tasks of the worker's applications are."""

    running: Annotated[int, Meta(ge=0)]  # operators
    waiting: Annotated[int, Meta(ge=0)]  # for a run, or to be submitted
    dead: Annotated[int, Meta(ge=0)]  # until somebody says what to do with them
    oldest_ms: Milliseconds = 0  # for how long the oldest of the waiting has been asked for
    troubles: Troubles = {}  # of those that do not go on, why; of many the first


class ApplicationsFound(Struct, tag=14, array_like=True):
    """What a controller on the chain has given to this pool: all of it, each time.

    The controller is an application itself, and only its owner is believed.
    """

    controller: ApplicationKey
    epoch: Epoch  # the owner's
    applications: Annotated[list[Watched], Meta(max_length=APPLICATIONS_MAX)]


WorkerMessage = (
    WorkerHello
    | Heartbeat
    | Results
    | OrphanResults
    | Freed
    | CreditBack
    | KeysKnown
    | PreparedAhead
    | ReloadAnswer
    | SlicesChecked
    | ApplicationsHeld
    | TaskEvents
    | TaskNumbers
    | ApplicationsFound
    | Leaving
)


class Item(Struct, array_like=True, gc=False):
    """One task of an assignment."""

    task: int
    attempt: int
    delegate: str
    slot: int = 0  # votes only
    dal: str | None = None
    companion: str | None = None


class Assignment(Struct, array_like=True):
    """The tasks of one request that go to one worker in one turn."""

    client: str
    id: bytes
    kind: str
    fingerprint: bytes
    ttl_ms: int  # left now
    payload: bytes
    items: list[Item]


class Assign(Struct, tag=0, array_like=True):
    assignments: list[Assignment]


class Welcome(Struct, tag=1, array_like=True):
    epoch: str
    signs: bool  # whether signing work will come
    why_not: str  # when it will not


class HelloWanted(Struct, tag=2, array_like=True):
    """The broker does not know this connection: say hello."""

    epoch: str


class ResultsAck(Struct, tag=3, array_like=True):
    """Results up to this number are in the event log."""

    number: int


class Drain(Struct, tag=4, array_like=True):
    """Finish what is active, then end."""

    superseded: bool = False  # a newer worker of this name has joined: nobody takes results


class PrepareAhead(Struct, tag=5, array_like=True):
    """Prepare blocks whose signing will be assigned later; their keys stay free meanwhile."""

    assignments: list[Assignment]


class ReloadAsked(Struct, tag=6, array_like=True):
    """A step of a reload; READ and TAKE are answered."""

    number: int
    step: int  # ReloadStep


class KeysShared(Struct, tag=7, array_like=True):
    """Who signs with the very keys that this worker has: the ring over them says which are its own.

    So each encrypted key is opened ahead by one of them. Empty: this worker signs nothing.
    """

    workers: list[str]  # names, its own among them


class CheckSlices(Struct, tag=8, array_like=True):
    """Check these, and answer each."""

    slices: list[CheckSlice]


class Applications(Struct, tag=9, array_like=True):
    """All the applications that are the worker's from now on; the list replaces the one before."""

    epoch: str  # the broker's
    number: int  # counts its lists to all workers
    shares: Annotated[list[ApplicationShare], Meta(max_length=APPLICATIONS_MAX)]


class TaskEventsAck(Struct, tag=10, array_like=True):
    """The events of this message are in the event log."""

    number: int


class LookAgain(Struct, tag=11, array_like=True):
    """Look into the journal for what is to be done with tasks of these applications.

    What stopped one of them may be mended, too: it is asked again.
    """

    keys: Annotated[list[ApplicationKey], Meta(max_length=APPLICATIONS_MAX)]


BrokerMessage = (
    Assign
    | PrepareAhead
    | Welcome
    | HelloWanted
    | ResultsAck
    | Drain
    | ReloadAsked
    | KeysShared
    | CheckSlices
    | Applications
    | TaskEventsAck
    | LookAgain
)
