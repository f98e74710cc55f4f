"""What a person sees of a chaos run."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.chaos.plan import KINDS, Plan
from tests.chaos.reconciler import PLACES, Audit
from tests.chaos.run import Result

_NOWHERE = "misplaced"
_MOST_STORIES = 10


def show(console: Console, plan: Plan, result: Result) -> None:
    """Tables of places and disturbances, throughput, and the story of every id that is not where it should be."""
    console.print(_places("After the chaos", plan, result.first))
    title = f"After {result.letters_redriven} dead letters were sent back in {result.rounds} rounds"
    console.print(_places(title, plan, result.redriven))
    console.print(_disturbances(result))
    ids, calls, failed = len(plan.subjects), len(result.books.calls), _failed(plan, result)
    console.print(
        f"{ids} ids in {result.messages_sent} messages, {failed / len(plan.messages):.0%} of which the API failed at "
        f"least once, {calls} calls: sent in {result.seconds_to_send:.0f} s, all settled after "
        f"{result.seconds_to_drain:.0f} s ({ids / result.seconds_to_drain:.1f} ids/s)"
    )
    for audit in (result.first, result.redriven):
        for problem in audit.problems[:_MOST_STORIES]:
            console.print(f"[red]{escape(problem.name or '')} {escape(problem.what)}[/red]")
            for line in result.story(problem.name) if problem.name else ():
                console.print(f"    {escape(line)}")
        if len(audit.problems) > _MOST_STORIES:
            console.print(f"[red]… and {len(audit.problems) - _MOST_STORIES} more[/red]")
    balance = "[green]The books balance[/green]" if result.balanced else "[red]The books do not balance[/red]"
    console.print(f"[bold]{balance}[/bold]; once more: {plan.replay}")


def _failed(plan: Plan, result: Result) -> int:
    """Messages for one of whose ids a call went wrong."""
    failed = {call.session_id for call in result.books.calls if call.fault is not None}
    return sum(not failed.isdisjoint(message.ids) for message in plan.messages)


def _places(title: str, plan: Plan, audit: Audit) -> Table:
    numbers = Counter((kind, audit.places.get(name, _NOWHERE)) for name, kind in plan.subjects.items())
    columns = [place for place in [*PLACES, _NOWHERE] if any(other == place for _, other in numbers)]
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold")
    table.add_column("made as")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("all", justify="right")
    for kind in KINDS:
        row = [numbers[kind, column] for column in columns]
        table.add_row(kind, *(str(number or "") for number in row), str(sum(row)))
    sums = [sum(numbers[kind, column] for kind in KINDS) for column in columns]
    table.add_row("all", *map(str, sums), str(sum(sums)), style="bold")
    return table


def _disturbances(result: Result) -> Table:
    table = Table(title="\nWhat went wrong on purpose", title_justify="left", title_style="bold")
    table.add_column("disturbance")
    table.add_column("times", justify="right")
    counts = Counter(result.disturbances)
    for call in result.books.calls:
        if call.fault is not None:
            counts[f"API: {call.fault}" + (f" {call.status}" if call.fault == "answer" else "")] += 1
        elif not call.authorised:
            counts["API: key refused"] += 1
    for name, number in sorted(counts.items()):
        table.add_row(name, str(number))
    return table
