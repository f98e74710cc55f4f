"""What policies allow, asked of the emulator's judge: another reading of IAM's rules than ours, if not AWS's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import pytest

from infra.environments import ENVIRONMENTS
from tests.template.rendered import PSEUDO_PARAMETERS, REGION, Json

# Runs in the emulator's environment; takes questions from standard input and answers with a decision for each.
_JUDGE = """
import json, sys
from ministack.core.iam_evaluator import EvalContext, evaluate, evaluate_resource_policy, parse_policy_document
decisions = []
for asked in json.load(sys.stdin):
    context = EvalContext(
        principal_arn=asked["principal"],
        principal_type="AssumedRole",
        principal_account=asked["principal"].split(":")[4],
        action=asked["action"],
        resource_arn=asked["resource"],
        region=asked["region"],
        source_ip="192.0.2.1",
        secure_transport=True,
        service_context={name.lower(): value for name, value in asked["context"].items()},
    )
    if any("Principal" in statement for statement in asked["document"]["Statement"]):
        result = evaluate_resource_policy(asked["document"], context, service=asked["service"])
    else:
        result = evaluate(context, [parse_policy_document(asked["document"])])
    decisions.append(result.decision)
json.dump(decisions, sys.stdout)
"""


@dataclass(frozen=True)
class Use:
    """Something that is done: by the principal whose policy it is, or, where the policy names principals, by a service
    (`scheduler.amazonaws.com`) or a principal (an ARN). `context` are condition keys and their values."""

    action: str
    resource: str = "*"
    by: str = ""
    context: dict[str, str] = field(default_factory=dict)


def allowed(asked: Sequence[tuple[Json, Use]]) -> list[bool]:
    """Whether each document allows the use of it."""
    python = ENVIRONMENTS["emulator"].path / "bin" / "python"
    if not python.exists():
        pytest.fail(f"the emulator is not at {python}; run infra/setup")
    questions = [{**_who(use.by), **asdict(use), "document": document, "region": REGION} for document, use in asked]
    judged = subprocess.run(  # noqa: S603
        [str(python), "-I", "-c", _JUDGE], input=json.dumps(questions), capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stderr
    return [decision == "Allow" for decision in json.loads(judged.stdout)]


def _who(by: str) -> dict[str, str | None]:
    if by.startswith("arn:"):
        return {"principal": by, "service": None}
    # A service is no principal of the account, so that nothing counts but its name.
    account = "000000000000" if by else PSEUDO_PARAMETERS["AWS::AccountId"]
    return {"principal": f"arn:aws:sts::{account}:assumed-role/role/session", "service": by or None}
