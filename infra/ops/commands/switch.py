"""`stop` and `go`: the switch for everything."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.ops.depth import depth_of
from infra.ops.desk import AsJson, Yes, desk_of
from infra.ops.output import Output, count
from infra.ops.switch import read_switch, release, throw
from stop_switch import SWITCH_CACHE_SECONDS

_STOPPED = (
    f"Within {SWITCH_CACHE_SECONDS} s neither function begins anything; what has begun ends within a minute.",
    "Messages stay in the work queue. Events and direct invocations go there too. Sweeps do nothing.",
    "A deployment can write `go` again: look at the switch after one. To carry on: go",
)


def stop(
    context: typer.Context,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why, for whoever looks at it next. Kept in the switch."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stop everything: no session is ended until `go`. Does not ask."""
    output, desk = Output(as_json=as_json), desk_of(context)
    name = desk.deployment.output("StopSwitchParameterName")
    before = read_switch(desk.account.ssm, name)
    throw(desk.account.ssm, name, reason)
    after = read_switch(desk.account.ssm, name)
    output.data({"switch": name, "before": before.value, "now": after.value})
    output.say(f"{name}: {before.value} -> {after.value}", "bold red")
    for line in _STOPPED:
        output.say(line)


def go(
    context: typer.Context,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why, for the terminal's log: the switch says go alone."),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Carry on: what waits in the work queue is ended. Asks, with the number of messages."""
    output, desk = Output(as_json=as_json), desk_of(context)
    name = desk.deployment.output("StopSwitchParameterName")
    before = read_switch(desk.account.ssm, name)
    if before.goes:
        output.data({"switch": name, "before": before.value, "now": before.value})
        output.say(f"{name} says go already")
        return
    waiting = depth_of(desk.account.sqs, desk.deployment.work_queue_url).total
    output.say(f"{name} says {before.value!r}, since {before.as_dict()['since'] or 'an unknown time'}")
    output.say(
        f"{count(waiting, 'message')} in the work queue: they come back within 15 minutes. Scheduled sweeps go on."
    )
    output.confirm("Carry on?", yes=yes)
    release(desk.account.ssm, name)
    after = read_switch(desk.account.ssm, name)
    output.data({"switch": name, "before": before.value, "now": after.value, "reason": reason})
    output.say(f"{name}: {before.value} -> {after.value}{f' ({reason})' if reason else ''}", "bold green")
