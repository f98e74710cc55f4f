"""The command line: options that all commands share, and what becomes of problems."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from typer.core import TyperGroup

from infra.ops.cli_context import CliContext
from infra.ops.commands import dead_letters, schedule
from infra.ops.commands.doctor import doctor
from infra.ops.commands.enqueue import enqueue
from infra.ops.commands.status import status, watch
from infra.ops.commands.sweep import sweep
from infra.ops.commands.switch import go, stop
from infra.ops.commands.withdraw import withdraw
from infra.ops.output import Output
from infra.ops.problems import AWS, INTERRUPTED, ProblemError, aws_problem

STACK_NAME = "devin-session-cleanup"
_EVERYWHERE = ("--stack-name", "--profile", "--region")
_EXITS = (
    "Exit status: 0 all is well, 1 something is wrong, 2 wrong usage, 3 AWS refused or was not reached, "
    "130 interrupted."
)


class Commands(TyperGroup):
    """Problems are told in a sentence and an exit status, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ProblemError as problem:
            _end(problem, problem.status)
        except (ClientError, BotoCoreError) as error:
            _end(aws_problem(error), AWS)
        except (KeyboardInterrupt, typer.Abort):
            _end("interrupted", INTERRUPTED)


def _end(message: object, status: int) -> None:
    Output(as_json=False).warn(str(message))
    # `from None` has no effect on what is shown, and what is behind it is nobody's business.
    raise typer.Exit(status) from None


app = typer.Typer(
    name="devin-ops",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=_EXITS,
)


@app.callback()
def shared(
    context: typer.Context,
    stack_name: Annotated[
        str, typer.Option("--stack-name", envvar="STACK_NAME", metavar="NAME", help="The deployed stack.")
    ] = STACK_NAME,
    profile: Annotated[
        # AWS_PROFILE is botocore's to read: keys in the environment win against it, and lose against this option.
        str | None, typer.Option("--profile", metavar="NAME", help="Of the AWS configuration, as AWS_PROFILE.")
    ] = None,
    region: Annotated[
        str | None,
        # Botocore reads the second alone.
        typer.Option("--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], metavar="NAME", help="Of AWS."),
    ] = None,
) -> None:
    """Operate a deployed stack. These three options may stand anywhere; all else is found from the stack."""
    context.obj = CliContext(stack_name, profile or None, region or None)


for command in (enqueue, withdraw, sweep, status, watch, stop, go, doctor):
    app.command()(command)
app.add_typer(schedule.application, name="schedule")
app.add_typer(dead_letters.application, name="dead-letters")


def main(arguments: Sequence[str], *, name: str) -> int:
    """Run the command line; returns the exit status. `name` is what was typed to get here, for messages."""
    try:
        app(args=hoisted(arguments), prog_name=name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def hoisted(arguments: Sequence[str]) -> list[str]:
    """With the options that all commands share in front, where they are read, as the AWS CLI takes them anywhere."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in _EVERYWHERE:
            front += [argument, *[value for value in [next(left, None)] if value is not None]]
        elif argument.startswith(tuple(f"{name}=" for name in _EVERYWHERE)):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest
