"""`python -m tests.chaos`: thousands of ids through every trigger, while everything fails that can; then the books.

The same seed makes the same ids, messages, order of acts and times at which they are due, and lets the same fault meet
the n-th call of a method for an id. It does not fix what the operating system schedules: which process handles what,
what a process was doing when it was killed, how long a call took, the jitter of the function's own backoff, and hence
which call is the n-th. A replay is the same weather, not the same drops.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from rich.console import Console
from rich.markup import escape

from infra.local.processes import ProcessFailedError
from infra.local.stack import running_stack
from tests.chaos.plan import make_plan
from tests.chaos.report import show
from tests.chaos.run import ChaosRun
from tests.integration.world import World

# Longer than any invocation of the run lasts: what is still worked on must not be delivered again.
_VISIBILITY_SECONDS = 25
# Twice the longest backoff, which is what SQS can wait.
_PATIENCE_SECONDS = 1800


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--ids", type=int, default=3000, help="how many ids (default: 3000)")
    parser.add_argument("--seconds", type=float, default=150, help="how long to send and disturb (default: 150)")
    parser.add_argument("--seed", type=int, default=None, help="replays a run (default: a new one)")
    parser.add_argument("--kill-every", type=float, default=6, help="seconds between kills on average (default: 6)")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    plan = make_plan(seed, ids=arguments.ids, seconds=arguments.seconds, kill_every=arguments.kill_every)
    begun = time.monotonic()

    def progress(line: str) -> None:
        console.print(f"{time.monotonic() - begun:6.1f} s  {escape(line)}")

    progress(f"seed {seed}: {len(plan.subjects)} ids in {len(plan.messages)} messages, {len(plan.decoys)} decoys")
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
        console.print(f"interrupted (seed {seed}); everything that was started has ended")
        return 130
    return 0 if result.balanced else 1


if __name__ == "__main__":
    sys.exit(main())
