"""`forgepool ledger` and `forgepool ledger-emulator`, as people type them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from signers.ledger.ledger_command import ledger
from signers.ledger_emulator.emulator_command import ledger_emulator
from tests.signers.ledger.conftest import Device

URI = "ledger://f2ed2bbe/ed25519/0h/0h"
KEY_HASH = "tz1dyX3B1CFYa2DfdFLyPtiJCfQRUgPVME6E"
CHAIN = "NetXdQprcVkpaWU"


def run(device: Device, *arguments: str) -> Result:
    return CliRunner().invoke(ledger, arguments, env=device.environment)


def answer(device: Device, *arguments: str) -> Any:
    result = run(device, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_devices_are_listed_with_the_uris_of_their_keys(device: Device) -> None:
    [found] = answer(device, "list")
    assert (found["id"], found["version"]) == ("f2ed2bbe", "2.5.1")
    assert found["name"] == "tz1hnWLTrBX8JrSJJX7FfgoYTgv25HgaAuqL"
    for uri in found["uris"][:3]:  # the fourth derivation is not emulated
        assert answer(device, "show", uri)["main_chain"] == "any"
    device.does("lock")
    [locked] = answer(device, "list")
    assert locked["code"] == "device_locked"
    assert "locked" in run(device, "list").output


def test_a_device_with_the_other_networks_app_is_listed_with_its_trouble(device: Device) -> None:
    [found] = answer(device, "list", "--network", "mavryk")
    assert found["code"] == "device_misconfigured"


def test_a_device_is_set_up_shown_and_stopped(device: Device) -> None:
    level = ("--level", "7", "--yes")
    for chain in (CHAIN, "mainnet"):
        done = answer(device, "setup", URI, "--chain-id", chain, *level)
        assert done == {"key_hash": KEY_HASH, "chain_id": CHAIN, "level": 7}
    shown = answer(device, "show", URI, "--on-screen")
    assert shown["key_hash"] == KEY_HASH
    assert shown["bakes_with_this_key"]
    assert (shown["main_chain"], shown["main_mark"]["level"]) == (CHAIN, 7)
    assert answer(device, "set-watermark", URI, "9", "--yes") == {"level": 9}
    assert answer(device, "show", URI)["main_mark"]["level"] == 9
    answer(device, "deauthorize", "f2ed2bbe", "--yes")
    assert answer(device, "show", URI)["bakes_with"] is None
    assert f"key hash             {KEY_HASH}" in run(device, "show", URI).output


def test_errors_are_a_sentence_and_status_1(device: Device) -> None:
    device.does("finger rejects")
    rejected = run(device, "setup", URI, "--chain-id", CHAIN, "--level", "7", "--yes")
    assert rejected.exit_code == 1
    assert "rejected on the device" in rejected.output
    assert run(device, "show", "tcp://host:1/x").exit_code == 1
    unknown = run(device, "setup", URI, "--chain-id", "mainet", "--level", "7", "--yes")
    assert unknown.exit_code == 1
    assert "mainnet, ghostnet" in unknown.output
    asked = run(device, "deauthorize", "f2ed2bbe")
    assert asked.exit_code == 2
    assert "--yes" in asked.output


def test_where_nothing_listens_there_is_no_device() -> None:
    environment = {"LEDGER_PROXY_PORT": "1", "LEDGER_PROXY_ADDRESS": "127.0.0.1"}
    listed = CliRunner().invoke(ledger, ["list"], env=environment)
    assert listed.exit_code == 1
    assert "nothing listens at tcp://127.0.0.1:1" in listed.stdout
    assert "there is no device" in listed.stderr
    as_json = CliRunner().invoke(ledger, ["list", "--json"], env=environment)
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)[0]["code"] == "device_absent"


@pytest.mark.process
def test_an_emulated_device_is_a_process() -> None:
    command = [sys.executable, "-m", "broker.command", "ledger-emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = json.loads(process.stdout.readline())["port"]
            listed = CliRunner().invoke(
                ledger, ["list", "--json"], env={"LEDGER_PROXY_PORT": str(port)}
            )
            assert json.loads(listed.stdout)[0]["id"] == "f2ed2bbe"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_help_lists_what_can_go_wrong() -> None:
    for word in ("unplug", "stick", "finger"):
        assert word in CliRunner().invoke(ledger_emulator, ["--help"]).output
