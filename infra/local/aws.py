"""Typed clients of the emulator, untouched by what the shell says about AWS."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True)
class Aws:
    """Clients with the rights of the account's owner, made when first asked for."""

    endpoint_url: str
    ca_bundle: Path
    region: str = REGION

    @cached_property
    def _session(self) -> boto3.Session:
        # Explicit credentials are not enough: a profile that the shell names and no file has is an error all the same.
        nowhere = (None, None, os.devnull, None)
        variables = {"profile": (None, None, None, None), "config_file": nowhere, "credentials_file": nowhere}
        return boto3.Session(
            botocore_session=botocore.session.Session(session_vars=variables),
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=self.region,
        )

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return {
            "endpoint_url": self.endpoint_url,
            "verify": str(self.ca_bundle),
            "config": Config(
                proxies={},  # loopback
                connect_timeout=5,
                read_timeout=75,  # terminate may run for a minute; a sweep of the stand-in's few sessions takes seconds
                retries={"mode": "standard", "total_max_attempts": 2},
                max_pool_connections=32,
            ),
        }

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        return self._session.client("cloudformation", **self._settings)

    @cached_property
    def cloudwatch(self) -> CloudWatchClient:
        return self._session.client("cloudwatch", **self._settings)

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        return self._session.client("dynamodb", **self._settings)

    @cached_property
    def events(self) -> EventBridgeClient:
        return self._session.client("events", **self._settings)

    @cached_property
    def iam(self) -> IAMClient:
        return self._session.client("iam", **self._settings)

    @cached_property
    def lambda_(self) -> LambdaClient:
        return self._session.client("lambda", **self._settings)

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        return self._session.client("logs", **self._settings)

    @cached_property
    def s3(self) -> S3Client:
        return self._session.client("s3", **self._settings)

    @cached_property
    def scheduler(self) -> EventBridgeSchedulerClient:
        return self._session.client("scheduler", **self._settings)

    @cached_property
    def secretsmanager(self) -> SecretsManagerClient:
        return self._session.client("secretsmanager", **self._settings)

    @cached_property
    def sns(self) -> SNSClient:
        return self._session.client("sns", **self._settings)

    @cached_property
    def sqs(self) -> SQSClient:
        return self._session.client("sqs", **self._settings)

    @cached_property
    def ssm(self) -> SSMClient:
        return self._session.client("ssm", **self._settings)
