"""The work queue and the dead-letter queue, as far as the functions write to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Attributes = Mapping[str, str | int]

# A batch holds ten entries, and as much as one message may: 1 MiB, 256 KiB for a queue that was made before 2025-08
# or says so. The smaller one fits both.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
_BATCH_ENTRIES = 10
_SMALL_BYTES = 256 * 1024
_LARGE_BYTES = 1024 * 1024


class QueueError(Exception):
    """SQS did not take what was written; the message names the operation and SQS's error code."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send: its body, its attributes, and the seconds (0 to 900) until it may be received."""

    body: str
    attributes: Attributes = field(default_factory=dict)
    delay_seconds: int = 0


class Queues:
    """Writes to the two queues; every method raises QueueError if not all of it was written."""

    def __init__(self, sqs: SQSClient, *, work_queue_url: str, dead_letter_queue_url: str) -> None:
        self._sqs = sqs
        self._work_queue_url = work_queue_url
        self._dead_letter_queue_url = dead_letter_queue_url

    def enqueue(self, messages: Iterable[Outgoing]) -> None:
        """Send messages to the work queue, in as few calls as there have to be."""
        for batch in _batches(messages):
            try:
                answer = self._sqs.send_message_batch(
                    QueueUrl=self._work_queue_url,
                    Entries=[
                        {
                            "Id": str(index),
                            "MessageBody": message.body,
                            "DelaySeconds": message.delay_seconds,
                            "MessageAttributes": _typed(message.attributes),
                        }
                        for index, message in enumerate(batch)
                    ],
                )
            except (ClientError, BotoCoreError) as error:
                raise _queue_error("sending to the work queue", error) from None
            if failed := answer.get("Failed"):
                raise QueueError(f"sending to the work queue: {failed[0].get('Code')}")

    def dead_letter(self, body: str, attributes: Attributes) -> None:
        """Send one message to the dead-letter queue. Attributes that do not fit beside the body are left out or cut,
        the last ones first; the body is kept as it is."""
        try:
            self._sqs.send_message(
                QueueUrl=self._dead_letter_queue_url,
                MessageBody=body,
                MessageAttributes=_typed(_fitting(attributes, beside=len(body.encode("utf-8", "replace")))),
            )
        except (ClientError, BotoCoreError) as error:
            raise _queue_error("sending to the dead-letter queue", error) from None

    def hide(self, receipt_handle: str, seconds: int) -> None:
        """Make a received message of the work queue visible again in so many seconds, instead of when its visibility
        timeout ends."""
        try:
            self._sqs.change_message_visibility(
                QueueUrl=self._work_queue_url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
        except (ClientError, BotoCoreError) as error:
            raise _queue_error("changing the visibility timeout", error) from None


def _queue_error(operation: str, error: ClientError | BotoCoreError) -> QueueError:
    # Not the error's own text: for a wrong parameter it repeats what was to be sent.
    code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else type(error).__name__
    return QueueError(f"{operation}: {code}")


def _typed(attributes: Attributes) -> dict[str, Any]:
    return {
        name: {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": str(value)}
        for name, value in attributes.items()
    }


def _size(name: str, value: str | int) -> int:
    """Bytes that an attribute counts for: its name, its type (String or Number) and its value."""
    return len(name.encode()) + len("String") + len(str(value).encode("utf-8", "replace"))


def _fitting(attributes: Attributes, *, beside: int) -> Attributes:
    """As many of the attributes as fit beside a body of so many bytes."""
    room = (_SMALL_BYTES if beside <= _SMALL_BYTES else _LARGE_BYTES) - beside
    fitting: dict[str, str | int] = {}
    for name, value in attributes.items():
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")[: max(room - _size(name, ""), 0)].decode("utf-8", "ignore")  # noqa: PLW2901
        if value != "" and _size(name, value) <= room:
            fitting[name] = value
            room -= _size(name, value)
    return fitting


def _batches(messages: Iterable[Outgoing]) -> Iterable[Sequence[Outgoing]]:
    batch: list[Outgoing] = []
    size = 0
    for message in messages:
        weight = len(message.body.encode("utf-8", "replace"))
        weight += sum(_size(name, value) for name, value in message.attributes.items())
        if batch and (len(batch) == _BATCH_ENTRIES or size + weight > _SMALL_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += weight
    if batch:
        yield batch
