"""`explain`: what became of a session id?"""

import re
from datetime import timedelta
from typing import Annotated

import typer

from infra.ops.cli_context import AsJson, banner, context_of, utc_now
from infra.ops.commands.source import session_id
from infra.ops.explain import Explainer
from infra.ops.output import Output
from infra.ops.problems import FoundError, UsageError
from infra.ops.time_args import iso

_LENGTH = re.compile(r"(\d{1,3})d|(\d{1,4})h|(\d{1,5})m", re.ASCII)


def explain(
    ctx: typer.Context,
    session: Annotated[str, typer.Argument(metavar="ID", parser=session_id, help="A session id, or its address.")],
    since: Annotated[
        str, typer.Option("--since", metavar="LENGTH", help="How far back to read the logs: 14d, 6h, 30m.")
    ] = "14d",
    as_json: AsJson = False,
) -> None:
    """Show what became of a session id.

    When it came and from where, each attempt, and where it is now. Reads the functions' logs, the dead letters, the
    schedules and, if these do not say where it is, the first hundred messages of the work queue; to look at one counts
    as one of its five receives. Exit status 1 if nothing is known.
    """
    output, context = Output(as_json=as_json, rows=True), context_of(ctx)
    now = utc_now()
    start = now - _length(since)
    banner(context, output)
    found = Explainer(context.account, context.deployment, session, start, now, output.warn, context.command)
    found.explain()
    output.data(found.as_dict())
    rows = [(iso(one.at), one.what, one.source, one.detail) for one in found.events]
    output.table(session, ("at", "what", "source", "detail"), rows)
    for name, why in found.unread.items():
        output.warn(f"{name} could not be read: {why}")
    output.say(f"now: {found.sentence}", "bold")
    if found.state == "unknown":
        raise FoundError(f"{session} was not found")


def _length(text: str) -> timedelta:
    """Raises UsageError."""
    if not (found := _LENGTH.fullmatch(text)):
        raise UsageError(f"--since {text!r} is no length of time: 14d, 6h, 30m")
    days, hours, minutes = (int(number or 0) for number in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes)
