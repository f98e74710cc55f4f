"""Sweeps asked for by an operator: the policy, the invocation, and two reports side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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
    """Sessions that one policy chooses and the other does not, with why it does. `partial` says why there may be
    others: what a report does not name cannot be compared."""

    first_only: Mapping[str, str]
    second_only: Mapping[str, str]
    both: int
    partial: Sequence[str]

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"complete": not self.partial}


def comparable(policy: Policy) -> Policy:
    """The criteria alone: dry, without caps that would refuse, and without a notice that would only sort the chosen."""
    return {key: value for key, value in policy.items() if key != "notify_first"} | _NO_CAPS | {"dry_run": True}


def difference(first: Report, second: Report) -> Difference:
    """Nothing is said of a session that one report names, if the other is cut: it names the first hundred."""
    partial = [*_cut("this policy", first), *_cut("the other", second)]
    ours, theirs = chosen(first), chosen(second)
    both = len(ours.keys() & theirs.keys())
    if partial:
        return Difference({}, {}, both, partial)
    return Difference(
        {one: why for one, why in ours.items() if one not in theirs},
        {one: why for one, why in theirs.items() if one not in ours},
        both,
        (),
    )


def _cut(name: str, report: Report) -> Iterator[str]:
    if report["listing"] != "complete":
        yield f"the listing for {name} was cut ({report['listing']})"
    if report["chosen"] > (named := len(chosen(report))):
        yield f"{name} chooses {report['chosen']} sessions and names {named}"


def chosen(report: Report) -> dict[str, str]:
    """The chosen that the report names, by id, with why."""
    choices = [*report["due"], *report["to_announce"], *report["waiting"]]
    return {choice["session_id"]: "; ".join(choice["why"]) for choice in choices}
