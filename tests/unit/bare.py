"""The function with next to nothing around it: queues that are lists, no AWS, and whatever a test takes for the API."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from devin.http import Reply
from queues import Queues
from runtime import Runtime


class BareApi(Protocol):
    """What stands where the transport does."""

    def request(self, method: str, path: str, **_: object) -> Reply: ...


@dataclass
class _Message:
    body: str
    attributes: dict[str, Any]
    receives: int = 0


@dataclass
class BareSqs:
    """Both queues, as the functions' client of SQS. `point` is called before and after each thing that is done."""

    point: Callable[[], None] = lambda: None
    work: dict[str, _Message] = field(default_factory=dict)
    letters: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=itertools.count)

    def put(self, body: str, attributes: dict[str, Any] | None = None) -> None:
        self.work[f"m{next(self._names)}"] = _Message(body, attributes or {})

    def send_message_batch(self, **given: Any) -> dict[str, Any]:
        for entry in given["Entries"]:
            self.point()
            if given["QueueUrl"] == "work":
                assert 0 <= entry["DelaySeconds"] <= 900
                self.put(entry["MessageBody"], entry["MessageAttributes"])
            else:
                self.letters.append((entry["MessageBody"], entry["MessageAttributes"]))
            self.point()
        return {"Successful": [{"Id": entry["Id"]} for entry in given["Entries"]]}

    def change_message_visibility_batch(self, **given: Any) -> dict[str, Any]:
        for entry in given["Entries"]:
            self.point()
            assert entry["ReceiptHandle"] in self.work, "what is acknowledged cannot be redelivered"
            self.point()
        return {"Successful": [{"Id": entry["Id"]} for entry in given["Entries"]]}

    def delete(self, name: str) -> None:
        self.point()
        del self.work[name]
        self.point()

    def records(self) -> list[dict[str, Any]]:
        """Everything that there is, received once more."""
        for message in self.work.values():
            message.receives += 1
        return [
            {
                "messageId": name,
                "receiptHandle": name,
                "body": message.body,
                "attributes": {"ApproximateReceiveCount": str(message.receives)},
                "messageAttributes": {
                    name: {"stringValue": one["StringValue"], "dataType": one["DataType"]}
                    for name, one in message.attributes.items()
                },
                "eventSource": "aws:sqs",
            }
            for name, message in self.work.items()
        ]


class Inline(Executor):
    """Runs everything at once and in order, and lets through what ends the function."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def bare_environment(patch: pytest.MonkeyPatch) -> None:
    """Settings, of which none leads anywhere."""
    for name in ("API_KEY_SECRET_ARN", "WORK_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"):
        patch.setenv(name, "made-up")


def bare_runtime(api: BareApi, sqs: BareSqs, executor: Executor) -> Runtime:
    """What `runtime_for` is to answer."""
    return Runtime(
        transport=api,  # type: ignore[arg-type]
        queues=Queues(sqs, work_queue_url="work", dead_letter_queue_url="dead"),  # type: ignore[arg-type]
        executor=executor,
        fetch_secret=lambda _: "apk_made-up-0123",
        reason_to_stop=lambda: None,
        bus=None,  # type: ignore[arg-type]
        dynamodb=None,  # type: ignore[arg-type]
        rejections=None,
    )


def ids_in(body: str) -> list[str]:
    if not body.startswith("{"):
        return [body]
    payload = json.loads(body)
    return list(payload["session_ids"]) if "session_ids" in payload else [payload["session_id"]]
