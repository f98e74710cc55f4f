"""The stack as `doctor` sees it, and what its checks find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from devin.api_key import ApiKeyError, parse_api_key
from infra.ops.account import Account
from infra.ops.deployment import Deployment, mapping_of
from settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_lambda.type_defs import (
        EventSourceMappingConfigurationTypeDef,
        FunctionConfigurationResponseTypeDef,
    )


class StackSnapshot:
    """The stack, and what several checks ask of it, asked once. `command` is what to call this command in remedies."""

    def __init__(self, account: Account, deployment: Deployment, command: str) -> None:
        self.account = account
        self.deployment = deployment
        self.command = command

    @cached_property
    def terminate(self) -> FunctionConfigurationResponseTypeDef:
        name = self.deployment.output("TerminateFunctionName")
        return self.account.lambda_.get_function_configuration(FunctionName=name)

    @cached_property
    def sweep(self) -> FunctionConfigurationResponseTypeDef:
        return self.account.lambda_.get_function_configuration(FunctionName=self.deployment.output("SweepFunctionName"))

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environment(self.terminate.get("Environment", {}).get("Variables", {}))

    @cached_property
    def mapping(self) -> EventSourceMappingConfigurationTypeDef | None:
        return mapping_of(self.account.lambda_, self.deployment)

    @cached_property
    def key(self) -> str:
        """The API key, for one call; raises ApiKeyError."""
        secrets = self.account.secretsmanager
        try:
            answer = secrets.get_secret_value(SecretId=self.deployment.output("ApiKeySecretArn"))
        except secrets.exceptions.ResourceNotFoundException:
            raise ApiKeyError("there is no such secret, or it has no value") from None
        return parse_api_key(answer.get("SecretString") or answer.get("SecretBinary", b""))

    def attributes(self, queue_url: str) -> Mapping[str, str]:
        attributes: Mapping[str, str] = self.account.sqs.get_queue_attributes(
            QueueUrl=queue_url, AttributeNames=["All"]
        )["Attributes"]  # type: ignore[assignment]
        return attributes


class Status(StrEnum):
    """From best to worst; unknown is what could not be checked."""

    OK = "ok"
    WARNING = "warning"
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` says what to do unless the status is ok."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Status.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Status.WARNING, found, remedy)


def verdict(check: str, *, good: bool, found: str, remedy: str) -> Finding:
    return ok(check, found) if good else failed(check, found, remedy)


def unknown(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Status.UNKNOWN, found, remedy)


def failed(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Status.FAILED, found, remedy)
