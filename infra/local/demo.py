"""`make demo`: the whole stack, a realistic mix of messages, and what became of every one of them.

The table's outcomes come from the function's log. They are checked against the fake API's sessions and the queues.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.local.fake_devin.faults import html_error
from infra.local.processes import ProcessFailedError
from infra.local.stack import Stack, running_stack

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

# Made up, as the one that the stack starts with.
NEW_KEY = "apk_user_rotated-0123456789abcdef"
# A message that names no session; it is its own name in the table.
NO_ID = "please end devin-idle-1"
PATIENCE_SECONDS = 90
COLOURS = {
    "terminated": "green", "already_exited": "green", "spared": "cyan", "rejected": "red", "invalid": "red",
    "retry": "yellow", "unauthorized": "yellow", "forbidden": "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """Something that was sent: the id it names (or its text, where it names none), how, and its expected outcome."""

    subject: str
    trigger: str
    expected: str = "terminated"


class Demo:
    """One run of the demo against a deployed stack."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self._stack, self._api, self._sqs = stack, stack.api, stack.aws.sqs
        self._console = console
        self._sent: list[Sent] = []
        self._shown = 0
        self._started = time.monotonic()

    def run(self) -> bool:
        """Send, watch, compare, redrive; says whether every id ended where it should."""
        self._heading("Sending")
        self._send()
        self._drain()
        self._heading("The key is rotated: from now on the API accepts only the new one")
        self._rotate_key()
        swept = self._sweep()
        letters = self._dead_letters()
        complete = self._show_outcomes(letters)
        self._show_letters(letters)
        complete &= self._redrive(letters) and swept
        verdict = "[green]Every id is accounted for.[/green]" if complete else "[red]Ids are unaccounted for.[/red]"
        self._console.print(f"\n[bold]{verdict}[/bold]")
        return complete

    def _send(self) -> None:
        bare = "0123456789abcdef" * 2
        ids = [f"devin-idle-{number}" for number in range(1, 6)]
        failing = ["devin-api-fails-1", "devin-api-fails-2"]
        self._api.add_sessions(*ids, f"devin-{bare}", "devin-from-an-event", *failing)
        self._api.add_sessions("devin-exited-long-ago", status="exit")
        for session_id in failing:
            self._api.script(html_error(503), session_id=session_id, operation="terminate", times=1)
        listed = datetime.now(UTC) - timedelta(hours=7)
        self._api.add_sessions("devin-still-idle", "devin-used-again", created_at=listed, updated_at=listed)
        self._api.wake("devin-used-again")
        condition = {"unless_updated_since": listed.isoformat()}
        queued = [  # body, expected outcome, what it names
            (ids[0], "terminated", ids[:1]),
            (f"https://app.devin.ai/sessions/{ids[1]}", "terminated", ids[1:2]),
            (bare, "terminated", [f"devin-{bare}"]),
            (json.dumps({"session_ids": ids[2:]}), "terminated", ids[2:]),
            ("devin-exited-long-ago", "rejected", ["devin-exited-long-ago"]),
            ("devin-unknown", "rejected", ["devin-unknown"]),
            (failing[0], "terminated", failing[:1]),
            (json.dumps({"session_id": "devin-still-idle", **condition}), "terminated", ["devin-still-idle"]),
            (json.dumps({"session_id": "devin-used-again", **condition}), "spared", ["devin-used-again"]),
            (NO_ID, "invalid", [NO_ID]),
        ]
        # At once: each delivery of its own would start an execution environment of its own.
        self._sqs.send_message_batch(
            QueueUrl=self._stack.work_queue_url,
            Entries=[{"Id": str(number), "MessageBody": body} for number, (body, *_) in enumerate(queued)],
        )
        self._note(*(Sent(subject, "queue", expected) for _, expected, named in queued for subject in named))
        detail = {"session_ids": ["devin-from-an-event", failing[1]]}
        event = {"Source": "team.cleanup", "DetailType": "Devin Session Termination Requested"}
        self._stack.aws.events.put_events(Entries=[{**event, "Detail": json.dumps(detail)}])  # type: ignore[typeddict-item]
        self._note(*(Sent(session_id, "event") for session_id in detail["session_ids"]))

    def _rotate_key(self) -> None:
        self._api.add_sessions("devin-after-the-rotation", "devin-called-directly")
        self._api.set_keys([NEW_KEY])
        self._stack.put_api_key(NEW_KEY)
        self._sqs.send_message(QueueUrl=self._stack.work_queue_url, MessageBody="devin-after-the-rotation")
        self._note(Sent("devin-after-the-rotation", "queue"))
        self._drain()
        self._invoke(self._stack.terminate_function_name, {"session_id": "devin-called-directly"})
        self._note(Sent("devin-called-directly", "direct invocation"))
        self._drain()

    def _sweep(self) -> bool:
        """Find stale sessions by policy: first dry, then for real, while one of them is used again."""
        self._heading("A sweep finds sessions by a policy")
        old = datetime.now(UTC) - timedelta(days=2)
        stale = ["devin-nightly-1", "devin-nightly-2", "devin-nightly-used"]
        kept = ["devin-nightly-protected", "devin-nightly-busy"]
        self._api.add_sessions(*stale, tags=("nightly",), created_at=old, updated_at=old)
        self._api.add_sessions(kept[0], tags=("nightly", "keep"), created_at=old, updated_at=old)
        self._api.add_sessions(kept[1], tags=("nightly",), created_at=old, updated_at=datetime.now(UTC))
        policy: dict[str, Any] = {"idle_for": "PT6H", "tags": ["nightly"]}
        dry = self._invoke_sweep(policy)
        # With the queue held up for a moment, a session can be used after it was listed and before its turn.
        with self._stack.work_queue_held():
            real = self._invoke_sweep({**policy, "dry_run": False})
            self._api.wake(stale[2])
            self._say(f"{stale[2]} is used again before the queue delivers its message")
        self._sent += [Sent(stale[0], "sweep"), Sent(stale[1], "sweep"), Sent(stale[2], "sweep", "spared")]
        self._drain()
        untouched = not any(self._api.session(session_id).exited for session_id in kept)
        return untouched and dry["enqueued"] == 0 and real["enqueued"] == len(stale)

    def _invoke_sweep(self, policy: dict[str, Any]) -> Any:
        report = self._invoke(self._stack.sweep_function_name, policy)
        kept = ", ".join(f"{number} {reason}" for reason, number in report["kept"].items())
        self._say(f"policy  {json.dumps(policy)}")
        self._say(f"{report['mode']}: {report['listed']} listed; kept: {kept}")
        for one in report["due"]:
            self._say(f"  chosen {one['session_id']}: {'; '.join(one['why'])}")
        self._say(f"  {report['enqueued']} enqueued")
        return report

    def _invoke(self, function_name: str, payload: dict[str, Any]) -> Any:
        answer = self._stack.aws.lambda_.invoke(FunctionName=function_name, Payload=json.dumps(payload))
        return json.loads(answer["Payload"].read())

    def _say(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False)

    def _heading(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/bold]")

    def _note(self, *sent: Sent) -> None:
        self._sent += sent
        for one in sent:
            self._say(f"{one.trigger:<17} {one.subject}")

    def _drain(self, redriven: int = 0) -> None:
        """Show outcomes as they are logged, until all are final and the queue is empty."""
        expected = len(self._sent) + redriven
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            entries = self._entries()
            for entry in entries[self._shown :]:
                self._show_entry(entry)
            self._shown = len(entries)
            final = sum("retry_in_seconds" not in entry for entry in entries)
            if final >= expected and self._stack.count(self._stack.work_queue_url) == 0:
                return
            time.sleep(0.2)

    def _entries(self) -> list[dict[str, Any]]:
        return [entry for entry in self._stack.log_entries() if "outcome" in entry]

    def _show_entry(self, entry: dict[str, Any]) -> None:
        colour = COLOURS.get(entry["outcome"], "white")
        detail = " ".join(entry.get("detail", "").split())
        if "retry_in_seconds" in entry:
            detail = f"again in {entry['retry_in_seconds']} s: {detail}"
        line = f"  {time.monotonic() - self._started:5.1f} s  [{colour}]{entry['outcome']:<14}[/{colour}] "
        self._console.print(line + f"{escape(entry.get('session_id', '(no id)'))}  [dim]{escape(detail[:60])}[/dim]")

    def _dead_letters(self) -> list[MessageTypeDef]:
        """All dead letters, which are fewer than ten and stay in the queue."""
        return self._sqs.receive_message(
            QueueUrl=self._stack.dead_letter_queue_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=PATIENCE_SECONDS,
            MessageAttributeNames=["All"],
        )["Messages"]

    def _show_outcomes(self, letters: list[MessageTypeDef]) -> bool:
        """A row for everything that was sent; says whether all of it ended as expected, and in one place."""
        table = _table("What became of everything", "id", "trigger", "outcome", "attempts", "where it is now")
        entries = self._entries()
        complete = self._stack.count(self._stack.work_queue_url) == 0
        for sent in self._sent:
            mine = [entry for entry in entries if entry.get("session_id", NO_ID) == sent.subject]
            outcome = mine[-1]["outcome"] if mine else "nothing logged"
            places = self._places(sent, letters)
            fine = outcome == sent.expected and len(places) == 1
            complete &= fine
            colour = COLOURS.get(outcome, "white") if fine else "red"
            where = " and ".join(places) or "unaccounted for"
            table.add_row(escape(sent.subject), sent.trigger, f"[{colour}]{outcome}[/]", str(len(mine)), where)
        self._console.print(table)
        return complete

    def _places(self, sent: Sent, letters: list[MessageTypeDef]) -> list[str]:
        places = []
        if any(call.ended and call.session_id == sent.subject for call in self._api.calls()):
            places.append("ended")
        if any((_attribute(letter, "session_id") or letter["Body"]) == sent.subject for letter in letters):
            places.append("dead-letter queue")
        if sent.expected == "spared" and not self._api.session(sent.subject).exited:
            places.append("still running")
        return places

    def _show_letters(self, letters: list[MessageTypeDef]) -> None:
        table = _table("Dead letters", "body", "reason", "detail")
        for letter in letters:
            table.add_row(*map(escape, (letter["Body"], _attribute(letter, "reason"), _attribute(letter, "detail"))))
        self._console.print(table)

    def _redrive(self, letters: list[MessageTypeDef]) -> bool:
        """Remove the cause of one dead letter, send it back, and see its session end."""
        session_id = "devin-unknown"
        self._heading(f"{session_id} exists now. Its dead letter goes back to the work queue.")
        self._api.add_sessions(session_id)
        work, url = self._stack.work_queue_url, self._stack.dead_letter_queue_url
        (letter,) = (one for one in letters if _attribute(one, "session_id") == session_id)
        attributes: Any = letter["MessageAttributes"]
        self._sqs.send_message(QueueUrl=work, MessageBody=letter["Body"], MessageAttributes=attributes)
        # Only then taken out: if this is cut short, it is in both queues.
        self._sqs.delete_message(QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"])
        self._drain(redriven=1)
        left = self._stack.count(url)
        self._say(f"{left} dead letters are left")
        return self._api.session(session_id).exited and left == len(letters) - 1


def _attribute(letter: MessageTypeDef, name: str) -> str:
    attributes: Any = letter.get("MessageAttributes", {})
    return str(attributes[name]["StringValue"]) if name in attributes else ""


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column == "attempts" else "left", overflow="fold")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.local.demo", description=__doc__)
    parser.add_argument("--save", type=Path, metavar="SVG", help="save what it prints as a picture")
    save: Path | None = parser.parse_args().save
    # A log has no width; 80 would break every row.
    console = Console(highlight=False, record=save is not None, width=None if sys.stdout.isatty() and not save else 130)
    started = time.monotonic()
    try:
        console.print("[bold]Setting up[/bold]")
        with running_stack(lambda line: console.print(f"  {escape(line)}")) as stack:
            complete = Demo(stack, console).run()
        console.print(f"{time.monotonic() - started:.0f} s; everything that was started has ended")
    except ProcessFailedError as error:
        console.print(f"[red]{escape('\n'.join([str(error), *getattr(error, '__notes__', ())]))}[/red]")
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started has ended")
        return 130
    if save is not None:
        # Without the font that it would fetch from elsewhere.
        picture = re.sub(
            r"@font-face \{.*?\}", "", console.export_svg(title="make demo", unique_id="demo"), flags=re.DOTALL
        )
        save.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
