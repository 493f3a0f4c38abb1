"""Which host this is, and who works on it.

A store signs on the host that it was made on, and on no copy of it.
"""

import os
import pwd
import socket
from pathlib import Path

_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


def host_id() -> str:
    """Return an id of this host that outlives reboots and differs between hosts.

    FORGEPOOL_HOST_ID when set (containers, whose machine id may change with every start), else
    the machine id of the operating system (``machine-id(5)``), else the host's name.
    """
    if given := os.environ.get("FORGEPOOL_HOST_ID"):
        return given
    for path in _MACHINE_ID_FILES:
        try:
            machine_id = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if machine_id:
            return machine_id
    return socket.gethostname()


def user_name() -> str:
    """Return the name of the user whose process this is, or its number where it has none."""
    user = os.geteuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # as in containers that run under a bare number
        return str(user)
