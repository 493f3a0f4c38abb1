"""Where the programs of the operators are, and whether they can be started."""

from __future__ import annotations

import os
import re
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
SCRIPT_BEGINS = b"#!"
PROGRAM_BEGINS = (SCRIPT_BEGINS, b"\x7fELF")
_PLAIN_NAME = re.compile(r"[\w.+][\w.+-]*")  # neither an option of env(1) nor an assignment
FIRST_LINE_BYTES_MAX = 256  # as far as Linux looks for a script's interpreter (BINPRM_BUF_SIZE)


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
        elif missing := _missing_interpreter(_beginning(operator.path) or b""):
            found.append(f"{what} needs the interpreter {missing!r}, which cannot be executed")
        if limit_arguments(operator.settings) and shutil.which(LIMITER) is None:
            found.append(f"{what} has limits, which need the program {LIMITER} (of util-linux)")
    return found


def doubts(table: OperatorTable) -> list[str]:
    """What may be wrong with the programs, a sentence each: another system could execute them."""
    found = []
    for operator in table.values():
        begins = _beginning(operator.path)
        if begins is not None and not begins.startswith(PROGRAM_BEGINS):
            found.append(
                f"operator {operator.name!r}: {operator.path} begins neither with #! nor as a "
                "program does: the system may not be able to execute it"
            )
    return found


def _beginning(path: str) -> bytes | None:
    """How the file begins; None: it cannot be read, which who executes it need not."""
    if not os.path.isfile(path):  # a pipe would keep us waiting
        return None
    try:
        with open(path, "rb") as file:
            return file.read(FIRST_LINE_BYTES_MAX)
    except OSError:
        return None


def _missing_interpreter(begins: bytes) -> str:
    """The program that a script asks for and the system does not have; empty: nothing is missing.

    Of ``#!/usr/bin/env NAME`` it is NAME, which env(1) looks for in PATH.
    """
    if not begins.startswith(SCRIPT_BEGINS):
        return ""
    line = os.fsdecode(begins[len(SCRIPT_BEGINS) :].partition(b"\n")[0]).strip(" \t")
    interpreter, _, argument = line.replace("\t", " ").partition(" ")
    # Operators run in an empty directory: an interpreter that is not absolute is not there.
    if not os.path.isabs(interpreter) or not os.access(interpreter, os.X_OK):
        return interpreter
    name = argument.strip(" ")
    is_looked_for = os.path.basename(interpreter) == "env" and _PLAIN_NAME.fullmatch(name)
    return name if is_looked_for and shutil.which(name) is None else ""
