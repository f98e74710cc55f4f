"""What every command works with: the account, the stack in it, and options that commands share."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError

from infra.ops import account as accounts
from infra.ops import output as outputs
from infra.ops.account import Account
from infra.ops.deployment import Deployment, find_deployment
from infra.ops.output import Output
from infra.ops.problems import FoundError, UsageError, said
from infra.ops.switch import read_switch


@dataclass(frozen=True)
class CliContext:
    """Nothing is asked of AWS before a command needs it. `command` is how the user calls this program."""

    stack_name: str
    profile: str | None
    region: str | None
    command: str = "devin-ops"

    @cached_property
    def account(self) -> Account:
        return Account(accounts.open_session(self.profile, self.region))

    @cached_property
    def deployment(self) -> Deployment:
        return find_deployment(self.account.cloudformation, self.stack_name)


def context_of(ctx: typer.Context) -> CliContext:
    context = ctx.obj
    assert isinstance(context, CliContext)  # noqa: S101 - the callback of the application made it
    return context


def confirm(context: CliContext, output: Output, question: str, *, yes: bool) -> None:
    """Ask before something is terminated or deleted. Raises FoundError if the operator says no, UsageError if there is
    no person to ask."""
    if yes:
        return
    question = f"{place_of(context)}: {question}"
    if not outputs.is_interactive():
        raise UsageError(f"{question} There is no terminal to ask in: give --yes. Nothing was done.")
    if not typer.confirm(output.cell(question), err=True):
        raise FoundError("nothing was done")


def place_of(context: CliContext) -> str:
    """Account, Region and stack, so that the wrong one is noticed."""
    region, account = context.deployment.work_queue_arn.split(":")[3:5]
    return f"account {account}, {region}, stack {context.deployment.name}"


def stopped_since(context: CliContext) -> str | None:
    """What the stop switch says if nothing is ended now, else None. Raises what botocore raises."""
    switch = read_switch(context.account.ssm, context.deployment.output("StopSwitchParameterName"))
    if switch.goes:
        return None
    return f"{switch.reason or 'no reason given'}, since {switch.since or 'an unknown time'}"


def banner(context: CliContext, output: Output) -> None:
    """Warn first if this stack ends nothing now."""
    if context.deployment.parameters.get("DryRun") == "true":
        output.warn("DryRun is true: messages are consumed, and no session is ended")
    try:
        stopped = stopped_since(context)
    except (ClientError, BotoCoreError) as error:
        output.warn(f"the stop switch could not be read: {said(error)}")
        return
    if stopped:
        output.warn(
            f"the stop switch is on ({stopped}): from 15 s after that, no session is ended before {context.command} go"
        )


def example(command: str) -> str:
    """Below the help of a command."""
    return f"\b\nExample:\n  devin-ops {command}"


def utc_now() -> datetime:
    return datetime.now(UTC)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else; messages go to the standard error.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
UnlessUpdatedSince = Annotated[
    str | None,
    typer.Option(
        "--unless-updated-since",
        metavar="TIME",
        help="Spare sessions that were updated later than this: ISO 8601 with a zone, from 2024 to now.",
    ),
]
