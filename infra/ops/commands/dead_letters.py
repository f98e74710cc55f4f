"""`dead-letters list | show | redrive | discard`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from devin.session_id import InvalidSessionIdError, parse_session_id
from infra.ops.cli_context import AsJson, CliContext, Yes, desk_of, utc_now
from infra.ops.commands.following import Watch, follow, judge, letters_now
from infra.ops.depth import depth_of
from infra.ops.dlq import HIDDEN_SECONDS, UNUSABLE, Letter, Look, Wanted, tally
from infra.ops.output import Output, count
from infra.ops.problems import FoundError, UsageError
from infra.ops.redrive import Moved, NotOfferedError, SendingBack, move_all

# Before a question; `list` shows all.
_SHOWN = 20

application = typer.Typer(no_args_is_help=True, help="Look at dead letters, send them back, or discard them.")

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", metavar="REASON", help="Only those with this reason. May be repeated.")
]
Sessions = Annotated[
    list[str] | None, typer.Option("--session", metavar="ID", help="Only those about this session. May be repeated.")
]
Messages = Annotated[
    list[str] | None,
    typer.Option("--message", metavar="ID", help="Only this message, by its id or how that begins. May be repeated."),
]
Most = Annotated[int, typer.Option("--most", metavar="N", min=1, max=100_000, help="Look at no more than this.")]


def _wanted(reasons: list[str] | None, sessions: list[str] | None, messages: list[str] | None) -> Wanted:
    """Raises UsageError for what is no session."""
    try:
        parsed = tuple(parse_session_id(one) for one in sessions or ())
    except InvalidSessionIdError as error:
        raise UsageError(f"--session: {error}") from None
    return Wanted(tuple(reasons or ()), parsed, tuple(messages or ()))


def _look(output: Output, desk: CliContext) -> Look:
    return Look(desk.account.sqs, desk.deployment.dead_letter_queue_url, output.warn)


@application.command("list")
def show_all(
    context: typer.Context,
    reason: Reasons = None,
    session: Sessions = None,
    most: Most = 1000,
    as_json: AsJson = False,
) -> None:
    """List dead letters by reason. They stay where they are: each is hidden while it is looked at, then put back."""
    output, desk = Output(as_json=as_json), desk_of(context)
    wanted = _wanted(reason, session, None)
    # Before the look: SQS goes on counting what it has hidden for a while.
    hidden = depth_of(desk.account.sqs, desk.deployment.dead_letter_queue_url).in_flight
    with _look(output, desk) as look:
        letters = [letter for letter in look.letters(most) if wanted.has(letter)]
    output.data([letter.as_dict() for letter in letters])
    if not as_json:
        _table(output, letters)
    if not look.complete:
        output.warn(f"there may be more (--most is {most})")
    if hidden:
        # They cannot be seen: another look holds them, or one that was killed.
        output.warn(f"{hidden} more are hidden by another look; they are back within {HIDDEN_SECONDS // 60} minutes")


def _table(output: Output, letters: Sequence[Letter], most: int | None = None) -> None:
    rows = [
        (
            one.message_id[:8],
            one.reason,
            ", ".join(one.session_ids) or one.body,
            one.attributes.get("failed_at"),
            one.why,
        )
        for one in sorted(letters, key=lambda letter: (letter.reason, letter.session_ids))[:most]
    ]
    if rows:
        output.table("", ("message", "reason", "session or body", "failed at", "why"), rows)
    if len(rows) < len(letters):
        output.say(f"… and {len(letters) - len(rows)} more")
    counts = ", ".join(f"{number} {reason}" for reason, number in tally(letters).items())
    output.say(f"{count(len(letters), 'dead letter')}{': ' + counts if counts else ''}", "bold")


@application.command("show")
def show(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="ID", help="A session, or a message (or how its id begins).")],
    most: Most = 10_000,
    as_json: AsJson = False,
) -> None:
    """Show all there is of the dead letters about a session, or of one message."""
    output, desk = Output(as_json=as_json), desk_of(context)
    session = None
    with suppress(InvalidSessionIdError):
        session = parse_session_id(subject)
    with _look(output, desk) as look:
        letters = [
            one for one in look.letters(most) if session in one.session_ids or one.message_id.startswith(subject)
        ]
    output.data([letter.as_dict() for letter in letters])
    for letter in letters if not as_json else ():
        told = {
            "message": letter.message_id,
            "reason": letter.reason,
            "sent at": letter.as_dict()["sent_at"],
            **letter.attributes,
        }
        output.table("", ("", ""), [*told.items(), ("body", letter.body)])
    if not letters:
        raise FoundError(f"no dead letter is about {subject}")


@application.command("redrive")
def redrive(
    context: typer.Context,
    reason: Reasons = None,
    session: Sessions = None,
    message: Messages = None,
    unusable: Annotated[
        bool, typer.Option("--unusable", help=f"Those that say nothing usable ({UNUSABLE}), too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent back, do nothing.")] = False,
    watch: Watch = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the work queue: all that are usable, or those selected.

    SQS moves them itself if all are to go. Otherwise each is sent to the work queue, and only then deleted.
    """
    output, desk = Output(as_json=as_json), desk_of(context)
    wanted = _wanted(reason, session, message)
    unusable = unusable or UNUSABLE in wanted.reasons
    before = letters_now(desk)
    with _look(output, desk) as look:
        letters = list(look.letters())
        usable = [letter for letter in letters if unusable or letter.reason != UNUSABLE]
        chosen = [letter for letter in usable if wanted.has(letter)]
        left_out = sum(1 for letter in letters if wanted.has(letter)) - len(chosen)
        if left_out:
            output.warn(f"{left_out} say nothing usable and are left where they are (--unusable takes them too)")
        told = {"chosen": len(chosen), "left_out": left_out, "reasons": tally(chosen)}
        _ready(output, "Send back", chosen, dry_run=dry_run, yes=yes)
        if dry_run or not chosen:
            output.data(told | {"sent_back": 0})
            _refuse_nothing(wanted, chosen)
            return
        # With a selection, never more than was selected: others may arrive meanwhile.
        whole = not wanted and len(chosen) == len(letters)
        if not whole:
            _one_by_one(output, desk, look, chosen)
    # Beyond the look, because SQS moves only what is not hidden.
    if whole:
        try:
            moved = _by_sqs(output, desk)
        except NotOfferedError:
            output.say("SQS has no move task here; sending them one by one")
            with _look(output, desk) as look:
                fresh = [letter for letter in look.letters() if unusable or letter.reason != UNUSABLE]
                _one_by_one(output, desk, look, fresh)
                moved = len(fresh)
    else:
        moved = len(chosen)
    output.say(f"{moved} sent back to the work queue{'' if watch else '; follow them with: watch'}", "bold")
    last = follow(output, desk, letters_before=before - moved, sent=moved) if watch else None
    output.data(told | {"sent_back": moved} | ({"watch": last.as_dict()} if last else {}))
    if moved < len(chosen):
        raise FoundError(f"SQS moved {moved} of {len(chosen)}; see: dead-letters list, and run it again for the rest")
    if last is not None:
        judge(output, last, moved)


def _ready(output: Output, what: str, chosen: Sequence[Letter], *, dry_run: bool, yes: bool) -> None:
    if not output.as_json:
        _table(output, chosen, _SHOWN)
    if dry_run or not chosen:
        output.say("nothing was done", "bold")
    else:
        output.confirm(f"{what} {count(len(chosen), 'dead letter')}?", yes=yes)


def _refuse_nothing(wanted: Wanted, chosen: Sequence[Letter]) -> None:
    """Raises FoundError if something was asked for and is not there. That there are none at all is no problem."""
    if wanted and not chosen:
        raise FoundError("no dead letter is chosen by this selection; see: dead-letters list")


def _by_sqs(output: Output, desk: CliContext) -> int:
    told: list[Moved] = []

    def progress(moved: Moved) -> None:
        if moved not in told[-1:]:
            output.say(f"SQS has moved {moved.moved} of {moved.of}")
        told.append(moved)

    try:
        return move_all(
            desk.account.sqs,
            source_arn=desk.deployment.dead_letter_queue_arn,
            destination_arn=desk.deployment.work_queue_arn,
            progress=progress,
        ).moved
    except KeyboardInterrupt:
        output.warn("SQS goes on moving them without this command, if it has begun; see: watch")
        raise


def _one_by_one(output: Output, desk: CliContext, look: Look, chosen: Sequence[Letter]) -> None:
    back = SendingBack(desk.account.sqs, look, desk.deployment.work_queue_url)
    try:
        for letter in chosen:
            back.send(letter)
    finally:
        if back.sent < len(chosen):
            output.warn(f"{back.sent} of {len(chosen)} were sent back; the others are still dead letters")
        elif back.in_both:
            output.warn(f"{back.sent} of {len(chosen)} were sent back")
        if back.in_both:
            output.warn(back.in_both)


@application.command("discard")
def discard(
    context: typer.Context,
    reason: Reasons = None,
    session: Sessions = None,
    message: Messages = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters there are.")] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Where to keep a copy; a new file in this directory.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be discarded, do nothing.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters, after writing each to a file. The sessions go on running.

    A line of the file is one dead letter, body and attributes as they were.
    """
    output, desk = Output(as_json=as_json), desk_of(context)
    wanted = _wanted(reason, session, message)
    if bool(wanted) == everything:
        raise UsageError("say which: --reason, --session, --message, or --all")
    path = to or Path(f"dead-letters-{desk.deployment.name}-{utc_now():%Y%m%dT%H%M%SZ}.jsonl")
    with _look(output, desk) as look:
        chosen = [letter for letter in look.letters() if wanted.has(letter)]
        _ready(output, "Discard", chosen, dry_run=dry_run, yes=yes)
        if dry_run or not chosen:
            output.data({"chosen": len(chosen), "discarded": 0, "reasons": tally(chosen)})
            _refuse_nothing(wanted, chosen)
            return
        look.check()
        _copy(chosen, path)
        _discard(output, look, chosen, path)
    output.data({"chosen": len(chosen), "discarded": len(chosen), "reasons": tally(chosen), "file": str(path)})
    output.say(f"{len(chosen)} discarded; a copy of each is in {path}", "bold")


def _copy(chosen: Sequence[Letter], path: Path) -> None:
    """Every line is on the disk in the end, or there is no file. Raises UsageError."""
    refusal = f"{path} cannot be written ({{}}), so nothing was discarded; see --to"
    try:
        # Never over another file. For its owner alone: bodies are whatever somebody sent.
        copy = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(refusal.format(error.strerror)) from None
    try:
        with os.fdopen(copy, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(letter.as_copy()) + "\n" for letter in chosen)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(refusal.format(error.strerror)) from None
        raise


def _discard(output: Output, look: Look, chosen: Sequence[Letter], path: Path) -> None:
    gone = 0
    try:
        for letter in chosen:
            look.take(letter)
            gone += 1
    finally:
        if gone < len(chosen):
            output.warn(
                f"{gone} of {len(chosen)} are gone, and perhaps one more; the others are still dead letters. "
                f"A copy of all is in {path}"
            )
