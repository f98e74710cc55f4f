"""The command line: its commands, the options that all share, and how problems are reported."""

from __future__ import annotations

import errno
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TextIO

import typer
from botocore.exceptions import BotoCoreError, ClientError
from typer.core import TyperGroup
from typer.main import get_command

from infra.ops.cli_context import CliContext
from infra.ops.output import Output
from infra.ops.problems import AWS, CLOSED_PIPE, INTERRUPTED, WRONG, ProblemError, said

STACK_NAME = "devin-session-cleanup"
_EVERYWHERE = ("--stack-name", "--profile", "--region")
_EXITS = (
    "Exit status: 0 all is well, 1 something is wrong, 2 wrong usage, 3 AWS refused or was not reached, "
    "130 interrupted."
)
_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class Place(NamedTuple):
    """Where a command is. Its summary stands here, so that `--help` imports none of them."""

    module: str
    attribute: str
    summary: str


COMMANDS: Mapping[str, Place] = {
    "enqueue": Place("enqueue", "enqueue", "Send session ids to the work queue."),
    "withdraw": Place("withdraw", "withdraw", "Take messages out of the work queue."),
    "sweep": Place("sweep", "sweep", "Run a policy and show its report; dry unless --enforce."),
    "status": Place("status", "status", "Show queues, dead letters, switch, alarms, sweeps."),
    "watch": Place("status", "watch", "Watch the work queue until it is drained."),
    "explain": Place("explain", "explain", "Show what became of a session id."),
    "stop": Place("switch", "stop", "Stop everything: no session is ended until `go`."),
    "go": Place("switch", "go", "Carry on after a stop."),
    "doctor": Place("doctor", "doctor", "Check the deployed stack and say what to do."),
    "schedule": Place("schedule", "application", "End sessions at a time: at, list, cancel."),
    "dead-letters": Place("dead_letters", "application", "Dead letters: list, show, redrive, discard."),
}
_GROUPS = {name for name, place in COMMANDS.items() if place.attribute == "application"}
EXAMPLES: Mapping[str, str] = {
    "enqueue": "enqueue --file ids.txt --unless-updated-since 2026-11-01T00:00:00Z --watch",
    "withdraw": "withdraw --file wrong-ids.txt",
    "sweep": "sweep policy.json",
    "status": "status --json",
    "watch": "watch --timeout 600",
    "explain": "explain devin-0123456789abcdef0123456789abcdef --since 3d",
    "stop": 'stop --reason "the wrong list was enqueued, ask Ann"',
    "go": "go",
    "doctor": "doctor --ask-function",
    "schedule at": "schedule at +2h devin-0123456789abcdef0123456789abcdef",
    "schedule list": "schedule list",
    "schedule cancel": "schedule cancel NAME",
    "dead-letters list": "dead-letters list --reason rejected_422",
    "dead-letters show": "dead-letters show devin-0123456789abcdef0123456789abcdef",
    "dead-letters redrive": "dead-letters redrive --reason rejected_404 --watch",
    "dead-letters discard": "dead-letters discard --reason invalid_message --to copy.jsonl",
}


@cache
def _load(name: str) -> Any:
    place = COMMANDS[name]
    target = getattr(import_module(f"infra.ops.commands.{place.module}"), place.attribute)
    wrapper = typer.Typer(rich_markup_mode=None, add_completion=False)
    wrapper.callback()(lambda: None)
    if isinstance(target, typer.Typer):
        wrapper.add_typer(target, name=name)
    else:
        wrapper.command(name)(target)
    command = get_command(wrapper).commands[name]  # type: ignore[attr-defined]
    parts = {f"{name} {part}": one for part, one in getattr(command, "commands", {}).items()} or {name: command}
    for words, one in parts.items():
        if words in EXAMPLES:
            one.epilog = f"\b\nExample:\n  devin-ops {EXAMPLES[words]}"
    return command


class _Commands(Mapping[str, Any]):
    """Each is imported when it is used."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        return _load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Group(TyperGroup):
    """Problems are reported in a sentence and an exit status, without a traceback."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in COMMANDS.items()])

    def make_context(self, *given: Any, **settings: Any) -> Any:
        with _problems_reported():
            return super().make_context(*given, **settings)

    def invoke(self, ctx: Any) -> Any:
        with _problems_reported():
            return super().invoke(ctx)


@contextmanager
def _problems_reported() -> Iterator[None]:
    try:
        yield
    except ProblemError as problem:
        _end(problem, problem.status)
    except (ClientError, BotoCoreError) as error:
        _end(said(error), AWS)
    except (KeyboardInterrupt, typer.Abort):
        _end("interrupted", INTERRUPTED)
    except BrokenPipeError:
        raise typer.Exit(CLOSED_PIPE) from None
    except OSError as error:
        if error.errno not in _DISK_IS_FULL:
            raise
        _end(f"the output cannot be written: {error.strerror}", WRONG)


def _end(message: object, status: int) -> None:
    Output(as_json=False).warn(str(message))
    # `from None` has no effect on what is shown, and keeps the cause out of tracebacks.
    raise typer.Exit(status) from None


app = typer.Typer(
    name="devin-ops",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXITS,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"devin-ops {version()}")
        raise typer.Exit


def version() -> str:
    """Of the clone that this runs from, or of the installed package."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("devin-session-cleanup")


@app.callback()
def shared(
    ctx: typer.Context,
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
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Operate a deployed stack. --stack-name, --profile, --region and --json may stand anywhere."""
    ctx.obj = CliContext(stack_name, profile or None, region or None, ctx.info_name or "devin-ops")


def main(arguments: Sequence[str], *, name: str) -> int:
    """Run the command line; returns the exit status. `name` is how the user called it, for messages."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a replacement that has no encoding
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = _run(arguments, name)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _drop(sys.stdout, sys.stderr)
        return CLOSED_PIPE
    except OSError as error:
        if error.errno not in _DISK_IS_FULL:
            raise
        _drop(sys.stdout)
        print(f"the output cannot be written: {error.strerror}", file=sys.stderr)
        return WRONG


def _run(arguments: Sequence[str], name: str) -> int:
    try:
        app(args=hoisted(arguments), prog_name=name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _drop(*streams: TextIO) -> None:
    """Whatever is left in their buffers, which Python would try to write once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def hoisted(arguments: Sequence[str]) -> list[str]:
    """With the options that all commands share where they are read: those of the application in front, --json behind
    the command."""
    front: list[str] = []
    rest: list[str] = []
    as_json: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in _EVERYWHERE:
            front += [argument, *[value for value in [next(left, None)] if value is not None]]
        elif argument.startswith(tuple(f"{name}=" for name in _EVERYWHERE)):
            front.append(argument)
        elif argument == "--json" and len(rest) < _words(rest):
            as_json.append(argument)
        else:
            rest.append(argument)
    return front + rest[: _words(rest)] + as_json + rest[_words(rest) :]


def _words(given: Sequence[str]) -> int:
    """How many name the command: `status`, `schedule list`."""
    return 2 if given[:1] and given[0] in _GROUPS else 1
