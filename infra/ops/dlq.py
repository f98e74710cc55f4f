"""Messages of a queue, looked at without being taken away; dead letters and why they are there."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from infra.ops.depth import depth_of
from infra.ops.output import count
from infra.ops.problems import AwsError, FoundError, UsageError
from infra.ops.sending import BATCH, ids_in, uninterrupted
from infra.ops.time_args import iso
from queues import Outgoing, Queues

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

UNUSABLE = "invalid_message"
# The function writes the reason of its own dead letters. These are for what AWS puts there.
RECEIVED_TOO_OFTEN = "received_too_often"
UNDELIVERED = "undelivered_event"
INVOCATION_FAILED = "failed_invocation"
_KNOWN = {
    UNUSABLE: "no session can be read from them",
    RECEIVED_TOO_OFTEN: "every try failed; whether the sessions run is not known",
    UNDELIVERED: "not handled; whether the sessions run is not known",
    INVOCATION_FAILED: "not handled; whether the sessions run is not known",
    "rejected_404": "unknown to the API: of another organization, or deleted",
    "rejected_410": "unknown to the API: of another organization, or deleted",
}
_REJECTED = re.compile(r"rejected_[0-9]{3}")
_COUNT = re.compile("[0-9]{1,6}")
_MOST_ATTRIBUTES = 10  # of a message, by SQS
# For a question to the operator as well. A process that is killed leaves messages hidden for this long.
HIDDEN_SECONDS = 600
_MARGIN_SECONDS = 15
# With a wait, SQS asks all its servers; without one, some are not asked.
WAIT_SECONDS = 1


@dataclass(frozen=True)
class Message:
    """A message as it was received, with the texts among its attributes. `moved_by_sqs`: the redrive policy put it into
    this queue."""

    message_id: str
    receipt_handle: str
    body: str
    attributes: Mapping[str, str]
    sent_at: datetime | None
    receive_count: int
    moved_by_sqs: bool

    @classmethod
    def of(cls, message: MessageTypeDef) -> Message:
        attributes, system = message.get("MessageAttributes", {}), message.get("Attributes", {})
        sent = system.get("SentTimestamp")
        return cls(
            message_id=message["MessageId"],
            receipt_handle=message["ReceiptHandle"],
            body=message["Body"],
            attributes={name: one["StringValue"] for name, one in attributes.items() if "StringValue" in one},
            sent_at=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
            receive_count=int(system.get("ApproximateReceiveCount", 1)),
            moved_by_sqs="DeadLetterQueueSourceArn" in system,
        )

    @property
    def written_by_function(self) -> bool:
        """Whether its attributes are the function's: SQS moves a message with its producer's or an earlier letter's."""
        return not self.moved_by_sqs and "reason" in self.attributes

    @cached_property
    def reason(self) -> str:
        """Why it is a dead letter."""
        if self.written_by_function:
            return self.attributes["reason"]
        if self.moved_by_sqs:
            return RECEIVED_TOO_OFTEN
        if "ERROR_CODE" in self.attributes:
            return UNDELIVERED
        return INVOCATION_FAILED if '"requestPayload"' in self.body else RECEIVED_TOO_OFTEN

    @cached_property
    def session_ids(self) -> tuple[str, ...]:
        """The sessions that it asks to terminate, as the function reads it."""
        if self.written_by_function and (session_id := self.attributes.get("session_id")):
            return (session_id,)
        return ids_in(self.body)

    @property
    def why(self) -> str:
        """What the function or AWS says about it."""
        name = {UNDELIVERED: "ERROR_MESSAGE", RECEIVED_TOO_OFTEN: ""}.get(self.reason, "detail")
        return self.attributes.get(name, "")

    def sent_again(self, body: str, *, with_tries: bool) -> Outgoing:
        """A message in its place, with its attributes.

        With its tries, because SQS counts from one again: the function reads a session after a rejection only if there
        was an earlier try, which may have terminated it.
        """
        attributes: dict[str, str | int] = {name: text for name, text in self.attributes.items() if text}
        if with_tries and len(attributes.keys() | {"attempts"}) <= _MOST_ATTRIBUTES:
            earlier = self.attributes.get("attempts", "")
            attributes["attempts"] = self.receive_count + (int(earlier) if _COUNT.fullmatch(earlier) else 0)
        return Outgoing(body, attributes)

    def as_dict(self) -> dict[str, Any]:
        """A dead letter as JSON."""
        judged = {"reason": self.reason, "session_ids": self.session_ids, "moved_by_sqs": self.moved_by_sqs}
        return judged | self.as_copy()

    def as_copy(self) -> dict[str, Any]:
        return {
            "message_id": self.message_id,
            "sent_at": self.sent_at and iso(self.sent_at),
            "attributes": self.attributes,
            "body": self.body,
        }


def select(
    found: Sequence[Message], reasons: list[str] | None, sessions: list[str] | None, messages: list[str] | None
) -> list[Message]:
    """Those for which all that is given holds. Raises UsageError for a reason that does not exist, and for the
    beginning of several message ids."""
    there_are = tally(found)
    for one in reasons or ():
        if one not in there_are and one not in _KNOWN and not _REJECTED.fullmatch(one):
            raise UsageError(f"no dead letter has the reason {one!r}; there are: {', '.join(there_are) or 'none'}")
    message_ids = {one.message_id for prefix in messages or () for one in starting_with(prefix, found)}
    return [
        one
        for one in found
        if (not reasons or one.reason in reasons)
        and (not sessions or not set(sessions).isdisjoint(one.session_ids))
        and (not messages or one.message_id in message_ids)
    ]


def starting_with(prefix: str, found: Sequence[Message]) -> list[Message]:
    """The message whose id is this or begins like this, if there is one; raises UsageError if there are several."""
    matching = [one for one in found if one.message_id.startswith(prefix)]
    if len(matching) > 1 and prefix not in {one.message_id for one in matching}:
        some = ", ".join(one.message_id for one in matching[:3])
        raise UsageError(f"{len(matching)} message ids begin with {prefix!r} ({some} …); give more of the id")
    return [one for one in matching if prefix == one.message_id or len(matching) == 1]


class Peek:
    """A look at the messages of a queue: hidden from others while it lasts, then visible again unless deleted."""

    def __init__(self, sqs: SQSClient, queue_url: str, warn: Callable[[str], object]) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._warn = warn
        self._seen: set[str] = set()
        self._held: dict[str, str] = {}
        self._began = time.monotonic()
        # Before the look: SQS goes on counting for a while what has been hidden.
        self._total = depth_of(sqs, queue_url).total
        self.complete = False
        self.deleted = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        queues = Queues(self._sqs, work_queue_url=self._queue_url, dead_letter_queue_url="")
        with uninterrupted():
            errors = queues.change_visibility([(handle, 0) for handle in self._held.values()])
        if left := sum(error is not None for error in errors):
            self._warn(
                f"{count(left, 'message')} could not be made visible again: hidden for up to 10 minutes, then back"
            )

    def messages(self, most: int | None = None) -> Iterator[Message]:
        """Up to this many; `complete` says afterwards whether these were all that could be received."""
        while most is None or len(self._seen) < most:
            if time.monotonic() - self._began > HIDDEN_SECONDS / 2:
                return  # the rest of the time is for what is to be done with them
            with uninterrupted():
                received = self._sqs.receive_message(
                    QueueUrl=self._queue_url,
                    MaxNumberOfMessages=BATCH if most is None else min(BATCH, most - len(self._seen)),
                    WaitTimeSeconds=WAIT_SECONDS,
                    VisibilityTimeout=HIDDEN_SECONDS,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["All"],
                ).get("Messages", [])
                # Also for what is seen again: only the newest receipt handle makes a message visible.
                self._held |= {message["MessageId"]: message["ReceiptHandle"] for message in received}
            new = [Message.of(message) for message in received if message["MessageId"] not in self._seen]
            self._seen |= {message.message_id for message in new}
            if not new:
                # Nothing is left, or what was hidden for so long that it is visible again stands before the rest.
                self.complete = not received
                return
            yield from new

    @property
    def unseen(self) -> int:
        """How many SQS counts that could not be received, because somebody else looks at them."""
        return max(self._total - len(self._seen), 0) if self.complete else 0

    def check(self) -> None:
        """Raises FoundError if the look has lasted too long: SQS may take a late receipt handle and delete nothing."""
        if time.monotonic() - self._began > HIDDEN_SECONDS - _MARGIN_SECONDS:
            raise FoundError("this took so long that the messages are no longer held; run it again for the rest")

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete these; `deleted` counts them. Raises as `check`, and AwsError or as botocore if SQS fails."""
        for some in batched(messages, BATCH, strict=False):
            self.check()
            with uninterrupted():
                answer = self._sqs.delete_message_batch(
                    QueueUrl=self._queue_url,
                    Entries=[{"Id": one.message_id, "ReceiptHandle": self._held[one.message_id]} for one in some],
                )
                for one in answer.get("Successful", []):
                    del self._held[one["Id"]]
                    self.deleted += 1
            if failed := answer.get("Failed"):
                raise AwsError(f"SQS did not delete all: {failed[0]['Code']}")

    def delete_copied(self, messages: Sequence[Message], copy: Path) -> None:
        """Delete messages that were saved, and warn if not all were. Raises as `delete`."""
        try:
            self.delete(messages)
        finally:
            if self.deleted < len(messages):
                self._warn(
                    f"{self.deleted} of {len(messages)} were deleted; the others are still there. A copy of all is in "
                    f"{copy}"
                )


def save(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A line of JSON for each, all on the disk. Raises UsageError, and then there is no file of it."""
    try:
        # Never over another file. For its owner alone: bodies are whatever somebody sent.
        path.touch(0o600, exist_ok=False)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if not isinstance(error, FileExistsError):
            with suppress(OSError):
                path.unlink()
        raise UsageError(f"{path} cannot be written ({error.strerror}), so nothing was deleted; see --to") from None


def tally(messages: Sequence[Message]) -> dict[str, int]:
    """How many there are for each reason, the most frequent first."""
    return dict(Counter(sorted(message.reason for message in messages)).most_common())


def known_of(reason: str) -> str:
    """What is known about the sessions of dead letters with this reason."""
    return _KNOWN.get(reason, "rejected by the API; session_status is what a read said then")
