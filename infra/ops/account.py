"""The AWS account that the operator's shell or options point at."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError

from infra.ops.problems import UsageError

# boto3 takes longer to import than all else: it is imported when the first client is made.
if TYPE_CHECKING:
    import boto3
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

_READ_SECONDS = 30  # longer than any long poll
# A sweep takes 300 s at most. One that is invoked twice sweeps twice, so nothing is tried again.
_INVOKE_SECONDS = 330


def _client(service: str, *, read_timeout: int = _READ_SECONDS, attempts: int = 4) -> cached_property[Any]:
    """A client that is made when it is first asked for."""

    def make(account: Account) -> Any:
        from botocore.config import Config  # noqa: PLC0415

        config = Config(
            connect_timeout=5,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=16,
            user_agent_extra="devin-session-cleanup-ops",
        )
        try:
            return account.session.client(service, config=config)  # type: ignore[call-overload]
        except BotoCoreError:
            raise
        except ValueError as error:
            raise UsageError(f"{error}; check AWS_ENDPOINT_URL") from None

    return cached_property(make)


class Account:
    """Clients from a session as the AWS CLI would make it."""

    def __init__(self, session: boto3.Session) -> None:
        self.session = session

    cloudformation: cached_property[CloudFormationClient] = _client("cloudformation")
    cloudwatch: cached_property[CloudWatchClient] = _client("cloudwatch")
    dynamodb: cached_property[DynamoDBClient] = _client("dynamodb")
    iam: cached_property[IAMClient] = _client("iam")
    invoker: cached_property[LambdaClient] = _client("lambda", read_timeout=_INVOKE_SECONDS, attempts=1)
    kms: cached_property[Any] = _client("kms")  # no stubs are installed for kms and tagging, which take few calls
    lambda_: cached_property[LambdaClient] = _client("lambda")
    logs: cached_property[CloudWatchLogsClient] = _client("logs")
    scheduler: cached_property[EventBridgeSchedulerClient] = _client("scheduler")
    secretsmanager: cached_property[SecretsManagerClient] = _client("secretsmanager")
    sns: cached_property[SNSClient] = _client("sns")
    sqs: cached_property[SQSClient] = _client("sqs")
    ssm: cached_property[SSMClient] = _client("ssm")
    tagging: cached_property[Any] = _client("resourcegroupstaggingapi")


def open_session(profile: str | None, region: str | None) -> boto3.Session:
    """A session for these, or for what the environment and the configuration files say."""
    import boto3  # noqa: PLC0415

    return boto3.Session(profile_name=profile, region_name=region)
