"""`stop` and `go`: the switch for everything."""

from __future__ import annotations

from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.cli_context import AsJson, Yes, desk_of
from infra.ops.depth import depth_of
from infra.ops.output import Output, count
from infra.ops.problems import FoundError, said
from infra.ops.switch import ABSENT, name_for, read_switch, release, throw, value_before
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
    guessed = None
    try:
        name = desk.deployment.output("StopSwitchParameterName")
    except (ClientError, BotoCoreError) as error:
        # Whoever may write the switch need not be allowed to look at the stack.
        name, guessed = name_for(desk.stack_name), said(error)
    # Nothing else is read or told before: in a hurry, what may fail comes afterwards.
    written = throw(desk.account.ssm, name, reason)
    if guessed:
        output.warn(f"the stack could not be looked at ({guessed}); this is how the template calls its switch")
    before = value_before(desk.account.ssm, name, written)
    output.data({"switch": name, "before": before, "now": written.value})
    output.say(f"{name}: {before or 'unknown'} -> {written.value}", "bold red")
    if written.version == 1 and guessed:
        raise FoundError(
            f"there was no parameter {name}, and now there is one that may be nobody's: whether anything is stopped is "
            "not known; check --stack-name, --profile and --region"
        )
    if written.version == 1:
        output.warn("there was no such parameter, which stops everything too; it was made anew")
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
    if before.value == ABSENT:
        output.say(f"{name}: {ABSENT}, which stops everything; it will be made anew")
    else:
        output.say(f"{name} says {before.value!r}, since {before.as_dict()['since'] or 'an unknown time'}")
    output.say(
        f"{count(waiting, 'message')} in the work queue: they come back within 15 minutes. Scheduled sweeps go on."
    )
    output.confirm("Carry on?", yes=yes)
    written = release(desk.account.ssm, name)
    output.data({"switch": name, "before": before.value, "now": written.value, "reason": reason})
    output.say(f"{name}: {before.value} -> {written.value}{f' ({reason})' if reason else ''}", "bold green")
