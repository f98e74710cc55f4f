"""`make demo`: the whole stack, a realistic mix of messages, and an account of every one of them.

What the table says comes from the function's own log; what the account is checked against does not: the stand-in's
sessions and the queues.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.local import dead_letters
from infra.local.dead_letters import DeadLetter
from infra.local.fake_devin.faults import html_error
from infra.local.processes import ProcessFailedError
from infra.local.stack import Stack, running_stack

DETAIL_TYPE = "Devin Session Termination Requested"
# Made up, as the one that the stack starts with.
NEW_KEY = "apk_user_rotated-0123456789abcdef"
# How long the queue may take to drain before the demo gives up and says what is missing.
PATIENCE_SECONDS = 90.0
COLOURS = {
    "terminated": "green", "already_exited": "green", "spared": "cyan",
    "rejected": "red", "invalid": "red",
    "retry": "yellow", "unauthorized": "yellow", "forbidden": "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sent:
    """Something that was sent: the id it names (or its text, where it names none), how, and where it should end."""

    subject: str
    trigger: str
    expected: str


@dataclass(frozen=True, slots=True)
class Account:
    """Where everything is: ids by what the API and the queues say of them."""

    exited: frozenset[str]
    letters: tuple[DeadLetter, ...]
    queued: int

    def place(self, sent: Sent, outcome: str | None) -> str | None:
        """Where it ended, or None if that cannot be said or it is in two places at once."""
        places = []
        if sent.subject in self.exited and outcome in {"terminated", "already_exited"}:
            places.append("ended at the API")
        if any(letter.attributes.get("session_id", letter.body) == sent.subject for letter in self.letters):
            places.append("dead-letter queue")
        if outcome == "spared" and sent.subject not in self.exited:
            places.append("alive, as it should be")
        return places[0] if len(places) == 1 else None


class Demo:
    """One run of the demo against a deployed stack."""

    def __init__(self, stack: Stack, console: Console) -> None:
        self._stack = stack
        self._console = console
        self._sent: list[Sent] = []
        self._shown = 0
        self._started = time.monotonic()

    def run(self) -> bool:
        """Send, watch, account, redrive; says whether every id is accounted for."""
        self._console.print("\n[bold]Sending[/bold]")
        self._send_everyday_work()
        self._send_trouble()
        self._drain(len(self._sent))
        self._console.print("\n[bold]The key is rotated: the API knows only the new one from now on[/bold]")
        self._rotate_key()
        self._drain(len(self._sent))
        swept = self._sweep()

        account = self._account()
        accounted = self._show_table(account)
        self._show_letters(account.letters)
        accounted &= swept
        accounted &= self._mend_and_redrive(account.letters)
        verdict = "[green]Every id is accounted for.[/green]" if accounted else "[red]Ids are unaccounted for.[/red]"
        self._console.print(f"\n[bold]{verdict}[/bold]")
        return accounted

    def _send_everyday_work(self) -> None:
        bare = "0123456789abcdef0123456789abcdef"
        ids = [f"devin-idle-{number}" for number in range(1, 9)]
        self._stack.api.add_sessions(*ids, f"devin-{bare}", "devin-from-the-bus-1", "devin-from-the-bus-2")
        self._stack.api.add_sessions("devin-called-directly")
        for session_id in ids[:4]:
            self._queue(session_id, session_id)
        self._queue(f"https://app.devin.ai/sessions/{ids[4]}", ids[4])
        self._queue(bare, f"devin-{bare}")
        self._queue(json.dumps({"session_ids": ids[5:]}), *ids[5:])
        self._bus("devin-from-the-bus-1", "devin-from-the-bus-2")
        payload = json.dumps({"session_id": "devin-called-directly"}).encode()
        self._stack.aws.lambda_.invoke(FunctionName=self._stack.terminate_function_name, Payload=payload)
        self._note("direct invocation", "terminated", "devin-called-directly")

    def _send_trouble(self) -> None:
        api = self._stack.api
        api.add_sessions("devin-exited-long-ago", status="exit")
        self._queue("devin-exited-long-ago", "devin-exited-long-ago", expected="rejected")
        self._queue("devin-of-another-organisation", "devin-of-another-organisation", expected="rejected")

        api.add_sessions("devin-api-stumbles-1", "devin-api-stumbles-2")
        for session_id in ("devin-api-stumbles-1", "devin-api-stumbles-2"):
            api.script(html_error(503), session_id=session_id, method="DELETE", times=2)
        self._queue("devin-api-stumbles-1", "devin-api-stumbles-1")
        self._bus("devin-api-stumbles-2")

        listed = datetime.now(UTC) - timedelta(hours=7)
        api.add_sessions("devin-fell-asleep", "devin-woke-up", created_at=listed, updated_at=listed)
        api.wake("devin-woke-up")
        for session_id, expected in (("devin-fell-asleep", "terminated"), ("devin-woke-up", "spared")):
            condition = {"session_id": session_id, "unless_updated_since": listed.isoformat()}
            self._queue(json.dumps(condition), session_id, expected=expected)

        for body in ("please end devin-idle-1", '{"session_id": "devin-idle-1", "unless_updated_sinse": "2026-11-24"}'):
            self._queue(body, body, expected="invalid")

    def _rotate_key(self) -> None:
        self._stack.api.add_sessions("devin-after-the-rotation")
        self._stack.api.set_keys([NEW_KEY])
        self._stack.put_api_key(NEW_KEY)
        self._queue("devin-after-the-rotation", "devin-after-the-rotation")

    def _sweep(self) -> bool:
        """Find stale sessions by policy: first dry, then for real, while one of them wakes up on the way."""
        self._console.print("\n[bold]A sweep: nobody has a list of ids, a policy finds them[/bold]")
        long_ago = datetime.now(UTC) - timedelta(days=2)
        api = self._stack.api
        stale = ["devin-nightly-1", "devin-nightly-2", "devin-nightly-wakes-up"]
        api.add_sessions(*stale, tags=("nightly",), created_at=long_ago, updated_at=long_ago)
        api.add_sessions("devin-nightly-protected", tags=("nightly", "keep"), created_at=long_ago, updated_at=long_ago)
        api.add_sessions("devin-nightly-busy", tags=("nightly",), created_at=long_ago, updated_at=datetime.now(UTC))
        policy: dict[str, Any] = {"idle_for": "PT6H", "tags": ["nightly"]}

        dry = self._invoke_sweep(policy)
        self._show_sweep(policy, dry)
        # With the queue held up for a moment, a session can wake up after it was listed and before its turn.
        with self._stack.work_queue_held():
            policy["dry_run"] = False
            real = self._invoke_sweep(policy)
            self._show_sweep(policy, real)
            api.wake("devin-nightly-wakes-up")
            self._console.print("  devin-nightly-wakes-up is used again, before the queue gets to it")
        self._sent += [Sent(session_id, "sweep", "terminated") for session_id in stale[:2]]
        self._sent.append(Sent(stale[2], "sweep", "spared"))
        self._drain(len(self._sent))
        untouched = not any(api.session(f"devin-nightly-{name}").exited for name in ("protected", "busy"))
        chosen = [choice["session_id"] for choice in dry.get("due", [])]
        return untouched and chosen == stale and dry["enqueued"] == 0 and real["enqueued"] == len(stale)

    def _invoke_sweep(self, policy: dict[str, Any]) -> dict[str, Any]:
        answer = self._stack.aws.lambda_.invoke(
            FunctionName=self._stack.sweep_function_name, Payload=json.dumps(policy).encode()
        )
        report: dict[str, Any] = json.loads(answer["Payload"].read())
        return report

    def _show_sweep(self, policy: dict[str, Any], report: dict[str, Any]) -> None:
        self._console.print(f"  policy    {escape(json.dumps(policy))}")
        if "errorMessage" in report:
            self._console.print(f"  [red]{escape(report['errorMessage'])}[/red]")
            return
        kept = ", ".join(f"{number} {reason}" for reason, number in report["kept"].items())
        self._console.print(f"  {report['mode']:<9} {report['listed']} listed; kept: {escape(kept)}")
        for choice in report["due"]:
            self._console.print(f"            chosen {choice['session_id']}: {escape('; '.join(choice['why']))}")
        self._console.print(f"            {report['enqueued']} enqueued")

    def _queue(self, body: str, *subjects: str, expected: str = "terminated") -> None:
        self._stack.aws.sqs.send_message(QueueUrl=self._stack.work_queue_url, MessageBody=body)
        self._note("queue", expected, *subjects)

    def _bus(self, *session_ids: str) -> None:
        detail = json.dumps({"session_ids": session_ids})
        self._stack.aws.events.put_events(Entries=[{"Source": "demo", "DetailType": DETAIL_TYPE, "Detail": detail}])
        self._note("event bus", "terminated", *session_ids)

    def _note(self, trigger: str, expected: str, *subjects: str) -> None:
        self._sent += [Sent(subject, trigger, expected) for subject in subjects]
        self._console.print(f"  {trigger:<17} {escape(', '.join(subjects))}")

    def _drain(self, expected: int) -> None:
        """Show what the function logs until so many things have come to an end and the work queue is empty."""
        self._console.print("\n[bold]Draining[/bold]")
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            entries = self._entries()
            for entry in entries[self._shown :]:
                self._show_entry(entry)
            self._shown = len(entries)
            ended = sum(1 for entry in entries if "retry_in_seconds" not in entry)
            if ended >= expected and self._waiting() == 0:
                return
            time.sleep(0.25)

    def _entries(self) -> list[dict[str, Any]]:
        return [entry for entry in self._stack.log_entries() if "outcome" in entry]

    def _show_entry(self, entry: dict[str, Any]) -> None:
        after = f"{time.monotonic() - self._started:5.1f} s"
        colour = COLOURS.get(entry["outcome"], "white")
        what = entry.get("session_id", "(no session id)")
        more = entry.get("detail", "")
        if "retry_in_seconds" in entry:
            more = f"again in {entry['retry_in_seconds']} s: {more}"
        self._console.print(f"  {after}  [{colour}]{entry['outcome']:<14}[/{colour}] {escape(what)}", end="")
        self._console.print(f"  [dim]{escape(' '.join(more.split())[:70])}[/dim]" if more else "", highlight=False)

    def _waiting(self) -> int:
        attributes = self._stack.aws.sqs.get_queue_attributes(
            QueueUrl=self._stack.work_queue_url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )
        return sum(int(number) for number in attributes["Attributes"].values())

    def _account(self) -> Account:
        sessions = self._stack.api.sessions()
        # Ended by us: one that had exited before is no success of ours.
        ended = {call.session_id for call in self._stack.api.calls() if call.ended}
        return Account(
            exited=frozenset(
                session.session_id for session in sessions if session.exited and session.session_id in ended
            ),
            letters=tuple(self._letters()),
            queued=self._waiting(),
        )

    def _letters(self) -> list[DeadLetter]:
        return dead_letters.receive_all(self._stack.aws.sqs, self._stack.dead_letter_queue_url, hidden_seconds=2)

    def _outcomes(self) -> Iterator[tuple[Sent, str | None, int]]:
        """Each thing sent with its last outcome and how often it was tried."""
        entries = self._entries()
        invalid = iter(entry for entry in entries if "session_id" not in entry)
        for sent in self._sent:
            if sent.expected == "invalid":
                mine = [entry for entry in [next(invalid, None)] if entry is not None]
            else:
                mine = [entry for entry in entries if entry.get("session_id") == sent.subject]
            yield sent, mine[-1]["outcome"] if mine else None, len(mine)

    def _show_table(self, account: Account) -> bool:
        table = Table(title="\nWhat became of everything", title_justify="left", title_style="bold", expand=False)
        for column in ("id", "trigger", "outcome", "attempts", "where it ended"):
            table.add_column(column, justify="right" if column == "attempts" else "left", overflow="fold")
        accounted = account.queued == 0
        tally: Counter[str] = Counter()
        for sent, outcome, attempts in self._outcomes():
            place = account.place(sent, outcome)
            fine = place is not None and outcome == sent.expected
            accounted &= fine
            tally[place or "unaccounted for"] += 1
            colour = COLOURS.get(outcome or "", "white")
            where = place or "[red]unaccounted for[/red]"
            shown = outcome or "nothing logged"
            if outcome != sent.expected:
                shown += f" (expected {sent.expected})"
            table.add_row(escape(sent.subject), sent.trigger, f"[{colour}]{shown}[/{colour}]", str(attempts), where)
        self._console.print(table)
        sums = ", ".join(f"{number} {place}" for place, number in tally.items())
        self._console.print(f"{len(self._sent)} sent = {sums}, {account.queued} in the work queue")
        return accounted

    def _show_letters(self, letters: Iterable[DeadLetter]) -> None:
        table = Table(title="\nDead letters", title_justify="left", title_style="bold")
        for column in ("body", "reason", "detail"):
            table.add_column(column, overflow="fold")
        for letter in sorted(letters, key=lambda letter: letter.attributes.get("reason", "")):
            detail = letter.attributes.get("detail", "")
            table.add_row(escape(letter.body), letter.attributes.get("reason", ""), escape(detail))
        self._console.print(table)

    def _mend_and_redrive(self, letters: Iterable[DeadLetter]) -> bool:
        """Give the unknown session to the organisation, send its dead letter back, and see it end."""
        session_id = "devin-of-another-organisation"
        self._console.print(
            f"\n[bold]The cause of one is mended: {session_id} is there now. Its letter goes back.[/bold]"
        )
        self._stack.api.add_sessions(session_id)
        give_up = time.monotonic() + PATIENCE_SECONDS
        # What was looked at is hidden for a moment, and its old receipt may not delete it any more.
        while not (mine := [one for one in self._letters() if one.attributes.get("session_id") == session_id]):
            if time.monotonic() > give_up:
                self._console.print("[red]its dead letter is gone[/red]")
                return False
            time.sleep(0.25)
        dead_letters.redrive(
            self._stack.aws.sqs,
            mine[0],
            dead_letter_queue_url=self._stack.dead_letter_queue_url,
            work_queue_url=self._stack.work_queue_url,
        )
        self._drain(len(self._sent) + 1)
        ended = self._stack.api.session(session_id).exited
        left = self._dead_letter_count()
        expected = sum(1 for _ in letters) - 1
        self._console.print(f"  {session_id} has {'ended' if ended else 'not ended'}; {left} dead letters are left")
        return ended and left == expected

    def _dead_letter_count(self) -> int:
        """How many there are, once none is hidden by a look at it."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            numbers = self._stack.aws.sqs.get_queue_attributes(
                QueueUrl=self._stack.dead_letter_queue_url,
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )["Attributes"]
            if numbers["ApproximateNumberOfMessagesNotVisible"] == "0" or time.monotonic() > give_up:
                return int(numbers["ApproximateNumberOfMessages"])
            time.sleep(0.1)


def main() -> int:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)  # a log has no width; 80 would break every row
    started = time.monotonic()
    console.print("[bold]Setting up[/bold]")
    try:
        with running_stack(progress=lambda line: console.print(f"  {escape(line)}")) as stack:
            accounted = Demo(stack, console).run()
    except ProcessFailedError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        for note in getattr(error, "__notes__", ()):
            console.print(escape(note))
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started has ended")
        return 130
    console.print(f"{time.monotonic() - started:.0f} s; everything that was started has ended")
    return 0 if accounted else 1


if __name__ == "__main__":
    sys.exit(main())
