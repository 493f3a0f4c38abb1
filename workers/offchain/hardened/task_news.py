"""What the event stream and the log are told of a task."""

from __future__ import annotations

from hashlib import blake2b

from workers.offchain.application import Application
from workers.offchain.commands import Publish
from workers.offchain.ends import RunEnd, SubmitEnd
from workers.offchain.hardened.open_task import OpenTask

OPERATOR_LETTERS_MAX = 128  # as in the operator table; an application may ask for any name
TEXT_MAX = 500  # characters of a reason in an event, in the log, and in the journal


def news(
    application: Application,
    event: str,
    task: OpenTask,
    *,
    code: str = "",
    text: str = "",
    certificate: str = "",
    retry_at_unix_us: int = 0,
) -> Publish:
    """An event of the task as it stands; only an outcome tells of its output, by size and hash."""
    record = task.record
    is_outcome = event == "task_outcome"
    output = (record.output or "").encode() if is_outcome else b""
    return Publish(
        application,
        event,
        task.serial,
        record.group,
        record.operator,
        record.attempts,
        code,
        text[:TEXT_MAX],
        len(record.input.encode()),
        len(output),
        blake2b(output, digest_size=32).hexdigest() if is_outcome else "",
        certificate,
        retry_at_unix_us,
    )


def named(task: OpenTask) -> str:
    """The task in a line of the log."""
    record = task.record
    operator = record.operator[:OPERATOR_LETTERS_MAX]
    return f"serial={task.serial} operator={operator} attempt={record.attempts}"


def time_of_day(unix_us: int) -> str:
    """A moment of the next hours, for people."""
    minutes, second = divmod(unix_us // 1_000_000 % 86_400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02} UTC"


def why(code: RunEnd | SubmitEnd, text: str) -> str:
    """Class and sentence of a failure, as the journal keeps them."""
    return f"{code}: {text[:TEXT_MAX]}"
