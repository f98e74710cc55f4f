"""`enqueue`: end these sessions, by way of the work queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra.ops.cli_context import AsJson, UnlessUpdatedSince, Yes, desk_of
from infra.ops.commands.following import Watch, follow, judge, letters_now
from infra.ops.commands.source import Column, Delimiter, File, SessionIds, SkipInvalid, read_ids, refuse_invalid
from infra.ops.journal import Journal, open_journal
from infra.ops.output import Output, count
from infra.ops.problems import FoundError, ProblemError
from infra.ops.sending import Sending, send_all
from infra.ops.time_args import parse_condition

_SHOWN = 20


def enqueue(
    context: typer.Context,
    session_ids: SessionIds = None,
    file: File = None,
    csv_column: Column = None,
    delimiter: Delimiter = None,
    unless_updated_since: UnlessUpdatedSince = None,
    skip_invalid: SkipInvalid = False,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="FILE", help="Keep the journal here, and go on with what it says."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, send nothing.")] = False,
    ask_above: Annotated[int, typer.Option("--ask-above", metavar="N", min=0, help="Ask before more than this.")] = 20,
    watch: Watch = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send session ids to the work queue, each as a message of its own.

    Ids come from the arguments, from --file, or through a pipe. An interrupted run with --file goes on where it stopped
    when it is repeated: a journal beside the file knows what was sent, and is removed once all is. With --resume the
    journal is where you say, is kept, and nothing that it names is sent a second time.
    """
    output, desk = Output(as_json=as_json), desk_of(context)
    condition = parse_condition(unless_updated_since)
    ids = read_ids(session_ids or [], file, csv_column, delimiter)
    refuse_invalid(ids, output, skip=skip_invalid)
    told = {"ids": len(ids.ids), "repeats": ids.repeats, "invalid": [one.line for one in ids.invalid]}
    queue_url = desk.deployment.work_queue_url
    beside = resume is None and file is not None and str(file) != "-"
    path = file.with_name(f"{file.name}.journal") if beside and file is not None else resume
    job: dict[str, str | None] = {
        "queue": queue_url,
        "unless_updated_since": condition.isoformat() if condition else None,
    }
    if dry_run and (path is None or not path.exists()):
        path = None  # a dry run leaves nothing behind
    with _journal(path, job) as journal:
        left = [one for one in ids.ids if one not in journal.sent]
        _tell(output, len(left), len(ids.ids), ids.repeats, journal, left)
        if dry_run:
            output.data(told | {"sent": 0, "would_send": left})
            _show(output, left)
            return
        if len(left) > ask_above:
            output.confirm(f"End {count(len(left), 'session')}?", yes=yes)
        letters = letters_now(desk) if watch else 0
        sending = _send(context, output, left, queue_url, journal, condition_text=unless_updated_since, path=path)
        journal.forgotten = beside and not sending.refused  # there is nothing left to resume
    told |= {"sent": sending.sent, "already_sent": len(ids.ids) - len(left), "refused": sending.refused}
    output.say(f"{sending.sent} sent to the work queue{'' if watch else '; follow them with: watch'}", "bold")
    last = follow(output, desk, letters_before=letters, sent=sending.sent) if watch else None
    output.data(told | ({"watch": last.as_dict()} if last else {}))
    if sending.refused:
        for one, code in list(sending.refused.items())[:_SHOWN]:
            output.warn(f"  {one}: {code}")
        raise FoundError(f"SQS refused {len(sending.refused)} of them; run the same command again")
    if last is not None:
        judge(output, last, sending.sent)


@contextmanager
def _journal(path: Path | None, job: dict[str, str | None]) -> Iterator[Journal]:
    if path is None:
        yield Journal()
        return
    with open_journal(path, job) as journal:
        yield journal


def _tell(output: Output, left: int, of: int, repeats: int, journal: Journal, ids: list[str]) -> None:
    if repeats:
        output.say(f"{repeats} were given more than once")
    if left < of:
        output.say(f"{of - left} of {of} were sent before; going on with {left}")
    if doubtful := journal.in_doubt & set(ids):
        output.warn(
            f"{len(doubtful)} were under way when the last run ended, and nobody can know whether SQS took them: they "
            "are sent again. A session that ends twice is a dead letter rejected_422 at worst."
        )


def _show(output: Output, left: list[str]) -> None:
    for one in left[:_SHOWN]:
        output.say(f"  {one}")
    if len(left) > _SHOWN:
        output.say(f"  … and {len(left) - _SHOWN} more")
    output.say(f"{len(left)} would be sent; nothing was", "bold")


def _send(
    context: typer.Context,
    output: Output,
    left: list[str],
    queue_url: str,
    journal: Journal,
    *,
    condition_text: str | None,
    path: Path | None,
) -> Sending:
    desk, before = desk_of(context), len(journal.sent)
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hint = "; repeat the command to go on where it stopped" if path is not None else ""
    try:
        # On the standard error: a bar is no data.
        with Progress(*columns, console=output.errors, disable=not output.errors.is_terminal) as bar:
            task = bar.add_task("sending", total=len(left))
            return send_all(
                desk.account.sqs,
                queue_url,
                left,
                unless_updated_since=parse_condition(condition_text),
                journal=journal,
                progress=lambda number: bar.advance(task, number),
            )
    except (ProblemError, KeyboardInterrupt):
        doubtful = len(journal.in_doubt & set(left))
        doubt = f", and {doubtful} more may have been: nobody can know" if doubtful else ""
        output.warn(f"{len(journal.sent) - before} of {len(left)} were sent{doubt}{hint}")
        raise
