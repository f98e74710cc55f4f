"""The stack as `doctor` sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from devin.api_key import parse_api_key
from infra.ops.account import Account
from infra.ops.deployment import Deployment, EventSource, mapping_of
from settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_lambda.type_defs import FunctionConfigurationResponseTypeDef


class StackSnapshot:
    """The stack, and what several checks ask of it, asked once. `command` is what to call this command in remedies."""

    def __init__(self, account: Account, deployment: Deployment, now: Callable[[], datetime], command: str) -> None:
        self.account = account
        self.deployment = deployment
        self.now = now
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
    def mapping(self) -> EventSource | None:
        return mapping_of(self.account.lambda_, self.deployment)

    @cached_property
    def key(self) -> str:
        """The API key, for one call; raises ApiKeyError."""
        answer = self.account.secretsmanager.get_secret_value(SecretId=self.deployment.output("ApiKeySecretArn"))
        return parse_api_key(answer.get("SecretString") or answer.get("SecretBinary", b""))

    def attributes(self, queue_url: str) -> Mapping[str, str]:
        attributes: Mapping[str, str] = self.account.sqs.get_queue_attributes(
            QueueUrl=queue_url, AttributeNames=["All"]
        )["Attributes"]  # type: ignore[assignment]
        return attributes
