"""`forgepool pkcs11`, as people type it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from signers.formats.networks import MAVRYK, TEZOS
from signers.keyring.curve import Curve
from tests.signers.pkcs11.soft_token import PIN, SoftToken, module

pytestmark = pytest.mark.process

MESSAGE = b"\x03hello"


@pytest.fixture
def token(tmp_path: Path) -> SoftToken:
    return SoftToken(tmp_path)


def run(token: SoftToken, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker.command", "pkcs11", "list", *arguments],
        env=token.environment | environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def answer(token: SoftToken, *arguments: str, **environment: str) -> Any:
    done = run(token, "--json", "--module", module(), *arguments, **environment)
    return json.loads(done.stdout)


def test_the_uris_that_are_listed_sign(token: SoftToken, tmp_path: Path) -> None:
    curves = {"baker 1": Curve.P256, "baker 2": Curve.SECP256K1, "baker 3": Curve.ED25519}
    keys = {label: token.add(curve, label, f"0{n}") for n, (label, curve) in
            enumerate(curves.items())}  # fmt: skip
    pin = tmp_path / "pin"
    pin.write_text(PIN)
    [found] = answer(token, "--pin-source", str(pin))
    assert (found["token"], found["serial"]) == ("pool", token.serial)
    assert [key["label"] for key in found["keys"]] == list(keys)
    with token.process() as child:
        for listed, key in zip(found["keys"], keys.values(), strict=True):
            assert listed["key_hash"] == key.hash(TEZOS)
            assert listed["public_key"] == key.text()
            assert key.verify(MESSAGE, child.sign(listed["uri"], key))
    [public] = answer(token, "--network", "mavryk", "--token", "pool")
    hashes = [key["key_hash"] for key in public["keys"]]
    assert hashes == [key.hash(MAVRYK) for key in keys.values()]


def test_a_file_beside_us_is_named_by_its_whole_path(token: SoftToken, tmp_path: Path) -> None:
    token.add(Curve.P256, "baker")
    (tmp_path / "pin").write_text(PIN)
    relative = os.path.relpath(tmp_path / "pin")
    [found] = answer(token, "--pin-source", relative)
    assert f"pin-source={tmp_path / 'pin'}" in found["keys"][0]["uri"]


def test_a_pin_is_shown_to_one_token_alone(token: SoftToken, tmp_path: Path) -> None:
    other = SoftToken(tmp_path, "other")
    token.add(Curve.P256, "baker")
    other.add(Curve.P256, "spare")
    assert len(answer(token)) == 2
    assert answer(token, FORGEPOOL_PKCS11_PIN=PIN)["code"] == "pkcs11_ambiguous"
    [found] = answer(token, "--token", "other", FORGEPOOL_PKCS11_PIN=PIN)
    assert [key["label"] for key in found["keys"]] == ["spare"]
    assert answer(token, "--token", "x") == []


def test_the_text_for_people_shows_no_pin(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    done = run(token, FORGEPOOL_PKCS11_PIN=PIN, FORGEPOOL_PKCS11_MODULE=module())
    assert key.hash(TEZOS) in done.stdout
    assert f"pkcs11:token=pool;object=baker;id=%A1?module-path={module()}\n" in done.stdout
    assert PIN not in done.stdout
    none = run(token, "--token", "x", "--module", "softhsm2")
    assert "no token" in none.stdout


def test_an_error_is_a_sentence_and_status_1(token: SoftToken) -> None:
    missing = run(token, "--module", "/nowhere.so")
    assert missing.returncode == 1
    assert "/nowhere.so" in missing.stderr
    wrong = answer(token, FORGEPOOL_PKCS11_PIN="9999")
    assert wrong["code"] == "pkcs11_wrong_pin"
    assert run(token).returncode == 1
