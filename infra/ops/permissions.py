"""What the stack's roles have to be allowed, as the code and the schedules need it, and what IAM denies them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from infra.ops.snapshot import StackSnapshot

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

# Actions by resource. Use of the stack's KMS key is granted by the key's policy, which a simulation does not read.
type Needs = Mapping[str, Sequence[str]]

_SEND = ("sqs:SendMessage",)
_RECEIVE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility")


def roles_of(stack: StackSnapshot) -> Iterator[tuple[str, str, Needs]]:
    """Whose role it is, its ARN, and what it needs; raises what botocore raises, and as `output` does."""
    deployment = stack.deployment
    work, letters = deployment.work_queue_arn, deployment.dead_letter_queue_arn
    _, partition, _, region, account, _ = work.split(":", 5)

    def arn(service: str, resource: str) -> str:
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    table = arn("dynamodb", f"table/{deployment.output('AnnouncementsTableName')}")
    publish = {arn("events", "event-bus/default"): ["events:PutEvents"]}
    both = {
        deployment.output("ApiKeySecretArn"): ["secretsmanager:GetSecretValue"],
        arn("ssm", f"parameter{deployment.output('StopSwitchParameterName')}"): ["ssm:GetParameter"],
    }
    terminate = {work: [*_RECEIVE, *_SEND], letters: _SEND, table: ["dynamodb:BatchWriteItem"]}
    if stack.settings.publish_outcomes:
        terminate |= publish
    yield "terminate", stack.terminate["Role"], both | terminate
    sweep = {work: _SEND, table: ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"]}
    yield "sweep", stack.sweep["Role"], both | sweep | publish
    yield "one-time schedules", deployment.output("OneTimeScheduleRoleArn"), {work: _SEND, letters: _SEND}
    invoke = {deployment.output("SweepFunctionArn"): ["lambda:InvokeFunction"]}
    yield "the sweep's schedule", deployment.output("SweepScheduleRoleArn"), invoke


def denied(iam: IAMClient, role: str, needs: Needs) -> list[str]:
    """What IAM says the role may not do of this."""
    found = []
    for arn, actions in needs.items():
        answer = iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=actions, ResourceArns=[arn])
        results = answer["EvaluationResults"]
        found += [f"{one['EvalActionName']} on {arn}" for one in results if one["EvalDecision"] != "allowed"]
    return found
