"""What the functions talk to, in memory and fast: answers by script, writes on record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from botocore.exceptions import ClientError

from devin.http import Reply, Transport


def disguised(key: str, way: int) -> str:
    """A key as an API might repeat it: plainly, or as JSON or an address has it."""
    ways: tuple[Callable[[str], str], ...] = (
        str,
        lambda text: json.dumps(text)[1:-1],
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="").lower(),
        lambda text: quote(text, safe="/~!*'()"),
        lambda text: "".join(f"%{ord(char):02x}" for char in text),
        lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
        lambda text: text.upper(),
        lambda text: text.replace("/", "\\/"),
        lambda text: text[: len(text) // 2] + quote(text[len(text) // 2 :], safe=""),
        lambda text: text[: len(text) // 2] + "".join(f"\\u{ord(char):04X}" for char in text[len(text) // 2 :]),
    )
    return ways[way % len(ways)](key)


WAYS = 11


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API: what was asked, how long it may take, and what was answered (None: nothing)."""

    method: str
    path: str
    key: str
    params: Mapping[str, str] | None
    seconds: float
    reply: Reply | None


class ScriptedTransport(Transport):
    """Answers each call with what `answer(method, path, number, key)` says, or raises what it raises. `number`
    counts the calls with this method and path."""

    def __init__(self, answer: Callable[[str, str, int, str], Reply]) -> None:
        super().__init__("http://127.0.0.1:9")
        self._answer = answer
        self._numbers: dict[tuple[str, str], int] = {}
        self.calls: list[Call] = []

    def request(
        self, method: str, path: str, *, key: str, params: Mapping[str, str] | None, seconds: float, keep_bytes: int
    ) -> Reply:
        number = self._numbers[method, path] = self._numbers.get((method, path), -1) + 1
        try:
            reply = self._answer(method, path, number, key)
        except Exception:
            self.calls.append(Call(method, path, key, params, seconds, None))
            raise
        self.calls.append(Call(method, path, key, params, seconds, reply))
        return Reply(reply.status, reply.headers, reply.body[:keep_bytes], reply.repeated)


@dataclass(frozen=True, slots=True)
class Write:
    """Something that was written to SQS, and whether SQS took it."""

    queue: str
    body: str
    attributes: dict[str, str]
    delay: int | None
    taken: bool


@dataclass
class ScriptedSqs:
    """SQS as far as the functions use it. `error(operation, text)` names the error of a write, None if it succeeds."""

    error: Callable[[str, str], str | None]
    writes: list[Write] = field(default_factory=list)
    hidden: dict[str, int] = field(default_factory=dict)

    def send_message(self, **asked: Any) -> None:
        queue, body = asked["QueueUrl"], asked["MessageBody"]
        code = self.error(queue, body)
        attributes = {name: value["StringValue"] for name, value in asked["MessageAttributes"].items()}
        self.writes.append(Write(queue, body, attributes, asked.get("DelaySeconds"), code is None))
        if code is not None:
            raise _client_error("SendMessage", code)

    def change_message_visibility(self, *, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> None:  # noqa: N803
        assert QueueUrl == "work"
        assert 0 <= VisibilityTimeout <= 900
        assert ReceiptHandle not in self.hidden, "hidden twice"
        self.hidden[ReceiptHandle] = VisibilityTimeout
        code = self.error("hide", ReceiptHandle)
        if code is not None:
            raise _client_error("ChangeMessageVisibility", code)


@dataclass
class ScriptedBus:
    """EventBridge as far as the functions use it."""

    error: str | None
    details: list[str] = field(default_factory=list)

    def put_events(self, *, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803
        assert 0 < len(Entries) <= 10
        self.details += [entry["Detail"] for entry in Entries]
        if self.error == "partly":
            return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure"}, {"EventId": "e"}]}
        if self.error is not None:
            raise _client_error("PutEvents", self.error)
        return {"FailedEntryCount": 0, "Entries": []}


def _client_error(operation: str, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


class AtOnce(Executor):
    """Runs everything at once in the thread that asks, so that the same input always does the same."""

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        return future
