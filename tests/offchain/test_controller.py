"""The on-chain controller followed, as transcripts: what happens in, what is wanted out."""

from __future__ import annotations

from math import inf

from workers.offchain.application import Application
from workers.offchain.commands import Note, UnwatchChain, WatchChain
from workers.offchain.controller.attempts import RETRY_FIRST_S
from workers.offchain.controller.controller import SAFETY_S, Controller
from workers.offchain.controller.controller_words import (
    AskOwners,
    AskState,
    AskTip,
    Began,
    Found,
    OperationEnded,
    OwnersKnown,
    OwnersUnknown,
    RegisterWorker,
    StartLocalService,
    StateKnown,
    StateUnknown,
    TipKnown,
    TipUnknown,
)
from workers.offchain.ends import SubmitEnd, SubmitResult
from workers.offchain.node_service.node_replies import (
    ChainDescription,
    LocalWorker,
    LocalWorkerState,
    PendingService,
)
from workers.offchain.stimuli import Notified, StreamOpened

HOME, CHAIN, OTHER = "00" * 32, "a1" * 32, "b2" * 32
APPLICATION, SECOND = "0a" * 32, "0b" * 32
OWNER = "0xf00d"
NOBODY = LocalWorkerState([])
OURS = LocalWorker(OWNER, ["a", "b"])
COMMITTED = OperationEnded(SubmitResult(SubmitEnd.COMMITTED, certificate="cc"))
REGISTRATION = RegisterWorker(OWNER, ("a", "b"))


def service(application_id: str = APPLICATION, chain_id: str = CHAIN) -> ChainDescription:
    return ChainDescription(application_id, chain_id)


def pending(service_id: str, height: int, chain_id: str = CHAIN):
    return service_id, (chain_id, PendingService(height))


def known(*services: ChainDescription, waiting: tuple = (), owner: str = OWNER) -> StateKnown:
    return StateKnown(LocalWorkerState(list(services), LocalWorker(owner), list(waiting)))


def block(chain_id: str, height: int | None) -> Notified:
    return Notified(chain_id, "NewBlock", height)


def begun(owner: str = OWNER) -> Controller:
    """A controller that has asked for the state the first time."""
    core = Controller(Application(HOME, SECOND), owner, ["b", "a", "b"], lambda: 1.0)
    assert core.handle(Began(), 0.0) == [WatchChain(HOME), AskState()]
    return core


def failed(text: str) -> OperationEnded:
    return OperationEnded(SubmitResult(SubmitEnd.TRANSIENT, text=text))


def notes(commands: list[object]) -> list[str]:
    return [command.text for command in commands if isinstance(command, Note)]


# -- registration ---------------------------------------------------------------------------------


def test_an_unknown_worker_is_registered_once_however_many_blocks_come() -> None:
    core = begun()
    assert core.handle(StateKnown(NOBODY), 0.0) == [Found(()), REGISTRATION]
    for height in range(5):
        assert core.handle(block(HOME, height), 1.0) == ([AskState()] if height == 0 else [])
    assert core.handle(StateKnown(NOBODY), 1.5) == [AskState()], "blocks came meanwhile"
    assert core.handle(StateKnown(NOBODY), 1.6) == []
    [_, again] = core.handle(COMMITTED, 2.0)
    assert again == AskState()
    assert core.handle(StateKnown(LocalWorkerState([], OURS)), 2.1) == []
    assert core.deadline() == 2.1 + SAFETY_S


def test_a_registration_that_fails_is_repeated_after_a_pause_and_not_at_each_block() -> None:
    core = begun()
    core.handle(StateKnown(NOBODY), 0.0)
    [note, ask] = core.handle(failed("no leader"), 1.0)
    assert (ask, "code=transient reason=no leader" in note.text) == (AskState(), True)
    assert core.handle(StateKnown(NOBODY), 1.1) == []
    assert core.handle(block(HOME, 1), 1.2) == [AskState()]
    assert core.handle(StateKnown(NOBODY), 1.3) == []
    assert core.deadline() == 1.0 + RETRY_FIRST_S
    assert core.tick(2.0) == [REGISTRATION]
    assert core.handle(failed("no leader"), 3.0) == [AskState()], "told of already"
    core.handle(StateKnown(NOBODY), 3.1)
    assert core.deadline() == 3.0 + 2 * RETRY_FIRST_S


def test_a_registration_that_has_no_effect_is_not_repeated_without_end() -> None:
    core = begun()
    core.handle(StateKnown(NOBODY), 0.0)
    core.handle(COMMITTED, 0.1)
    assert core.handle(StateKnown(NOBODY), 0.2) == []
    assert core.deadline() == 0.1 + RETRY_FIRST_S
    assert core.tick(1.2) == [REGISTRATION]


def test_a_worker_that_was_forgotten_registers_itself_again() -> None:
    core = begun()
    assert core.handle(known(service()), 0.0) == [Found((Application(CHAIN, APPLICATION),))]
    core.handle(block(HOME, 1), 1.0)
    assert core.handle(StateKnown(NOBODY), 1.1) == [Found(()), REGISTRATION]


def test_a_worker_of_another_owner_is_told_of_and_given_nothing() -> None:
    core = begun()
    commands = core.handle(known(service(), waiting=(pending("s", 0),), owner="0xbeef"), 0.0)
    assert "registered=0xbeef ours=0xf00d" in notes(commands)[0]
    assert commands[1:] == [Found(())]
    core.handle(block(HOME, 1), 1.0)
    assert core.handle(known(service(), owner="0xbeef"), 1.1) == [], "told of once"
    core.handle(block(HOME, 2), 2.0)
    assert core.handle(known(service()), 2.1) == [Found((Application(CHAIN, APPLICATION),))]


def test_without_an_owner_the_only_one_of_the_chain_is_registered() -> None:
    core = begun(owner="")
    assert core.handle(StateKnown(NOBODY), 0.0) == [Found(()), AskOwners()]
    assert core.handle(block(HOME, 1), 0.1) == [AskState()]
    assert core.handle(StateKnown(NOBODY), 0.2) == []
    assert core.handle(OwnersKnown([OWNER]), 0.3) == [REGISTRATION]


def test_a_chain_of_several_owners_wants_to_be_told_which_is_ours() -> None:
    core = begun(owner="")
    core.handle(StateKnown(NOBODY), 0.0)
    assert "owners=0xbeef,0xf00d" in notes(core.handle(OwnersKnown(["0xbeef", OWNER]), 1.0))[0]
    assert core.deadline() == 1.0 + RETRY_FIRST_S
    assert core.tick(2.0) == [AskOwners()]
    assert len(notes(core.handle(OwnersUnknown("away"), 3.0))) == 1
    assert core.tick(5.0) == [AskOwners()]
    assert core.handle(OwnersUnknown("away"), 6.0) == [], "told of already"


def test_without_an_owner_whoever_is_registered_is_us() -> None:
    core = begun(owner="")
    assert core.handle(known(service()), 0.0) == [Found((Application(CHAIN, APPLICATION),))]


# -- services -------------------------------------------------------------------------------------


def test_the_list_of_applications_is_told_when_it_has_changed() -> None:
    core = begun()
    first, second = Application(CHAIN, APPLICATION), Application(OTHER, SECOND)
    assert core.handle(known(service()), 0.0) == [Found((first,))]
    for height, services, found in (
        (1, (service(),), []),
        (2, (service(SECOND, OTHER), service(), service()), [Found((first, second))]),
        (3, (), [Found(())]),
    ):
        assert core.handle(block(HOME, height), height) == [AskState()]
        assert core.handle(known(*services), height) == found


def test_one_service_with_a_bad_id_spoils_no_other() -> None:
    core = begun()
    commands = core.handle(
        known(service("nonsense"), service(), waiting=(pending("s", 0, "x"),)), 0
    )
    assert len(notes(commands)) == 1
    assert commands[1:] == [Found((Application(CHAIN, APPLICATION),))]


def test_a_pending_service_is_taken_over_at_its_height_and_not_before() -> None:
    core = begun()
    assert core.handle(known(waiting=(pending("s", 7),)), 0.0) == [
        WatchChain(CHAIN), Found(()), AskTip(CHAIN),
    ]  # fmt: skip
    assert core.handle(TipKnown(CHAIN, 7), 0.1) == [], "its last block is the sixth"
    assert core.handle(Notified(CHAIN, "NewRound", 9), 0.2) == []
    assert core.handle(block(CHAIN, 6), 0.3) == []
    assert core.handle(block(CHAIN, 7), 0.4) == [StartLocalService("s")]
    assert core.handle(block(CHAIN, 8), 0.5) == [], "it is on its way"
    [_, ask] = core.handle(COMMITTED, 0.6)
    assert ask == AskState()
    assert core.handle(known(service()), 0.7) == [
        UnwatchChain(CHAIN), Found((Application(CHAIN, APPLICATION),)),
    ]  # fmt: skip


def test_a_pending_service_whose_height_has_passed_is_taken_over_without_any_block() -> None:
    core = begun()
    core.handle(known(waiting=(pending("s", 7),)), 0.0)
    assert core.handle(TipKnown(CHAIN, 30), 0.1) == [StartLocalService("s")]


def test_all_pending_services_of_a_chain_are_taken_over_one_after_the_other() -> None:
    core = begun()
    waiting = (pending("first", 7), pending("second", 9), pending("elsewhere", 0, OTHER))
    commands = core.handle(known(waiting=waiting), 0.0)
    assert commands == [
        WatchChain(CHAIN), WatchChain(OTHER), Found(()), AskTip(CHAIN), AskTip(OTHER),
    ]  # fmt: skip
    assert core.handle(TipKnown(CHAIN, 10), 0.1) == [StartLocalService("first")]
    assert core.handle(COMMITTED, 0.2)[1:] == [AskState(), StartLocalService("second")]
    core.handle(known(waiting=waiting[1:]), 0.3)
    assert core.handle(TipKnown(OTHER, 1), 0.4) == []
    assert core.handle(COMMITTED, 0.5)[1:] == [AskState(), StartLocalService("elsewhere")]


def test_a_takeover_that_fails_is_repeated_and_holds_up_no_other() -> None:
    core = begun()
    waiting = (pending("first", 0), pending("second", 0))
    core.handle(known(waiting=waiting), 0.0)
    assert core.handle(TipKnown(CHAIN, 1), 0.1) == [StartLocalService("first")]
    commands = core.handle(failed("no leader"), 1.0)
    assert commands[1:] == [AskState(), StartLocalService("second")]
    core.handle(known(waiting=waiting), 1.1)
    core.handle(COMMITTED, 1.2)
    assert core.handle(known(waiting=waiting[:1]), 1.3) == []
    assert core.deadline() == 1.0 + RETRY_FIRST_S
    assert core.tick(2.0) == [StartLocalService("first")]


def test_a_takeover_of_what_was_taken_from_us_is_forgotten() -> None:
    core = begun()
    core.handle(known(waiting=(pending("s", 0),)), 0.0)
    core.handle(TipKnown(CHAIN, 1), 0.1)
    core.handle(block(HOME, 1), 0.2)
    assert core.handle(known(), 0.3) == [UnwatchChain(CHAIN)]
    assert core.handle(failed("not pending"), 0.4) == [AskState()]
    assert core.handle(known(), 0.5) == []


# -- what fails -----------------------------------------------------------------------------------


def test_a_state_that_cannot_be_read_is_asked_for_again_by_the_clock() -> None:
    core = begun()
    assert notes(core.handle(StateUnknown("out of fuel"), 1.0)) == [
        "controller_unread reason=out of fuel"
    ]
    assert core.handle(block(HOME, 1), 1.1) == [], "the pause is a gate"
    assert core.deadline() == 1.0 + RETRY_FIRST_S
    assert core.tick(2.0) == [AskState()]
    assert core.handle(StateUnknown("out of fuel"), 3.0) == []
    assert core.deadline() == 3.0 + 2 * RETRY_FIRST_S
    core.tick(5.0)
    core.handle(known(), 5.1)
    core.handle(block(HOME, 2), 6.0)
    core.handle(StateUnknown("out of fuel"), 7.0)
    assert core.deadline() == 7.0 + RETRY_FIRST_S, "the pause begins anew"


def test_a_chain_that_does_not_tell_its_height_is_asked_again() -> None:
    core = begun()
    core.handle(known(waiting=(pending("s", 7),)), 0.0)
    assert len(notes(core.handle(TipUnknown(CHAIN, "away"), 1.0))) == 1
    assert core.deadline() == 1.0 + RETRY_FIRST_S
    assert core.tick(2.0) == [AskTip(CHAIN)]
    assert core.handle(TipUnknown(CHAIN, "away"), 3.0) == []
    assert core.handle(TipUnknown(OTHER, "away"), 3.0) == []
    assert core.handle(TipKnown(OTHER, 99), 3.0) == []


def test_a_block_without_a_height_has_its_chain_asked() -> None:
    core = begun()
    core.handle(known(waiting=(pending("s", 7),)), 0.0)
    core.handle(TipKnown(CHAIN, 1), 0.1)
    assert core.handle(block(CHAIN, None), 0.2) == [AskTip(CHAIN)]


def test_what_a_broken_stream_has_missed_is_asked_for() -> None:
    core = begun()
    core.handle(known(waiting=(pending("s", 7),)), 0.0)
    core.handle(TipKnown(CHAIN, 1), 0.1)
    assert core.handle(StreamOpened(HOME), 1.0) == [AskState()]
    assert core.handle(StreamOpened(CHAIN), 1.0) == [AskTip(CHAIN)]
    assert core.handle(StreamOpened(OTHER), 1.0) == []


def test_without_any_news_everything_is_asked_for_now_and_again() -> None:
    core = begun()
    core.handle(known(waiting=(pending("s", 7),)), 0.0)
    core.handle(TipKnown(CHAIN, 1), 0.1)
    assert core.deadline() == SAFETY_S
    assert core.tick(SAFETY_S - 1) == []
    assert core.tick(SAFETY_S) == [AskState(), AskTip(CHAIN)]
    assert core.deadline() == inf, "both are on their way"
