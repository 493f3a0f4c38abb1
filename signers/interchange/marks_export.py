"""Writing the marks of a store in the format of whatever signer, into files that are new."""

from collections.abc import Iterator
from pathlib import Path

from signers.formats import base58
from signers.formats.networks import network_by_name
from signers.interchange import octez_signer_file
from signers.interchange.baker_file import write_baker_file
from signers.interchange.file_names import MarksFormat, baker_file_name, signatory_file_name
from signers.interchange.forgepool_file import write_forgepool_file
from signers.interchange.marks_in_force import marks_in_force
from signers.interchange.new_file import FileExists, write_new_file
from signers.interchange.octez_signer_file import write_octez_signer_file
from signers.interchange.signatory_file import write_signatory_file
from signers.marks.store_copies import StoreView
from signers.marks.watermark import FRESH


def export_marks(view: StoreView, format: MarksFormat, destination: Path) -> list[Path]:
    """Write the marks of a store, and return the files.

    `destination` is the file of our own format; for the others the directory in which the signer
    looks for its files, made if it is not there. Raises FileExists, OSError.
    """
    if format is MarksFormat.FORGEPOOL:
        contents = [(destination, _forgepool_file(view))]
    else:
        destination.mkdir(mode=0o700, parents=True, exist_ok=True)
        contents = [(destination / name, file) for name, file in _files(view, format)]
    for path, _ in contents:
        if path.exists():
            raise FileExists(f"{path} exists, and marks replace no marks: move it away first")
    for path, content in contents:
        write_new_file(path, content)
    return [path for path, _ in contents]


def _forgepool_file(view: StoreView) -> bytes:
    network = network_by_name(view.identity.network)
    return write_forgepool_file(marks_in_force(view), view.identity.chain_id, network)


def _files(view: StoreView, format: MarksFormat) -> Iterator[tuple[str, bytes]]:
    network = network_by_name(view.identity.network)
    chain = base58.encode(base58.CHAIN_ID, view.identity.chain_id)
    # That nothing was signed is told to other signers by silence.
    recorded = [each for each in marks_in_force(view) if each.mark.level != FRESH]
    if format is MarksFormat.BAKER:
        yield baker_file_name(chain), write_baker_file(recorded)
    elif format is MarksFormat.SIGNATORY:
        yield signatory_file_name(chain), write_signatory_file(recorded)
    else:
        is_old = format is MarksFormat.OCTEZ_SIGNER_OLD
        names = octez_signer_file.OLD_NAMES if is_old else octez_signer_file.NEW_NAMES
        for kind, name in names.items():
            yield name, write_octez_signer_file(recorded, kind, network)
