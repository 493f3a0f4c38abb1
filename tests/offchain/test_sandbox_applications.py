"""The sandbox's applications as values: what they answer, and what a block changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from graphql import parse

from workers.sandbox_apps import task_application
from workers.sandbox_apps.application_host import ApplicationHost, Reply
from workers.sandbox_apps.controller_application import ControllerApplication, ManagedService
from workers.sandbox_apps.faults import FAULTS_MAX, Fault, FaultKind
from workers.sandbox_apps.plan import Plan
from workers.sandbox_apps.sandbox_chain import Notification
from workers.sandbox_apps.task_application import TaskApplication

PLAN = Plan.of(chains=2, applications=2, workers=2)
CHAIN, OTHER = PLAN.chains
APPLICATION = PLAN.applications[0]


class Sandbox:
    """A host without a server, and what its listeners were told."""

    def __init__(self, **options: bool) -> None:
        self.host: ApplicationHost = PLAN.host(**options)
        self.told: list[Notification] = []
        self.host.tell = self.told.append

    def ask(
        self, query: str, chain: str = CHAIN, application: str = APPLICATION, **variables: object
    ) -> tuple[int, Any]:
        """Status and body of a query or a mutation."""
        parse(query)
        body = msgspec.json.encode({"query": query, "variables": variables})
        received = self.host.receive(body, 0, chain, application)
        reply = self.host.answer_application(received)
        assert isinstance(reply, Reply)
        self.host.tell_news()
        return reply.status, msgspec.json.decode(reply.body)

    def value(self, query: str, **where: str) -> Any:
        status, reply = self.ask(query, **where)
        assert status == 200
        [value] = reply["data"].values()
        return value

    def request(self, *inputs: str) -> None:
        for each in inputs:
            self.ask(f'mutation {{ requestTask(operator: "echo", input: "{each}") }}')

    def outcome(self, fields: str) -> Any:
        status, reply = self.ask(f"query {{ processTaskOutcome(outcome: {{{fields}}}) }}")
        assert status == 200
        return reply

    @property
    def tasks(self) -> list[dict[str, str]]:
        return self.value("query { nextActions(now: 0) }")["execute_tasks"]


def test_tasks_are_listed_until_their_outcome_is_stored_whatever_the_order() -> None:
    box = Sandbox()
    box.request("a", "b", "c")
    assert [each["id"] for each in box.tasks] == ["0", "1", "2"]
    assert len(box.outcome('id: "1", operator: "echo", output: "B"')["data"]) == 64
    assert [each["input"] for each in box.tasks] == ["a", "c"]
    assert box.value("query { results }") == ["B"]
    assert box.value("query { taskCount }") == 1
    heights = [each.reason["NewBlock"]["height"] for each in box.told]
    assert heights == [0, 1, 2, 3]
    assert {each.chain_id for each in box.told} == {CHAIN}


def test_an_outcome_of_a_task_that_is_gone_is_stored_again() -> None:
    box = Sandbox()
    box.request("a")
    for _ in range(2):
        box.outcome('id: "0", operator: "echo", output: "A"')
    assert box.value("query { results }") == ["A", "A"]


@pytest.mark.parametrize("id_field", ["", 'id: "x", ', 'id: "-1", ', 'id: "²", ', 'id: "", '])
def test_an_outcome_without_a_number_schedules_nothing(id_field: str) -> None:
    box = Sandbox()
    box.request("a")
    reply = box.outcome(id_field + 'operator: "echo", output: "A"')
    assert reply == {"data": {"processTaskOutcome": False}}
    assert len(box.tasks) == 1


def test_without_ids_an_outcome_takes_the_oldest_task_away() -> None:
    box = Sandbox(ids=False)
    box.request("a", "b")
    assert box.tasks[0] == {"operator": "echo", "input": "a"}
    box.outcome('operator: "echo", output: "B"')
    assert [each["input"] for each in box.tasks] == ["b"]


def test_the_last_applications_can_be_without_ids() -> None:
    plan = Plan.of(applications=3, without_ids=2)
    box = Sandbox()
    box.host = plan.host()
    task = 'mutation { requestTask(operator: "echo", input: "x") }'
    asked = "query { nextActions(now: 0) }"
    for application in plan.applications:
        box.ask(task, application=application)
    listed = [box.value(asked, application=each)["execute_tasks"][0] for each in plan.applications]
    assert ["id" in each for each in listed] == [True, False, False]


def test_a_sandbox_that_is_full_makes_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_application, "KEPT_CHARACTERS_MAX", 10)
    box = Sandbox()
    box.request("12345", "1234567")
    assert [each["input"] for each in box.tasks] == ["12345"]
    status, reply = box.ask(
        'query { processTaskOutcome(outcome: {id: "0", operator: "echo", output: "1234567"}) }'
    )
    assert (status, "the sandbox is full" in reply["error"]) == (500, True)
    assert len(box.told) == 1


def test_chains_and_applications_have_their_own_tasks() -> None:
    box = Sandbox()
    box.request("a")
    assert box.ask("query { taskCount }", application=PLAN.applications[1])[0] == 200
    there = box.value("query { nextActions(now: 0) }", application=PLAN.applications[1])
    assert there["execute_tasks"] == []
    mutation = f'mutation {{ requestTaskOn(chainId: "{OTHER}", operator: "echo", input: "x") }}'
    assert box.ask(mutation)[0] == 200
    assert len(box.value("query { nextActions(now: 0) }", chain=OTHER)["execute_tasks"]) == 1
    assert [(each.chain_id, *each.reason) for each in box.told[1:]] == [
        (CHAIN, "NewBlock"), (OTHER, "NewIncomingBundle"), (OTHER, "NewBlock"),
    ]  # fmt: skip
    trapped = mutation.replace(OTHER, "c3" * 32)
    assert "there is no chain" in box.ask(trapped)[1]["error"]


def test_what_an_application_says_can_be_scripted() -> None:
    box = Sandbox()
    application = box.host.network.applications[APPLICATION]
    assert isinstance(application, TaskApplication)
    application.answers.extend([{"set_cursor": "a"}, {"execute_tasks": None}])
    application.every_answer = {"callback_in_us": 10}
    query = "query { nextActions(cursor: null, now: 100) }"
    assert box.value(query)["set_cursor"] == "a"
    assert box.value(query)["execute_tasks"] is None
    for _ in range(2):
        assert box.value(query)["request_callback"] == 110


@pytest.mark.parametrize(
    "query",
    [
        "query { nextActions }",
        "query { nextActions(lastRequestedCallback: null, now: 0) }",
        'query { nextActions(now: "0") }',
        "query { nextActions(now: 18446744073709551616) }",
        'query { processTaskOutcome(outcome: {operator: "echo"}) }',
        "query { taskcount }",
        "mutation { nextActions(now: 0) }",
    ],
)
def test_a_question_that_is_wrong_is_answered_by_errors(query: str) -> None:
    status, reply = Sandbox().ask(query)
    assert status == 200
    assert reply["data"] is None
    assert reply["errors"][0]["message"]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"query":1}', b"\xff", b"{" * 5000])
def test_a_body_that_is_no_question_is_answered_by_errors(body: bytes) -> None:
    host = PLAN.host()
    reply = host.answer_application(host.receive(body, 0, CHAIN, APPLICATION))
    assert isinstance(reply, Reply)
    assert b"errors" in reply.body
    reply = host.answer_node(host.receive(body, 0))
    assert isinstance(reply, Reply)
    assert b"errors" in reply.body


@pytest.mark.parametrize(
    ("chain", "application", "status", "words"),
    [
        ("x", APPLICATION, 400, "malformed chain ID"),
        (CHAIN, APPLICATION.upper(), 400, "malformed application ID"),
        ("c3" * 32, APPLICATION, 500, "not in the wallet"),
        (CHAIN, "c3" * 32, 500, "not registered"),
    ],
)
def test_ids_that_are_wrong_have_their_errors(
    chain: str, application: str, status: int, words: str
) -> None:
    answered, reply = Sandbox().ask("query { taskCount }", chain, application)
    assert answered == status
    assert words in reply["error"]


def test_a_read_only_sandbox_makes_no_block() -> None:
    box = Sandbox(read_only=True)
    status, reply = box.ask('mutation { requestTask(operator: "echo", input: "") }')
    assert (status, "read-only" in reply["error"]) == (403, True)
    assert (box.tasks, box.told) == ([], [])


def test_faults_are_met_in_their_order_by_the_requests_that_fit() -> None:
    box = Sandbox()
    faults = box.host.faults
    faults.add(Fault(FaultKind.REFUSE, field="results", text="first"))
    faults.add(Fault(FaultKind.REFUSE, application_id=PLAN.applications[1]))
    faults.add(Fault(FaultKind.ERROR, times=2, status=503))
    faults.add(Fault(FaultKind.REFUSE, times=0, text="for ever"))
    assert box.ask("query { taskCount }")[0] == 503
    assert box.ask("query { results }")[1]["errors"][0]["message"] == "first"
    assert box.ask("query { results }")[0] == 503
    for _ in range(3):
        assert box.ask("query { results }")[1]["errors"][0]["message"] == "for ever"
    assert len(faults.due()) == 2
    assert [each.fault for each in box.host.requests.since(2)] == ["error", *["refuse"] * 3]
    faults.clear()
    assert box.value("query { results }") == []


def test_faults_are_bounded() -> None:
    faults = Sandbox().host.faults
    for _ in range(FAULTS_MAX):
        faults.add(Fault(FaultKind.HANG))
    with pytest.raises(ValueError, match="no more"):
        faults.add(Fault(FaultKind.HANG))


def test_requests_are_recorded_with_what_they_asked() -> None:
    box = Sandbox()
    box.ask("query($now: Timestamp!) { nextActions(now: $now) }", now=7)
    [request] = box.host.requests.asking("nextActions", APPLICATION)
    assert (request.number, request.variables) == (1, {"now": 7})
    assert box.host.requests.asking("nextActions", PLAN.applications[1]) == []
    assert box.host.requests.since(1) == []


# -- the controller -------------------------------------------------------------------------------


def command(box: Sandbox, text: str, chain: str = PLAN.controller_chain) -> tuple[int, Any]:
    mutation = f'mutation {{ executeControllerCommand(admin: "0x00", command: {text}) }}'
    return box.ask(mutation, chain, PLAN.controller)


def register(box: Sandbox, number: int, owner: str | None = None) -> tuple[int, Any]:
    chain, ours = PLAN.workers[number]
    mutation = (
        f'mutation {{ executeWorkerCommand(owner: "{owner or ours}", '
        'command: {RegisterWorker: {capabilities: ["ls"]}}) }'
    )
    return box.ask(mutation, chain, PLAN.controller)


def local(box: Sandbox, number: int) -> Any:
    where = {"chain": PLAN.workers[number].chain_id, "application": PLAN.controller}
    return box.value("query { localWorkerState }", **where)


def test_a_service_moves_from_worker_to_worker() -> None:
    box = Sandbox()
    application = box.host.network.applications[PLAN.controller]
    assert isinstance(application, ControllerApplication)
    service_id = application.add_service(ManagedService(APPLICATION, "engine", CHAIN))
    assert local(box, 0)["local_worker"] is None
    assert [register(box, number)[0] for number in (0, 1)] == [200, 200]
    assert local(box, 0)["local_worker"]["capabilities"] == ["ls"]
    keys = box.value("query { workers { keys } }", application=PLAN.controller)["keys"]
    assert keys == [worker.chain_id for worker in PLAN.workers]
    found = box.value(
        f'query {{ readService(serviceId: "{service_id}") }}', application=PLAN.controller
    )
    assert found["name"] == "engine"

    def assign(number: int) -> None:
        worker = PLAN.workers[number].chain_id
        text = f'{{UpdateService: {{service_id: "{service_id}", workers: ["{worker}"]}}}}'
        assert command(box, text)[0] == 200

    assign(0)
    assert [each["name"] for each in local(box, 0)["local_services"]] == ["engine"]
    box.host.add_blocks(CHAIN, 3)
    application.start_after = 2
    assign(1)
    assert local(box, 0)["local_services"] == []
    [[pending_id, [chain, start]]] = local(box, 1)["local_pending_services"]
    assert (pending_id, chain) == (service_id, CHAIN)
    assert start == {"start_block_height": 5, "owners_to_remove": [PLAN.workers[0].owner]}
    start_local = f'mutation {{ startLocalService(serviceId: "{service_id}") }}'
    where = {"chain": PLAN.workers[1].chain_id, "application": PLAN.controller}
    assert box.ask(start_local, **where)[0] == 200
    assert [each["name"] for each in local(box, 1)["local_services"]] == ["engine"]
    assert "not pending" in box.ask(start_local, **where)[1]["error"]


def test_the_controller_refuses_what_makes_no_sense() -> None:
    box = Sandbox()
    assert "not an owner" in register(box, 0, "0xbeef")[1]["error"]
    unknown = f'{{UpdateService: {{service_id: "{"5e" * 32}", workers: []}}}}'
    assert "there is no blob" in command(box, unknown)[1]["error"]
    assert "controller chain" in command(box, unknown, CHAIN)[1]["error"]
    assert "Failed to parse" in command(box, "{Reset: {}}")[1]["errors"][0]["message"]
