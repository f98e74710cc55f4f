"""The work queue and the dead-letter queue, as far as the functions write to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Attributes = Mapping[str, str | int]

# What a message may have in all: SQS takes 1 MiB, a queue may say less, and did by default until 2025-08.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
_MESSAGE_BYTES = (1024 * 1024, 256 * 1024)


class QueueError(Exception):
    """SQS did not take what was written; the message names the operation and SQS's error code.

    `unfit`: it is what was written that will not do, its size for instance, and not SQS that has no time.
    """

    def __init__(self, message: str, *, unfit: bool = False) -> None:
        super().__init__(message)
        self.unfit = unfit


class Queues:
    """Writes to the two queues; every method raises QueueError if not all of it was written."""

    def __init__(self, sqs: SQSClient, *, work_queue_url: str, dead_letter_queue_url: str) -> None:
        self._sqs = sqs
        self._work_queue_url = work_queue_url
        self._dead_letter_queue_url = dead_letter_queue_url

    def enqueue(self, body: str, attributes: Attributes, delay_seconds: int) -> None:
        """Send a message to the work queue, to be received in 0 to 900 seconds."""
        try:
            self._sqs.send_message(
                QueueUrl=self._work_queue_url,
                MessageBody=body,
                MessageAttributes=_typed(attributes),
                DelaySeconds=delay_seconds,
            )
        except (ClientError, BotoCoreError) as error:
            raise _queue_error("sending to the work queue", error) from None

    def dead_letter(self, body: str, attributes: Attributes) -> None:
        """Send a message to the dead-letter queue, the body as it is. Attributes that do not fit beside it are left
        out, the last ones first; a `detail` is cut."""
        size = len(body.encode("utf-8", "replace"))
        most, least = (_fitting(attributes, limit - size) for limit in _MESSAGE_BYTES)
        try:
            self._send_dead_letter(body, most)
        except QueueError as error:
            if most == least or not error.unfit:
                raise
            self._send_dead_letter(body, least)

    def _send_dead_letter(self, body: str, attributes: Attributes) -> None:
        try:
            self._sqs.send_message(
                QueueUrl=self._dead_letter_queue_url, MessageBody=body, MessageAttributes=_typed(attributes)
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
    return QueueError(f"{operation}: {code}", unfit=str(code).startswith("InvalidParameterValue"))


def _typed(attributes: Attributes) -> dict[str, Any]:
    return {
        name: {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": str(value)}
        for name, value in attributes.items()
    }


def _size(name: str, value: str | int) -> int:
    """Bytes that an attribute counts for: its name, its type (String or Number) and its value."""
    return len(name.encode()) + len("String") + len(str(value).encode("utf-8", "replace"))


def _fitting(attributes: Attributes, room: int) -> Attributes:
    """As many of the attributes as fit into so many bytes."""
    fitting: dict[str, str | int] = {}
    for name, value in attributes.items():
        if name == "detail":
            whole = str(value).encode("utf-8", "replace")
            value = whole[: max(room - _size(name, ""), 0)].decode("utf-8", "ignore")  # noqa: PLW2901
        if value != "" and _size(name, value) <= room:
            fitting[name] = value
            room -= _size(name, value)
    return fitting
