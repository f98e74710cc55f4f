"""Messages to the work queue: by tens, some calls at a time, each message accounted for."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.problems import AwsError, aws_problem
from terminate.events import Request, read_body

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef

BATCH = 10  # as many as SQS takes
# Of one call; a queue may allow as little: it was the default until 2025-08.
_BATCH_BYTES = 256 * 1024
_AT_ONCE = 4
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. The operator knows it by `name`: a session id, or the id of a message."""

    name: str
    body: str
    attributes: Mapping[str, MessageAttributeValueTypeDef] = field(default_factory=dict)

    @property
    def size(self) -> int:
        texts = [self.body, *(str(value) for pair in self.attributes.items() for value in pair)]
        return sum(len(text.encode("utf-8", "replace")) for text in texts)


@dataclass(slots=True)
class Sending:
    """What SQS took, what it refused and why, and the error that ended the sending, if one did."""

    sent: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    error: AwsError | None = None


def body_of(session_ids: Sequence[str], unless_updated_since: datetime | None) -> str:
    """A message that asks to terminate these sessions."""
    body: dict[str, object] = (
        {"session_id": session_ids[0]} if len(session_ids) == 1 else {"session_ids": list(session_ids)}
    )
    if unless_updated_since is not None:
        body["unless_updated_since"] = unless_updated_since.isoformat()
    return json.dumps(body)


def ids_in(body: str) -> tuple[str, ...]:
    """The sessions that a message asks to terminate, as the function reads it."""
    return tuple(item.session_id for item in read_body(body).items if isinstance(item, Request))


def without(body: str, session_ids: Container[str]) -> tuple[list[str], str | None]:
    """Which of these a message asks to terminate, and the message without them; None if nothing is left of it."""
    reading = read_body(body)
    left = [item for item in reading.items if not (isinstance(item, Request) and item.session_id in session_ids)]
    found = [item.session_id for item in reading.items if isinstance(item, Request) and item.session_id in session_ids]
    return found, reading.body_for(left) if left else None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of this block, so that what SQS answers is not lost; a second one does not."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []

    def hold(number: int, _: object) -> None:
        if pending:
            raise KeyboardInterrupt
        pending.append(number)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pending:
        before(signal.SIGINT, None)  # may be that of a block around this one


def send_all(
    sqs: SQSClient,
    queue_url: str,
    messages: Iterable[Outgoing],
    *,
    on_batch: Callable[[Sending], object] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Sending:
    """Send the messages; what SQS fails is tried again, unless it says that the message is at fault.

    `on_batch` gets what became of each batch, also when an exception (of `messages`, or Ctrl-C) ends the sending: calls
    under way are waited for. After the error of a whole call nothing more is sent.
    """
    outcome = Sending()
    running: set[Future[Sending]] = set()

    def collect(done: set[Future[Sending]]) -> None:
        with uninterrupted():
            running.difference_update(done)
            for one in done:
                batch = one.result()
                outcome.sent += batch.sent
                outcome.refused |= batch.refused
                outcome.error = outcome.error or batch.error
                on_batch(batch)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="send") as executor:
        try:
            for batch in _batches(messages):
                if len(running) == _AT_ONCE:
                    collect(wait(running, return_when=FIRST_COMPLETED).done)
                if outcome.error is not None:
                    break
                with uninterrupted():
                    running.add(executor.submit(_send_batch, sqs, queue_url, batch, sleep))
        finally:
            collect(wait(running).done)
    return outcome


def _batches(messages: Iterable[Outgoing]) -> Iterator[list[Outgoing]]:
    batch: list[Outgoing] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == BATCH or size + message.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += message.size
    if batch:
        yield batch


def _send_batch(sqs: SQSClient, queue_url: str, batch: Sequence[Outgoing], sleep: Callable[[float], None]) -> Sending:
    outcome = Sending()
    left = {str(number): message for number, message in enumerate(batch)}
    for attempt in range(_ATTEMPTS):
        if attempt:
            sleep(0.2 * 2**attempt)
        try:
            answer = sqs.send_message_batch(
                QueueUrl=queue_url,
                Entries=[
                    {"Id": number, "MessageBody": one.body, "MessageAttributes": one.attributes}
                    for number, one in left.items()
                ],
            )
        except (ClientError, BotoCoreError) as error:
            outcome.error = aws_problem(error)
            break
        failed = {one["Id"]: one for one in answer.get("Failed", [])}
        last = attempt == _ATTEMPTS - 1
        outcome.sent += [one.name for number, one in left.items() if number not in failed]
        outcome.refused |= {left[n].name: one["Code"] for n, one in failed.items() if last or one["SenderFault"]}
        left = {number: left[number] for number, one in failed.items() if not one["SenderFault"]}
        if not left:
            break
    return outcome
