"""`schedule at | list | cancel`: terminate these sessions at a time."""

from dataclasses import asdict
from typing import Annotated

import typer

from infra.ops import schedules
from infra.ops.cli_context import AsJson, UnlessUpdatedSince, Yes, confirm, context_of, example, utc_now
from infra.ops.commands.source import Column, File, SessionIds, SkipInvalid, read_ids
from infra.ops.output import Output, count, period
from infra.ops.problems import FoundError
from infra.ops.schedules import Planned
from infra.ops.time_args import iso, parse_condition, parse_time

application = typer.Typer(no_args_is_help=True, help="Terminate sessions at a time, by one-time schedules.")


@application.command("at", epilog=example("schedule at +2h devin-0123456789abcdef0123456789abcdef"))
def at(
    ctx: typer.Context,
    when: Annotated[str, typer.Argument(metavar="WHEN", help="ISO 8601 with a zone, or +2h, +1d12h, +90m.")],
    session_ids: SessionIds = None,
    file: File = None,
    csv_column: Column = None,
    unless_updated_since: UnlessUpdatedSince = None,
    skip_invalid: SkipInvalid = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Terminate these sessions at this time. The schedule removes itself when it has sent them to the work queue."""
    output, context = Output(as_json=as_json), context_of(ctx)
    now = utc_now().replace(microsecond=0)
    moment, condition = parse_time(when, now), parse_condition(unless_updated_since, now)
    ids = read_ids(output, session_ids, file, csv_column, skip_invalid=skip_invalid)
    at_time = f"at {iso(moment)}, in {period(moment - now)}"
    confirm(context, output, f"Terminate {count(len(ids.ids), 'session')} {at_time}?", yes=yes)
    made: list[Planned] = []
    for one in schedules.plan(context.account.scheduler, context.deployment, ids.ids, moment, condition):
        made.append(one)
        # At once: if a later one fails, this one stays.
        output.say(f"{one.name}: {count(len(one.session_ids), 'session')} {at_time}", "bold")
    output.data([asdict(one) for one in made])
    output.say(f"cancel with: {context.command} schedule cancel {' '.join(one.name for one in made)}")


@application.command("list", epilog=example("schedule list"))
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the schedules that send to the work queue, also those made without this command."""
    output, context = Output(as_json=as_json, rows=True), context_of(ctx)
    found = schedules.planned(context.account.scheduler, context.deployment)
    output.data([asdict(one) for one in found])
    if not found:
        output.say("no schedule sends to the work queue")
    elif not as_json:
        rows = [(one.name, one.when, one.state, ", ".join(one.session_ids)) for one in found]
        output.table("", ("name", "when", "state", "sessions"), rows)


@application.command("cancel", epilog=example("schedule cancel NAME"))
def cancel(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Names, as in schedule list, with their group if they have one."),
    ],
    as_json: AsJson = False,
) -> None:
    """Cancel schedules. What they have sent already is not taken back; see withdraw."""
    output, context = Output(as_json=as_json), context_of(ctx)
    cancelled, problems = [], []
    for name in names:
        try:
            schedules.cancel(context.account.scheduler, context.deployment, name)
        except FoundError as problem:
            problems.append(str(problem))
        else:
            cancelled.append(name)
            output.say(f"{name} is cancelled")
    output.data({"cancelled": cancelled})
    if problems:
        raise FoundError("; ".join(problems))
