"""The command line: its commands, the options that all share, and how problems are reported."""

import os
import shlex
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO

import typer
from botocore.exceptions import BotoCoreError, ClientError
from typer.core import TyperGroup

from infra.ops.cli_context import CliContext, example
from infra.ops.commands import dead_letters, schedule
from infra.ops.commands.doctor import doctor
from infra.ops.commands.enqueue import enqueue
from infra.ops.commands.explain import explain
from infra.ops.commands.status import status, watch
from infra.ops.commands.sweep import sweep
from infra.ops.commands.switch import go, stop
from infra.ops.commands.withdraw import withdraw
from infra.ops.output import Output
from infra.ops.problems import AWS, CLOSED_PIPE, INTERRUPTED, WRONG, ProblemError, said

_EVERYWHERE = ("--stack-name", "--profile", "--region")


class Group(TyperGroup):
    """Problems are reported in a sentence and an exit status, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ProblemError as problem:
            _end(problem, problem.status)
        except (ClientError, BotoCoreError) as error:
            _end(said(error), AWS)
        except (KeyboardInterrupt, typer.Abort):
            _end("interrupted", INTERRUPTED)
        except BrokenPipeError:
            raise typer.Exit(CLOSED_PIPE) from None


def _end(message: object, status: int) -> NoReturn:
    Output(as_json=False).warn(str(message))
    raise typer.Exit(status)


app = typer.Typer(
    name="devin-ops",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 all is well, 1 something is wrong, 2 wrong usage, 3 AWS refused or was not reached, "
    "130 interrupted.",
)


def _version(asked: bool) -> None:
    """Of the clone that this runs from, or of the installed package."""
    if not asked:
        return
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        version = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
    else:
        version = metadata.version("devin-session-cleanup")
    print(f"devin-ops {version}")
    raise typer.Exit


@app.callback()
def shared(
    ctx: typer.Context,
    stack_name: Annotated[
        str, typer.Option("--stack-name", envvar="STACK_NAME", metavar="NAME", help="The deployed stack.")
    ] = "devin-session-cleanup",
    profile: Annotated[
        # AWS_PROFILE is botocore's to read: keys in the environment win against it, and lose against this option.
        str | None, typer.Option("--profile", metavar="NAME", help="Of the AWS configuration, as AWS_PROFILE.")
    ] = None,
    region: Annotated[
        str | None,
        # Botocore reads the second alone.
        typer.Option("--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], metavar="NAME", help="Of AWS."),
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Operate a deployed stack. --stack-name, --profile, --region and --json may stand anywhere."""
    # Hints repeat the options that were given: without them, one that is pasted would be about another stack.
    values = zip(_EVERYWHERE, ("stack_name", "profile", "region"), (stack_name, profile, region), strict=True)
    given = [
        f" {option} {shlex.quote(value)}"
        for option, name, value in values
        if value and (source := ctx.get_parameter_source(name)) and source.name == "COMMANDLINE"
    ]
    command = f"{ctx.info_name or 'devin-ops'}{''.join(given)}"
    ctx.obj = CliContext(stack_name, profile or None, region or None, command)


app.command(epilog=example("enqueue --file ids.txt --unless-updated-since 2026-11-01T00:00:00Z --watch"))(enqueue)
app.command(epilog=example("withdraw --file wrong-ids.txt"))(withdraw)
app.command(epilog=example("sweep policy.json"))(sweep)
app.command(epilog=example("status --json"))(status)
app.command(epilog=example("watch --timeout 600"))(watch)
app.command(epilog=example("explain devin-0123456789abcdef0123456789abcdef --since 3d"))(explain)
app.command(epilog=example('stop --reason "the wrong list was enqueued, ask Ann"'))(stop)
app.command(epilog=example("go"))(go)
app.command(epilog=example("doctor --ask-function"))(doctor)
app.add_typer(schedule.application, name="schedule")
app.add_typer(dead_letters.application, name="dead-letters")


def main(arguments: Sequence[str], *, name: str) -> int:
    """Run the command line; returns the exit status. `name` is how the user called it, for messages."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            app(args=hoisted(arguments), prog_name=name)
        except SystemExit as end:
            sys.stdout.flush()
            return int(end.code or 0)
        return 0
    except BrokenPipeError:
        _drop(sys.stdout, sys.stderr)
        return CLOSED_PIPE
    except OSError as error:  # a full disk
        _drop(sys.stdout)
        print(f"the output cannot be written: {error.strerror or error}", file=sys.stderr)
        return WRONG


def _drop(*streams: TextIO) -> None:
    """Whatever is left in their buffers, which Python would try to write once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def hoisted(arguments: Sequence[str]) -> list[str]:
    """With the options that all commands share where they are read: those of the application in front, --json at the
    end."""
    front: list[str] = []
    rest: list[str] = []
    behind: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            behind += [argument, *left]
        elif argument.partition("=")[0] in _EVERYWHERE:
            front += [argument, *islice(left, 0 if "=" in argument else 1)]
        elif argument == "--json":
            behind.append(argument)
        else:
            rest.append(argument)
    return front + rest + behind
