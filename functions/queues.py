"""The work queue and the dead-letter queue, written to in batches."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# Entries and bytes of one request, and the bytes of one message.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
_BATCH_ENTRIES = 10
_MAX_BYTES = 1024 * 1024
# SQS fails single entries of a batch when it is busy, and botocore repeats only whole requests. It does not repeat a
# KMS throttling error either. https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.1
_SENDER_FAULTS = ("InvalidParameterValue", "TooLong", "InvalidMessageContents", "ReceiptHandleIsInvalid")


class QueueError(Exception):
    """SQS did not take an entry; the message names the operation and SQS's error code, never what was to be written.

    `sender_fault`: the entry itself is refused, and would be again. `whole_request`: it is not about this entry, and
    was repeated already. `handle_invalid`: the queue does not know the receipt handle.
    """

    def __init__(self, operation: str, code: str, *, sender_fault: bool = False, whole_request: bool = False) -> None:
        super().__init__(f"{operation}: {code}")
        self.sender_fault = sender_fault
        self.whole_request = whole_request
        self.handle_invalid = "ReceiptHandleIsInvalid" in code or "InvalidParameterValue" in code


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. `delay_seconds`: 0 to 900."""

    body: str
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    delay_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Queues:
    """Writes to the two queues, ten entries a request.

    Every method answers for each entry, in the order given: None if it was written, else the QueueError. After a
    request that failed as a whole, and not because of its entries, the rest is not tried: SQS cannot be reached, and
    the time is needed elsewhere.
    """

    sqs: "SQSClient"
    work_queue_url: str
    dead_letter_queue_url: str

    def enqueue(self, messages: Sequence[Outgoing]) -> list[QueueError | None]:
        """Send messages to the work queue, each body as it is, without the attributes that do not fit beside it."""
        return self._send("sending to the work queue", self.work_queue_url, messages)

    def dead_letter(
        self, messages: Sequence[Outgoing], has_time: Callable[[], bool] = lambda: True
    ) -> list[QueueError | None]:
        """Send messages to the dead-letter queue, each body as it is. Attributes that do not fit beside it are left
        out, the last ones first; a `detail` is cut. `has_time` is asked before every request."""
        return self._send("sending to the dead-letter queue", self.dead_letter_queue_url, messages, has_time)

    def change_visibility(self, timeouts: Sequence[tuple[str, int]]) -> list[QueueError | None]:
        """Set visibility timeouts of received messages of the work queue: receipt handles and seconds from now."""
        return _in_batches(
            "changing the visibility timeout",
            lambda batch: self.sqs.change_message_visibility_batch(QueueUrl=self.work_queue_url, Entries=batch),
            [{"ReceiptHandle": handle, "VisibilityTimeout": seconds} for handle, seconds in timeouts],
            [0] * len(timeouts),
        )

    def _send(
        self, operation: str, url: str, messages: Sequence[Outgoing], has_time: Callable[[], bool] = lambda: True
    ) -> list[QueueError | None]:
        fitted = [_fitted(message) for message in messages]
        return _in_batches(
            operation,
            lambda batch: self.sqs.send_message_batch(QueueUrl=url, Entries=batch),
            [
                {"MessageBody": one.body, "DelaySeconds": one.delay_seconds, "MessageAttributes": attributes}
                for one, (attributes, _) in zip(messages, fitted, strict=True)
            ],
            [size for _, size in fitted],
            has_time,
        )


def _in_batches(
    operation: str,
    request: Callable[[Any], Any],
    entries: Sequence[dict[str, Any]],
    sizes: Sequence[int],
    has_time: Callable[[], bool] = lambda: True,
) -> list[QueueError | None]:
    errors: list[QueueError | None] = [QueueError(operation, "not tried: no time left, or a failure")] * len(entries)
    left = list(range(len(entries)))
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS * 2**attempt)
        for batch in _batches(left, sizes):
            if not has_time():
                return errors
            found = _write(operation, request, [entries[index] for index in batch])
            for index, error in zip(batch, found, strict=True):
                errors[index] = error
            if all(error is not None and error.whole_request for error in found):
                return errors
        left = [index for index in left if (error := errors[index]) is not None and not error.sender_fault]
        if not left:
            break
    return errors


def _batches(indexes: Sequence[int], sizes: Sequence[int]) -> Iterator[Sequence[int]]:
    """Ten at once, or each on its own if they are too large together."""
    for batch in batched(indexes, _BATCH_ENTRIES, strict=False):
        yield from [batch] if sum(sizes[index] for index in batch) <= _MAX_BYTES else batched(batch, 1, strict=False)


def _write(operation: str, request: Callable[[Any], Any], entries: Sequence[dict[str, Any]]) -> list[QueueError | None]:
    """One request. If it is refused because of an entry, each entry is sent on its own, to tell them apart."""
    try:
        answer = request([{"Id": str(number), **entry} for number, entry in enumerate(entries)])
    except (ClientError, BotoCoreError) as error:
        # Not the error's own text: for a wrong parameter it repeats what was to be sent.
        code = str(error.response["Error"].get("Code")) if isinstance(error, ClientError) else type(error).__name__
        fault = any(part in code for part in _SENDER_FAULTS)
        if fault and len(entries) > 1:
            return [_write(operation, request, [entry])[0] for entry in entries]
        repeated = not fault and "kms" not in code.lower()
        return [QueueError(operation, code, sender_fault=fault, whole_request=repeated)] * len(entries)
    results: dict[str, QueueError | None] = {entry["Id"]: None for entry in answer.get("Successful", [])}
    for failed in answer.get("Failed", []):
        fault = bool(failed.get("SenderFault"))
        results[failed["Id"]] = QueueError(operation, str(failed.get("Code")), sender_fault=fault)
    return [results.get(str(number), QueueError(operation, "no answer")) for number in range(len(entries))]


def _fitted(message: Outgoing) -> tuple[dict[str, Any], int]:
    """As many of the message's attributes as fit beside its body, and the size of both."""
    size = len(message.body.encode("utf-8", "replace"))
    fitting = {}
    for name, value in message.attributes.items():
        # An attribute counts for its name, its type (String or Number) and its value.
        room = _MAX_BYTES - size - len(name) - len("String")
        text = str(value).encode("utf-8", "replace")
        if name == "detail":
            text = text[: max(room, 0)].decode("utf-8", "ignore").encode()
        if text and len(text) <= room:
            kind = "Number" if isinstance(value, int) else "String"
            fitting[name] = {"DataType": kind, "StringValue": text.decode()}
            size += len(name) + len("String") + len(text)
    return fitting, size
