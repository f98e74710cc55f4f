"""`python -m tests.chaos`: thousands of ids through every trigger, while everything fails that can; then the books.

For as many ids, seconds and kills, the same seed makes the same ids, messages, order of acts and times at which they
are due, and lets the same fault meet the n-th call of a method for an id. It does not fix what the operating system
schedules: which process handles what, what a process was doing when it was killed, how long a call took, the jitter of
the function's own backoff, and hence which call is the n-th. A replay is the same weather, not the same drops.
"""

import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.local.processes import ProcessFailedError
from infra.local.stack import running_stack
from tests.chaos.plan import Plan, make_plan
from tests.chaos.run import ChaosRun, Result
from tests.integration.world import World

# Twice the longest backoff, which is what SQS can wait.
_PATIENCE_SECONDS = 1800
_MOST_STORIES = 10


def show(console: Console, plan: Plan, result: Result) -> None:
    """Tables of places and disturbances, throughput, and the story of every id that is not where it should be."""
    for title, audit in (
        ("After the chaos", result.first),
        (f"After {result.letters_redriven} dead letters were sent back", result.redriven),
    ):
        kinds = plan.subjects.items()
        console.print(_table(title, Counter(f"{kind}: {audit.places.get(name, 'misplaced')}" for name, kind in kinds)))
        for problem in audit.problems[:_MOST_STORIES]:
            console.print(f"[red]{escape(problem.name or '')} {escape(problem.what)}[/red]")
            for line in result.story(problem.name) if problem.name else ():
                console.print(f"    {escape(line)}")
        console.print(f"{len(audit.problems)} problems")
    calls = result.books.calls
    faults = Counter(f"API: {one.fault} {one.status or ''}" for one in calls if one.fault)
    faults["API: key refused"] = sum(not one.authorised for one in calls)
    console.print(_table("What went wrong on purpose", result.disturbances + faults))
    failed = {one.session_id for one in calls if one.fault}
    share = sum(not failed.isdisjoint(message.ids) for message in plan.messages) / len(plan.messages)
    console.print(
        f"{len(plan.subjects)} ids in {len(plan.messages)} messages, {share:.0%} of which the API failed at least "
        f"once, {len(calls)} calls: sent in {result.seconds_to_send:.0f} s, all settled after "
        f"{result.seconds_to_drain:.0f} s ({len(plan.subjects) / result.seconds_to_drain:.1f} ids/s)"
    )


def _table(title: str, counts: Mapping[str, int]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", show_header=False)
    for name, number in sorted(counts.items()):
        table.add_row(name, str(number))
    return table


def main(seed: int | None = None, ids: int = 4500, seconds: float = 150, kill_every: float = 6) -> None:
    """Thousands of ids through every trigger, while everything fails that can; then the books."""
    plan = make_plan(secrets.randbelow(1_000_000) if seed is None else seed, ids, seconds, kill_every)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    begun = time.monotonic()

    def progress(line: str) -> None:
        console.print(f"{time.monotonic() - begun:6.1f} s  {escape(line)}")

    progress(f"{plan.replay}: {len(plan.subjects)} ids in {len(plan.messages)} messages, {len(plan.decoys)} decoys")
    try:
        with running_stack(progress=progress) as stack:
            result = ChaosRun(World(stack), plan, progress, _PATIENCE_SECONDS).run()
            show(console, plan, result)
    except ProcessFailedError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        console.print(f"interrupted; everything that was started has ended. Once more: {plan.replay}")
        sys.exit(130)
    balanced = not (result.first.problems or result.redriven.problems)
    verdict = "[green]The books balance[/green]" if balanced else "[red]The books do not balance[/red]"
    console.print(f"[bold]{verdict}[/bold]; once more: {plan.replay}")
    sys.exit(not balanced)


if __name__ == "__main__":
    typer.run(main)
