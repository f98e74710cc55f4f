"""AWS as it is when it fails: an endpoint on a loopback socket that the functions' real clients call."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from infra.local.faulty_server import HOST, AbruptServer

# What SQS takes: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_REFUSED = re.compile("[^\x09\x0a\x0d\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MESSAGE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of AWS, as its JSON protocols tell it; `query_code` is what SQS called it in its former protocol."""

    status: int
    code: str
    query_code: str | None = None

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        headers = {} if self.query_code is None else {"x-amzn-query-error": f"{self.query_code};Sender"}
        body = {"__type": f"com.amazonaws#{self.code}", "message": "scripted by the test"}
        return self.status, headers, json.dumps(body).encode()


# The ways in which there is no answer at all.
RESET, HANG, CLOSE = "reset", "hang", "close"
type Trouble = Failure | bytes | str

NO_SUCH_QUEUE = Failure(400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")
TOO_LONG = Failure(400, "InvalidParameterValue", "InvalidParameterValue")
ODD_CHARACTERS = Failure(400, "InvalidMessageContents", "InvalidMessageContents")


@dataclass
class Message:
    """A message that SQS took."""

    queue: str
    body: str
    attributes: dict[str, str]
    delay_seconds: int


def size(body: str, attributes: Mapping[str, Mapping[str, str]]) -> int:
    """Bytes that SQS counts: the body, and names, types and values of the attributes."""
    return len(body.encode()) + sum(
        len(name.encode()) + len(one["DataType"].encode()) + len(one["StringValue"].encode())
        for name, one in attributes.items()
    )


@dataclass
class FailingAws:
    """Secrets Manager and SQS, from `with FailingAws() as aws:` on. `troubles` by operation, the last one repeated;
    `None` among them stands for an answer as it should be, and so does having none.

    `requests` are the operations in the order in which they arrived, `messages` what was sent to queues.
    """

    secret: str
    message_bytes: int = MESSAGE_BYTES
    troubles: dict[str, list[Trouble | None]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def fails(self, operation: str, *troubles: Trouble | None) -> None:
        """From now on, this goes wrong with this operation, one after the other."""
        with self._lock:
            self.troubles[operation] = list(troubles)

    def sent_to(self, queue: str) -> list[Message]:
        return [message for message in self.messages if message.queue == queue]

    def answer(self, operation: str, given: dict[str, Any]) -> Trouble | dict[str, Any]:
        with self._lock:
            self.requests.append(operation)
            script = self.troubles.get(operation) or [None]
            trouble = script.pop(0) if len(script) > 1 else script[0]
            return trouble if trouble is not None else self._carried_out(operation, given)

    def _carried_out(self, operation: str, given: dict[str, Any]) -> Trouble | dict[str, Any]:
        match operation:
            case "GetSecretValue":
                return {"ARN": given["SecretId"], "Name": "key", "SecretString": self.secret}
            case "SendMessageBatch":
                return self._batch(given, lambda entry: self._take(given["QueueUrl"].rpartition("/")[2], entry))
            case "ChangeMessageVisibilityBatch":
                return self._batch(given, self._hide)
            case _:
                return Failure(400, "UnknownOperationException")

    def _batch(
        self, given: dict[str, Any], take: Callable[[dict[str, Any]], Failure | dict[str, Any]]
    ) -> dict[str, Any]:
        """Each entry for itself; `troubles` of `Entry` are those of single entries."""
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in given["Entries"]:
            script = self.troubles.get("Entry") or [None]
            trouble = script.pop(0) if len(script) > 1 else script[0]
            said = trouble if isinstance(trouble, Failure) else take(entry)
            if isinstance(said, Failure):
                fault = said.status < 500 and "Throttl" not in said.code
                answer["Failed"].append({"Id": entry["Id"], "Code": said.code, "SenderFault": fault})
            else:
                answer["Successful"].append({"Id": entry["Id"], **said})
        return answer

    def _take(self, queue: str, entry: dict[str, Any]) -> Failure | dict[str, Any]:
        body, attributes = entry["MessageBody"], entry.get("MessageAttributes", {})
        texts = [body, *(one["StringValue"] for one in attributes.values())]
        if any(map(_REFUSED.search, texts)):
            return ODD_CHARACTERS
        if not body or size(body, attributes) > self.message_bytes:
            return TOO_LONG
        known = {name: one["StringValue"] for name, one in attributes.items()}
        self.messages.append(Message(queue, body, known, entry.get("DelaySeconds", 0)))
        md5 = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        return {"MessageId": str(len(self.messages)), "MD5OfMessageBody": md5}

    def _hide(self, entry: dict[str, Any]) -> dict[str, Any]:
        self.hidden.append(entry["VisibilityTimeout"])
        return {}


class _Server(AbruptServer):
    def __init__(self, aws: FailingAws) -> None:
        self.aws = aws
        super().__init__(0, _Handler, None)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        match self.server.aws.answer(operation, given):
            case Failure() as failure:
                self._send(*failure.answer())
            case bytes() as raw:
                self.close_connection = True
                self.wfile.write(raw)
            case dict() as answer:
                self._send(200, {}, json.dumps(answer).encode())
            case how:
                self.close_connection = True
                if how == HANG:
                    self.server.aws.ending.wait()
                elif how == RESET:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/x-amz-json-1.0", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: what arrived is in `requests`."""
