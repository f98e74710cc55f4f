"""The function `terminate` with SQS, EventBridge and the secret in memory: a thousand invocations a second."""

import io
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from devin.client import Throttle
from devin.http import Reply, Transport
from queues import Queues
from redaction import Redactor
from runtime import Runtime
from terminate import handler

ORG_ID = "org-1"
# Shared, because to make its pattern takes longer than an invocation.
_REDACT = Redactor()


class ScriptedTransport(Transport):
    """Answers each call with what `answer(method, path)` returns or raises, and keeps the calls."""

    def __init__(self, answer: Callable[[str, str], Reply]) -> None:
        super().__init__("http://127.0.0.1:9")
        self._answer = answer
        self.calls: list[tuple[str, str]] = []

    def request(self, method: str, path: str, *, keep_bytes: int, **_: Any) -> Reply:
        self.calls.append((method, path))
        reply = self._answer(method, path)
        return Reply(reply.status, reply.headers, reply.body[:keep_bytes], reply.repeated)


@dataclass(frozen=True, slots=True)
class Write:
    """A message that SQS took."""

    queue: str
    body: str
    attributes: Mapping[str, str]
    delay: int | None


@dataclass
class MemorySqs:
    """`error(queue, text)` names the error of an entry, None if SQS takes it; `text` is a body or a receipt handle."""

    error: Callable[[str, str], str | None] = lambda *_: None
    writes: list[Write] = field(default_factory=list)
    timeouts: dict[str, int] = field(default_factory=dict)

    def send_message_batch(self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803
        def write(entry: Mapping[str, Any]) -> None:
            attributes = {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()}
            self.writes.append(Write(QueueUrl, entry["MessageBody"], attributes, entry.get("DelaySeconds")))

        return self._each(QueueUrl, Entries, "MessageBody", write)

    def change_message_visibility_batch(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        Entries: Sequence[Mapping[str, Any]],  # noqa: N803
    ) -> dict[str, Any]:
        def change(entry: Mapping[str, Any]) -> None:
            self.timeouts[entry["ReceiptHandle"]] = entry["VisibilityTimeout"]

        return self._each(QueueUrl, Entries, "ReceiptHandle", change)

    def _each(
        self, queue: str, entries: Sequence[Mapping[str, Any]], text: str, act: Callable[[Mapping[str, Any]], None]
    ) -> dict[str, Any]:
        assert 0 < len(entries) <= 10
        answer: dict[str, list[dict[str, Any]]] = {"Successful": [], "Failed": []}
        for entry in entries:
            code = self.error(queue, entry[text])
            if code is None:
                act(entry)
                answer["Successful"].append({"Id": entry["Id"]})
            else:
                answer["Failed"].append({"Id": entry["Id"], "Code": code, "SenderFault": True})
        return answer


@dataclass
class MemoryBus:
    """Takes every event."""

    details: list[str] = field(default_factory=list)

    def put_events(self, *, Entries: Sequence[Mapping[str, str]]) -> dict[str, Any]:  # noqa: N803
        self.details += [entry["Detail"] for entry in Entries]
        return {"FailedEntryCount": 0, "Entries": []}


class AtOnce(Executor):
    """Runs everything in the thread that asks, so that the same input always does the same."""

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Function:
    """One execution environment. `key` is what the secret holds."""

    def __init__(
        self, transport: Transport, key: str, *, sqs: MemorySqs | None = None, stop: str | None = None
    ) -> None:
        self.transport = transport
        self.sqs = sqs or MemorySqs()
        self.bus = MemoryBus()
        self.log = io.StringIO()
        self.milliseconds = 300_000.0
        self._runtime = Runtime(
            transport=transport,
            queues=Queues(cast(Any, self.sqs), work_queue_url="work", dead_letter_queue_url="dead"),
            executor=AtOnce(),
            fetch_key=lambda _: key,
            reason_to_stop=lambda: stop,
            events=lambda: self.bus,
            table=None,
        )

    def invoke(self, event: object, **environment: str) -> Any:
        variables = {
            "API_KEY_SECRET_ARN": "arn",
            "WORK_QUEUE_URL": "work",
            "DEAD_LETTER_QUEUE_URL": "dead",
            "DEVIN_ORG_ID": ORG_ID,
            "PUBLISH_OUTCOMES": "true",
        }
        context = SimpleNamespace(
            aws_request_id="request-1",
            function_name="terminate",
            memory_limit_in_mb=512,
            invoked_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:terminate",
            get_remaining_time_in_millis=lambda: self.milliseconds,
        )
        with (
            mock.patch.object(handler, "runtime_for", return_value=self._runtime),
            mock.patch.object(handler, "redact", _REDACT),
            mock.patch.object(handler, "throttle", Throttle()),
            mock.patch("queues.time.sleep"),
            mock.patch.dict(os.environ, variables | environment, clear=True),
            _captured(self.log),
        ):
            return handler.lambda_handler(event, cast(Any, context))

    def written(self, queue: str) -> list[Write]:
        """The messages that were sent to the queue `work` or `dead`."""
        return [write for write in self.sqs.writes if write.queue == queue]

    def lines(self) -> list[dict[str, Any]]:
        """The log lines about ids."""
        return [line for line in map(json.loads, self.log.getvalue().splitlines()) if "outcome" in line]


@contextmanager
def _captured(log: io.StringIO) -> Iterator[None]:
    streams = [one for one in handler.logger.handlers if isinstance(one, logging.StreamHandler)]
    before = [one.setStream(log) for one in streams]
    try:
        # pytest would keep every record, with the frames of its traceback.
        with redirect_stdout(log), mock.patch.object(logging.getLogger("terminate"), "propagate", False):
            yield
    finally:
        for one, stream in zip(streams, before, strict=True):
            if stream is not None:
                one.setStream(stream)


def ids_of(writes: Iterable[Write]) -> Counter[str]:
    """How often each id stands in the bodies of these messages."""
    bodies = [json.loads(write.body) if write.body.startswith("{") else {"session_id": write.body} for write in writes]
    return Counter(one for body in bodies for one in body.get("session_ids") or [body["session_id"]])


def batch(*records: Mapping[str, Any]) -> dict[str, Any]:
    """Lambda's event for these records; the n-th has the message id `m-n` and the receipt handle `r-n`."""
    return {
        "Records": [
            {
                "messageId": f"m-{number}",
                "receiptHandle": f"r-{number}",
                "body": record["body"],
                "attributes": {"ApproximateReceiveCount": str(record.get("receives", 1))},
                "messageAttributes": {"attempts": {"stringValue": record["attempts"]}} if "attempts" in record else {},
                "eventSource": "aws:sqs",
            }
            for number, record in enumerate(records)
        ]
    }
