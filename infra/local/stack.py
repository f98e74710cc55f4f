"""The whole stack on this machine, for as long as a program needs it: the emulator, a fake of the Devin API, and the
built template.yaml with a few changes."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from infra.local import build, certificate, cloudformation, emulator
from infra.local.aws import Aws
from infra.local.fake_devin import FakeDevin
from infra.local.processes import ProcessFailedError, ProcessGroup, ended_by_signals
from infra.local.run_directory import run_directory

STACK_NAME = "devin-session-cleanup"
# The one key that the fake API accepts at first; made up, and worth nothing elsewhere.
API_KEY = "apk_user_local-stack-0123456789abcdef"

type Progress = Callable[[str], None]


@dataclass(frozen=True)
class Stack:
    """A deployed stack: what a test, the demo or a person needs to use it."""

    name = STACK_NAME
    aws: Aws
    outputs: Mapping[str, str]
    api: FakeDevin
    directory: Path

    @property
    def work_queue_url(self) -> str:
        return self.outputs["WorkQueueUrl"]

    @property
    def dead_letter_queue_url(self) -> str:
        return self.outputs["DeadLetterQueueUrl"]

    @property
    def terminate_function_name(self) -> str:
        return self.outputs["TerminateFunctionName"]

    @property
    def sweep_function_name(self) -> str:
        return self.outputs["SweepFunctionName"]

    def put_api_key(self, key: str) -> None:
        """Store a new version of the secret, as a person who rotates the key does."""
        self.aws.secretsmanager.put_secret_value(SecretId=self.outputs["ApiKeySecretArn"], SecretString=key)

    def set_stop_switch(self, value: str) -> None:
        """Write the stop switch: `go` lets the functions act, anything else stops them within seconds."""
        self.aws.ssm.put_parameter(
            Name=self.outputs["StopSwitchParameterName"], Value=value, Type="String", Overwrite=True
        )

    @contextmanager
    def work_queue_held(self) -> Iterator[None]:
        """The event source mapping switched off for a moment, so that what is sent waits."""
        functions = self.aws.lambda_
        listed = functions.list_event_source_mappings(FunctionName=self.terminate_function_name)
        (mapping,) = listed["EventSourceMappings"]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        try:
            yield
        finally:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    def count(self, queue_url: str) -> int:
        """Messages in a queue: visible, received or delayed."""
        attributes = self.aws.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
        return sum(int(value) for name, value in attributes.items() if name.startswith("ApproximateNumberOfMessages"))

    def log_lines(self, function_name: str | None = None) -> list[str]:
        """All that a function (default: terminate) has logged, oldest first, without line ends."""
        output = "SweepLogGroupName" if function_name == self.sweep_function_name else "TerminateLogGroupName"
        pages = self.aws.logs.get_paginator("filter_log_events").paginate(logGroupName=self.outputs[output])
        events = sorted((event for page in pages for event in page["events"]), key=lambda event: event["timestamp"])
        return [event["message"].rstrip("\n") for event in events]

    def log_entries(self, function_name: str | None = None) -> list[dict[str, Any]]:
        """Those of `log_lines` that are JSON objects, parsed: log entries and metrics, without Lambda's own lines."""
        entries = []
        for line in self.log_lines(function_name):
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    entries.append(entry)
        return entries


@dataclass(frozen=True)
class Account:
    """An empty AWS account on this machine, next to a fake of the Devin API."""

    aws: Aws
    api: FakeDevin
    directory: Path

    def deploy(self, parameters: Mapping[str, str] | None = None) -> Stack:
        """Deploy the build, with `parameters` over those that suit this machine. Raises ProcessFailedError."""
        own = {"DevinApiUrl": self.api.url, "AlarmEmail": "on-call@example.com", "Dashboard": "true"}
        outputs = cloudformation.deploy(self.aws, STACK_NAME, own | dict(parameters or {}))
        return Stack(self.aws, outputs, self.api, self.directory)


@contextmanager
def local_account(progress: Progress = lambda _: None) -> Iterator[Account]:
    """Build the functions, start the emulator and the fake API, and end both when the block is left.

    Whatever ends this process ends them, even SIGKILL. Call it from the main thread to have SIGTERM covered.
    Raises ProcessFailedError; every exception that leaves the block notes where the logs are.
    """
    with ended_by_signals(), run_directory() as directory:
        try:
            with ProcessGroup() as group, FakeDevin(keys=[API_KEY]) as api:
                issued = certificate.issue(directory)
                aws = Aws(emulator.start(group, directory, issued), issued.authority)
                # It starts while this builds.
                progress("building the functions")
                progress("built" if build.build() else "built already: nothing changed")
                try:
                    aws.s3.create_bucket(Bucket=cloudformation.BUCKET)
                except BotoCoreError as error:
                    raise ProcessFailedError(f"the emulator did not start: {error}") from error
                progress(f"AWS emulator at {aws.endpoint_url}")
                progress(f"fake Devin API at {api.url}")
                yield Account(aws, api, directory)
        except Exception as error:
            error.add_note(f"logs: {directory}")
            raise


@contextmanager
def running_stack(progress: Progress) -> Iterator[Stack]:
    """The stack with a key in its secret that the fake API accepts, for as long as the block lasts."""
    with local_account(progress) as account:
        progress("deploying template.yaml")
        stack = account.deploy()
        stack.put_api_key(API_KEY)
        progress(f"deployed the stack {STACK_NAME}")
        yield stack
