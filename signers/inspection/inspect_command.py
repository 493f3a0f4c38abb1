"""The command `forgepool inspect`: take bytes apart for people and for scripts."""

import sys
from typing import BinaryIO

import click
import msgspec

from signers.errors import BadRequest
from signers.formats.networks import NETWORKS, TEZOS
from signers.inspection.inspect import KINDS
from signers.inspection.inspect_record import (
    LINE_BYTES_MAX,
    Question,
    answer,
    answer_line,
    failure,
    read_question,
    report_on,
)
from signers.inspection.inspect_text import text_of

_DISCARD_BYTES = 1024 * 1024


@click.command()
@click.argument("hex_or_json", required=False)
@click.option(
    "--network",
    type=click.Choice(sorted(NETWORKS)),
    default=TEZOS.name,
    show_default=True,
    help="Whose addresses and protocols to read.",
)
@click.option(
    "--kind", type=click.Choice(KINDS), help="What the bytes are; found out when not given."
)
@click.option(
    "--chain-id", help="The chain, as NetX…: needed to check a block's or vote's signature."
)
@click.option("--public-key", help="The key, as edpk…: needed to check a signature.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--json-lines",
    is_flag=True,
    help="Read one JSON object a line from standard input, answer one a line.",
)
@click.pass_context
def inspect(
    context: click.Context,
    hex_or_json: str | None,
    network: str,
    kind: str | None,
    chain_id: str | None,
    public_key: str | None,
    as_json: bool,
    json_lines: bool,
) -> None:
    """Take a block header, an operation, a request to sign or a whole block apart.

    HEX_OR_JSON is the bytes in hex, signed or not, with the watermark when they are a request
    to sign. A whole block is a JSON object with `header` (hex) and `operations` (four lists of
    hex). Without an argument it is read from standard input.

    Ends with 0 when all is well, 1 when something does not decode or check, 2 for a wrong
    command line. With --json-lines it answers every line and ends with 0.
    """
    if json_lines:
        if hex_or_json is not None:
            raise click.UsageError("--json-lines reads its questions from standard input.")
        _answer_lines(sys.stdin.buffer, sys.stdout.buffer)
        return
    text = hex_or_json if hex_or_json is not None else _read_all(sys.stdin.buffer)
    if not text.strip():
        raise click.UsageError("Nothing to inspect: give bytes in hex, or pipe them in.")
    try:
        if text.lstrip().startswith("{"):
            question = read_question(text.encode())
        else:
            question = Question(hex=text)
        question.network = question.network or network
        question.kind = question.kind or kind
        question.chain_id = question.chain_id or chain_id
        question.public_key = question.public_key or public_key
        report = report_on(question)
    except BadRequest as error:
        if as_json:
            click.echo(msgspec.json.encode(failure(str(error))))
        else:
            click.echo(f"error: {error}", err=True)
        context.exit(1)
    click.echo(msgspec.json.encode(answer(report)) if as_json else text_of(report))
    context.exit(0 if report.is_sound else 1)


def _read_all(stream: BinaryIO) -> str:
    """Read what is piped in; undecodable bytes are no hex either way."""
    return stream.read(LINE_BYTES_MAX + 1).decode(errors="replace")


def _answer_lines(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer each line as soon as it is read; the reader may hang up when it has enough."""
    try:
        while line := questions.readline(LINE_BYTES_MAX + 1):
            if len(line) > LINE_BYTES_MAX:
                _skip_to_line_end(questions, line)
            answers.write(answer_line(line) + b"\n")
            answers.flush()
    except BrokenPipeError:
        return


def _skip_to_line_end(stream: BinaryIO, read: bytes) -> None:
    while read and not read.endswith(b"\n"):
        read = stream.readline(_DISCARD_BYTES)
