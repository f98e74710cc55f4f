"""Following the work queue until it is drained: what `watch` does, and what others do with --watch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import typer
from botocore.exceptions import BotoCoreError, ClientError

from infra.ops import output as outputs
from infra.ops.cli_context import CliContext, stopped_since, utc_now
from infra.ops.depth import depth_of
from infra.ops.drain import Moment, watch
from infra.ops.output import Output, count, rate_and_rest
from infra.ops.problems import FoundError
from infra.ops.time_args import iso

EVERY_SECONDS = 2.0
# The numbers may be wrong for a minute after the last message was sent:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
SETTLE_SECONDS = 60.0

Watch = Annotated[
    bool,
    typer.Option(
        "--watch", help="Then watch until the queue is drained, on AWS for a minute; dead letters count from before."
    ),
]


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
    return _shown(output, moments)


def settle_seconds(endpoint_url: str) -> float:
    """How long a queue has to be seen empty: an emulator on this machine counts at once."""
    host = urlsplit(endpoint_url).hostname or ""
    with suppress(ValueError):
        if host == "localhost" or ip_address(host).is_loopback:
            return 0.0
    return SETTLE_SECONDS


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


def _shown(output: Output, seen: Iterator[Moment]) -> Moment:
    """In a terminal one line that changes, elsewhere a line every few seconds."""
    last = next(seen)
    if output.in_terminal:
        from rich.live import Live  # noqa: PLC0415

        with Live(_line(last), console=output.people) as live:
            for last in seen:
                live.update(_line(last))
        return last
    output.say(_line(last))
    shown_at = time.monotonic()
    for last in seen:
        if time.monotonic() - shown_at >= outputs.PROGRESS_SECONDS:
            output.say(_line(last))
            shown_at = time.monotonic()
    return last


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
