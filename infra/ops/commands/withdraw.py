"""`withdraw`: take messages out of the work queue that were not meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.ops.cli_context import AsJson, context_of, place_of, utc_now
from infra.ops.commands.dead_letters import To
from infra.ops.commands.source import Column, File, SessionIds, SkipInvalid, read_ids
from infra.ops.dlq import Message, Peek, save
from infra.ops.output import Output, count
from infra.ops.problems import FoundError, UsageError
from infra.ops.sending import ids_in, send_all, without
from infra.ops.time_args import parse_instant

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\D")  # a request id has eight digits or letters before its first dash


@dataclass(frozen=True, slots=True)
class _Withdrawal:
    """A message, the ids to withdraw from it, and bodies that ask for the rest of it."""

    message: Message
    session_ids: Sequence[str]
    rest: Sequence[str] = ()


def withdraw(
    ctx: typer.Context,
    session_ids: SessionIds = None,
    file: File = None,
    csv_column: Column = None,
    skip_invalid: SkipInvalid = False,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="All that a sweep enqueued: the run in its report; or, since a time, all sweeps.",
        ),
    ] = None,
    to: To = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it. Without this, say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take messages out of the work queue, so that these sessions are not terminated. Dry unless --yes is given.

    A message that asks for other sessions too stays for those. Each is written to a file first. Messages that the
    function is handling, and delayed ones, cannot be seen: run `stop` before, and repeat the command after 15 minutes.
    Each look counts as a delivery of what it sees, and the fifth makes a dead letter.
    """
    output, context = Output(as_json=as_json), context_of(ctx)
    if run is not None and (session_ids or file is not None):
        raise UsageError("give ids or --run, not both")
    wanted: tuple[str, ...] = ()
    if run is None:
        wanted = read_ids(output, session_ids, file, csv_column, skip_invalid=skip_invalid).ids
    take = _of_sweep(run) if run is not None else _of_ids(wanted)
    queue_url = context.deployment.work_queue_url
    with Peek(context.account.sqs, queue_url, output.warn) as look:
        found = [one for message in look.messages() if (one := take(message)) is not None]
        summary = _summary(found, look, wanted)
        _show(output, summary, look)
        what = f"{count(summary['sessions'], 'session')} in {count(len(found), 'message')} of {place_of(context)}"
        if not yes or not found:
            output.data(summary | {"withdrawn": 0})
            output.say(f"{what}: nothing was withdrawn{'' if yes else '; --yes does it'}", "bold")
        else:
            path = to or Path(f"withdrawn-{context.deployment.name}-{utc_now():%Y%m%dT%H%M%SZ}.jsonl")
            look.check()
            save([{"session_ids": one.session_ids} | one.message.as_copy() for one in found], path)
            _rewrite(found, context.account.sqs, queue_url)
            look.delete_copied([one.message for one in found], path)
            output.data(summary | {"withdrawn": summary["sessions"], "file": str(path)})
            output.say(f"{what}: withdrawn; a copy of each message is in {path}", "bold")
    if not found:
        raise FoundError("no message asks for them")


def _summary(found: Sequence[_Withdrawal], look: Peek, wanted: Sequence[str]) -> dict[str, Any]:
    session_ids = sorted({one for each in found for one in each.session_ids})
    return {
        "sessions": len(session_ids),
        "messages": len(found),
        "rewritten": sum(1 for one in found if one.rest),
        "session_ids": session_ids,
        "not_found": sorted(set(wanted) - set(session_ids)),
        "not_seen": look.unseen,
    }


def _show(output: Output, summary: Mapping[str, Any], look: Peek) -> None:
    output.some(summary["session_ids"])
    if summary["not_found"]:
        output.warn(f"{len(summary['not_found'])} of the ids were not found; what became of one: devin-ops explain ID")
    if look.unseen:
        output.warn(
            f"{count(look.unseen, 'message')} could not be looked at: in flight or delayed, visible again within 15 "
            "minutes; repeat the command then"
        )
    if not look.complete:
        output.warn("there are more messages than could be looked at in one go; repeat the command")


def _of_ids(session_ids: Sequence[str]) -> Callable[[Message], _Withdrawal | None]:
    wanted = set(session_ids)

    def take(message: Message) -> _Withdrawal | None:
        found, rest = without(message.body, wanted)
        return _Withdrawal(message, found, rest) if found else None

    return take


def _of_sweep(run: str) -> Callable[[Message], _Withdrawal | None]:
    """Whole messages that this run enqueued, or any since this time. Raises UsageError for an empty one."""
    if not run.strip():
        raise UsageError("--run is empty; is a variable not set?")
    since = parse_instant(run) if _DATE.match(run) else None

    def take(message: Message) -> _Withdrawal | None:
        if message.attributes.get("source") != "sweep":
            return None
        if since is None:
            ours = message.attributes.get("sweep_run") == run
        else:
            ours = message.sent_at is not None and message.sent_at >= since
        return _Withdrawal(message, ids_in(message.body)) if ours else None

    return take


def _rewrite(found: Sequence[_Withdrawal], sqs: SQSClient, queue_url: str) -> None:
    """Send what is left of the messages. Raises what ended it: then no message is deleted, and some are there twice,
    which terminates nothing else."""
    messages = [
        (one.message.message_id, one.message.sent_again(body, with_tries=True)) for one in found for body in one.rest
    ]
    sending = send_all(sqs, queue_url, messages)
    if sending.error is not None:
        raise sending.error
    if sending.refused:
        raise FoundError(f"SQS refused to take {len(sending.refused)} messages without the ids; nothing was withdrawn")
