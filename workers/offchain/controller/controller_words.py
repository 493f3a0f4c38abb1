"""What the follower of the on-chain controller is told, and what it wants done."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from workers.offchain.application import Application
from workers.offchain.commands import Note, UnwatchChain, WatchChain
from workers.offchain.ends import SubmitResult
from workers.offchain.node_service.node_replies import LocalWorkerState
from workers.offchain.stimuli import Notified, StreamOpened

# -- what happens ---------------------------------------------------------------------------------


class Began(Struct, frozen=True):
    """We begin."""


class StateKnown(Struct, frozen=True):
    """The controller application has answered."""

    state: LocalWorkerState


class StateUnknown(Struct, frozen=True):
    """It has given no usable answer."""

    text: str


class TipKnown(Struct, frozen=True):
    """The height of a chain's next block."""

    chain_id: str
    next_height: int


class TipUnknown(Struct, frozen=True):
    """The node service has not told how far a chain is."""

    chain_id: str
    text: str


class OwnersKnown(Struct, frozen=True):
    """Who may make blocks of the worker's chain."""

    owners: Sequence[str]


class OwnersUnknown(Struct, frozen=True):
    """The node service has not told who may."""

    text: str


class OperationEnded(Struct, frozen=True):
    """The operation that was on its way has ended."""

    result: SubmitResult


ControllerStimulus = (
    Began
    | Notified
    | StreamOpened
    | StateKnown
    | StateUnknown
    | TipKnown
    | TipUnknown
    | OwnersKnown
    | OwnersUnknown
    | OperationEnded
)

# -- what is wanted -------------------------------------------------------------------------------


class AskState(Struct, frozen=True):
    """Query `localWorkerState`; answered by StateKnown or StateUnknown."""


class AskTip(Struct, frozen=True):
    """Query how far a chain is; answered by TipKnown or TipUnknown."""

    chain_id: str


class AskOwners(Struct, frozen=True):
    """Query who may make blocks of the worker's chain; answered by OwnersKnown or OwnersUnknown."""


class RegisterWorker(Struct, frozen=True):
    """Submit our registration; answered by OperationEnded."""

    owner: str
    capabilities: tuple[str, ...]


class StartLocalService(Struct, frozen=True):
    """Submit that we take over a service; answered by OperationEnded."""

    service_id: str


class Found(Struct, frozen=True):
    """These applications are ours from now on; the list replaces the one before."""

    applications: tuple[Application, ...]


ControllerCommand = (
    AskState
    | AskTip
    | AskOwners
    | RegisterWorker
    | StartLocalService
    | Found
    | WatchChain
    | UnwatchChain
    | Note
)
