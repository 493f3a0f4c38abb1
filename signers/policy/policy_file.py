"""The policy file: read whole or not at all, and read again when it has changed.

A file that cannot be read, or is gone, changes nothing while a process runs: the policy before
stays in force, and `problem` says what is wrong.
"""

import os
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from signers.policy.decision import Policy
from signers.policy.policy_toml import POLICY_BYTES_MAX, UnreadablePolicy, read_policy

_Stamp = tuple[int, int, int]  # inode, size, time of the last change
_DIGEST_BYTES = 16
NO_FILE = "no file"  # the version of the policy where there is none


class PolicyReading(NamedTuple):
    """A policy as it was read; `version` is the same for the same bytes."""

    policy: Policy
    version: str
    stamp: _Stamp | None


class PolicyFile:
    """The policy of a file, and whether the file is still as it was read."""

    def __init__(self, path: Path, *, must_exist: bool) -> None:
        """Read the file. Raises UnreadablePolicy.

        A file that need not exist stands for the default policy when it does not.
        """
        self._path = path
        self._must_exist = must_exist
        self.problem = ""
        self._reading = self.read()
        self._seen = self._reading.stamp  # of the file that was last looked into
        self._settling: _Stamp | None = None  # of a change that was seen once

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._reading.policy

    def look(self) -> bool:
        """Read the file again if it has changed; True when a policy has come into force.

        A change is read at the look after the one that sees it first: half a file can be a policy.
        """
        try:
            stamp = _stamp(os.stat(self._path))
            if stamp == self._seen:
                if stamp == self._reading.stamp:
                    self.problem = ""
                return False
            if stamp != self._settling:
                self._settling = stamp
                return False
            self._seen = stamp
            self.take(self.read())
        except FileNotFoundError:
            if self._seen is not None:
                self.problem = f"{self._path} is gone; if that is meant, `forgepool reload`"
            return False
        except (UnreadablePolicy, OSError) as error:
            self.problem = str(error)
            return False
        return True

    def read(self) -> PolicyReading:
        """Read the file as it is now, without bringing it into force.

        Raises UnreadablePolicy.
        """
        try:
            with self._path.open("rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                content = file.read(POLICY_BYTES_MAX + 1)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self._must_exist:
                return PolicyReading(Policy(), NO_FILE, None)
            raise UnreadablePolicy(f"{self._path}: {error.strerror}") from None
        try:
            policy = read_policy(content.decode())
        except (UnreadablePolicy, UnicodeDecodeError) as error:
            raise UnreadablePolicy(f"{self._path}: {error}") from None
        return PolicyReading(policy, blake2b(content, digest_size=_DIGEST_BYTES).hexdigest(), stamp)

    def take(self, reading: PolicyReading) -> None:
        """Bring into force what was read."""
        self._reading, self._seen, self.problem = reading, reading.stamp, ""


def _stamp(stat: os.stat_result) -> _Stamp:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
