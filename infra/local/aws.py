"""Typed clients of the emulator, untouched by what the shell says about AWS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config

from infra.local.emulator import CREDENTIALS, REGION

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient


class Aws:
    """Clients with the rights of the account's owner, made when first used."""

    cloudformation: CloudFormationClient
    cloudwatch: CloudWatchClient
    dynamodb: DynamoDBClient
    events: EventBridgeClient
    iam: IAMClient
    lambda_: LambdaClient
    logs: CloudWatchLogsClient
    s3: S3Client
    scheduler: EventBridgeSchedulerClient
    secretsmanager: SecretsManagerClient
    sns: SNSClient
    sqs: SQSClient
    ssm: SSMClient

    def __init__(self, endpoint_url: str, ca_bundle: Path) -> None:
        self.endpoint_url, self.ca_bundle, self.region = endpoint_url, ca_bundle, REGION
        # What points the AWS CLI, SAM CLI and SDKs here, and away from profiles of this machine's user.
        self.environment = {
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_CA_BUNDLE": str(ca_bundle),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **CREDENTIALS,
        }
        # Explicit credentials are not enough: a profile that the shell names and no file has is an error all the same.
        nowhere = (None, None, os.devnull, None)
        variables = {"profile": (None, None, None, None), "config_file": nowhere, "credentials_file": nowhere}
        self._session = boto3.Session(
            CREDENTIALS["AWS_ACCESS_KEY_ID"],
            CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
            botocore_session=botocore.session.Session(session_vars=variables),
        )
        self._config = Config(
            proxies={},  # loopback
            connect_timeout=30,  # a handshake on a busy machine
            read_timeout=75,  # terminate may run for a minute; a sweep of the fake's few sessions takes seconds
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=32,
        )

    def __getattr__(self, name: str) -> Any:
        if name not in Aws.__annotations__:
            raise AttributeError(name)
        service: Any = name.rstrip("_")
        client = self._session.client(
            service, endpoint_url=self.endpoint_url, verify=str(self.ca_bundle), config=self._config
        )
        setattr(self, name, client)
        return client
