"""Sweeps asked for by an operator: the policy, the invocation, and two reports side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.ops.deployment import Deployment
from infra.ops.problems import FoundError, UsageError
from sweep.policy import PolicyError, parse_policy

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

type Policy = dict[str, Any]
type Report = dict[str, Any]

# What a policy may choose at most; see sweep/policy.py.
_NO_CAPS: Policy = {"max_sessions": 10_000, "max_share": 1}


def load_policy(given: str | None, deployment: Deployment) -> Policy:
    """The policy in this text or file, or the stack's own. Raises UsageError if the function would refuse it."""
    if given is None:
        where, text = f"the parameter SweepPolicy of {deployment.name}", deployment.parameters.get("SweepPolicy", "")
    elif given.lstrip().startswith("{"):
        where, text = "the policy", given
    else:
        where = given
        try:
            text = Path(given).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{given} is no policy and no file with one ({error})") from None
    try:
        policy = json.loads(text)
        parse_policy(policy)
    except PolicyError as error:
        raise UsageError(f"{where}: {error}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{where} is not JSON") from None
    made: Policy = policy
    return made


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
    """Sessions that one policy chooses and the other does not, with why it does. `complete` unless a report was cut."""

    first_only: Mapping[str, str]
    second_only: Mapping[str, str]
    both: int
    complete: bool

    def as_dict(self) -> dict[str, object]:
        return {
            "first_only": dict(self.first_only),
            "second_only": dict(self.second_only),
            "both": self.both,
            "complete": self.complete,
        }


def comparable(policy: Policy) -> Policy:
    """The criteria alone: dry, without caps that would refuse, and without a notice that would only sort the chosen."""
    return {key: value for key, value in policy.items() if key != "notify_first"} | _NO_CAPS | {"dry_run": True}


def difference(first: Report, second: Report) -> Difference:
    """What a report does not name, nobody can compare: it names the first hundred by id."""
    ours, theirs = chosen(first), chosen(second)
    return Difference(
        first_only={one: why for one, why in ours.items() if one not in theirs},
        second_only={one: why for one, why in theirs.items() if one not in ours},
        both=len(ours.keys() & theirs.keys()),
        complete=all(
            len(chosen(report)) == report["chosen"] and report["listing"] == "complete" for report in (first, second)
        ),
    )


def chosen(report: Report) -> dict[str, str]:
    """The chosen that the report names, by id, with why."""
    choices = [*report["due"], *report["to_announce"], *report["waiting"]]
    return {choice["session_id"]: "; ".join(choice["why"]) for choice in choices}
