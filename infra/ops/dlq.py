"""Dead letters: looked at without taking them away, sent back, or thrown away with a copy kept."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import batched
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.output import count
from infra.ops.problems import FoundError
from terminate.messages import Request, parse_body

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        ChangeMessageVisibilityBatchRequestEntryTypeDef,
        MessageAttributeValueTypeDef,
        MessageTypeDef,
    )

UNUSABLE = "invalid_message"
# What the function writes says its reason. These are for what others put there.
RECEIVED_TOO_OFTEN = "received_too_often"
UNDELIVERED = "undelivered_event"
INVOCATION_FAILED = "failed_invocation"
# For as long as a look may take, a question to somebody included; whoever is killed in the middle leaves them hidden
# for so long.
HIDDEN_SECONDS = 600
_MARGIN_SECONDS = 15
# Long enough to have every server of SQS asked: without a wait, some are not.
WAIT_SECONDS = 1


@dataclass(frozen=True)
class Letter:
    """A message of the dead-letter queue; `attributes` are texts, `raw` as SQS gave them."""

    message_id: str
    receipt_handle: str
    body: str
    attributes: Mapping[str, str]
    raw: Mapping[str, MessageAttributeValueTypeDef]
    sent_at: datetime | None

    @classmethod
    def of(cls, message: MessageTypeDef) -> Letter:
        raw: dict[str, MessageAttributeValueTypeDef] = {}
        for name, value in message.get("MessageAttributes", {}).items():
            kind = "BinaryValue" if value["DataType"].startswith("Binary") else "StringValue"
            raw[name] = {"DataType": value["DataType"], kind: value[kind]}  # type: ignore[misc]
        sent = message.get("Attributes", {}).get("SentTimestamp")
        return cls(
            message_id=message["MessageId"],
            receipt_handle=message["ReceiptHandle"],
            body=message["Body"],
            attributes={name: value.get("StringValue", "") for name, value in raw.items()},
            raw=raw,
            sent_at=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
        )

    @cached_property
    def reason(self) -> str:
        if told := self.attributes.get("reason"):
            return told
        if "ERROR_CODE" in self.attributes:
            return UNDELIVERED
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            body = None
        return INVOCATION_FAILED if isinstance(body, dict) and "requestPayload" in body else RECEIVED_TOO_OFTEN

    @cached_property
    def session_ids(self) -> tuple[str, ...]:
        """The sessions that it is about, as the function would read it."""
        if told := self.attributes.get("session_id"):
            return (told,)
        return tuple(item.session_id for item in parse_body(self.body).items if isinstance(item, Request))

    @property
    def why(self) -> str:
        """What those who put it there say, in words."""
        return self.attributes.get("detail") or self.attributes.get("ERROR_MESSAGE", "")

    def as_dict(self) -> dict[str, Any]:
        return {
            "message_id": self.message_id,
            "reason": self.reason,
            "session_ids": self.session_ids,
            "sent_at": self.sent_at and self.sent_at.isoformat(),
            "attributes": dict(self.attributes),
            "body": self.body,
        }

    def as_copy(self) -> dict[str, Any]:
        """All there is of it, as JSON; what is no text in base64."""
        texts = {name: value["StringValue"] for name, value in self.raw.items() if "StringValue" in value}
        binary = {
            name: b64encode(content).decode()
            for name, value in self.raw.items()
            if isinstance(content := value.get("BinaryValue"), bytes)
        }
        return self.as_dict() | {"attributes": texts} | ({"binary_attributes": binary} if binary else {})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters: those for which all that is given holds. Empty means any."""

    reasons: Sequence[str] = ()
    sessions: Sequence[str] = ()
    messages: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.reasons or self.sessions or self.messages)

    def has(self, letter: Letter) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.sessions or bool(set(self.sessions) & set(letter.session_ids)))
            and (not self.messages or any(letter.message_id.startswith(one) for one in self.messages))
        )


class Look:
    """A look at the queue. While it lasts, what it has seen is hidden from others; what was not taken by its end is
    put back at once."""

    def __init__(self, sqs: SQSClient, queue_url: str, warn: Callable[[str], object]) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._warn = warn
        self._seen: set[str] = set()
        self._borrowed: dict[str, str] = {}
        self.complete = False
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = len(self._borrowed)
        for some in batched(self._borrowed.values(), 10, strict=False):
            entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(some)
            ]
            try:
                answer = self._sqs.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)
            except (ClientError, BotoCoreError):
                break
            left -= len(some) - len(answer.get("Failed", []))
        if left:
            self._warn(
                f"{count(left, 'dead letter')} could not be put back at once: hidden from everybody for up to "
                f"{HIDDEN_SECONDS // 60} minutes, then back"
            )

    def letters(self, most: int | None = None) -> Iterator[Letter]:
        """Up to so many; `complete` says afterwards whether these were all."""
        while most is None or len(self._seen) < most:
            messages = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=10 if most is None else min(10, most - len(self._seen)),
                WaitTimeSeconds=WAIT_SECONDS,
                VisibilityTimeout=HIDDEN_SECONDS,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["SentTimestamp"],
            ).get("Messages", [])
            fresh = [Letter.of(message) for message in messages if message["MessageId"] not in self._seen]
            # Also for what is seen again: only the newest receipt puts a message back.
            self._borrowed |= {message["MessageId"]: message["ReceiptHandle"] for message in messages}
            self._seen |= {letter.message_id for letter in fresh}
            if not fresh:
                # Either there is nothing left, or what was hidden for so long that it is back stands before the rest.
                self.complete = not messages
                return
            yield from fresh

    def check(self) -> None:
        """Raises FoundError if the look has lasted too long: SQS may take a late receipt and delete nothing."""
        if time.monotonic() - self._began > HIDDEN_SECONDS - _MARGIN_SECONDS:
            raise FoundError("this took so long that the dead letters are no longer held; run it again for the rest")

    def take(self, letter: Letter) -> None:
        """Out of the queue, for good; raises as `check` does."""
        self.check()
        self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=self._borrowed[letter.message_id])
        del self._borrowed[letter.message_id]


def tally(letters: Sequence[Letter]) -> dict[str, int]:
    """How many there are for each reason, the most frequent first."""
    counts: dict[str, int] = {}
    for letter in letters:
        counts[letter.reason] = counts.get(letter.reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
