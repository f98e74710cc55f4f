"""The functions with everything that they have in Lambda but Lambda: real clients, real sockets, their own settings."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config

import runtime
from devin.throttle import Throttle
from infra.local.fake_devin import FakeDevin
from infra.local.fake_devin.sessions import ORG_ID
from settings import Settings
from sweep import handler as sweep_handler
from terminate import handler
from tests.contract.aws import HANG, FailingAws, Trouble
from tests.contract.caller import V1_KEY

# What an AWS that hangs is waited for, in place of the seconds that the functions wait.
_SHORT_SECONDS = 0.4


@dataclass
class Context:
    """Lambda's context, as far as the functions look at it."""

    aws_request_id: str = "request-1"
    function_name: str = "a-function"
    remaining_milliseconds: int = 60_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_milliseconds


@dataclass
class Functions:
    """Both functions beside the API and the AWS that they talk to. `slept` are the waits between attempts at AWS,
    which are not waited for; `config` is what the functions ask of their clients."""

    api: FakeDevin
    aws: FailingAws
    printed: io.StringIO
    slept: list[float] = field(default_factory=list)
    context: Context = field(default_factory=Context)
    config: Any = None
    patient: bool = True

    def fails(self, operation: str, *troubles: Trouble | None) -> None:
        """From now on, this goes wrong with this operation of AWS, one after the other. What is to hang has to be
        scripted before the first invocation."""
        self.patient = self.patient and HANG not in troubles
        self.aws.fails(operation, *troubles)

    def invoke(self, event: object) -> Any:
        return handler.lambda_handler(event, self.context)  # type: ignore[arg-type]

    def sweep(self, **policy: Any) -> dict[str, Any]:
        return sweep_handler.lambda_handler(policy, self.context)  # type: ignore[arg-type]

    def deliver(self, *bodies: str, receive_count: int = 1) -> list[str]:
        """Invoke the function with a batch of these bodies; the numbers of those that it keeps."""
        answered = self.invoke(batch(*bodies, receive_count=receive_count))
        return [item["itemIdentifier"] for item in answered["batchItemFailures"]]

    def log(self) -> list[dict[str, Any]]:
        """The log lines so far, metrics apart; each has to be one line of JSON."""
        lines = [json.loads(line) for line in self.printed.getvalue().splitlines()]
        return [line for line in lines if "_aws" not in line]


def batch(*bodies: str, receive_count: int = 1) -> dict[str, Any]:
    """Lambda's event for messages of these bodies, numbered from 0."""
    return {
        "Records": [
            {
                "messageId": str(number),
                "receiptHandle": f"receipt-{number}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": str(receive_count)},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
            }
            for number, body in enumerate(bodies)
        ]
    }


@cache
def _session() -> boto3.Session:
    """One for all tests, because it reads the descriptions of the services, and not the one that others may watch."""
    return boto3.Session()


@contextmanager
def functions(api: FakeDevin, patch: pytest.MonkeyPatch, *, key: str = V1_KEY) -> Iterator[Functions]:
    """The functions, to be invoked against this fake API."""
    with ExitStack() as stack:
        aws = stack.enter_context(FailingAws(secret=key))
        made = Functions(api, aws, io.StringIO())
        for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": aws.url,
            "AWS_ENDPOINT_URL_SQS": aws.url,
            "DEVIN_API_URL": api.url,
            "DEVIN_ORG_ID": ORG_ID,
            "API_KEY_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key",
            "WORK_QUEUE_URL": f"{aws.url}/123456789012/work",
            "DEAD_LETTER_QUEUE_URL": f"{aws.url}/123456789012/dead-letters",
            "MAX_WORKERS": "4",
        }.items():
            patch.setenv(name, value)
        patch.setattr(boto3, "DEFAULT_SESSION", _session())
        real = runtime._config

        def impatient(settings: Settings) -> Config:
            made.config = real(settings)
            config: Config = made.config if made.patient else made.config.merge(Config(read_timeout=_SHORT_SECONDS))
            return config

        patch.setattr(runtime, "_config", impatient)
        patch.setattr(handler, "throttle", Throttle())
        patch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=made.slept.append))
        patch.setattr("queues.time", SimpleNamespace(sleep=made.slept.append))
        for stream_handler in (*handler.logger.handlers, *sweep_handler.logger.handlers):
            patch.setattr(stream_handler, "stream", made.printed)
        patch.setattr(sys, "stdout", made.printed)
        runtime.runtime_for.cache_clear()
        try:
            yield made
        finally:
            used = runtime.runtime_for(Settings.from_environment(os.environ))
            used.executor.shutdown()
            runtime.runtime_for.cache_clear()
            sweep_handler.metrics.clear_metrics()
