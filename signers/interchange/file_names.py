"""What the name of a file of marks says: of which signer it is, of which chain and kind."""

import re
from enum import Enum
from typing import Final, NamedTuple

from signers.formats.signable import Kind
from signers.interchange import octez_signer_file

# In the names of its files Octez shortens a chain id to so many letters.
SHORT_CHAIN_LETTERS: Final = 13

_BASE58 = "[1-9A-HJ-NP-Za-km-z]"
_BAKER = re.compile(rf"(Net{_BASE58}{{{SHORT_CHAIN_LETTERS - 3}}})_highwatermarks")
_SIGNATORY = re.compile(rf"(Net{_BASE58}{{12}})\.json")


class MarksFormat(Enum):
    """The formats of marks that are read and written here."""

    FORGEPOOL = "forgepool"
    BAKER = "baker"
    OCTEZ_SIGNER = "octez-signer"
    OCTEZ_SIGNER_OLD = "octez-signer-old"  # Mavryk, and Octez before 23: other names, no more
    SIGNATORY = "signatory"


class FileName(NamedTuple):
    """What a name says; `chain` is a chain id or the beginning of one, None where it has none."""

    format: MarksFormat
    chain: str | None = None
    kind: Kind | None = None


def read_file_name(name: str) -> FileName | None:
    """Say what the name of a file tells; None when no signer has files of such a name."""
    if match := _BAKER.fullmatch(name):
        return FileName(MarksFormat.BAKER, chain=match[1])
    if match := _SIGNATORY.fullmatch(name):
        return FileName(MarksFormat.SIGNATORY, chain=match[1])
    if (kind := octez_signer_file.KIND_OF_NAME.get(name)) is not None:
        return FileName(MarksFormat.OCTEZ_SIGNER, kind=kind)
    return None


def baker_file_name(chain: str) -> str:
    """Return the name of the baker's file for a chain id."""
    return f"{chain[:SHORT_CHAIN_LETTERS]}_highwatermarks"


def signatory_file_name(chain: str) -> str:
    """Return the name of Signatory's file for a chain id."""
    return f"{chain}.json"
