"""`python -m tests.chaos`: thousands of ids through every trigger, while everything fails that can; then the books.

For as many ids, seconds and kills, the same seed makes the same ids, messages, order of acts and times at which they
are due, and lets the same fault meet the n-th call of a method for an id. It does not fix what the operating system
schedules: which process handles what, what a process was doing when it was killed, how long a call took, the jitter of
the function's own backoff, and hence which call is the n-th. A replay is the same weather, not the same drops.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from infra.local.processes import ProcessFailedError
from infra.local.stack import running_stack
from tests.chaos.plan import IDS, KILL_EVERY, LEAST_MESSAGES, SECONDS, make_plan
from tests.chaos.report import show
from tests.chaos.run import ChaosRun
from tests.integration.world import World

# Longer than any invocation of the run lasts: what is still worked on must not be delivered again.
_VISIBILITY_SECONDS = 25
# Twice the longest backoff, which is what SQS can wait.
_PATIENCE_SECONDS = 1800


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What a run is to be like; of the command line if nothing is given."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--ids", type=int, default=IDS, help="how many ids (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long to send and disturb (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=None, help="of a run, with the same other arguments (default: new)")
    parser.add_argument(
        "--kill-every", type=float, default=KILL_EVERY, help="seconds between kills on average (default: %(default)s)"
    )
    return parser.parse_args(given)


def main() -> int:
    wanted = arguments()
    seed = secrets.randbelow(1_000_000) if wanted.seed is None else wanted.seed
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    plan = make_plan(seed, ids=wanted.ids, seconds=wanted.seconds, kill_every=wanted.kill_every)
    begun = time.monotonic()

    def progress(line: str) -> None:
        console.print(f"{time.monotonic() - begun:6.1f} s  {escape(line)}")

    progress(f"{plan.replay}: {len(plan.subjects)} ids in {len(plan.messages)} messages, {len(plan.decoys)} decoys")
    try:
        with running_stack(progress=progress) as stack:
            result = ChaosRun(World(stack), plan, progress).run(
                visibility_seconds=_VISIBILITY_SECONDS, patience_seconds=_PATIENCE_SECONDS
            )
            show(console, plan, result)
    except ProcessFailedError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 1
    except KeyboardInterrupt:
        console.print(f"interrupted; everything that was started has ended. Once more: {plan.replay}")
        return 130
    if wanted.ids >= IDS and result.messages_sent <= LEAST_MESSAGES:
        console.print(f"[red]{result.messages_sent} messages are too few for a run of this size[/red]")
        return 1
    return 0 if result.balanced else 1


if __name__ == "__main__":
    sys.exit(main())
