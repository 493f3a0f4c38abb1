"""A PKCS#11 module in this process: one call at a time, one login for each token.

python-pkcs11 tells a module that one thread alone will call it, and then lets others run during
each call: SoftHSM and others crash when two threads are inside. So everything that calls into a
module does it in a turn, which has the module's lock, whatever token it is for.

A module is loaded when it is first needed, by a thread, after this process was started; what was
loaded before a fork is not used after it. Closing a session that was opened with a PIN logs the
whole process out, so sessions stay open until the module is.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

import pkcs11
from pkcs11 import PKCS11Error, Session, Token, TokenFlag

from signers.backends.key_uri import Pkcs11Key
from signers.pkcs11.token_errors import (
    Ambiguous,
    ModuleBusy,
    ModuleMissing,
    PinLocked,
    PinMissing,
    TokenAbsent,
    TokenFault,
    WrongPin,
    error_of,
)

CLOSE_WAIT_S: Final = 1.0  # for a call under way; one that hangs is left behind

_OK: Final = 0x000
_ALREADY_INITIALIZED: Final = 0x191
_Call = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)  # lets other threads run


class _FunctionList(ctypes.Structure):
    """The beginning of CK_FUNCTION_LIST."""

    _fields_ = (("version", ctypes.c_ubyte * 2), ("initialize", _Call), ("finalize", _Call))


class Module:
    """One shared library; `open_module` returns the one of this process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.generation = 0  # of handles: those of an earlier one are void
        self.users = 0
        self._lock = Lock()
        self._pid = os.getpid()
        self._library: pkcs11._pkcs11.lib | None = None
        self._entry = _FunctionList()
        self._is_running = False
        self._sessions: dict[int, Session] = {}  # by slot
        self._refused: set[tuple[bytes, str]] = set()  # PINs, with the serials that refused them

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Have the module alone. Raises ModuleBusy, ModuleMissing, TokenFault."""
        if os.getpid() != self._pid:
            raise TokenFault(f"{self.path} was loaded before a fork: start the process anew")
        if not self._lock.acquire(timeout=max(timeout_s, 0.0)):
            raise ModuleBusy(f"another call is in {self.path}")
        try:
            if not self._is_running:
                self._start()
            yield
        finally:
            self._lock.release()

    # -- in a turn --------------------------------------------------------------------------------

    def tokens(self) -> list[Token]:
        """All tokens that were initialised. Raises PKCS11Error."""
        assert self._library is not None
        found = []
        for slot in self._library.get_slots(token_present=True):
            try:
                token = slot.get_token()
            except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
                continue
            if token.flags & TokenFlag.TOKEN_INITIALIZED:
                found.append(token)
        return found

    def token(self, key: Pkcs11Key) -> Token:
        """Find the token of a key. Raises TokenAbsent, Ambiguous, PKCS11Error."""
        found = [token for token in self.tokens() if _is_meant(token, key)]
        if len(found) > 1 and key.slot is not None:
            found = [token for token in found if token.slot.slot_id == key.slot]
        if not found:
            raise TokenAbsent(f"{self.path} shows no token like {key.authority}")
        if len(found) > 1:
            serials = ", ".join(token.serial.decode(errors="replace") for token in found)
            raise Ambiguous(f"{len(found)} tokens are like {key.authority}: serials {serials}")
        return found[0]

    def session(self, token: Token, pin: str | None) -> Session:
        """Return the session of a token, logged in once.

        Raises WrongPin, PinLocked, PinMissing, PKCS11Error.
        """
        slot = token.slot.slot_id
        session = self._sessions.get(slot)
        if session is None:
            session = self._sessions[slot] = self._log_in(token, pin)
        return session

    def restart(self) -> None:
        """Open the module anew: each session, login and handle is void. Raises TokenFault."""
        self._stop()
        self._start()

    def _log_in(self, token: Token, pin: str | None) -> Session:
        if not token.flags & TokenFlag.LOGIN_REQUIRED:
            return token.open()
        if pin is None:
            raise PinMissing(f"the token {token.label!r} wants a PIN, and none is given")
        if (token.serial, pin) in self._refused:
            raise WrongPin(f"the token {token.label!r} has refused this PIN; it is not shown again")
        if token.flags & TokenFlag.USER_PIN_LOCKED:
            raise PinLocked(f"the PIN of the token {token.label!r} is locked")
        if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
            raise PinLocked(f"the PIN of the token {token.label!r} has one try left: not by us")
        try:
            return token.open(user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            return token.open()
        except PKCS11Error as failure:
            error = error_of(failure)
            if isinstance(error, WrongPin):
                self._refused.add((token.serial, pin))
            raise error from None

    def _start(self) -> None:
        if self._library is None:
            self._load()
        elif (status := self._entry.initialize(None)) not in (_OK, _ALREADY_INITIALIZED):
            raise TokenFault(f"{self.path} does not start again (C_Initialize: {status:#x})")
        self._is_running = True

    def _load(self) -> None:
        try:
            library = pkcs11.lib(self.path)
        except PKCS11Error as failure:
            if type(failure) is PKCS11Error:  # not an answer of the module's
                raise ModuleMissing(f"{self.path} cannot be loaded: {failure}") from None
            raise error_of(failure) from None
        # The wrapper ends the module with the interpreter locked; one that hangs would hold the
        # worker up, at its exit too. So the wrapper's object lives for ever, and we call the
        # module's two functions ourselves.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))
        functions = ctypes.POINTER(_FunctionList)()
        ctypes.CDLL(self.path).C_GetFunctionList(ctypes.byref(functions))
        self._entry, self._library = functions.contents, library

    def _stop(self) -> None:
        self.generation += 1
        self._sessions.clear()
        self._is_running = False
        # What it says is of no use: it may have lost its device, and is started again anyway.
        self._entry.finalize(None)

    # -- by whoever has opened it -----------------------------------------------------------------

    def close(self) -> None:
        """Let go of the module; the last one ends it, unless a call hangs in it."""
        with _opening:
            self.users -= 1
            if self.users or not self._lock.acquire(timeout=CLOSE_WAIT_S):
                return
        try:
            if self._is_running:
                self._stop()
        finally:
            self._lock.release()


_modules: Final[dict[str, Module]] = {}
_opening: Final = Lock()


def open_module(path: str) -> Module:
    """Return this process' module of a shared library; each caller closes it once."""
    real = os.path.realpath(path)
    with _opening:
        module = _modules.setdefault(real, Module(real))
        module.users += 1
    return module


def _is_meant(token: Token, key: Pkcs11Key) -> bool:
    return all(
        wanted is None or wanted == found
        for wanted, found in (
            (key.token, token.label),
            (key.serial, token.serial.decode(errors="replace")),
            (key.manufacturer, token.manufacturer_id),
            (key.model, token.model),
        )
    )
