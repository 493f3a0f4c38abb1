"""What would happen to a request to sign, and why: the answer without a mark, a key or a pool.

It is the policy's own answer, asked of the same function as a worker asks; what the watermarks
would say is not known here, only which of them would be asked.
"""

from dataclasses import dataclass
from typing import Any

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.networks import CHAIN_NAMES
from signers.formats.signable import Kind, Signable, read_signable
from signers.formats.tagged_keys import network_of_hash
from signers.inspection.inspect import Report, Surroundings, inspect_signable
from signers.policy.decision import Decision, Denied, Policy, decide_on_bytes


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a key's request to sign is, what the policy says, and which mark comes next.

    `report` is None when the bytes cannot be read. `mark` is None when none would be asked,
    because the kind has none or the policy said no already.
    """

    key_hash: str
    client: str
    decision: Decision
    report: Report | None
    mark: dict[str, Any] | None

    @property
    def is_allowed(self) -> bool:
        """Whether the policy lets the request pass."""
        return not isinstance(self.decision, Denied)


def explain(policy: Policy, key_hash: str, message: bytes, client: str) -> Explanation:
    """Explain what a policy says of a message (watermark included) that a client wants signed."""
    decision = decide_on_bytes(policy, key_hash, message, client)
    try:
        signable = read_signable(message)
        report = inspect_signable(message, Surroundings(network_of_hash(key_hash)))
    except MalformedBytes:
        return Explanation(key_hash, client, decision, None, None)
    denied = isinstance(decision, Denied)
    return Explanation(key_hash, client, decision, report, None if denied else _mark(signable))


def explanation_json(explained: Explanation) -> dict[str, Any]:
    """Write an explanation for programs."""
    decision = explained.decision
    denied = decision if isinstance(decision, Denied) else None
    return {
        "allowed": denied is None,
        "key_hash": explained.key_hash,
        "client": explained.client,
        "code": None if denied is None else denied.code,
        "text": None if denied is None else denied.text,
        "rule": None if isinstance(decision, Denied) else decision.rule,
        "objections": [
            {"rule": rule, "why": why} for rule, why in (denied.objections if denied else ())
        ],
        "mark": explained.mark,
        "signable": None if explained.report is None else explained.report.fields,
        "digest": None if explained.report is None else explained.report.hash,
    }


def explanation_text(explained: Explanation) -> str:
    """Write an explanation for people."""
    lines = [f"key        {explained.key_hash}", f"client     {explained.client or 'nobody said'}"]
    if explained.report is not None:
        lines += _lines_of_report(explained.report)
    decision = explained.decision
    if isinstance(decision, Denied):
        lines += [f"answer     refused ({decision.code})"]
        lines += [f"rule       {rule}: {why}" for rule, why in decision.objections]
        lines += ["", decision.text]
    else:
        lines += ["answer     allowed by the policy", f"rule       {decision.rule}"]
        lines += ["", _what_comes_next(explained)]
    return "\n".join(lines)


def _lines_of_report(report: Report) -> list[str]:
    fields = report.fields
    lines = [f"kind       {fields['signable_kind']} (watermark {fields['watermark']})"]
    lines += [
        f"{name:<10} {_with_name(fields[field])}"
        for name, field in (("chain", "chain_id"), ("level", "level"), ("round", "round"))
        if field in fields
    ]
    if fields["signable_kind"] == Kind.GENERIC.name.lower():
        lines += [
            f"content {number}  {_content_line(content)}"
            for number, content in enumerate(fields["operation"]["contents"], start=1)
        ]
    return [*lines, f"digest     {report.hash}"]


def _with_name(value: Any) -> str:
    name = CHAIN_NAMES.get(value)
    return str(value) if name is None else f"{value} ({name})"


def _content_line(content: dict[str, Any]) -> str:
    names = ("amount", "balance", "fee", "destination")
    shown: dict[str, Any] = {name: content[name] for name in names if name in content}
    if "parameters" in content:
        shown["entrypoint"] = content["parameters"]["entrypoint"]
    return " ".join([content["kind"], *(f"{name}={value}" for name, value in shown.items())])


def _what_comes_next(explained: Explanation) -> str:
    mark = explained.mark
    if mark is None:
        return "No mark is asked: to sign it twice is no offence. The store must know the key."
    return (
        f"Then the store is asked for the {mark['kind']} mark of the key, and of the delegate that "
        f"it signs for, on {mark['chain_id']}. Level {mark['level']} round {mark['round']} must be "
        "above both, or these bytes the ones that were signed there."
    )


def _mark(signable: Signable) -> dict[str, Any] | None:
    if not signable.chain_id:
        return None
    return {
        "kind": signable.kind.name.lower(),
        "chain_id": base58.encode(base58.CHAIN_ID, signable.chain_id),
        "level": signable.level,
        "round": signable.round,
    }
