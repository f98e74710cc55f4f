"""Dead letters back to the work queue: by SQS itself where it can, one by one where it cannot or must not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra.ops.dlq import Letter, Look
from infra.ops.problems import AwsError, FoundError, code_of
from infra.ops.sending import is_certain

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import ListMessageMoveTasksResultEntryTypeDef

# How an emulator without the call says so.
_NOT_OFFERED = {"InvalidAction", "UnknownOperationException", "UnknownOperation", "NotImplemented", "501"}
_POLL_SECONDS = 2.0
# For a move that was begun to be listed.
_LOOKS = 10


class NotOfferedError(Exception):
    """There is no such call here."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How far SQS got."""

    moved: int
    of: int


def move_all(
    sqs: SQSClient,
    *,
    source_arn: str,
    destination_arn: str,
    progress: Callable[[Moved], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Moved:
    """Have SQS move every dead letter, attributes included, and wait until it has.

    The destination has to be named: what the function wrote never was in another queue. Raises NotOfferedError where
    there is no such call, FoundError if it did not end well.
    """
    earlier = {task.get("StartedTimestamp") for task in _tasks(sqs, source_arn)}
    handle = sqs.start_message_move_task(SourceArn=source_arn, DestinationArn=destination_arn)["TaskHandle"]
    looks = 0
    while True:
        # A handle is told of running tasks only, so that one that has ended is known by being none of those of before.
        tasks = _tasks(sqs, source_arn)
        fresh = [task for task in tasks if task.get("StartedTimestamp") not in earlier]
        mine = next((task for task in tasks if task.get("TaskHandle") == handle), fresh[0] if fresh else None)
        if mine is None:
            looks += 1
            if looks == _LOOKS:
                raise AwsError("SQS does not know the move that it has just begun; see dead-letters list")
            sleep(_POLL_SECONDS)
            continue
        moved = Moved(mine.get("ApproximateNumberOfMessagesMoved", 0), mine.get("ApproximateNumberOfMessagesToMove", 0))
        progress(moved)
        match mine.get("Status"):
            case "COMPLETED":
                return moved
            case "RUNNING" | "CANCELLING":
                sleep(_POLL_SECONDS)
            case status:
                raise FoundError(
                    f"SQS ended the move as {status} after {moved.moved} of {moved.of}: "
                    f"{mine.get('FailureReason', 'it gives no reason')}; run it again for the rest"
                )


def _tasks(sqs: SQSClient, source_arn: str) -> list[ListMessageMoveTasksResultEntryTypeDef]:
    """The last ten moves out of this queue, the newest first."""
    try:
        return sqs.list_message_move_tasks(SourceArn=source_arn, MaxResults=10).get("Results", [])
    except ClientError as error:
        if code_of(error) in _NOT_OFFERED:
            raise NotOfferedError from None
        raise


class SendingBack:
    """Dead letters sent to the work queue as they are, one by one, and only then taken out: if this is cut short, one
    is in both queues and none in neither. `sent` counts them; `in_both` tells of the one that is in both, or may be."""

    def __init__(self, sqs: SQSClient, look: Look, work_queue_url: str) -> None:
        self._sqs = sqs
        self._look = look
        self._work_queue_url = work_queue_url
        self.sent = 0
        self.in_both: str | None = None

    def send(self, letter: Letter) -> None:
        """Raises FoundError if it is too late, and what botocore raises."""
        self._look.check()
        message = f"message {letter.message_id}"
        self.in_both = f"{message} may be in both queues: nobody can know whether SQS took it"
        try:
            self._sqs.send_message(QueueUrl=self._work_queue_url, MessageBody=letter.body, MessageAttributes=letter.raw)
        except ClientError as error:
            if is_certain(error):
                self.in_both = None
            raise
        self.sent += 1
        self.in_both = (
            f"{message} was sent back, but is still a dead letter: it is in both queues, until it is ended or discarded"
        )
        self._look.take(letter)
        self.in_both = None
