"""Sweeps asked for by an operator: the policy, the invocation, and two reports side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.ops.problems import FoundError, UsageError
from sweep.policy import PolicyError, parse_policy

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

type Policy = dict[str, Any]
type Report = dict[str, Any]

# What a policy may choose at most; see sweep/policy.py.
_NO_CAPS: Policy = {"max_sessions": 10_000, "max_share": 1}


def load_policy(where: str, text: str) -> Policy:
    """The policy in this text, which comes from `where`. Raises UsageError if the function would refuse it."""
    try:
        policy: Policy = json.loads(text, object_pairs_hook=_without_repeats)
        parse_policy(policy)
    except PolicyError as error:
        raise UsageError(f"{where}: {error}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{where} is not JSON") from None
    return policy


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise PolicyError(f"{key!r} stands in it twice")
        fields[key] = value
    return fields


def sweep(lambda_: LambdaClient, function_name: str, policy: Mapping[str, Any]) -> Report:
    """Invoke the function and wait for its report. Raises FoundError if it has none, and what botocore raises."""
    answer = lambda_.invoke(FunctionName=function_name, Payload=json.dumps(policy))
    said = json.loads(answer["Payload"].read())
    if answer.get("FunctionError") or not isinstance(said, dict) or "mode" not in said:
        error = said.get("errorMessage", said) if isinstance(said, dict) else said
        raise FoundError(f"the sweep failed: {error}")
    if said["mode"] in {"stopped", "refused"}:
        raise FoundError(f"the sweep was {said['mode']}: {said.get('why', '')}")
    report: Report = said
    return report


@dataclass(frozen=True, slots=True)
class Difference:
    """Sessions that one policy chooses and the other does not, with why it does.

    `undecided` are those that one report names, while the other is cut before them. `unnamed` is how many each chose
    and did not name; `not_listed` says of each why its listing is not whole, if it is not.
    """

    first_only: Mapping[str, str]
    second_only: Mapping[str, str]
    undecided: Mapping[str, str]
    both: int
    chosen: tuple[int, int]
    unnamed: tuple[int, int]
    not_listed: tuple[str | None, str | None]
    exact_up_to: str | None

    @property
    def complete(self) -> bool:
        return not any((*self.unnamed, *self.not_listed))

    def as_dict(self) -> dict[str, object]:
        return {
            "first_only": dict(self.first_only),
            "second_only": dict(self.second_only),
            "undecided": dict(self.undecided),
            "both": self.both,
            "unnamed": dict(zip(("first", "second"), self.unnamed, strict=True)),
            "exact_up_to": self.exact_up_to,
            "complete": self.complete,
        }


def comparable(policy: Policy) -> Policy:
    """The criteria alone: dry, without caps that would refuse, and without a notice that would only sort the chosen."""
    return {key: value for key, value in policy.items() if key != "notify_first"} | _NO_CAPS | {"dry_run": True}


def difference(first: Report, second: Report) -> Difference:
    """What a report does not name, nobody can compare: it names the first hundred, in the order of their ids."""
    ours, theirs = chosen(first), chosen(second)
    alone: dict[str, str] = {}
    other_alone: dict[str, str] = {}
    undecided: dict[str, str] = {}
    for one, why in ours.items():
        if one not in theirs:
            (alone if _leaves_out(second, one) else undecided)[one] = why
    for one, why in theirs.items():
        if one not in ours:
            (other_alone if _leaves_out(first, one) else undecided)[one] = why
    ends = [max(names) for report, names in ((first, ours), (second, theirs)) if names and _unnamed(report)]
    listings = tuple(None if report["listing"] == "complete" else str(report["listing"]) for report in (first, second))
    return Difference(
        first_only=alone,
        second_only=other_alone,
        undecided=undecided,
        both=len(ours.keys() & theirs.keys()),
        chosen=(first["chosen"], second["chosen"]),
        unnamed=(_unnamed(first), _unnamed(second)),
        not_listed=(listings[0], listings[1]),
        exact_up_to=min(ends) if ends and not any(listings) else None,
    )


def _leaves_out(report: Report, session_id: str) -> bool:
    """Whether the sweep certainly did not choose a session that its report does not name."""
    if report["listing"] != "complete":
        return False
    return not _unnamed(report) or session_id < max(chosen(report), default="")


def _unnamed(report: Report) -> int:
    return int(report["chosen"]) - len(chosen(report))


def chosen(report: Report) -> dict[str, str]:
    """The chosen that the report names, by id, with why."""
    choices = [*report["due"], *report["to_announce"], *report["waiting"]]
    return {choice["session_id"]: "; ".join(choice["why"]) for choice in choices}
