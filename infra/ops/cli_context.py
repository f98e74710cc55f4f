"""What every command works with: the account, the stack in it, and where to print."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated

import typer

from infra.ops import account as accounts
from infra.ops.account import Account
from infra.ops.deployment import Deployment, find_deployment
from infra.ops.output import Output


@dataclass(frozen=True)
class CliContext:
    """Nothing is asked of AWS before a command needs it."""

    stack_name: str
    profile: str | None
    region: str | None

    @cached_property
    def account(self) -> Account:
        return Account(accounts.open_session(self.profile, self.region))

    @cached_property
    def deployment(self) -> Deployment:
        return find_deployment(self.account.cloudformation, self.stack_name)


def desk_of(context: typer.Context) -> CliContext:
    desk = context.obj
    assert isinstance(desk, CliContext)  # noqa: S101 - the callback of the application made it
    return desk


def confirm(context: CliContext, output: Output, question: str, *, yes: bool) -> None:
    """Ask before something is terminated or deleted. Raises as `Output.confirm` does."""
    output.confirm(f"{place_of(context)}: {question}", yes=yes)


def place_of(context: CliContext) -> str:
    """Which stack it is, so that nobody takes it for another."""
    region, account = context.deployment.work_queue_arn.split(":")[3:5]
    return f"account {account}, {region}, stack {context.deployment.name}"


def command_of(context: typer.Context) -> str:
    """How this command is called."""
    return context.find_root().info_name or "devin-ops"


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
