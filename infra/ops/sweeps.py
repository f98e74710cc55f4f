"""Sweeps asked for by an operator: the policy and the invocation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infra.ops.problems import FoundError, UsageError
from sweep.policy import PolicyError, parse_policy

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

type Policy = dict[str, Any]
type Report = dict[str, Any]


class StoppedError(FoundError):
    """The stop switch kept the sweep from being carried out."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"the sweep was stopped: {report.get('why', '')}")
        self.report = report


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
    report: Report = said
    if report["mode"] == "stopped":
        raise StoppedError(report)
    return report
