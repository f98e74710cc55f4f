"""`withdraw`: take messages out of the work queue that were not meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from infra.ops.cli_context import AsJson, context_of, place_of, utc_now
from infra.ops.commands.dead_letters import To
from infra.ops.commands.source import Column, File, SessionIds, SkipInvalid, not_empty, read_ids
from infra.ops.dlq import Message, Peek, save
from infra.ops.output import Output, count
from infra.ops.problems import FoundError, UsageError
from infra.ops.sending import ids_in, send_all, without


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
            "--run", metavar="RUN", parser=not_empty, help="All that a sweep enqueued: the run in its report."
        ),
    ] = None,
    to: To = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it. Without this, say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take ids out of the work queue; dry unless --yes is given.

    These sessions are then not terminated. A message that asks for other sessions too stays for those. Each is written
    to a file first. Messages that the function has received, and delayed ones, cannot be seen, and after `stop` it
    goes on receiving them. So switch the event source mapping off before, wait 15 minutes, and switch it on afterwards:
    docs/operations.md#withdraw says how. Each look counts as a delivery of what it sees, and the fifth makes a dead
    letter.
    """
    output, context = Output(as_json=as_json), context_of(ctx)
    if run is not None and (session_ids or file is not None):
        raise UsageError("give ids or --run, not both")
    wanted: tuple[str, ...] = ()
    if run is None:
        wanted = read_ids(output, session_ids, file, csv_column, skip_invalid=skip_invalid).ids
    queue_url = context.deployment.work_queue_url
    with Peek(context.account.sqs, queue_url, output.warn) as look:
        found = [one for message in look.messages() if (one := _take(message, set(wanted), run)).session_ids]
        taken = sorted({session for one in found for session in one.session_ids})
        not_found = sorted(set(wanted) - set(taken))
        summary = {
            "sessions": len(taken),
            "messages": len(found),
            "rewritten": sum(bool(one.rest) for one in found),
            "session_ids": taken,
            "not_found": not_found,
            "not_seen": look.unseen,
        }
        output.some(taken)
        if not_found:
            output.warn(
                f"{len(not_found)} of the ids were not found; what became of the first: {context.command} explain "
                f"{not_found[0]}"
            )
        if look.unseen:
            output.warn(
                f"{count(look.unseen, 'message')} could not be looked at: in flight or delayed, visible again within "
                "15 minutes; repeat the command then, with the event source mapping off, or the function receives them "
                "first: docs/operations.md#withdraw"
            )
        if not look.complete:
            output.warn("there are more messages than could be looked at in one go; repeat the command")
        what = f"{count(len(taken), 'session')} in {count(len(found), 'message')} of {place_of(context)}"
        if not yes or not found:
            output.data(summary | {"withdrawn": 0})
            if found:
                output.say(f"{what}: nothing was withdrawn; --yes does it", "bold")
        else:
            path = to or Path(f"withdrawn-{context.deployment.name}-{utc_now():%Y%m%dT%H%M%SZ}.jsonl")
            look.check()
            save([{"session_ids": one.session_ids} | one.message.as_copy() for one in found], path)
            # If this fails, no message is deleted: some ids are there twice, which terminates nothing else.
            rest = [
                (one.message.message_id, one.message.sent_again(body, with_tries=True))
                for one in found
                for body in one.rest
            ]
            if refused := send_all(context.account.sqs, queue_url, rest):
                raise FoundError(f"SQS refused {len(refused)} messages without the ids; nothing was withdrawn")
            look.delete_copied([one.message for one in found], path)
            output.data(summary | {"withdrawn": len(taken), "file": str(path)})
            output.say(f"{what}: withdrawn; a copy of each message is in {path}", "bold")
    if not found:
        which = "none of the messages that could be seen" if look.unseen or not look.complete else "no message"
        raise FoundError(f"{place_of(context)}: {which} asks for them")


def _take(message: Message, wanted: set[str], run: str | None) -> _Withdrawal:
    """The wanted ids of a message, or all of one that this run of the sweep enqueued."""
    if run is None:
        return _Withdrawal(message, *without(message.body, wanted))
    ours = message.attributes.get("source") == "sweep" and message.attributes.get("sweep_run") == run
    return _Withdrawal(message, ids_in(message.body) if ours else ())
