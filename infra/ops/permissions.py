"""What the stack's roles have to be allowed, as the code and the schedules need it, and what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.ops.snapshot import StackSnapshot

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient


@dataclass(frozen=True, slots=True)
class Need:
    """Actions on a resource. Use of the stack's KMS key is in the key's policy, which no simulation takes in."""

    arn: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the stack, whose it is, and what it needs."""

    whose: str
    arn: str
    needs: tuple[Need, ...]


def roles_of(stack: StackSnapshot) -> Iterator[Role]:
    """Every role that something of the stack acts with; raises what botocore raises, and as `output` does."""
    deployment, of = stack.deployment, _Resources(stack)
    yield Role(
        "terminate",
        stack.terminate["Role"],
        (
            Need(
                of.work,
                (
                    "sqs:ReceiveMessage",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                    "sqs:ChangeMessageVisibility",
                    "sqs:SendMessage",
                ),
            ),
            Need(of.letters, ("sqs:SendMessage",)),
            Need(of.secret, ("secretsmanager:GetSecretValue",)),
            Need(of.switch, ("ssm:GetParameter",)),
            Need(of.table, ("dynamodb:BatchWriteItem",)),
            *([Need(of.bus, ("events:PutEvents",))] if stack.settings.publish_outcomes else []),
        ),
    )
    yield Role(
        "sweep",
        stack.sweep["Role"],
        (
            Need(of.work, ("sqs:SendMessage",)),
            Need(of.secret, ("secretsmanager:GetSecretValue",)),
            Need(of.switch, ("ssm:GetParameter",)),
            Need(of.table, ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem")),
            Need(of.bus, ("events:PutEvents",)),
        ),
    )
    yield Role(
        "one-time schedules",
        deployment.output("OneTimeScheduleRoleArn"),
        (Need(of.work, ("sqs:SendMessage",)), Need(of.letters, ("sqs:SendMessage",))),
    )
    yield Role(
        "the sweep's schedule",
        deployment.output("SweepScheduleRoleArn"),
        (Need(deployment.output("SweepFunctionArn"), ("lambda:InvokeFunction",)),),
    )


class _Resources:
    """What the roles act on."""

    def __init__(self, stack: StackSnapshot) -> None:
        deployment = stack.deployment
        self.work, self.letters = deployment.work_queue_arn, deployment.dead_letter_queue_arn
        _, self._partition, _, self._region, self._account, _ = self.work.split(":", 5)
        self.secret = deployment.output("ApiKeySecretArn")
        self.switch = self.arn("ssm", f"parameter{deployment.output('StopSwitchParameterName')}")
        self.table = self.arn("dynamodb", f"table/{deployment.output('AnnouncementsTableName')}")
        self.bus = self.arn("events", "event-bus/default")

    def arn(self, service: str, resource: str) -> str:
        return f"arn:{self._partition}:{service}:{self._region}:{self._account}:{resource}"


def denied(iam: IAMClient, role: str, needs: Iterable[Need]) -> list[str]:
    """What IAM says the role may not do of this."""
    found = []
    for need in needs:
        answer = iam.simulate_principal_policy(
            PolicySourceArn=role,
            ActionNames=list(need.actions),
            ResourceArns=[need.arn],
        )
        found += [
            f"{result['EvalActionName']} on {need.arn}"
            for result in answer["EvaluationResults"]
            if result["EvalDecision"] != "allowed"
        ]
    return found
