"""A stack in memory for the operator's command, and the command as its user runs it."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from typer.testing import CliRunner

from infra.ops.app import app
from tests.unit.world import SWITCH, TABLE, World, attributes_of, client

STACK = "devin-session-cleanup"


@dataclass(frozen=True)
class Ran:
    """What a run of the command left: its exit status and what it printed where."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON on the standard output; there must be nothing else."""
        return json.loads(self.out)


class Operator:
    """Somebody who runs the command against the stack of `world`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.outputs = {
            "WorkQueueUrl": world.work_queue,
            "WorkQueueArn": self.arn(world.work_queue),
            "DeadLetterQueueUrl": world.dead_letter_queue,
            "DeadLetterQueueArn": self.arn(world.dead_letter_queue),
            "ApiKeySecretArn": world.secret,
            "TerminateFunctionName": "terminate",
            "SweepFunctionName": "sweep",
            "SweepLogGroupName": "/aws/lambda/sweep",
            "StopSwitchParameterName": SWITCH,
            "AnnouncementsTableName": TABLE,
            "OneTimeScheduleRoleArn": "arn:aws:iam::123456789012:role/one-time",
            "SweepFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:sweep",
            "SweepScheduleRoleArn": "arn:aws:iam::123456789012:role/sweep-schedule",
            "AlarmTopicArn": "arn:aws:sns:eu-west-1:123456789012:alarms",
        }
        self.parameters = {"SweepPolicy": '{"idle_for": "P3D", "dry_run": true}', "SweepEnabled": "false"}
        self.status = "UPDATE_COMPLETE"
        self._moved: set[str] = set()
        world.aws.faults["cloudformation.DescribeStacks"] = lambda _: {"Stacks": [self._described()]}
        world.switch("go")
        world.aws.calls.clear()

    def arn(self, queue_url: str) -> str:
        return f"arn:aws:sqs:eu-west-1:123456789012:{queue_url.rsplit('/', 1)[-1]}"

    def _described(self) -> dict[str, Any]:
        return {
            "StackName": STACK,
            "StackStatus": self.status,
            "CreationTime": datetime(2026, 11, 1, tzinfo=UTC),
            "Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in self.outputs.items()],
            "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()],
        }

    def run(self, *arguments: str, given: str | bytes = "") -> Ran:
        """Run the command with these arguments, and this in its standard input."""
        result = CliRunner().invoke(app, list(arguments), input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    def answer_sweeps(self, *answers: Mapping[str, Any], error: bool = False) -> list[dict[str, Any]]:
        """Have the sweep function answer with these; returns the policies that it is given, as they come."""
        policies: list[dict[str, Any]] = []

        def invoke(policy: dict[str, Any]) -> dict[str, Any]:
            policies.append(policy)
            said = io.BytesIO(json.dumps(answers[len(policies) - 1]).encode())
            return {"StatusCode": 200, "Payload": said} | ({"FunctionError": "Unhandled"} if error else {})

        self.world.aws.faults["lambda.Invoke"] = invoke
        return policies

    def dead_letter(self, body: str, **attributes: str) -> str:
        """Put a message into the dead-letter queue; returns its id."""
        return self._send(self.world.dead_letter_queue, body, attributes)

    def queue(self, body: str, **attributes: str) -> str:
        """The same for the work queue."""
        return self._send(self.world.work_queue, body, attributes)

    def _send(self, queue_url: str, body: str, attributes: Mapping[str, str]) -> str:
        return self.world.sqs.send_message(
            QueueUrl=queue_url,
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )["MessageId"]

    def moved_by_sqs(self, body: str, **attributes: str) -> str:
        """The same for one that the redrive policy moved, marked as AWS does it and moto does not."""
        self._moved.add(message_id := self.dead_letter(body, **attributes))
        self.world.aws.faults["sqs.ReceiveMessage"] = self._receive
        return message_id

    def _receive(self, given: dict[str, Any]) -> object:
        del self.world.aws.faults["sqs.ReceiveMessage"]
        answer: Any = self.world.sqs.receive_message(**given)
        self.world.aws.faults["sqs.ReceiveMessage"] = self._receive
        for message in answer.get("Messages", []):
            if message["MessageId"] in self._moved:
                message["Attributes"]["DeadLetterQueueSourceArn"] = self.outputs["WorkQueueArn"]
        return answer

    def bodies(self, queue_url: str) -> list[str]:
        """Of what is visible; they are received, so only once."""
        return sorted(message["Body"] for message in self.world.receive(queue_url))

    def sent(self) -> list[str]:
        """Session ids in the work queue, each as often as it is there."""
        return [body["session_id"] for body in self.world.enqueued()]

    def switch_says(self) -> str:
        value: str = client("ssm").get_parameter(Name=SWITCH)["Parameter"]["Value"]
        return value

    def work_messages(self) -> list[tuple[str, dict[str, str]]]:
        return [(message["Body"], attributes_of(message)) for message in self.world.receive(self.world.work_queue)]


def logged(*lines: tuple[float, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Events of CloudWatch Logs for these lines, with how many minutes ago they were written; the oldest first."""
    now = datetime.now(UTC).timestamp()
    return [
        {"timestamp": int((now - minutes * 60) * 1000), "message": json.dumps(line)}
        for minutes, line in sorted(lines, key=lambda one: -one[0])
    ]


def report(*due: str, chosen: int | None = None, mode: str = "dry_run", **fields: Any) -> dict[str, Any]:
    """A sweep's report that names these."""
    choices = [
        {"session_id": one, "updated_at": "2026-11-01T00:00:00+00:00", "why": ["idle_for: 5 days"]} for one in due
    ]
    return {
        "mode": mode,
        "listed": 20,
        "pages": 1,
        "listing": "complete",
        "kept": {"idle_for: no": 20 - len(due)},
        "chosen": len(due) if chosen is None else chosen,
        "enqueued": len(due) if mode == "enforce" else 0,
        "announced": 0,
        "caps": {"max_sessions": 50, "max_share": 0.5},
        "due": choices,
        "to_announce": [],
        "waiting": [],
    } | fields
