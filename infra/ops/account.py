"""The AWS account that the operator's shell or options point at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=30,  # longer than any long poll
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=16,
    user_agent_extra="devin-session-cleanup-ops",
)
# A sweep takes 300 s at most. One that is invoked twice sweeps twice, so nothing is tried again.
_INVOKE = _CONFIG.merge(Config(read_timeout=330, retries={"total_max_attempts": 1}))


@dataclass(frozen=True)
class Account:
    """Clients made when first asked for, from a session as the AWS CLI would make it."""

    session: boto3.Session

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        return self.session.client("cloudformation", config=_CONFIG)

    @cached_property
    def cloudwatch(self) -> CloudWatchClient:
        return self.session.client("cloudwatch", config=_CONFIG)

    @cached_property
    def iam(self) -> IAMClient:
        return self.session.client("iam", config=_CONFIG)

    @cached_property
    def invoker(self) -> LambdaClient:
        return self.session.client("lambda", config=_INVOKE)

    @cached_property
    def kms(self) -> Any:  # without stubs, for one call
        return self.session.client("kms", config=_CONFIG)

    @cached_property
    def lambda_(self) -> LambdaClient:
        return self.session.client("lambda", config=_CONFIG)

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        return self.session.client("logs", config=_CONFIG)

    @cached_property
    def scheduler(self) -> EventBridgeSchedulerClient:
        return self.session.client("scheduler", config=_CONFIG)

    @cached_property
    def secretsmanager(self) -> SecretsManagerClient:
        return self.session.client("secretsmanager", config=_CONFIG)

    @cached_property
    def sns(self) -> SNSClient:
        return self.session.client("sns", config=_CONFIG)

    @cached_property
    def sqs(self) -> SQSClient:
        return self.session.client("sqs", config=_CONFIG)

    @cached_property
    def ssm(self) -> SSMClient:
        return self.session.client("ssm", config=_CONFIG)


def open_session(profile: str | None, region: str | None) -> boto3.Session:
    """A session for these, or for what the environment and the configuration files say."""
    return boto3.Session(profile_name=profile, region_name=region)
