"""Signing with real tokens of SoftHSM: what it gives, and what can be wrong with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signers.curves import p256, secp256k1
from signers.formats.networks import TEZOS
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey
from tests.signers.pkcs11.soft_token import PIN, SoftToken, module

pytestmark = pytest.mark.process

CURVES = (Curve.ED25519, Curve.SECP256K1, Curve.P256)
MESSAGE = b"\x03hello"


@pytest.fixture
def token(tmp_path: Path) -> SoftToken:
    return SoftToken(tmp_path)


def until(ask: Callable[[], Any], found: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + 20.0
    while not found(answer := ask()):
        assert time.monotonic() < end, answer
        time.sleep(0.01)
    return answer


def given(token: SoftToken, label: str, key: PublicKey) -> dict[str, Any]:
    hash = key.hash(TEZOS)
    return {
        "uri": token.uri(label), "hash": hash, "message": MESSAGE.hex(), "key": key.text()
    }  # fmt: skip


@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.value.name)
def test_a_key_of_each_curve_signs(token: SoftToken, curve: Curve) -> None:
    key = token.add(curve, "baker")
    with token.process() as child:
        for message in (MESSAGE, b"\x13" + bytes(200)):
            signature = child.sign(token.uri("baker"), key, message)
            assert key.verify(message, signature)
        again = child.sign(token.uri("baker"), key, MESSAGE, knows_key=False)
        assert key.verify(MESSAGE, again), "the public key is read from the token"


@pytest.mark.parametrize("curve", CURVES[1:], ids=lambda c: c.value.name)
def test_ecdsa_takes_the_lower_s_each_time_and_another_nonce(
    token: SoftToken, curve: Curve
) -> None:
    key = token.add(curve, "baker")
    with token.process() as child:
        answers = child.ask("sign_at_once", keys=[given(token, "baker", key)], threads=1, times=64)
    signatures = {bytes.fromhex(each) for each in answers}
    assert len(signatures) == 64
    low_s = {Curve.SECP256K1: secp256k1.low_s, Curve.P256: p256.low_s}[curve]
    for each in signatures:
        assert low_s(int.from_bytes(each[:32]), int.from_bytes(each[32:])) == each
        assert key.verify(MESSAGE, each)


def test_many_threads_and_two_tokens_of_one_module(token: SoftToken, tmp_path: Path) -> None:
    other = SoftToken(tmp_path, "other")
    places = [(token, "one"), (token, "two"), (other, "one")]
    keys = [each.add(Curve.P256, label, f"a{n}") for n, (each, label) in enumerate(places)]
    asked = [given(each, label, key) for (each, label), key in zip(places, keys, strict=True)]
    with token.process() as child:
        answers = child.ask("sign_at_once", keys=asked, threads=8, times=100)
    assert len(answers) == 300
    for n, answer in enumerate(answers):
        assert keys[n % 3].verify(MESSAGE, bytes.fromhex(answer))


def test_a_token_is_found_by_its_serial_and_a_key_by_its_id(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker", "0a3b")
    token.add(Curve.P256, "another", "0a3c")
    uri = token.uri("baker").replace("object=baker", "id=%0a%3B")
    with token.process() as child:
        for name in (f"token=pool;serial={token.serial}", f"serial={token.serial}"):
            assert key.verify(MESSAGE, child.sign(uri.replace("token=pool", name), key))
        elsewhere = uri.replace("token=pool", "token=pool;serial=0")
        assert child.sign(elsewhere, key) == "pkcs11_token_absent"


# -- PIN ------------------------------------------------------------------------------------------


def test_a_pin_comes_from_the_uri_a_file_or_the_environment(
    token: SoftToken, tmp_path: Path
) -> None:
    key = token.add(Curve.P256, "baker")
    file = tmp_path / "pin"
    file.write_text(f"{PIN}\n")
    for more in (f"&pin-source=file:{file}", f"&pin-source={file}", "&pin-source=env:HSM_PIN", ""):
        with token.process(HSM_PIN=PIN, FORGEPOOL_PKCS11_PIN=PIN) as child:
            assert key.verify(MESSAGE, child.sign(token.uri("baker", more), key))


def test_a_wrong_pin_is_shown_to_the_token_once(token: SoftToken, tmp_path: Path) -> None:
    key = token.add(Curve.P256, "baker")
    pin = tmp_path / "pin"
    pin.write_text("9999")
    uri = token.uri("baker", f"&pin-source={pin}")
    with token.process() as child:
        texts = [child.ask("sign", **given(token, "baker", key) | {"uri": uri}) for _ in range(3)]
        assert {each["code"] for each in texts} == {"pkcs11_wrong_pin"}
        assert "PinIncorrect" in texts[0]["text"]
        assert all("not shown again" in each["text"] for each in texts[1:])
        assert "9999" not in str(texts)
        pin.write_text(PIN)
        assert key.verify(MESSAGE, child.sign(uri, key)), "the file was corrected"


def test_without_a_pin_it_is_said(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    with token.process() as child:
        for more in ("", "&pin-source=/nowhere", "&pin-source=env:NOT_SET", "&pin-source=x"):
            assert child.sign(token.uri("baker", more), key) == "pkcs11_pin_missing"


# -- what is not there ----------------------------------------------------------------------------


def test_what_is_missing_is_told_apart(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    other = token.add(Curve.P256, "other", "a2")
    uri = token.uri("baker")
    with token.process() as child:
        assert child.sign(uri.replace("token=pool", "token=else"), key) == "pkcs11_token_absent"
        assert child.sign(uri.replace("object=baker", "object=x"), key) == "pkcs11_key_missing"
        assert child.sign(uri.replace(".so", ".dll"), key) == "pkcs11_module_missing"
        assert child.sign(token.uri("other"), key) == "pkcs11_other_key"
        stated = f"{uri}&x-public-key={other.text()}"
        assert child.sign(stated, key) == "pkcs11_other_key"
        assert key.verify(MESSAGE, child.sign(f"{uri}&x-public-key={key.text()}", key))


def test_a_file_that_is_no_module_is_said(token: SoftToken, tmp_path: Path) -> None:
    key = token.add(Curve.P256, "baker")
    fake = tmp_path / "fake.so"
    fake.write_text("no library")
    uri = token.uri("baker").replace(module(), str(fake))
    with token.process() as child:
        assert child.sign(uri, key) == "pkcs11_module_missing"


def test_two_keys_or_tokens_of_one_name_are_not_chosen_from(
    token: SoftToken, tmp_path: Path
) -> None:
    one, two = token.add(Curve.P256, "baker", "a1"), token.add(Curve.P256, "baker", "a2")
    with token.process() as child:
        assert child.sign(token.uri("baker"), one) == "pkcs11_ambiguous"
        for key, id in ((one, "a1"), (two, "a2")):
            uri = token.uri("baker").replace("object=baker", f"object=baker;id=%{id}")
            assert key.verify(MESSAGE, child.sign(uri, key))
    SoftToken(tmp_path, "pool")
    with token.process() as child:
        uri = token.uri("baker").replace("object=baker", "id=%a1")
        assert child.sign(uri, one) == "pkcs11_ambiguous"
        by_slot = uri.replace("token=pool", f"token=pool;slot-id={token.slot}")
        assert one.verify(MESSAGE, child.sign(by_slot, one))


def test_a_key_without_a_public_object_needs_its_public_key_said(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    with token.process() as admin:
        admin.ask("destroy_public", module=module(), token="pool", label="baker", pin=PIN)
    uri = token.uri("baker")
    with token.process() as child:
        assert child.sign(uri, key, knows_key=False) == "pkcs11_cannot_sign"
        stated = f"{uri}&x-public-key={key.text()}"
        assert key.verify(MESSAGE, child.sign(stated, key, knows_key=False))
        assert key.verify(MESSAGE, child.sign(uri, key)), "the key directory knows it"


# -- what goes away -------------------------------------------------------------------------------


def test_a_token_that_was_taken_away_and_put_back_signs_again(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    uri = token.uri("baker")
    with token.process() as child:
        assert key.verify(MESSAGE, child.sign(uri, key))
        token.take_away()
        assert child.sign(uri, key) == "pkcs11_token_absent"
        token.put_back()
        signature = until(lambda: child.sign(uri, key), lambda answer: isinstance(answer, bytes))
        assert key.verify(MESSAGE, signature)


def test_a_lost_session_is_opened_anew_at_once_and_the_key_compared(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    uri = token.uri("baker")
    with token.process() as child, token.process() as admin:
        assert key.verify(MESSAGE, child.sign(uri, key))
        admin.ask("destroy", module=module(), token="pool", label="baker", pin=PIN)
        token.add(Curve.P256, "baker", "a2")  # its public object has an id of its own
        assert child.sign(uri, key) == "pkcs11_other_key"


def test_a_deleted_key_is_missing_and_others_sign_on(token: SoftToken) -> None:
    deleted, other = token.add(Curve.P256, "baker", "a1"), token.add(Curve.P256, "other", "a2")
    with token.process() as child, token.process() as admin:
        for label, key in (("baker", deleted), ("other", other)):
            assert key.verify(MESSAGE, child.sign(token.uri(label), key))
        admin.ask("destroy", module=module(), token="pool", label="baker", pin=PIN)
        for _ in range(2):
            assert child.sign(token.uri("baker"), deleted) == "pkcs11_key_missing"
            assert other.verify(MESSAGE, child.sign(token.uri("other"), other))


def test_a_module_that_was_closed_begins_anew(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    with token.process() as child:
        for _ in range(3):
            assert key.verify(MESSAGE, child.sign(token.uri("baker"), key))
            assert child.ask("close")


def test_a_call_that_hangs_keeps_no_one_longer_than_his_time(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    with token.process() as child:
        assert key.verify(MESSAGE, child.sign(token.uri("baker"), key))
        answer = child.ask("sign_while_a_call_hangs", **given(token, "baker", key))
        assert answer["code"] == "pkcs11_busy"
        assert key.verify(MESSAGE, child.sign(token.uri("baker"), key))


def test_what_was_loaded_before_a_fork_is_not_used_after_it(token: SoftToken) -> None:
    key = token.add(Curve.P256, "baker")
    with token.process() as child:
        assert key.verify(MESSAGE, child.sign(token.uri("baker"), key))
        answer = json.loads(child.ask("fork_and_sign", **given(token, "baker", key)))
        assert answer["code"] == "pkcs11_token_fault"
        assert "fork" in answer["text"]
        assert key.verify(MESSAGE, child.sign(token.uri("baker"), key))
