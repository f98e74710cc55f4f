"""`stop` and `go`: the switch for everything."""

from contextlib import suppress
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.cli_context import AsJson, Yes, confirm, context_of
from infra.ops.depth import depth_of
from infra.ops.output import Output, count
from infra.ops.problems import FoundError, said
from infra.ops.switch import keep_first, read_switch, switch_before, throw, write
from stop_switch import SWITCH_CACHE_SECONDS


def stop(
    ctx: typer.Context,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why. Kept in the switch.")] = None,
    as_json: AsJson = False,
) -> None:
    """Stop everything: no session is ended until `go`.

    Does not ask. A second stop keeps the first one's reason and time, and adds its own.
    """
    output, context = Output(as_json=as_json), context_of(ctx)
    guessed = None
    try:
        name = context.deployment.output("StopSwitchParameterName")
    except (ClientError, BotoCoreError) as error:
        # Permission to write the switch does not imply permission to look at the stack. The template calls it so.
        name, guessed = f"/devin-session-cleanup/{context.stack_name}/stop-switch", said(error)
    # Nothing else is read or printed before: in a hurry, what may fail comes afterwards.
    ssm = context.account.ssm
    written = throw(ssm, name, reason)
    if guessed:
        output.warn(f"the stack could not be looked at ({guessed}); this is how the template calls its switch")
    before = switch_before(ssm, name, written)
    if before is not None and not before.goes:
        # It is stopped anyway, and what it said before is shown below.
        with suppress(ClientError, BotoCoreError):
            written = keep_first(ssm, name, before, written)
    said_before = before.value if before else None
    output.data({"switch": name, "before": said_before, "now": written.value})
    output.say(f"{name}: {said_before or 'unknown'} -> {written.value}", "bold red")
    if written.version == 1 and guessed:
        raise FoundError(
            f"there was no parameter {name}, and now there is one that no stack may read: whether anything is stopped "
            "is not known; check --stack-name, --profile and --region"
        )
    if written.version == 1:
        output.warn("there was no such parameter, which stops everything too; it was created")
    output.say(
        f"Within {SWITCH_CACHE_SECONDS} s neither function starts anything; what has started ends within a minute."
    )
    output.say("Messages stay in the work queue. Events and direct invocations go there too. Sweeps do nothing.")
    output.say(f"A deployment can write `go`: look at the switch after one. To carry on: {context.command} go")


def go(ctx: typer.Context, yes: Yes = False, as_json: AsJson = False) -> None:
    """Carry on after a stop: what waits in the work queue is ended. Asks, with the number of messages."""
    output, context = Output(as_json=as_json), context_of(ctx)
    name = context.deployment.output("StopSwitchParameterName")
    before = read_switch(context.account.ssm, name)
    if before.goes:
        output.data({"switch": name, "before": before.value, "now": before.value})
        output.say(f"{name} says go already")
        return
    waiting = depth_of(context.account.sqs, context.deployment.work_queue_url).total
    since = f", since {before.since}" if before.since else ""
    output.say(f"{name}: {before.value}{since}")
    output.say(
        f"{count(waiting, 'message')} in the work queue: they come back within 15 minutes. Scheduled sweeps go on."
    )
    confirm(context, output, "Carry on?", yes=yes)
    written = write(context.account.ssm, name, "go")
    output.data({"switch": name, "before": before.value, "now": written.value})
    output.say(f"{name}: {before.value} -> {written.value}", "bold green")
    output.say(f"It may take the functions {SWITCH_CACHE_SECONDS} s to see it.")
