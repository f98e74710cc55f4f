"""Following the work queue until it is drained: what `watch` does, and what others do with --watch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.live import Live
from rich.text import Text

from infra.ops.cli_context import CliContext
from infra.ops.depth import depth_of
from infra.ops.drain import Moment, watch
from infra.ops.output import Output, count, period
from infra.ops.problems import FoundError

EVERY_SECONDS = 2.0
# Numbers may take until a minute after the last message was sent to be right:
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
    desk: CliContext,
    *,
    every: float | None = None,
    timeout: float | None = None,
    letters_before: int | None = None,
    sent: int = 0,
) -> Moment:
    """Show what there is until the queue is drained; returns the last that was seen. `sent` was sent just before."""
    sqs, deployment = desk.account.sqs, desk.deployment
    return _shown(
        output,
        watch(
            lambda: (depth_of(sqs, deployment.work_queue_url), letters_now(desk)),
            every=EVERY_SECONDS if every is None else every,
            settle=settle_seconds(sqs.meta.endpoint_url),
            timeout=timeout,
            letters_before=letters_now(desk) if letters_before is None else letters_before,
            sent=sent,
        ),
    )


def settle_seconds(endpoint_url: str) -> float:
    """How long a queue has to be seen empty: an emulator on this machine counts at once."""
    host = urlsplit(endpoint_url).hostname or ""
    with suppress(ValueError):
        if host == "localhost" or ip_address(host).is_loopback:
            return 0.0
    return SETTLE_SECONDS


def letters_now(desk: CliContext) -> int:
    return depth_of(desk.account.sqs, desk.deployment.dead_letter_queue_url).total


def judge(output: Output, last: Moment, sent: int = 0) -> None:
    """Raises FoundError unless all is done and nothing became a dead letter. `sent` is for those who know what was."""
    of = f" of {sent} sent" if sent else ""
    if last.new_letters > 0:
        raise FoundError(f"{count(last.new_letters, 'new dead letter')}{of}; see: dead-letters list")
    if not last.drained:
        raise FoundError(f"not drained after {last.seconds:.0f} s: {last.work.total} messages are left; see: status")
    output.say(f"drained after {last.seconds:.0f} s, no new dead letters{of}", "bold green")


def _shown(output: Output, seen: Iterator[Moment]) -> Moment:
    last = next(seen)
    if not output.people.is_terminal:
        output.say(_line(last))
        for moment in seen:
            if (moment.work, moment.new_letters) != (last.work, last.new_letters):
                output.say(_line(moment))
            last = moment
        return last
    with Live(Text(_line(last)), console=output.people) as live:
        for moment in seen:
            last = moment
            live.update(Text(_line(last)))
    return last


def _line(moment: Moment) -> str:
    work = moment.work
    rate, left = moment.per_second, ""
    if rate and work.total:
        left = f", {rate:.1f}/s, about {period(timedelta(seconds=work.total / rate))} left"
    if not work.total and moment.to_settle:
        left = f"; drained if that stays so for {moment.to_settle:.0f} s"
    return (
        f"{moment.seconds:6.1f} s  {work.waiting} waiting, {work.in_flight} in flight, {work.delayed} delayed; "
        f"{moment.new_letters} new dead letters{left}"
    )
