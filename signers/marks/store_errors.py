"""What can be wrong with the watermark store, and who must act.

None of these is a refusal: a rule said nothing, so the same request may be tried again once the
cause is gone. In each case nothing is signed.
"""

from signers.errors import Alarm, BadRequest, Unavailable


class StoreExists(BadRequest):
    """A store is there already, and nothing replaces a store: its marks are all there is."""

    code = "store_exists"


class NoMark(BadRequest):
    """A key or delegate has no mark: say where it stands, with a floor or that it is fresh."""

    code = "no_mark"


class StoreUnavailable(Unavailable):
    """The disk is full or read-only, or a foreign program locks the store: free it, try again."""

    code = "store_unavailable"


class StoreMissing(Alarm):
    """There is no store; an absent store is not an empty one: restore a backup, or `init`."""

    code = "store_missing"


class WrongStore(Alarm):
    """This is not the store of this host, chain or version: see what the text says to do."""

    code = "wrong_store"


class StoreReplaced(Alarm):
    """The files that were opened are no longer there: end, and look at who moved them."""

    code = "store_replaced"


class StoreCorrupt(Alarm):
    """The store cannot be read: keep the files, restore a backup with a floor."""

    code = "store_corrupt"


class StoreBroken(Alarm):
    """The disk failed under a write: what is on it is unknown, this process must end."""

    code = "store_broken"
