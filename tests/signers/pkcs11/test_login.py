"""Logging in to tokens in states that SoftHSM does not get into, played by an object."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pkcs11
import pytest
from pkcs11 import TokenFlag

from signers.pkcs11.module import Module
from signers.pkcs11.token_errors import PinLocked, WrongPin


class PlayedToken:
    """A token that notes which PINs it was shown, and answers with an exception if it has one."""

    label, serial, slot = "pool", b"1", SimpleNamespace(slot_id=7)

    def __init__(self, flags: TokenFlag, failure: Exception | None = None) -> None:
        self.flags = flags
        self.failure = failure
        self.shown: list[str | None] = []

    def open(self, user_pin: str | None = None) -> Any:
        self.shown.append(user_pin)
        if self.failure is not None and user_pin is not None:
            raise self.failure
        return object()


@pytest.mark.parametrize("flag", [TokenFlag.USER_PIN_LOCKED, TokenFlag.USER_PIN_FINAL_TRY])
def test_a_pin_that_might_be_lost_by_it_is_not_shown(flag: TokenFlag) -> None:
    token = PlayedToken(TokenFlag.LOGIN_REQUIRED | flag)
    with pytest.raises(PinLocked):
        Module("m").session(token, "1234")
    assert token.shown == []


@pytest.mark.parametrize("failure", [pkcs11.PinIncorrect(), pkcs11.PinLenRange()])
def test_a_refused_pin_is_not_shown_again_and_another_one_is(failure: Exception) -> None:
    token, module = PlayedToken(TokenFlag.LOGIN_REQUIRED, failure), Module("m")
    for pin in ("1", "1", "2", "2", "1"):
        with pytest.raises(WrongPin):
            module.session(token, pin)
    assert token.shown == ["1", "2"]


def test_who_is_logged_in_already_is_logged_in() -> None:
    token = PlayedToken(TokenFlag.LOGIN_REQUIRED, pkcs11.UserAlreadyLoggedIn())
    module = Module("m")
    session = module.session(token, "1234")
    assert module.session(token, "1234") is session
    assert token.shown == ["1234", None]


def test_a_token_that_wants_no_login_is_shown_no_pin() -> None:
    token = PlayedToken(TokenFlag(0))
    Module("m").session(token, "1234")
    assert token.shown == [None]
