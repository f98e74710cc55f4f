"""Messages to the work queue: by tens, some calls at a time, each message accounted for."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import batched, chain, groupby
from typing import TYPE_CHECKING

from infra.ops.problems import AwsError
from queues import Outgoing, Queues
from terminate.messages import Request, parse_body, rebuild_body

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

BATCH = 10  # as many as SQS takes
_AT_ONCE = 4

# A message, and what the operator knows it by: a session id, or the id of a message. One id of a message may stand for
# several: the parts of one that is withdrawn.
type Named = tuple[str, Outgoing]


def body_of(session_ids: Sequence[str], unless_updated_since: datetime | None) -> str:
    """A message that asks to terminate these sessions."""
    single = len(session_ids) == 1
    body: dict[str, object] = {"session_id": session_ids[0]} if single else {"session_ids": list(session_ids)}
    if unless_updated_since is not None:
        body["unless_updated_since"] = unless_updated_since.isoformat()
    return json.dumps(body)


def ids_in(body: str) -> tuple[str, ...]:
    """The sessions that a message asks to terminate, as the function reads it."""
    return tuple(item.session_id for item in parse_body(body) if isinstance(item, Request))


def without(body: str, session_ids: Container[str]) -> tuple[list[str], list[str]]:
    """Which of these a message asks to terminate, and messages that ask for the rest of it."""
    items = parse_body(body)
    found = [item for item in items if isinstance(item, Request) and item.session_id in session_ids]
    left = groupby((item for item in items if item not in found), key=lambda item: id(item.body))
    return [item.session_id for item in found], [rebuild_body(list(some)) for _, some in left]


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
    sqs: SQSClient, queue_url: str, messages: Iterable[Named], on_sent: Callable[[list[str]], object] = lambda _: None
) -> dict[str, str]:
    """Send the messages to this queue; returns what SQS refused and why. `on_sent` gets the names of those that it
    took, some at a time, also if Ctrl-C ends the sending. Raises AwsError if a whole call fails; then nothing more is
    sent."""
    queues = Queues(sqs, work_queue_url=queue_url, dead_letter_queue_url="")
    refused: dict[str, str] = {}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="send") as executor:
        for batches in batched(batched(messages, BATCH, strict=False), _AT_ONCE, strict=False):
            names = [name for batch in batches for name, _ in batch]
            with uninterrupted():
                answers = executor.map(queues.enqueue, [[one for _, one in batch] for batch in batches])
                results = list(zip(names, chain.from_iterable(answers), strict=True))
                on_sent([name for name, error in results if error is None])
            failed = [(name, error) for name, error in results if error is not None]
            if broken := [error for _, error in failed if error.whole_request]:
                raise AwsError(str(broken[0]))
            refused |= {name: str(error) for name, error in failed}
    return refused
