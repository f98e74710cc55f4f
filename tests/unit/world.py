"""A world around the function: SQS and Secrets Manager in memory, an API that says what a test wants, no sockets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import boto3
from requests import PreparedRequest

from terminate import handler

KEY = "apk_canary-0123456789"
API = "http://127.0.0.1:9"
Answer = tuple[int, dict[str, str], str]


def answer(status: int, body: object = "", **headers: str) -> Answer:
    """What the API answers: header names are written with underscores."""
    text = body if isinstance(body, str) else json.dumps(body)
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, text


TERMINATED = answer(200, {"detail": "Session terminated successfully"})
NOT_VALID = answer(
    422, {"detail": [{"loc": ["path", "session_id"], "msg": "session has exited", "type": "value_error"}]}
)
UNAUTHORIZED = answer(401, {"detail": "Unauthorized"})


def session(status: str = "working", updated_at: str = "2026-11-01T00:00:00Z") -> Answer:
    """A GET's answer."""
    return answer(
        200,
        {"session_id": "x", "status": "…", "status_enum": status, "created_at": updated_at, "updated_at": updated_at},
    )


@dataclass
class Api:
    """The Devin API as a test scripts it: answers by method and id, the last one repeated; 200 unless told."""

    scripts: dict[tuple[str, str], list[Answer | Exception]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    good_keys: set[str] | None = None
    before: Callable[[], object] = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, method: str, session_id: str, *answers: Answer | Exception) -> None:
        self.scripts[method, session_id] = list(answers)

    def deleted(self) -> list[str]:
        return [session_id for method, session_id in self.calls if method == "DELETE"]

    def respond(self, request: PreparedRequest) -> Answer:
        self.before()
        session_id = (request.url or "").rsplit("/", 1)[-1]
        with self._lock:
            key = str(request.headers["Authorization"]).removeprefix("Bearer ")
            self.calls.append((request.method or "", session_id))
            self.keys.append(key)
            if self.good_keys is not None and key not in self.good_keys:
                return UNAUTHORIZED
            script = self.scripts.get((request.method or "", session_id), [TERMINATED])
            said = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(said, Exception):
            raise said
        return said


class Context(SimpleNamespace):
    """Lambda's context, as far as functions look at it."""

    def __init__(self, remaining_milliseconds: int = 60_000, request_id: str = "request-1") -> None:
        super().__init__(function_name="terminate", memory_limit_in_mb=512, aws_request_id=request_id)
        self.invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:terminate"
        self.remaining_milliseconds = remaining_milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_milliseconds


class World:
    """Queues, secret, API and function; what a test does and looks at."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.sqs = boto3.client("sqs")
        self.secrets = boto3.client("secretsmanager")
        self.dead_letter_queue = self.sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        self.work_queue = self.sqs.create_queue(QueueName="work", Attributes={"VisibilityTimeout": "420"})["QueueUrl"]
        self.secret = self.secrets.create_secret(Name="key", SecretString=KEY)["ARN"]
        self.context = Context()

    def environment(self) -> dict[str, str]:
        return {
            "DEVIN_API_URL": API,
            "API_KEY_SECRET_ARN": self.secret,
            "WORK_QUEUE_URL": self.work_queue,
            "DEAD_LETTER_QUEUE_URL": self.dead_letter_queue,
        }

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.work_queue, MessageBody=body)

    def receive(self, queue: str) -> list[Any]:
        found: list[Any] = []
        while batch := self.sqs.receive_message(
            QueueUrl=queue,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
            WaitTimeSeconds=0,
        ).get("Messages"):
            found += batch
        return found

    def batch(self) -> dict[str, Any]:
        """All visible messages of the work queue, received and made into Lambda's event."""
        return {"Records": [as_record(message) for message in self.receive(self.work_queue)]}

    def deliver(self) -> list[str]:
        """Invoke the function with what is visible and, as Lambda does, delete what it does not report. Returns the
        message ids that it reported."""
        event = self.batch()
        failed = {item["itemIdentifier"] for item in self.invoke(event)["batchItemFailures"]}
        for record in event["Records"]:
            if record["messageId"] not in failed:
                self.sqs.delete_message(QueueUrl=self.work_queue, ReceiptHandle=record["receiptHandle"])
        return sorted(failed)

    def invoke(self, event: object) -> Any:
        return handler.lambda_handler(event, self.context)  # type: ignore[arg-type]

    def dead_letters(self) -> list[tuple[str, dict[str, str]]]:
        """Bodies and attributes, in the order of their session ids; they are received, so only once."""
        letters = [(message["Body"], attributes_of(message)) for message in self.receive(self.dead_letter_queue)]
        return sorted(letters, key=lambda letter: (letter[1].get("session_id", ""), letter[0]))

    def queued(self) -> tuple[int, int, int]:
        """Messages of the work queue: visible, received and not yet visible again, delayed."""
        attributes: Mapping[str, str] = self.sqs.get_queue_attributes(QueueUrl=self.work_queue, AttributeNames=["All"])[
            "Attributes"
        ]  # type: ignore[assignment]
        names = ("Messages", "MessagesNotVisible", "MessagesDelayed")
        visible, hidden, delayed = (int(attributes[f"ApproximateNumberOf{name}"]) for name in names)
        return visible, hidden, delayed


def attributes_of(message: Any) -> dict[str, str]:
    return {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}


def as_record(message: Any) -> dict[str, Any]:
    """A received message as Lambda's event source mapping passes it on."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {
            name: {"stringValue": value["StringValue"], "dataType": value["DataType"]}
            for name, value in message.get("MessageAttributes", {}).items()
        },
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:work",
        "awsRegion": "eu-west-1",
    }


def wait_for(condition: Callable[[], bool]) -> None:
    """For what other threads do; the bound only ends a test that has failed."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
