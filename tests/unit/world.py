"""The functions with moto for AWS and an API that a test scripts, without sockets."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from requests import PreparedRequest

from sweep import handler as sweep_handler
from terminate import handler

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

KEY = "apk_canary-0123456789"
V3_KEY = "cog_canary-0123456789"
ORG_ID = "org-abc123def456"
API = "http://127.0.0.1:9"
# Whatever is under these paths is answered by `Api`, and nothing else is.
SESSIONS = re.compile(re.escape(API) + rf"(/v1|/v3/organizations/{ORG_ID})/sessions(/devin-[\w-]+)?(/archive)?(\?.*)?$")
NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
DAYS = timedelta(days=1)
Answer = tuple[int, dict[str, str], str]
# The fixture of that name.
Log = Callable[[], list[dict[str, Any]]]


@cache
def client(service: str, workers: int | None = None) -> Any:
    """A client, with so many connections: made once for all tests, because to make one takes longer than most tests."""
    return boto3.client(service, config=Config(max_pool_connections=workers or 1))  # type: ignore[call-overload]


def answer(status: int, body: object = "", **headers: str) -> Answer:
    """What the API answers: header names are written with underscores."""
    text = body if isinstance(body, str) else json.dumps(body)
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, text


TERMINATED = answer(200, {"detail": "Session terminated successfully"})
NOT_VALID = answer(
    422, {"detail": [{"loc": ["path", "session_id"], "msg": "session has exited", "type": "value_error"}]}
)
# What the fixtures call the stop switch's parameter and the table of announcements.
SWITCH = "/devin-session-cleanup/stop-switch"
TABLE = "announcements"

UNAUTHORIZED = answer(401, {"detail": "Unauthorized"})


def problem(status: int, title: str, detail: str) -> Answer:
    """An error of v3."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return answer(status, body, Content_Type="application/problem+json")


# A wrong key of v3.
NO_ACCESS = problem(403, "Forbidden", "The key does not give access to this organization.")


def session(
    status: str = "working", updated_at: str = "2026-11-01T00:00:00Z", session_id: str = "devin-1", **fields: Any
) -> Answer:
    """A GET's answer."""
    found = {
        "session_id": session_id,
        "status": "…",
        "status_enum": status,
        "created_at": updated_at,
        "updated_at": updated_at,
        "tags": [],
    }
    return answer(200, found | fields)


def stale(session_id: str = "devin-1", *, idle: timedelta = 5 * DAYS, **fields: Any) -> dict[str, Any]:
    """A session as v1 lists it, created a day before it was last used, `idle` before NOW; `fields` replace some."""
    updated_at = NOW - idle
    return {
        "session_id": session_id,
        "status": "Waiting for a reply",
        "status_enum": "blocked",
        "created_at": (updated_at - DAYS).isoformat(),
        "updated_at": updated_at.isoformat(),
        "title": "Nightly upgrade",
        "tags": ["nightly"],
        "requesting_user_email": "ann@example.com",
        "pull_request": None,
    } | fields


def stale_v3(session_id: str = "devin-1", *, idle: timedelta = 5 * DAYS, **fields: Any) -> dict[str, Any]:
    """The like as v3 lists it."""
    updated_at = int((NOW - idle).timestamp())
    return {
        "session_id": session_id,
        "org_id": ORG_ID,
        "status": "running",
        "status_detail": "waiting_for_user",
        "created_at": updated_at - 86_400,
        "updated_at": updated_at,
        "acus_consumed": 2.5,
        "tags": ["nightly"],
        "title": "Nightly upgrade",
        "url": f"https://app.devin.ai/sessions/{session_id}",
        "user_id": "user-ann",
        "pull_requests": [],
    } | fields


def page(*sessions: object, **fields: Any) -> Answer:
    """A page of v1."""
    return answer(200, {"sessions": list(sessions)} | fields)


def page_v3(*sessions: object, following: str | None = None, **fields: Any) -> Answer:
    """A page of v3, with the cursor of the one after it."""
    return answer(
        200, {"items": list(sessions), "end_cursor": following, "has_next_page": following is not None} | fields
    )


@dataclass
class Api:
    """The Devin API as a test scripts it: answers by method and id, the last one repeated; else 200.

    Reading and listing go by `sessions`, what the API lists by id, unless they are scripted; `LIST` with the id `""`
    scripts pages. `calls` have a listing's query in place of an id.
    """

    scripts: dict[tuple[str, str], list[Answer | Exception]] = field(default_factory=dict)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    good_keys: set[str] | None = None
    before: Callable[[], object] = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, method: str, session_id: str, *answers: Answer | Exception) -> None:
        self.scripts[method, session_id] = list(answers)

    def have(self, *sessions: dict[str, Any]) -> None:
        """Let these be all the sessions there are; ids without prefix are read with it."""
        self.sessions = {f"devin-{one['session_id'].removeprefix('devin-')}": one for one in sessions}

    def deleted(self) -> list[str]:
        return [session_id for method, session_id in self.calls if method == "DELETE"]

    def listed(self) -> list[str]:
        """The queries of the pages that were asked for."""
        return [query for method, query in self.calls if method == "LIST"]

    def respond(self, request: PreparedRequest) -> Answer:
        self.before()
        url = urlsplit(request.url or "")
        found = SESSIONS.match(request.url or "")
        session_id = found[2].removeprefix("/") if found is not None and found[2] else ""
        method = (request.method or "") if session_id else "LIST"
        with self._lock:
            key = str(request.headers["Authorization"]).removeprefix("Bearer ")
            self.calls.append((method, session_id or url.query))
            self.urls.append((request.url or "").removeprefix(API))
            self.keys.append(key)
            if self.good_keys is not None and key not in self.good_keys:
                return NO_ACCESS if url.path.startswith("/v3/") else UNAUTHORIZED
            script = self.scripts.get((method, session_id)) or [
                self._unscripted(method, session_id, url.path, url.query)
            ]
            said = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(said, Exception):
            raise said
        return said

    def _unscripted(self, method: str, session_id: str, path: str, query: str) -> Answer:
        if method == "GET" and session_id in self.sessions:
            return answer(200, self.sessions[session_id])
        if method != "LIST":
            return TERMINATED
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        everything = list(self.sessions.values())
        if path.startswith("/v1/"):
            start, limit = int(asked["offset"]), int(asked["limit"])
            return page(*everything[start : start + limit])
        start, limit = int(asked.get("after", "cursor-0").removeprefix("cursor-")), int(asked["first"])
        end = start + limit
        return page_v3(*everything[start:end], following=f"cursor-{end}" if end < len(everything) else None)


@dataclass
class Aws:
    """The calls that went to AWS, as `<service>.<Operation>` with their parameters, and what a test makes of them;
    `published` are the entries of events that the bus took. The entries of a batch for SQS are listed behind it, under
    the name of the operation for one message.

    A fault is an exception to raise, or a function that is given the parameters and answers with what the operation
    returns, or with None to let it be carried out.
    """

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: dict[str, Exception | Callable[[dict[str, Any]], object]] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)

    def forget(self) -> None:
        """Start over."""
        self.calls.clear()
        self.faults.clear()
        self.published.clear()

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def fail(self, operation: str, code: str = "AccessDeniedException") -> None:
        """Have every call of `<service>.<Operation>`, or its batch, fail with this error code."""
        self.faults[operation] = ClientError({"Error": {"Code": code, "Message": "no"}}, operation.partition(".")[2])

    def before_call(self, model: Any, params: dict[str, Any], **_: object) -> object:
        """Botocore's event of that name."""
        name = f"{model.service_model.service_name}.{model.name}"
        body = params["body"]
        given = json.loads(body) if isinstance(body, (str, bytes)) and body[:1] in ("{", b"{") else {}
        self.calls.append((name, given))
        single = name.removesuffix("Batch")
        if name != single and name.startswith("sqs."):
            self.calls += [(single, entry) for entry in given["Entries"]]
        fault = self.faults.get(name, self.faults.get(single))
        if isinstance(fault, Exception):
            raise fault
        answered = fault(given) if fault is not None else None
        if name == "events.PutEvents" and answered is None:
            self.published += given["Entries"]
        return None if answered is None else (SimpleNamespace(status_code=200), answered)


class Context(SimpleNamespace):
    """Lambda's context, as far as functions look at it."""

    def __init__(self, remaining_milliseconds: int = 60_000, request_id: str = "request-1") -> None:
        super().__init__(function_name="terminate", memory_limit_in_mb=512, aws_request_id=request_id)
        self.invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:terminate"
        self.remaining_milliseconds = remaining_milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_milliseconds


class World:
    """Queues, secret, API and functions; what a test does and looks at. `now` is the time that the sweep sees."""

    def __init__(self, api: Api, aws: Aws) -> None:
        self.api = api
        self.aws = aws
        self.now = NOW
        self.sqs: SQSClient = client("sqs")
        self.secrets: SecretsManagerClient = client("secretsmanager")
        self.dynamodb: DynamoDBClient = client("dynamodb")
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

    def batch(self, *, receives: int | None = None) -> dict[str, Any]:
        """All visible messages of the work queue, received (so many times, if given) and made into Lambda's event."""
        records = [as_record(message) for message in self.receive(self.work_queue)]
        for record in records if receives is not None else ():
            record["attributes"]["ApproximateReceiveCount"] = str(receives)
        return {"Records": records}

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

    def sweep(self, **policy: Any) -> dict[str, Any]:
        """Invoke the sweep with this policy."""
        return sweep_handler.lambda_handler(policy, self.context)  # type: ignore[arg-type]

    def enqueued(self) -> list[dict[str, Any]]:
        """Bodies of the messages in the work queue by session id; they are received, so only once."""
        bodies = [json.loads(message["Body"]) for message in self.receive(self.work_queue)]
        return sorted(bodies, key=lambda body: str(body["session_id"]))

    def redrive(self) -> None:
        """Send all dead letters to the work queue as they are."""
        for message in self.receive(self.dead_letter_queue):
            attributes: Any = {
                name: {"DataType": value["DataType"], "StringValue": value["StringValue"]}
                for name, value in message["MessageAttributes"].items()
            }
            self.sqs.send_message(QueueUrl=self.work_queue, MessageBody=message["Body"], MessageAttributes=attributes)

    def requeued(self) -> list[dict[str, Any]]:
        """The entries that the function was to write to the work queue so far."""
        return [
            entry
            for name, given in self.aws.calls
            if name == "sqs.SendMessageBatch" and given["QueueUrl"] == self.work_queue
            for entry in given["Entries"]
        ]

    def hidden(self) -> list[int]:
        """The visibility timeouts that the function set so far."""
        calls = [given for name, given in self.aws.calls if name == "sqs.ChangeMessageVisibility"]
        return [given["VisibilityTimeout"] for given in calls]

    def switch(self, value: str) -> None:
        """Set the stop switch."""
        client("ssm").put_parameter(Name=SWITCH, Value=value, Type="String", Overwrite=True)

    def make_table(self) -> None:
        """The table of announcements."""
        self.dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "subject", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "subject", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    def remembered(self) -> list[dict[str, Any]]:
        """The items of the table of announcements."""
        return list(self.dynamodb.scan(TableName=TABLE)["Items"])

    def heard(self, detail_type: str) -> list[dict[str, Any]]:
        """Details of the events of this type since this was last asked, in the order of their session ids."""
        entries, self.aws.published[:] = list(self.aws.published), []
        assert {entry["Source"] for entry in entries} <= {"devin-session-cleanup"}
        details = [json.loads(entry["Detail"]) for entry in entries if entry["DetailType"] == detail_type]
        return sorted(details, key=lambda detail: str(detail.get("session_id")))

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
        "messageAttributes": {name: {"stringValue": value} for name, value in attributes_of(message).items()},
        "eventSource": "aws:sqs",
    }
