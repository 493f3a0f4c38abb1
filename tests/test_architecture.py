"""The architecture, read from the imports: who may know whom, and who may touch the world.

Imports inside functions count, and so do those under TYPE_CHECKING unless said otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("broker", "workers", "signers")

# What of the broker a worker may use: the leaves that hold messages, sockets and settings.
BROKER_LEAVES = {
    "broker.access",
    "broker.applications",
    "broker.client",
    "broker.client_session",
    "broker.collector",
    "broker.config",
    "broker.errors",
    "broker.messages",
    "broker.place",
    "broker.process_signals",
    "broker.quarantine.admin_client",
    "broker.quarantine.administration",
    "broker.quarantine.bounds",
    "broker.quarantine.notices",
    "broker.quarantine.offers",
    "broker.quarantine.records",
    "broker.quarantine.service",
    "broker.quarantine.turn",
    "broker.ring",
    "broker.sockets",
    "broker.task_options",
    "broker.telemetry",
    "broker.topic_reader",
    "broker.verification",
    "broker.wire",
}

# State machines, codecs and rules: no clock, no socket, no file, no chance of their own.
PURE = {
    "broker": {
        "accounting", "applications", "areas", "asking", "assignments", "backoff", "bounds",
        "chain_watch", "check_routing", "cleared_chain", "client_session", "conduct", "deadlines",
        "delegate_queue", "dispatcher", "ends", "errors", "flights", "held_blocks",
        "held_briefly", "held_item", "held_votes", "holding", "intake", "invariants", "items",
        "known_events", "known_hashes", "known_requests", "lanes", "load", "membership",
        "messages", "missing_blocks", "moment", "notices", "offences", "offers", "peers",
        "quarantine.quarantine", "ready_lines", "records", "reload", "requests", "restart_policy",
        "ring", "slashing_table", "storing", "task_event_body", "task_routing", "topic_reader",
        "topics", "turn", "verification", "watch_list", "wire",
    },
    "workers": {
        "actions", "ancestor_block", "application", "application_host", "application_kind",
        "asking", "attempts", "block_check", "block_operations", "block_state",
        "block_votes", "bls_vote", "chain_rules", "chain_verdict", "chance",
        "controller.controller", "controller_application", "controller_words", "deadline_heap",
        "denials",
        "evidence_check", "exit_class", "faults", "gate", "header_check", "http_protocol",
        "jittered_pause", "key_listing", "known_chain", "lane", "level_rights",
        "node_queries", "node_questions", "node_replies", "notification_session",
        "notifications", "offchain.commands", "offchain.ends", "offchain.records",
        "offchain.stimuli", "open_jobs", "open_task", "operator_table", "ordered_group",
        "pending_services", "pipeline", "places", "plan", "processor",
        "processor_invariants", "processor_settings", "processor_turn", "requests_log",
        "retry_gate", "run_environment", "sandbox_chain", "sandbox_network", "seed_batch",
        "seed_processor", "signing_job", "socket_answers", "standing", "stream_desk",
        "task_application", "task_list", "task_news", "verdicts", "verifier_setup", "vote_check",
        "warm_up", "watched_application", "worker",
    },
    "signers": {
        "apdu", "baker_file", "baking_app", "base58", "block_header", "bls", "bson",
        "circuit_breaker", "codec", "companion_weight", "curve", "decision", "derivation",
        "device_errors", "device_marks", "device_name", "diagnosis", "ec_point", "ed25519",
        "error_trace", "errors", "evidence", "explain", "file_names", "forgepool_file", "framing",
        "hashes", "key_uri", "located_json", "mark_table", "marks_comparison", "marks_in_force",
        "marks_report", "micheline", "networks", "octez_signer_file", "operation", "p256",
        "policy_changes", "policy_toml", "recorded_mark", "rule", "secp256k1", "signable",
        "signatory_file", "signatory_policy", "signer_environment", "signing", "socket_protocol",
        "status_words", "tagged_keys", "token_errors", "vote", "watermark",
    },
}  # fmt: skip
WORLD = {"zmq", "os", "time", "random", "threading", "socket", "subprocess", "logging", "asyncio"}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


MODULES = dict(modules())


def imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES} or {node.module}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_packages_know_only_whom_they_may(module: str) -> None:
    package = module.partition(".")[0]
    ours = {i for i in imports(MODULES[module]) if i.partition(".")[0] in PACKAGES}
    foreign = {i for i in ours if i.partition(".")[0] != package}
    if package in ("signers", "broker"):
        assert foreign == set(), f"{package} can be audited and run alone"
    else:
        of_broker = {i for i in foreign if i.startswith("broker")}
        assert of_broker <= BROKER_LEAVES, "a worker does not reach into the broker"


@pytest.mark.parametrize(
    "module", [f"{package}.{name}" for package, names in PURE.items() for name in sorted(names)]
)
def test_pure_modules_touch_nothing(module: str) -> None:
    [path] = [p for name, p in MODULES.items() if _is(name, module)]
    touched = {i.partition(".")[0] for i in imports(path)} & WORLD
    assert touched == set(), "time, chance and effects are passed in"


def _is(name: str, module: str) -> bool:
    """Whether a module is the one meant, wherever its package keeps it."""
    package, _, wanted = module.partition(".")
    return name.startswith(package + ".") and name.endswith("." + wanted)


def test_the_command_imports_no_command() -> None:
    names = "broker.registered_commands"
    assert {i for i in imports(MODULES["broker.command"]) if i.startswith(PACKAGES)} == {names}
    assert not {i for i in imports(MODULES[names]) if i.startswith(PACKAGES)}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "data"}
    assert not {m for m in MODULES if m.rpartition(".")[2] in drawers}
