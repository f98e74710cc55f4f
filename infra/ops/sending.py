"""Ids to the work queue: in batches, some of them side by side, each id accounted for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from itertools import batched, islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.journal import Journal
from infra.ops.problems import aws_problem

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_BATCH = 10  # as many as SQS takes
_AT_ONCE = 4
_ATTEMPTS = 5


@dataclass(slots=True)
class Sending:
    """How it went: ids that SQS took, and those that it did not, with its reason."""

    sent: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def body_of(session_ids: Sequence[str], unless_updated_since: datetime | None) -> str:
    """A message that asks for the end of these."""
    body: dict[str, object] = (
        {"session_id": session_ids[0]} if len(session_ids) == 1 else {"session_ids": list(session_ids)}
    )
    if unless_updated_since is not None:
        body["unless_updated_since"] = unless_updated_since.isoformat()
    return json.dumps(body)


def send_all(
    sqs: SQSClient,
    queue_url: str,
    ids: Sequence[str],
    *,
    unless_updated_since: datetime | None,
    journal: Journal,
    progress: Callable[[int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Sending:
    """Send a message for each id. What SQS refuses is tried again, unless it says that the message is at fault.

    Raises AwsError if a whole call fails. Whatever ends it, calls under way are waited for, so that the journal knows
    what became of them.
    """
    outcome = Sending()

    def send(batch: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
        return _send_batch(
            sqs, queue_url, batch, unless_updated_since=unless_updated_since, journal=journal, sleep=sleep
        )

    def collect(done: set[Future[tuple[list[str], dict[str, str]]]]) -> None:
        for one in done:
            sent, refused = one.result()
            outcome.sent += len(sent)
            outcome.refused |= refused
            progress(len(sent) + len(refused))

    batches = batched(ids, _BATCH, strict=False)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="send") as executor:
        running = {executor.submit(send, batch) for batch in islice(batches, _AT_ONCE)}
        # Leaving this block waits for those that run; no more than these were ever submitted.
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            collect(done)
            running |= {executor.submit(send, batch) for batch in islice(batches, len(done))}
    return outcome


def _send_batch(
    sqs: SQSClient,
    queue_url: str,
    batch: tuple[str, ...],
    *,
    unless_updated_since: datetime | None,
    journal: Journal,
    sleep: Callable[[float], None],
) -> tuple[list[str], dict[str, str]]:
    sent: list[str] = []
    refused: dict[str, str] = {}
    left = list(batch)
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(0.2 * 2**attempt)
        journal.sending(left)
        try:
            answer = sqs.send_message_batch(
                QueueUrl=queue_url,
                Entries=[
                    {"Id": str(number), "MessageBody": body_of([one], unless_updated_since)}
                    for number, one in enumerate(left)
                ],
            )
        except ClientError as error:
            if is_certain(error):
                journal.refused(left)
            raise aws_problem(error) from None
        except BotoCoreError as error:
            raise aws_problem(error) from None
        failed = {int(one["Id"]): one for one in answer.get("Failed", [])}
        taken = [one for number, one in enumerate(left) if number not in failed]
        journal.sent_now(taken)
        if not _was_repeated(answer):
            journal.refused([left[number] for number in failed])
        sent += taken
        for number, one in failed.items():
            refused[left[number]] = one["Code"]
        left = [left[number] for number, one in failed.items() if not one["SenderFault"]]
        if not left:
            break
    return sent, {one: code for one, code in refused.items() if one not in set(sent)}


def is_certain(error: ClientError) -> bool:
    """Whether the call as a whole was refused. After a 5xx nobody can know."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return status < 500 and not _was_repeated(error.response)


def _was_repeated(answer: Mapping[str, Any]) -> bool:
    """Whether botocore had tried before: the answer to that may have been lost, and SQS may have taken it."""
    return bool(answer.get("ResponseMetadata", {}).get("RetryAttempts"))
