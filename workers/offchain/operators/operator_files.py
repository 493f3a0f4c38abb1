"""Where the programs of the operators are, and whether they can be started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from workers.offchain.operators.operator_table import (
    Operator,
    OperatorTable,
    limit_arguments,
)

# From util-linux. It sets its own limits and then becomes the operator: nothing runs without
# them, and it costs one execve(2), where code between fork and execve would cost a fork of us.
LIMITER = "prlimit"


# How a file begins that Linux executes by itself (execve(2)); others it knows by binfmt_misc only.
PROGRAM_BEGINS = (b"#!", b"\x7fELF")


def located(table: OperatorTable, search_path: str, directory: Path) -> OperatorTable:
    """The same operators with absolute paths, wherever they will run.

    A name without a slash is looked for in the search path and stays as it is when it is not
    there; any other path that is not absolute is seen from `directory`.
    """
    return {name: _located(operator, search_path, directory) for name, operator in table.items()}


def _located(operator: Operator, search_path: str, directory: Path) -> Operator:
    path = operator.path
    if "/" in path:
        path = os.path.normpath(directory.absolute() / path)
    elif path:
        found = shutil.which(path, path=search_path)
        path = os.path.abspath(found) if found else path
    return Operator(operator.name, msgspec.structs.replace(operator.settings, path=path))


def problems(table: OperatorTable) -> list[str]:
    """What is wrong with the programs of located operators, a sentence each; empty: nothing."""
    found = []
    for operator in table.values():
        what = f"operator {operator.name!r}: {operator.path}"
        if "/" not in operator.path:
            found.append(f"{what} is not in PATH")
        elif not os.path.lexists(operator.path):
            found.append(f"{what} does not exist")
        elif not os.path.isfile(operator.path):
            found.append(f"{what} is not a file")
        elif not os.access(operator.path, os.X_OK):
            found.append(f"{what} is not executable by us")
        if limit_arguments(operator.settings) and shutil.which(LIMITER) is None:
            found.append(f"{what} has limits, which need the program {LIMITER} (of util-linux)")
    return found


def doubts(table: OperatorTable) -> list[str]:
    """What may be wrong with the programs, a sentence each: another system could execute them."""
    found = []
    for operator in table.values():
        if not os.path.isfile(
            operator.path
        ):  # `problems` tells of it; a pipe would keep us waiting
            continue
        try:
            with open(operator.path, "rb") as file:
                begins = file.read(max(map(len, PROGRAM_BEGINS)))
        except OSError:
            continue  # we need not be able to read what we execute
        if not begins.startswith(PROGRAM_BEGINS):
            found.append(
                f"operator {operator.name!r}: {operator.path} begins neither with #! nor as a "
                "program does: the system may not be able to execute it"
            )
    return found
