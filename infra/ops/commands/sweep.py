"""`sweep`: find stale sessions by a policy."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from infra.ops.cli_context import AsJson, CliContext, Yes, banner, confirm, context_of, stopped_since
from infra.ops.commands.source import piped, read_text
from infra.ops.deployment import Deployment
from infra.ops.output import Output, count
from infra.ops.problems import FoundError, UsageError
from infra.ops.sweeps import Policy, Report, StoppedError, load_policy
from infra.ops.sweeps import sweep as invoke
from stop_switch import SWITCH_CACHE_SECONDS


def sweep(
    ctx: typer.Context,
    policy: Annotated[
        str | None,
        typer.Argument(metavar="[POLICY]", help="JSON, a file, or - for a pipe; else the stack's own policy."),
    ] = None,
    stack_policy: Annotated[
        bool, typer.Option("--stack-policy", help="Use the stack's own policy; needed to enforce it.")
    ] = False,
    enforce: Annotated[
        bool, typer.Option("--enforce", help="Terminate what is chosen, after a dry run and a question.")
    ] = False,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart",
            metavar="FILE.html",
            help="Draw all sessions by idle time, and what the policy would choose, into this file. Dry.",
        ),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Run a policy and show its report. Dry unless --enforce is given, whatever the policy says."""
    output, context = Output(as_json=as_json, rows=True), context_of(ctx)
    banner(context, output)
    first = _policy(policy, context.deployment, stack_policy=stack_policy, enforce=enforce)
    output.say(f"policy {json.dumps(first)}")
    if chart is not None:
        if enforce:
            raise UsageError("--chart is dry; leave out --enforce")
        from infra.ops.chart import draw  # noqa: PLC0415 - it imports the API's client

        draw(output, context, first, chart)
        return
    if not enforce or not yes:
        report = _run(output, context, first | {"dry_run": True})
        _show(output, report, context.command)
        if not enforce or not report["chosen"]:
            output.data(report)
            return
        due, notices = len(report["due"]), len(report["to_announce"])
        more = " or more" if report["chosen"] > due + notices + len(report["waiting"]) else ""
        announced = f" and announce the termination of {notices}{more}" if notices else ""
        confirm(context, output, f"Terminate {count(due, 'session')}{more}{announced}?", yes=yes)
    report = _run(output, context, first | {"dry_run": False})
    output.data(report)
    _show(output, report, context.command)
    if report["mode"] != "enforce":
        raise FoundError("nothing was terminated: the stack was deployed with DryRun")


def _policy(given: str | None, deployment: Deployment, *, stack_policy: bool = False, enforce: bool = False) -> Policy:
    """The policy that was given as text, file or pipe, or else the stack's own: a pipe is never ignored."""
    if given is None and not stack_policy and (text := piped()).strip():
        return load_policy("the pipe", text)
    if given is None:
        if enforce and not stack_policy:
            raise UsageError("say which policy to enforce: JSON, a file, - for a pipe, or --stack-policy")
        own = deployment.parameters.get("SweepPolicy", "")
        return load_policy(f"the parameter SweepPolicy of {deployment.name}", own)
    if stack_policy:
        raise UsageError("give a policy or --stack-policy, not both")
    if not given.strip():
        raise UsageError("the policy is empty; is a variable not set?")
    if given.lstrip().startswith("{"):
        return load_policy("the policy", given)
    path = given.removeprefix("@")
    return load_policy(path, read_text(Path(path)))


def _run(output: Output, context: CliContext, policy: Policy) -> Report:
    function = context.deployment.output("SweepFunctionName")
    try:
        return invoke(context.account.invoker, function, policy)
    except StoppedError as stopped:
        output.data(stopped.report)
        with suppress(ClientError, BotoCoreError):
            if stopped_since(context) is None:
                output.warn(f"the stop switch says go by now: try again in {SWITCH_CACHE_SECONDS} s")
        raise
    except (KeyboardInterrupt, HTTPClientError):
        output.warn(f"the sweep may go on to its end without this command; see: {context.command} status")
        raise


def _show(output: Output, report: Report, command: str) -> None:
    if output.as_json:
        return
    kept = ", ".join(f"{number} {reason}" for reason, number in report["kept"].items())
    listing = "" if report["listing"] == "complete" else f" (the listing is not whole: {report['listing']})"
    output.say(f"{report['mode']}: {report['listed']} sessions listed{listing}; kept: {kept or 'none'}")
    rows = [
        (choice["session_id"], choice["updated_at"], then, "; ".join(choice["why"]))
        for key, then in (("due", "end"), ("to_announce", "announce"), ("waiting", "wait"))
        for choice in report[key]
    ]
    if rows:
        output.table("", ("session", "last updated", "then", "why"), rows)
    if report["chosen"] > len(rows):
        output.say(f"… and {report['chosen'] - len(rows)} more, which a report does not name")
    output.say(f"{report['chosen']} chosen, {report['enqueued']} enqueued, {report['announced']} announced", "bold")
    if report["enqueued"] and report.get("run"):
        output.say(f"to take them back: {command} withdraw --run {report['run']}; how: docs/operations.md#withdraw")
