"""Reading the marks of a file or directory of whatever signer, for the chain of one store."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from signers.errors import BadRequest
from signers.formats import base58
from signers.formats.networks import Network
from signers.interchange.baker_file import read_baker_file
from signers.interchange.file_names import FileName, MarksFormat, read_file_name
from signers.interchange.forgepool_file import is_forgepool_file, read_forgepool_file
from signers.interchange.located_json import FILE_BYTES_MAX, LocatedValue, read_json
from signers.interchange.octez_signer_file import read_octez_signer_file
from signers.interchange.recorded_mark import (
    MalformedMarks,
    RecordedMark,
    WrongChain,
    highest,
)
from signers.interchange.signatory_file import read_signatory_file

SIGNATORY_DIRECTORY: Final = "watermark_v2"


class UnknownFormat(BadRequest):
    """Nothing says which signer wrote this: give --format, or the file under its own name."""

    code = "unknown_format"


class WantedChain(NamedTuple):
    """The chain of the store: `chain_id` has 4 bytes.

    `is_asserted`: the operator says that files are of this chain whose names do not tell.
    """

    network: Network
    chain_id: bytes
    is_asserted: bool = False

    @property
    def text(self) -> str:
        """The chain id as ``NetX…``."""
        return base58.encode(base58.CHAIN_ID, self.chain_id)

    def is_named(self, name: FileName) -> bool:
        """Say whether a file's name is that of this chain, or tells no chain."""
        return name.chain is None or self.text.startswith(name.chain)


class MarksSource(NamedTuple):
    """What was read: the highest mark of each key and kind, and what was passed over."""

    format: MarksFormat
    files: list[Path]
    recorded: list[RecordedMark]
    passed_over: list[str]


def read_source(path: Path, wanted: WantedChain, format: MarksFormat | None) -> MarksSource:
    """Read all marks of a chain from a file, or from the files of a signer's directory.

    Without a `format` the names tell it, or what the file says of itself. Raises MalformedMarks,
    WrongChain, UnknownFormat, OSError.
    """
    named = [(path, read_file_name(path.name))] if path.is_file() else _files_in(path)
    format = _same(format or _format_of(path, named))
    ours = [(file, name) for file, name in named if name is None or name.format is format]
    of_chain, passed_over = [], []
    for file, name in ours:
        if name is None or wanted.is_named(name):
            of_chain.append((file, name))
        else:
            passed_over.append(f"{file}: of another chain")
    if not of_chain:
        if passed_over:
            raise WrongChain(f"{path} has marks of other chains, the store is of {wanted.text}")
        raise UnknownFormat(f"{path} has no file of marks of the format {format.value}")
    found = [each for file, name in of_chain for each in _read(file, name, format, wanted)]
    recorded = [each for each in found if each.mark.chain_id == wanted.chain_id]
    if found and not recorded:
        raise WrongChain(f"{path} has marks of other chains only, the store is of {wanted.text}")
    passed_over += [
        f"{each.place}: of another chain" for each in found if each.mark.chain_id != wanted.chain_id
    ]
    return MarksSource(format, [file for file, _ in of_chain], highest(recorded), passed_over)


def _files_in(directory: Path) -> list[tuple[Path, FileName | None]]:
    """List what a signer's directory has; Signatory's are one below its base directory."""
    below = directory / SIGNATORY_DIRECTORY
    files = [*directory.iterdir(), *(below.iterdir() if below.is_dir() else ())]
    named = ((file, read_file_name(file.name)) for file in sorted(files))
    return [(file, name) for file, name in named if name is not None and file.is_file()]


def _format_of(path: Path, named: Iterable[tuple[Path, FileName | None]]) -> MarksFormat:
    formats = {name.format for _, name in named if name is not None}
    if len(formats) > 1:
        found = " and ".join(sorted(format.value for format in formats))
        raise UnknownFormat(f"{path} has files of {found}: give --format")
    if formats:
        return formats.pop()
    if path.is_file() and is_forgepool_file(_document(path)):
        return MarksFormat.FORGEPOOL
    raise UnknownFormat(
        f"nothing says which signer wrote {path}: give --format, or the file under its own name"
    )


def _same(format: MarksFormat) -> MarksFormat:
    is_old = format is MarksFormat.OCTEZ_SIGNER_OLD
    return MarksFormat.OCTEZ_SIGNER if is_old else format


def _read(
    file: Path, name: FileName | None, format: MarksFormat, wanted: WantedChain
) -> list[RecordedMark]:
    document, network = _document(file), wanted.network
    try:
        if format is MarksFormat.FORGEPOOL:
            recorded = read_forgepool_file(document, wanted.chain_id, network)
        elif format is MarksFormat.OCTEZ_SIGNER:
            if name is None or name.kind is None:
                raise UnknownFormat(
                    f"only the name of a file of octez-signer says its kind, and {file.name} "
                    "is none of its names"
                )
            recorded = read_octez_signer_file(document, name.kind, network)
        else:
            if (name is None or name.chain is None) and not wanted.is_asserted:
                raise UnknownFormat(
                    f"only its name says of which chain such a file is, and {file.name} says none: "
                    "give --chain-id"
                )
            reader = read_baker_file if format is MarksFormat.BAKER else read_signatory_file
            recorded = reader(document, wanted.chain_id, network)
    except (MalformedMarks, WrongChain) as error:
        raise type(error)(f"{file}: {error}") from None
    return [each._replace(place=f"{file}: {each.place}") for each in recorded]


def _document(file: Path) -> LocatedValue:
    with file.open("rb") as opened:
        content = opened.read(FILE_BYTES_MAX + 1)
    try:
        return read_json(content)
    except MalformedMarks as error:
        raise MalformedMarks(f"{file}: {error}") from None
