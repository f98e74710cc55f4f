"""`doctor`: is the deployed stack fit to do its work?"""

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from infra.ops.cli_context import AsJson, context_of
from infra.ops.output import Output, count
from infra.ops.problems import AwsError, FoundError
from infra.ops.snapshot import StackSnapshot, Status


def doctor(
    ctx: typer.Context,
    api: Annotated[
        bool,
        typer.Option("--api/--no-api", help="Read one session from the API, from this machine, with the stack's key."),
    ] = True,
    ask_function: Annotated[
        bool,
        typer.Option("--ask-function", help="Let the sweep function list sessions from AWS too, dry; up to 5 minutes."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the deployed stack: ok, warning, unknown or failed, with what to do.

    Exit status 1 if anything failed, 3 if nothing could be looked at. What could not be looked at is reported.
    """
    from infra.ops.doctor import examine  # noqa: PLC0415 - it imports the API's client

    output, context = Output(as_json=as_json, rows=True), context_of(ctx)
    if api:
        output.say(
            "The key is read from the secret and used from this machine to read its owner and one session "
            "(--no-api: not)."
        )
    stack = StackSnapshot(context.account, context.deployment, context.command)
    findings = list(examine(stack, call_api=api, ask_function=ask_function))
    statuses = Counter(one.status for one in findings)
    worst = max(statuses, key=list(Status).index)
    output.data({"status": worst, "findings": [asdict(one) for one in findings]})
    rows = [(one.status, one.check, one.found, one.remedy) for one in findings]
    output.table(f"Stack {context.deployment.name}", ("", "check", "found", "what to do"), rows)
    # CloudFormation's status of the stack is known in any case.
    if {one.status for one in findings if one.check != "stack"} == {Status.UNKNOWN}:
        raise AwsError("nothing could be checked: use another --profile, or have it permitted")
    if unknown := statuses[Status.UNKNOWN]:
        # No failure: few people may read everything, and a deployment must not read the secret.
        output.warn(f"{count(unknown, 'check')} could not be made")
    if failed := statuses[Status.FAILED]:
        raise FoundError(f"{count(failed, 'check')} failed")
