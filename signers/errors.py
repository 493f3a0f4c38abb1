"""Every error of this package, sorted by who must act on it.

Four branches, one question: fix the request, accept that a rule said no, try again later, or
page someone. An error is raised with one sentence for people; `code` is for programs and
never changes.
"""

from typing import ClassVar


class SignersError(Exception):
    """Something in keys, formats or watermarks went wrong; `code` names it on the wire."""

    code: ClassVar[str] = "signers_error"


class BadRequest(SignersError):
    """The request itself is wrong: fix it, a retry of the same cannot help."""

    code = "bad_request"


class Refused(SignersError):
    """A rule said no: do not retry."""

    code = "refused"


class Unavailable(SignersError):
    """Something this host needs is not there now: try again later."""

    code = "unavailable"


class Alarm(SignersError):
    """Signing is no longer safe or no longer possible: page someone."""

    code = "alarm"


class MalformedBytes(BadRequest):
    """The bytes, or a text that stands for bytes, are not what they were said to be."""

    code = "malformed"


class UnknownNetwork(BadRequest):
    """No network of that name is known: use one that `networks.NETWORKS` lists."""

    code = "unknown_network"
