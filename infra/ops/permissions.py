"""What the stack's roles have to be allowed, as the code and the schedules need it, and what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.ops.deployment import resource_of

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

    from infra.ops.doctor import StackSnapshot


@dataclass(frozen=True, slots=True)
class Need:
    """Actions on a resource; on a key, by way of the service `via`, which asks KMS in the role's name."""

    arn: str
    actions: tuple[str, ...]
    via: str | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the stack, whose it is, and what it needs."""

    whose: str
    arn: str
    needs: tuple[Need, ...]


def roles_of(patient: StackSnapshot) -> Iterator[Role]:
    """Every role that something of the stack acts with; raises what botocore raises, and as `output` does."""
    deployment, of = patient.deployment, _Resources(patient)
    yield Role(
        "terminate",
        patient.terminate["Role"],
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
            *([Need(of.bus, ("events:PutEvents",))] if patient.settings.publish_outcomes else []),
            *of.key_to_send(),
            *of.key_of_secret(),
        ),
    )
    yield Role(
        "sweep",
        patient.sweep["Role"],
        (
            Need(of.work, ("sqs:SendMessage",)),
            Need(of.secret, ("secretsmanager:GetSecretValue",)),
            Need(of.switch, ("ssm:GetParameter",)),
            Need(of.table, ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem")),
            Need(of.bus, ("events:PutEvents",)),
            *of.key_to_send(),
            *of.key_of_secret(),
            *of.key_for("dynamodb", "kms:Decrypt"),
        ),
    )
    yield Role(
        "one-time schedules",
        deployment.output("OneTimeScheduleRoleArn"),
        (Need(of.work, ("sqs:SendMessage",)), Need(of.letters, ("sqs:SendMessage",)), *of.key_to_send()),
    )
    yield Role(
        "the sweep's schedule",
        deployment.output("SweepScheduleRoleArn"),
        (Need(deployment.output("SweepFunctionArn"), ("lambda:InvokeFunction",)),),
    )
    if deployment.parameters.get("ScheduledSessionIds"):
        name = resource_of(patient.account.cloudformation, deployment.name, "ScheduleRole")
        yield Role(
            "the recurring schedule",
            of.arn("iam", f"role/{name}", region=""),
            (
                Need(of.function, ("lambda:InvokeFunction",)),
                Need(of.letters, ("sqs:SendMessage",)),
                *of.key_to_send(),
            ),
        )


class _Resources:
    """What the roles act on."""

    def __init__(self, patient: StackSnapshot) -> None:
        deployment = patient.deployment
        self.work, self.letters = deployment.work_queue_arn, deployment.dead_letter_queue_arn
        _, self._partition, _, self._region, self._account, _ = self.work.split(":", 5)
        self.secret = deployment.output("ApiKeySecretArn")
        self.switch = self.arn("ssm", f"parameter{deployment.output('StopSwitchParameterName')}")
        self.table = self.arn("dynamodb", f"table/{deployment.output('AnnouncementsTableName')}")
        self.bus = self.arn("events", "event-bus/default")
        # Without the alias that the queue may invoke: schedules name the function alone.
        self.function = self.arn("lambda", f"function:{deployment.output('TerminateFunctionName')}")
        self._key = self.arn("kms", f"key/{patient.key_id}") if patient.key_id else None
        self._secrets_key = deployment.parameters.get("ExistingApiKeySecretKmsKeyArn") or self._key

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        place = self._region if region is None else region
        return f"arn:{self._partition}:{service}:{place}:{self._account}:{resource}"

    def key_for(self, service: str, *actions: str) -> Iterator[Need]:
        if self._key is not None:
            yield Need(self._key, actions, self._host(service))

    def key_to_send(self) -> Iterator[Need]:
        return self.key_for("sqs", "kms:Decrypt", "kms:GenerateDataKey")

    def key_of_secret(self) -> Iterator[Need]:
        if self._secrets_key is not None:
            yield Need(self._secrets_key, ("kms:Decrypt",), self._host("secretsmanager"))

    def _host(self, service: str) -> str:
        suffix = "amazonaws.com.cn" if self._partition == "aws-cn" else "amazonaws.com"
        return f"{service}.{self._region}.{suffix}"


def denied(iam: IAMClient, role: str, needs: Iterable[Need]) -> list[str]:
    """What IAM says the role may not do of this."""
    found = []
    for need in needs:
        answer = iam.simulate_principal_policy(
            PolicySourceArn=role,
            ActionNames=list(need.actions),
            ResourceArns=[need.arn],
            ContextEntries=[
                {"ContextKeyName": "kms:ViaService", "ContextKeyValues": [need.via], "ContextKeyType": "string"}
            ]
            if need.via
            else [],
        )
        found += [
            f"{result['EvalActionName']} on {need.arn}"
            for result in answer["EvaluationResults"]
            if result["EvalDecision"] != "allowed"
        ]
    return found
