"""`dead-letters list | show | redrive | discard`."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from infra.ops.cli_context import AsJson, CliContext, Yes, banner, confirm, context_of, example, utc_now
from infra.ops.commands.following import Watch, follow, judge, letters_now
from infra.ops.commands.source import not_empty, session_id
from infra.ops.dlq import (
    HIDDEN_SECONDS,
    RECEIVED_TOO_OFTEN,
    UNUSABLE,
    Message,
    Peek,
    known_of,
    save,
    select,
    starting_with,
    tally,
)
from infra.ops.ids import parsed
from infra.ops.output import Output, count
from infra.ops.problems import FoundError, UsageError
from infra.ops.sending import Named, send_all
from infra.ops.time_args import iso

# Before another look, if somebody else holds messages: lists take a few seconds.
PAUSES = (1.0, 2.0, 4.0)
_NOTHING = "no dead letter is chosen by this selection; see all: {} dead-letters list"
_SHOWN = 20  # before a question; `list` shows all

application = typer.Typer(no_args_is_help=True, help="List dead letters, send them back, or discard them.")

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", parser=not_empty, help="Only those with this reason. May be repeated."),
]
Sessions = Annotated[
    list[str] | None,
    typer.Option("--session", metavar="ID", parser=session_id, help="Only those about this session. May be repeated."),
]
Messages = Annotated[
    list[str] | None,
    typer.Option(
        "--message",
        metavar="ID",
        parser=not_empty,
        help="Only this message, by its id or how that begins. May be repeated.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")]
To = Annotated[
    Path | None, typer.Option("--to", metavar="FILE", help="Where to keep a copy; a new file in this directory.")
]


@contextmanager
def _peek(output: Output, context: CliContext) -> Iterator[tuple[Peek, list[Message]]]:
    """All dead letters, held until the block ends. If somebody else holds some, it looks again a few times, and warns
    if some still cannot be seen."""
    for pause in (*PAUSES, None):
        with Peek(context.account.sqs, context.deployment.dead_letter_queue_url, output.warn) as look:
            found = list(look.messages())
            if look.unseen and pause is None:
                output.warn(
                    f"{look.unseen} more could not be seen: somebody else is looking at them, and they are visible "
                    f"again within {HIDDEN_SECONDS // 60} minutes, or SQS's count is late"
                )
            if pause is None or not look.unseen:
                yield look, found
                return
        # Two that wait for each other's messages must not look again at the same time.
        time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not for a secret


@application.command("list", epilog=example("dead-letters list --reason rejected_422"))
def show_all(ctx: typer.Context, reason: Reasons = None, session: Sessions = None, as_json: AsJson = False) -> None:
    """List dead letters by reason. They stay where they are: each is hidden while it is looked at, for seconds."""
    output, context = Output(as_json=as_json, rows=True), context_of(ctx)
    with _peek(output, context) as (look, found):
        selected = select(found, reason, session, None)
    output.data([message.as_dict() for message in selected])
    if not as_json:
        _table(output, selected)
        for one in tally(selected):
            output.say(f"{one}: {known_of(one)}")
    if not look.complete:
        output.warn("there are more than could be looked at in one go")


def _table(output: Output, found: Sequence[Message], most: int | None = None) -> None:
    rows = [
        (
            one.message_id[:8],
            one.reason,
            ", ".join(one.session_ids) or one.body,
            one.attributes.get("failed_at") if one.written_by_function else None,
            one.why,
        )
        for one in sorted(found, key=lambda message: (message.reason, message.session_ids))[:most]
    ]
    if rows:
        output.table("", ("message", "reason", "session or body", "failed at", "why"), rows)
    if len(rows) < len(found):
        output.say(f"… and {len(found) - len(rows)} more")
    counts = ", ".join(f"{number} {reason}" for reason, number in tally(found).items())
    output.say(f"{count(len(found), 'dead letter')}{': ' + counts if counts else ''}", "bold")


@application.command("show", epilog=example("dead-letters show devin-0123456789abcdef0123456789abcdef"))
def show(
    ctx: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="ID", parser=not_empty, help="A session, or a message (or how its id begins).")
    ],
    as_json: AsJson = False,
) -> None:
    """Show all there is of the dead letters about a session, or of one message."""
    output, context = Output(as_json=as_json, rows=True), context_of(ctx)
    with _peek(output, context) as (_, found):
        selected = [one for one in found if parsed(subject) in one.session_ids] or starting_with(subject, found)
    output.data([message.as_dict() for message in selected])
    for message in selected if not as_json else ():
        fields = [
            ("message", message.message_id),
            ("reason", message.reason),
            ("about the session", known_of(message.reason)),
            ("sent at", message.sent_at and iso(message.sent_at)),
            # Not beside the others: of a message that SQS moved they are its producer's, or an earlier dead letter's.
            *((f"attribute {name}", value) for name, value in message.attributes.items()),
            ("body", message.body),
        ]
        output.table("", ("", ""), fields)
    if not selected:
        raise FoundError(f"no dead letter is about {subject}")


@application.command("redrive", epilog=example("dead-letters redrive --reason rejected_404 --watch"))
def redrive(
    ctx: typer.Context,
    reason: Reasons = None,
    session: Sessions = None,
    message: Messages = None,
    unusable: Annotated[
        bool, typer.Option("--unusable", help=f"Those that say nothing usable ({UNUSABLE}), too.")
    ] = False,
    dry_run: DryRun = False,
    watch: Watch = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the work queue: all that are usable, or those selected.

    Each is sent to the work queue and only then deleted. What SQS moved carries how often it was received, so that the
    function does not take the session for one that it has not tried yet.
    """
    output, context = Output(as_json=as_json), context_of(ctx)
    unusable = unusable or UNUSABLE in (reason or ())
    before = letters_now(context)
    banner(context, output)
    with _peek(output, context) as (look, found):
        selected = select(found, reason, session, message)
        chosen = [one for one in selected if unusable or one.reason != UNUSABLE]
        left_out = len(selected) - len(chosen)
        summary = {"chosen": len(chosen), "left_out": left_out, "reasons": tally(chosen)}
        if left_out:
            left = f"{left_out} say nothing usable and are left where they are (--unusable takes them too)"
            if not chosen:
                output.data(summary | {"sent_back": 0})
                raise FoundError(left)
            output.warn(left)
        if not _go_on(output, context, "Send back", chosen, dry_run=dry_run, yes=yes):
            output.data(summary | {"sent_back": 0})
            if (reason or session or message) and not chosen:
                raise FoundError(_NOTHING.format(context.command))
            return
        sent = _send_back(output, context, look, chosen)
    follow_up = "" if watch else f"; follow them with: {context.command} watch"
    output.say(f"{sent} sent back to the work queue{follow_up}", "bold")
    last = follow(output, context, letters_before=before - sent, sent=sent) if watch else None
    output.data(summary | {"sent_back": sent} | ({"watch": last.as_dict()} if last else {}))
    if not look.complete:
        raise FoundError("there are more than could be looked at in one go; run it again for the rest")
    if last is not None:
        judge(output, last, sent, command=context.command)


def _go_on(
    output: Output, context: CliContext, what: str, chosen: Sequence[Message], *, dry_run: bool, yes: bool
) -> bool:
    """Whether to do it; raises as `confirm` does. That there are no dead letters at all is no problem."""
    if not output.as_json:
        _table(output, chosen, _SHOWN)
    if dry_run or not chosen:
        output.say("nothing was done", "bold")
        return False
    confirm(context, output, f"{what} {count(len(chosen), 'dead letter')}?", yes=yes)
    return True


def _send_back(output: Output, context: CliContext, look: Peek, chosen: Sequence[Message]) -> int:
    """Send all of them, and delete what SQS took. However it ends, says what is where."""
    by_id = {one.message_id: one for one in chosen}
    sent: list[str] = []

    def messages() -> Iterator[Named]:
        for one in chosen:
            look.check()
            yield one.message_id, one.sent_again(one.body, with_tries=one.reason == RECEIVED_TOO_OFTEN)

    def delete(names: list[str]) -> None:
        sent.extend(names)
        look.delete([by_id[name] for name in names])

    try:
        refused = send_all(context.account.sqs, context.deployment.work_queue_url, messages(), delete)
    finally:
        if len(sent) < len(chosen):
            output.warn(f"{len(sent)} of {len(chosen)} were sent back; the others are still dead letters")
        if look.deleted < len(sent):
            output.warn(
                f"{len(sent) - look.deleted} of {len(sent)} that were sent back are dead letters too, because they "
                "could not be deleted: discard them, or send them back once more, which terminates nothing else"
            )
    if refused:
        raise FoundError(f"SQS refused {len(refused)}: {', '.join(sorted(set(refused.values())))}")
    return len(sent)


@application.command("discard", epilog=example("dead-letters discard --reason invalid_message --to copy.jsonl"))
def discard(
    ctx: typer.Context,
    reason: Reasons = None,
    session: Sessions = None,
    message: Messages = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters there are.")] = False,
    to: To = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters, after writing each to a file. The sessions are left as they are.

    A line of the file is one dead letter, body and attributes as they were.
    """
    output, context = Output(as_json=as_json), context_of(ctx)
    if bool(reason or session or message) == everything:
        raise UsageError("say which: --reason, --session, --message, or --all")
    path = to or Path(f"dead-letters-{context.deployment.name}-{utc_now():%Y%m%dT%H%M%SZ}.jsonl")
    with _peek(output, context) as (look, found):
        chosen = select(found, reason, session, message)
        summary = {"chosen": len(chosen), "reasons": tally(chosen)}
        if not _go_on(output, context, "Discard", chosen, dry_run=dry_run, yes=yes):
            output.data(summary | {"discarded": 0})
            if not (everything or chosen):
                raise FoundError(_NOTHING.format(context.command))
            return
        look.check()
        save([one.as_dict() for one in chosen], path)
        look.delete_copied(chosen, path)
    output.data(summary | {"discarded": len(chosen), "file": str(path)})
    output.say(f"{len(chosen)} discarded; a copy of each is in {path}", "bold")
