"""Following the work queue until it is drained: what `watch` does, and what others do with --watch."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

import typer
from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.cli_context import CliContext, stopped_since, utc_now
from infra.ops.depth import Depth, depth_of
from infra.ops.output import PROGRESS_SECONDS, Output, count, rate_and_rest
from infra.ops.problems import FoundError
from infra.ops.time_args import iso
from retry import MAX_DELAY_SECONDS

EVERY_SECONDS = 2.0
# The numbers may be wrong for a minute after the last message was sent:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
SETTLE_SECONDS = 60.0
# SQS's numbers are approximate, and one of them may be late: a queue is drained once it was seen empty so often, and
# for as long as the numbers take to settle.
_SEEN_EMPTY = 3
# No message is hidden for longer than MAX_DELAY_SECONDS. If nothing changes for longer, nothing processes the queue.
STALLED_SECONDS = MAX_DELAY_SECONDS + 300

Watch = Annotated[
    bool,
    typer.Option(
        "--watch", help="Then watch until the queue is drained, on AWS for a minute; dead letters count from before."
    ),
]


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen `seconds` after the watch began.

    An empty queue is drained if it stays empty for `to_settle` seconds more. What is in flight or delayed is visible
    again within `hidden_for` seconds. `stopped` says why nothing is processed, if that is so.
    """

    seconds: float
    work: Depth
    new_letters: int
    drained: bool
    to_settle: float
    per_second: float
    hidden_for: float
    stopped: str | None

    def as_dict(self) -> dict[str, object]:
        return {
            "seconds": round(self.seconds, 1),
            **asdict(self.work),
            "new_dead_letters": self.new_letters,
            "drained": self.drained,
            "stopped": self.stopped,
        }


def watch(
    look: Callable[[], tuple[Depth, int, str | None]],
    *,
    every: float,
    settle: float,
    timeout: float | None,
    letters_before: int,
    sent: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Moment]:
    """What there is, again and again, until the queue is drained or cannot be, or the time is up.

    `look` returns the work queue's depth, the number of dead letters, and why nothing is processed, if that is so.
    `sent` messages were sent just before: the first looks may not show them yet, but they count for the rate.
    """
    began = clock()
    at_first = 0
    empty, empty_since = 0, 0.0
    last, changed = None, 0.0
    while True:
        depth, letters, stopped = look()
        seconds = clock() - began
        at_first = max(sent, depth.total) if last is None else at_first
        if depth != last:
            last, changed = depth, seconds
        empty_since = empty_since if empty else seconds
        empty = 0 if depth.total else empty + 1
        to_settle = max(empty_since + settle - seconds, 0.0) if empty else settle
        if seconds - changed > STALLED_SECONDS:
            stopped = stopped or f"nothing has changed for {STALLED_SECONDS // 60} minutes"
        seen = Moment(
            seconds=seconds,
            work=depth,
            new_letters=letters - letters_before,
            drained=empty >= _SEEN_EMPTY and to_settle == 0,
            to_settle=to_settle,
            per_second=max((at_first - depth.total) / seconds, 0.0) if seconds else 0.0,
            hidden_for=max(changed + MAX_DELAY_SECONDS - seconds, 0.0),
            stopped=stopped if depth.total else None,
        )
        yield seen
        if seen.drained or seen.stopped or (timeout is not None and seconds >= timeout):
            return
        sleep(every)


def follow(
    output: Output,
    context: CliContext,
    *,
    every: float | None = None,
    timeout: float | None = None,
    letters_before: int | None = None,
    sent: int = 0,
) -> Moment:
    """Show what there is until the queue is drained; returns the last that was seen. `sent` was sent just before."""
    sqs, deployment = context.account.sqs, context.deployment

    def stopped() -> str | None:
        # A switch that cannot be read is no reason to stop watching.
        with suppress(ClientError, BotoCoreError):
            if since := stopped_since(context):
                return f"the stop switch is on ({since}); to carry on: {context.command} go"
        return None

    moments = watch(
        lambda: (depth_of(sqs, deployment.work_queue_url), letters_now(context), stopped()),
        every=EVERY_SECONDS if every is None else every,
        settle=settle_seconds(sqs.meta.endpoint_url),
        timeout=timeout,
        letters_before=letters_now(context) if letters_before is None else letters_before,
        sent=sent,
    )
    # In a terminal one line that changes, elsewhere a line every few seconds, on the standard error.
    last = next(moments)
    if output.in_terminal:
        from rich.live import Live  # noqa: PLC0415

        with Live(_line(last), console=output.people) as live:
            for last in moments:
                live.update(_line(last))
        return last
    output.warn(_line(last))
    shown_at = last.seconds
    for last in moments:
        if last.seconds - shown_at >= PROGRESS_SECONDS:
            output.warn(_line(last))
            shown_at = last.seconds
    return last


def settle_seconds(endpoint_url: str) -> float:
    """How long a queue has to be seen empty: an emulator on this machine counts at once."""
    return 0.0 if urlsplit(endpoint_url).hostname in {"localhost", "127.0.0.1", "::1"} else SETTLE_SECONDS


def letters_now(context: CliContext) -> int:
    return depth_of(context.account.sqs, context.deployment.dead_letter_queue_url).total


def judge(output: Output, last: Moment, sent: int = 0, command: str = "devin-ops") -> None:
    """Raises FoundError unless all is done and nothing became a dead letter."""
    of = f" of {sent} sent" if sent else ""
    if last.new_letters > 0:
        raise FoundError(f"{count(last.new_letters, 'new dead letter')}{of}; see: {command} dead-letters list")
    if not last.drained:
        why = last.stopped or f"not drained after {last.seconds:.0f} s"
        raise FoundError(f"{count(last.work.total, 'message')} left, and {why}; see: {command} status")
    output.say(f"drained after {last.seconds:.0f} s, no new dead letters{of}", "bold green")


def _line(moment: Moment) -> str:
    work = moment.work
    more = rate_and_rest(moment.per_second, work.total)
    if work.total and not work.waiting:
        until = utc_now() + timedelta(seconds=moment.hidden_for)
        more += f"; processed now, or hidden until {iso(until)} at the latest"
    if not work.total and moment.to_settle:
        more = f"; drained if that stays so for {moment.to_settle:.0f} s"
    return (
        f"{moment.seconds:6.1f} s  {work.waiting} waiting, {work.in_flight} in flight, {work.delayed} delayed; "
        f"{moment.new_letters} new dead letters{more}"
    )
