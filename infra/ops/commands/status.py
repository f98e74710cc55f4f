"""`status` and `watch`: how the stack is, now or until it is done."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

import typer

from infra.ops.cli_context import AsJson, banner, context_of, utc_now
from infra.ops.commands.following import follow, judge
from infra.ops.output import Output, period
from infra.ops.overview import Overview
from infra.ops.problems import AwsError, FoundError


def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show queues, dead letters, switch, alarms, sweeps and deployment.

    Exit status 1 if anything is wrong or could not be read, 3 if nothing could.
    """
    output, context = Output(as_json=as_json, rows=True), context_of(ctx)
    found = Overview(context.account, context.deployment, utc_now(), output.warn, context.command)
    output.data(found.as_dict())
    output.table(f"Stack {context.deployment.name}", ("what", "how"), list(_rows(found)))
    for name, why in found.unread.items():
        output.warn(f"{name} could not be read: {why}")
    if found.blind:
        raise AwsError("nothing could be read: use another --profile, or have it permitted")
    if found.wrong:
        raise FoundError("; ".join(found.wrong))


def _rows(found: Overview) -> Iterator[tuple[str, str]]:
    parts = found.parts
    # What keeps sessions alive comes first.
    if parts["deployment"]["dry_run"]:
        yield "dry run", "DryRun is true: messages are consumed, and no session is ended"
    if (switch := parts["stop_switch"]) is not None:
        reason = f": {switch['reason']}" if switch["reason"] else ""
        yield "stop switch", "go" if switch["go"] else f"STOPPED{reason}, since {switch['since']}"
    yield "deployment", f"{parts['deployment']['status']} at {parts['deployment']['at']}"
    if (mapping := parts["event_source_mapping"]) is not None:
        yield "event source mapping", " ".join(filter(None, (mapping["state"], mapping.get("last_result"))))
    if (work := parts["work_queue"]) is not None:
        yield "work queue", f"{work['waiting']} waiting, {work['in_flight']} in flight, {work['delayed']} delayed"
        if age := work["oldest_seconds"]:
            yield "oldest message", period(timedelta(seconds=age))
    if (letters := parts["dead_letters"]) is not None:
        reasons = ", ".join(f"{number} {reason}" for reason, number in letters["reasons"].items())
        of = f" (of {letters['sample']} looked at)" if letters["sample"] < letters["number"] else ""
        yield "dead letters", f"{letters['number']}: {reasons}{of}" if reasons else str(letters["number"])
    if (alarms := parts["alarms"]) is not None:
        yield "alarms", ", ".join(alarm["name"] for alarm in alarms) or "none in ALARM"
    for sweep in parts["sweeps"] or ():
        numbers = ", ".join(f"{sweep[key]} {key}" for key in ("listed", "chosen", "enqueued") if key in sweep)
        yield "sweep", " ".join(filter(None, (str(sweep["at"]), sweep["mode"], numbers, sweep.get("why"))))
    for name in found.unread:
        yield name.replace("_", " "), "could not be read"


def watch(
    ctx: typer.Context,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.2, max=300, help="How often to look.")
    ] = 2,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Give up after so long.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch the work queue until it is drained.

    Exit status 1 if dead letters came meanwhile, the time was up, or the stack is stopped. Without a terminal, a line
    every few seconds. SQS's numbers are late: on AWS the queue has to be seen empty for a minute, on this machine three
    times.
    """
    output, context = Output(as_json=as_json), context_of(ctx)
    banner(context, output)
    last = follow(output, context, every=every, timeout=timeout)
    output.data(last.as_dict())
    judge(output, last, command=context.command)
