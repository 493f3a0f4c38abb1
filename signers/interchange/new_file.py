"""A file that appears under its name whole and durable, or not at all, and replaces nothing."""

import os
from pathlib import Path
from tempfile import mkstemp

from signers.errors import BadRequest


class FileExists(BadRequest):
    """A file of that name is there, and marks replace no marks: move it away, or name another."""

    code = "file_exists"


def write_new_file(path: Path, content: bytes) -> None:
    """Write a file that was not there. Raises FileExists, OSError."""
    fd, draft = mkstemp(prefix=f"{path.name}.new-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, it replaces nothing
    except FileExistsError:
        raise FileExists(f"{path} exists, and is not replaced") from None
    finally:
        os.unlink(draft)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
