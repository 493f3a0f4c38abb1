"""What can be wrong with a device, told apart by who must do what.

A device is asked once and never again by itself: it moves its own high watermark before it
signs, and keeps no copy of the signature.
"""

from signers.backends.backend import (
    SignerBusy,
    SignerFailed,
    SignerLost,
    SignerMalformed,
    SignerRejected,
    SignerTimeout,
    SignerUnavailable,
)


class DeviceAbsent(SignerUnavailable):
    """No such device is plugged in, or not for us: plug it in, check cable, name and udev rules."""

    code = "device_absent"


class DeviceBusy(SignerBusy):
    """Another program or command has the device: wait, or answer the question on its screen."""

    code = "device_busy"


class DeviceStuck(SignerTimeout):
    """The device does not answer: unplug it and plug it in again."""

    code = "device_stuck"


class DeviceLost(SignerLost):
    """The device went away in the middle of a command; it may have signed: plug it in again."""

    code = "device_lost"


class DeviceGarbled(SignerMalformed):
    """The device answered with what is no answer: open the baking app again, or replug."""

    code = "device_garbled"


class DeviceLocked(SignerFailed):
    """The device is locked: enter its PIN, and switch its automatic lock off."""

    code = "device_locked"


class WrongApp(SignerFailed):
    """Another app than the baking app is open, or none: open it on the device."""

    code = "device_wrong_app"


class KeyNotAuthorised(SignerFailed):
    """This is not the key that the device bakes with: see `forgepool ledger setup`."""

    code = "device_key_not_authorised"


class DeviceMisconfigured(SignerFailed):
    """The device cannot do this: a path, a curve or an app version that does not fit."""

    code = "device_misconfigured"


class DeviceWatermark(SignerRejected):
    """The device's own high watermark forbids it: it signed this or something higher before."""

    code = "device_watermark"


class RejectedOnDevice(SignerRejected):
    """Somebody pressed Reject on the device, or nobody pressed anything in time."""

    code = "device_rejected"


class NotForDevice(SignerRejected):
    """The baking app does not sign such bytes: blocks, votes and delegations only."""

    code = "device_cannot_sign_this"
