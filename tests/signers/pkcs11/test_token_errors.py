"""Which error is which, and what is said when nothing can be called at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pkcs11
import pytest

from signers.backends.backend import HAS_NOT_SIGNED, IS_ALIVE
from signers.backends.key_uri import Pkcs11Key
from signers.errors import SignersError
from signers.pkcs11 import token_errors
from signers.pkcs11.module_file import check_installed, module_file
from signers.pkcs11.pin import read_pin
from signers.pkcs11.token_errors import ModuleMissing, PinMissing, error_of

ERRORS = [
    each
    for each in vars(token_errors).values()
    if isinstance(each, type) and each.__module__ == token_errors.__name__
]


@pytest.mark.parametrize("name", token_errors._ERRORS)
def test_the_names_are_those_of_the_wrapper(name: str) -> None:
    assert issubclass(getattr(pkcs11, name), pkcs11.PKCS11Error)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (pkcs11.PinIncorrect(), "pkcs11_wrong_pin"),
        (pkcs11.PinLocked(), "pkcs11_pin_locked"),
        (pkcs11.DeviceRemoved(), "pkcs11_token_absent"),
        (pkcs11.SessionHandleInvalid(), "pkcs11_token_fault"),
        (pkcs11.GeneralError(), "pkcs11_token_fault"),
        (pkcs11.UserNotLoggedIn(), "pkcs11_key_missing"),
        (pkcs11.MechanismInvalid(), "pkcs11_cannot_sign"),
    ],
)
def test_a_failure_has_its_code_and_its_name_in_the_text(failure: Exception, code: str) -> None:
    error = error_of(failure)
    assert error.code == code
    assert type(failure).__name__ in str(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__name__)
def test_no_error_leaves_open_whether_there_is_a_signature(error: type[SignersError]) -> None:
    assert issubclass(error, HAS_NOT_SIGNED)


def test_a_token_that_refuses_is_alive_and_one_that_is_away_is_not() -> None:
    alive = {error.code for error in ERRORS if issubclass(error, IS_ALIVE)}
    assert {"pkcs11_wrong_pin", "pkcs11_key_missing", "pkcs11_cannot_sign"} <= alive
    assert not alive & {"pkcs11_token_absent", "pkcs11_token_fault", "pkcs11_module_missing"}


def test_without_the_wrapper_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ModuleMissing, match=r"pip install 'forgepool\[pkcs11\]'"):
        check_installed()


def test_a_module_is_found_by_path_name_or_environment(tmp_path: Path) -> None:
    file = tmp_path / "module.so"
    file.touch()
    named = module_file(None, "softhsm2", {})
    assert named.endswith("libsofthsm2.so")
    variable = "FORGEPOOL_PKCS11_MODULE"
    assert module_file(None, None, {variable: "softhsm2"}) == named
    assert module_file(str(file), None, {variable: "softhsm2"}) == str(file)
    assert module_file(None, None, {variable: str(file)}) == str(file)
    for path, name in ((None, None), ("/nowhere.so", None), (None, "nothing"), (None, "../x")):
        with pytest.raises(ModuleMissing):
            module_file(path, name, {})


@pytest.mark.parametrize("content", [b"", b"\n", b"9" * 256, b"\xff\xfe"])
def test_a_file_that_holds_no_pin_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pin"
    file.write_bytes(content)
    with pytest.raises(PinMissing) as raised:
        read_pin(Pkcs11Key(pin_source=str(file)), {})
    assert "999" not in str(raised.value)


def test_a_pin_is_read_to_the_end_of_its_line(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.write_bytes(b" 0001pass word\r\n")
    assert read_pin(Pkcs11Key(pin_source=f"file://{file}"), {}) == " 0001pass word"
