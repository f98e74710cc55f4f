"""`enqueue`: terminate these sessions, by way of the work queue."""

from typing import Annotated

import typer

from infra.ops.cli_context import AsJson, UnlessUpdatedSince, Yes, banner, confirm, context_of, utc_now
from infra.ops.commands.following import Watch, follow, judge, letters_now
from infra.ops.commands.source import Column, File, SessionIds, SkipInvalid, read_ids
from infra.ops.output import Output, count
from infra.ops.problems import FoundError
from infra.ops.sending import body_of, send_all
from infra.ops.time_args import parse_condition
from queues import Outgoing

_ASK_ABOVE = 20


def enqueue(
    ctx: typer.Context,
    session_ids: SessionIds = None,
    file: File = None,
    csv_column: Column = None,
    unless_updated_since: UnlessUpdatedSince = None,
    skip_invalid: SkipInvalid = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, send nothing.")] = False,
    watch: Watch = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send session ids to the work queue.

    Each is a message of its own. Ids come from the arguments, from --file, or through a pipe. If a run is interrupted,
    repeat it: sending an id twice terminates nothing else, at worst there is a dead letter rejected_422.
    """
    output, context = Output(as_json=as_json), context_of(ctx)
    condition = parse_condition(unless_updated_since, utc_now())
    given = read_ids(output, session_ids, file, csv_column, skip_invalid=skip_invalid)
    ids = given.ids
    summary = {"ids": len(ids), "repeats": given.repeats, "invalid": [one.line for one in given.invalid]}
    if given.repeats:
        output.say(f"{given.repeats} were given more than once")
    if dry_run:
        output.data(summary | {"sent": 0, "would_send": ids})
        output.some(ids)
        output.say(f"{len(ids)} would be sent; nothing was", "bold")
        return
    banner(context, output)
    if len(ids) > _ASK_ABOVE:
        confirm(context, output, f"Terminate {count(len(ids), 'session')}?", yes=yes)
    dead_letters_before = letters_now(context) if watch else 0
    messages = [(one, Outgoing(body_of([one], condition))) for one in ids]
    taken: list[str] = []
    try:
        shown = output.progress("sending", messages)
        refused = send_all(context.account.sqs, context.deployment.work_queue_url, shown, taken.extend)
    finally:
        if len(taken) < len(ids):
            output.warn(f"{len(taken)} of {len(ids)} were sent; repeat the command to send all")
    sent = len(taken)
    follow_up = "" if watch else f"; follow them with: {context.command} watch"
    output.say(f"{sent} sent to the work queue{follow_up}", "bold")
    last = follow(output, context, letters_before=dead_letters_before, sent=sent) if watch else None
    summary |= {"sent": sent, "refused": refused}
    output.data(summary | ({"watch": last.as_dict()} if last else {}))
    if refused:
        output.some([f"{name}: {code}" for name, code in refused.items()], output.warn)
        raise FoundError(f"SQS refused {len(refused)} of {len(ids)}")
    if last is not None:
        judge(output, last, sent, command=context.command)
