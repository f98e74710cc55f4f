"""`enqueue`: terminate these sessions, by way of the work queue."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.ops.cli_context import AsJson, CliContext, UnlessUpdatedSince, Yes, banner, confirm, context_of, utc_now
from infra.ops.commands.following import Watch, follow, judge, letters_now
from infra.ops.commands.source import Column, File, SessionIds, SkipInvalid, read_ids
from infra.ops.output import Output, count
from infra.ops.problems import FoundError
from infra.ops.sending import Named, Sending, body_of, send_all
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
    """Send session ids to the work queue, each as a message of its own.

    Ids come from the arguments, from --file, or through a pipe. If a run is interrupted, repeat it: sending an id twice
    terminates nothing else, at worst there is a dead letter rejected_422.
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
    queue_url = context.deployment.work_queue_url
    banner(context, output)
    if len(ids) > _ASK_ABOVE:
        confirm(context, output, f"Terminate {count(len(ids), 'session')}?", yes=yes)
    dead_letters_before = letters_now(context) if watch else 0
    sending = _send(output, context, queue_url, [(one, Outgoing(body_of([one], condition))) for one in ids])
    sent = len(sending.sent)
    follow_up = "" if watch else f"; follow them with: {context.command} watch"
    output.say(f"{sent} sent to the work queue{follow_up}", "bold")
    last = follow(output, context, letters_before=dead_letters_before, sent=sent) if watch else None
    summary |= {"sent": sent, "refused": sending.refused}
    output.data(summary | ({"watch": last.as_dict()} if last else {}))
    if sending.refused:
        output.some([f"{name}: {code}" for name, code in sending.refused.items()], output.warn)
        raise FoundError(f"SQS refused {len(sending.refused)} of {len(ids)}")
    if last is not None:
        judge(output, last, sent, command=context.command)


def _send(output: Output, context: CliContext, queue_url: str, messages: list[Named]) -> Sending:
    sent = 0
    with output.progress("sending", len(messages)) as advance:

        def add(batch: Sending) -> None:
            nonlocal sent
            sent += len(batch.sent)
            advance(len(batch.sent) + len(batch.refused))

        try:
            sending = send_all(context.account.sqs, queue_url, messages, add)
        finally:
            if sent < len(messages):
                output.warn(f"{sent} of {len(messages)} were sent; repeat the command to send all")
    if sending.error is not None:
        raise sending.error
    return sending
