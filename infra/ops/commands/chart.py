"""`sweep --chart`: all sessions by idle time, and what a policy would choose. It reads, and ends nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from infra.ops.chart import COLUMNS, cells, page, renderer
from infra.ops.cli_context import CliContext, place_of, utc_now
from infra.ops.fleet import list_sessions, rejected_before, survey
from infra.ops.output import Output, count
from infra.ops.problems import UsageError
from infra.ops.snapshot import StackSnapshot
from infra.ops.sweeps import Policy


def draw(output: Output, context: CliContext, policy: Policy, path: Path) -> None:
    """Write the page, and show its table."""
    # A policy's own file might be named by mistake, and would be overwritten.
    if path.suffix != ".html" or not path.parent.is_dir():
        raise UsageError(f"--chart takes the name of an .html file in a directory that exists, not {path}")
    renderer()
    output.say("The key is read from the secret and used from this machine to list the sessions.")
    stack = StackSnapshot(context.account, context.deployment, utc_now, context.command)
    sessions, listing = list_sessions(stack, output.warn)
    rejected = rejected_before(stack, sessions, output.warn)
    now = utc_now()
    fleet = survey(sessions, listing, policy, now, protect_tag=stack.settings.protect_tag, rejected=rejected)
    path.write_text(page(fleet, policy, place_of(context), now, output.cell), encoding="utf-8")
    if listing != "complete":
        output.warn(f"the listing is not complete: {listing}")
    output.data({"chart": str(path)} | {name: value for name, value in asdict(fleet).items() if name != "points"})
    output.table("", COLUMNS, [cells(one) for one in fleet.thresholds])
    output.say(f"{count(len(fleet.points), 'session')} drawn in {path}; nothing was ended", "bold")
