"""Dead letters back to the work queue: by SQS itself where it can, one by one where it cannot or must not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra.ops.letters import Letter, Look
from infra.ops.problems import AwsError, FoundError, code_of

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# How an emulator without the call says so.
_NOT_OFFERED = {"InvalidAction", "UnknownOperationException", "UnknownOperation", "NotImplemented", "501"}
_POLL_SECONDS = 2.0


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
    try:
        handle = sqs.start_message_move_task(SourceArn=source_arn, DestinationArn=destination_arn)["TaskHandle"]
    except ClientError as error:
        if code_of(error) in _NOT_OFFERED:
            raise NotOfferedError from None
        raise
    while True:
        tasks = sqs.list_message_move_tasks(SourceArn=source_arn, MaxResults=10).get("Results", [])
        # A handle is told for running tasks only; the newest comes first.
        mine = next((task for task in tasks if task.get("TaskHandle") == handle), tasks[0] if tasks else None)
        if mine is None:
            raise AwsError("SQS does not know the move that it has just begun; see dead-letters list")
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


def send_back(sqs: SQSClient, look: Look, letter: Letter, work_queue_url: str) -> None:
    """Send it as it is, and only then take it out: if this is cut short, it is in both queues and not in none."""
    look.check()
    sqs.send_message(QueueUrl=work_queue_url, MessageBody=letter.body, MessageAttributes=letter.raw)
    look.take(letter)
