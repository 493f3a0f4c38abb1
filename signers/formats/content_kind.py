"""What one kind of operation content is: its name, its place in a block, its fields."""

from typing import NamedTuple

from signers.formats.layout import COUNTER, KEY_HASH, MUTEZ, Layout, record

CONSENSUS_PASS, VOTING_PASS, ANONYMOUS_PASS, MANAGER_PASS = range(4)


class ContentKind(NamedTuple):
    """A kind of content; `validation_pass` is the list of a block that it goes into.

    A failing_noop goes into none. A BLS-mode vote is signed but never sent, so neither.
    `needs_signature` is false where the content proves itself (evidence, a revelation) or
    where no single key signs it (an aggregate).
    """

    name: str
    validation_pass: int | None
    layout: Layout
    needs_signature: bool = True


def manager_kind(name: str, **body: Layout) -> ContentKind:
    """A kind that an account signs and pays for; several of them may share an operation."""
    return ContentKind(
        name,
        MANAGER_PASS,
        record(
            source=KEY_HASH,
            fee=MUTEZ,
            counter=COUNTER,
            gas_limit=COUNTER,
            storage_limit=COUNTER,
            **body,
        ),
    )
