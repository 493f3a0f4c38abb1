"""What the exit status of an operator means.

Sources: BSD `sysexits.h` (64 usage, 65 data, 78 configuration, 75 try again), POSIX shells (126 not
executable, 127 not found), setrlimit(2).
"""

from __future__ import annotations

import signal

from broker.config import OperatorSettings
from workers.offchain.ends import RunEnd
from workers.offchain.operators.operator_table import limit_arguments

CANNOT_EXECUTE = frozenset({126, 127})
AT_A_LIMIT = frozenset({signal.SIGXCPU, signal.SIGXFSZ})


def exit_class(status: int, settings: OperatorSettings) -> tuple[RunEnd, str]:
    """The class of an exit status, and the sentence that tells it.

    Args:
        status: as `subprocess` gives it: -N after signal N.
    """
    if status == 0:
        return RunEnd.OUTPUT, ""
    if status < 0:
        return _class_of_signal(-status, settings)
    text = f"exit status {status}"
    if status in settings.permanent_exits:
        return RunEnd.PERMANENT, f"{text}: it says that a repetition is of no use"
    if status in CANNOT_EXECUTE:
        return RunEnd.CANNOT_START, f"{text}: a program is missing or not executable"
    return RunEnd.TRANSIENT, text


def _class_of_signal(number: int, settings: OperatorSettings) -> tuple[RunEnd, str]:
    text = f"ended by {signal_name(number)}"
    if number in AT_A_LIMIT:
        return RunEnd.RESOURCES, f"{text}, at one of its limits"
    if number == signal.SIGKILL and limit_arguments(settings):
        return RunEnd.RESOURCES, f"{text}, which comes at a limit or when memory is short"
    return RunEnd.TRANSIENT, text


def seed_exit_text(operator: str, status: int) -> str:
    """The source system's words for an exit status that is not 0."""
    by_signal = f"signal: {-status} ({signal_name(-status)})"
    said = by_signal if status < 0 else f"exit status: {status}"
    return f"operator {operator} exited with status: {said}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
