"""What is different under another policy, in lines for people: the plan of a reload."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from signers.policy.decision import Policy
from signers.policy.policy_toml import words_of
from signers.policy.rule import Rule, listing

LINES_MAX: Final = 100  # of a plan; a rename of all rules says enough by then


def policy_changes(before: Policy, after: Policy) -> list[str]:
    """Say what changes from one policy to another; no lines when nothing does."""
    return shortened(list(_changes(before, after)))


def shortened(lines: Sequence[str]) -> list[str]:
    """Cut a plan that nobody would read to its end."""
    if len(lines) <= LINES_MAX:
        return list(lines)
    return [*lines[: LINES_MAX - 1], f"and {len(lines) - LINES_MAX + 1} more changes"]


def _changes(before: Policy, after: Policy) -> Iterator[str]:
    yield from _rule_changes(before.default, after.default)
    old = {rule.name: (rule, keys) for rule, keys in before.rules}
    new = {rule.name: (rule, keys) for rule, keys in after.rules}
    for name, (rule, keys) in old.items():
        if name not in new:
            yield f"rule {name!r} removed, was for {listing(keys)}"
            continue
        rule_now, keys_now = new[name]
        yield from _rule_changes(rule, rule_now)
        if gone := set(keys) - set(keys_now):
            yield f"rule {name!r} is no longer for {listing(gone)}"
        if more := set(keys_now) - set(keys):
            yield f"rule {name!r} is now for {listing(more)}"
    for name, (rule, keys) in new.items():
        if name not in old:
            words = "; ".join(f"{word} = {_shown(value)}" for word, value in words_of(rule).items())
            yield f"rule {name!r} added for {listing(keys)}: {words}"


def _rule_changes(before: Rule, after: Rule) -> Iterator[str]:
    was, now = words_of(before), words_of(after)
    for word in dict.fromkeys([*was, *now]):
        if was.get(word) != now.get(word):
            change = f"{_shown(was.get(word))} -> {_shown(now.get(word))}"
            yield f"rule {before.name!r}: {word} {change}"


def _shown(value: Any) -> str:
    if value is None:
        return "any"
    return listing(value) if isinstance(value, list) else str(value)
