"""What can be wrong with a token, told apart by who must do what.

To sign changes nothing in a token, and a call that returns an error has given no signature to
anybody: so none of these leaves it open whether a signature exists. A call that does not return
is the bulkhead's to judge.

Source: PKCS#11 v2.40 §5.1; the names are those of python-pkcs11.
"""

from signers.backends.backend import (
    SignerBusy,
    SignerFailed,
    SignerUnavailable,
    SignerUnknownKey,
)
from signers.errors import SignersError


class ModuleMissing(SignerUnavailable):
    """The module, or what calls it, is not installed: install it, correct module-path."""

    code = "pkcs11_module_missing"


class ModuleBusy(SignerBusy):
    """Another call of this process is in the module: wait, or see why that one hangs."""

    code = "pkcs11_busy"


class TokenAbsent(SignerUnavailable):
    """The module shows no such token: plug it in, look at its connection and its name."""

    code = "pkcs11_token_absent"


class TokenFault(SignerUnavailable):
    """The token or its module failed, also after it was opened anew: look at its own log."""

    code = "pkcs11_token_fault"


class WrongPin(SignerFailed):
    """The token refused the PIN, which it will not be shown again: correct it."""

    code = "pkcs11_wrong_pin"


class PinLocked(SignerFailed):
    """The PIN is locked, or one more error would lock it: unlock it with the token's tools."""

    code = "pkcs11_pin_locked"


class PinMissing(SignerFailed):
    """There is no PIN for a token that wants one: name it in pin-source or the environment."""

    code = "pkcs11_pin_missing"


class KeyMissing(SignerUnknownKey):
    """The token shows no such key: it is not there, or the PIN is another user's."""

    code = "pkcs11_key_missing"


class OtherKey(SignerUnknownKey):
    """The key that the URI finds is not the one with this hash: correct secret_keys."""

    code = "pkcs11_other_key"


class Ambiguous(SignerUnknownKey):
    """More than one token or key fits the URI: add serial=… or id=…."""

    code = "pkcs11_ambiguous"


class NotForToken(SignerFailed):
    """The token or the key cannot sign this: a mechanism, a curve or a right is missing."""

    code = "pkcs11_cannot_sign"


# After these the module is opened anew, once: it may have lost its token, session or login.
MAY_BE_STALE = (TokenAbsent, TokenFault, KeyMissing)

_ERRORS: dict[str, tuple[type[SignersError], str]] = {
    "PinIncorrect": (WrongPin, "the token refused the PIN"),
    "PinInvalid": (WrongPin, "the token refused the PIN"),
    "PinLenRange": (WrongPin, "the token takes no PIN of this length"),
    "PinLocked": (PinLocked, "the token's PIN is locked"),
    "PinExpired": (PinLocked, "the token's PIN has expired"),
    "UserPinNotInitialized": (PinMissing, "no PIN was ever set for the token's user"),
    "UserNotLoggedIn": (KeyMissing, "the login is gone, or the key wants a PIN for each signature"),
    "TokenNotPresent": (TokenAbsent, "the token was taken away"),
    "TokenNotRecognised": (TokenAbsent, "the module does not know the token"),
    "DeviceRemoved": (TokenAbsent, "the token was taken away"),
    "MechanismInvalid": (NotForToken, "the token does not take the mechanism"),
    "MechanismParamInvalid": (NotForToken, "the token does not take the mechanism"),
    "KeyTypeInconsistent": (NotForToken, "the key's type and the mechanism do not fit"),
    "FunctionNotSupported": (NotForToken, "the module does not have this function"),
}


def error_of(failure: Exception) -> SignersError:
    """Tell from an exception of python-pkcs11 which of the errors it means."""
    name = type(failure).__name__
    error, text = _ERRORS.get(name, (TokenFault, "the token or its module failed"))
    return error(f"{text} ({name}{f': {failure}' if str(failure) else ''})")
