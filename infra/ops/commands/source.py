"""Where ids come from: options that several commands share."""

import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from infra.ops import output as outputs
from infra.ops.ids import Given, Ids, from_csv, from_lines, parsed, sort_out, why_invalid
from infra.ops.output import Output
from infra.ops.problems import UsageError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

SessionIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Session ids, or their addresses; - for a pipe, @FILE for a file."),
]
File = Annotated[
    Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read ids from a file, one per line; - for a pipe.")
]
Column = Annotated[
    str | None, typer.Option("--csv-column", metavar="NAME", help="The file is a CSV: the name of its column.")
]
SkipInvalid = Annotated[bool, typer.Option("--skip-invalid", help="Leave out what is no id, instead of refusing all.")]

_SHOWN = 20


def not_empty(text: str) -> str:
    """Of an option that selects: a variable that is not set must not select all there are."""
    if not text.strip():
        raise typer.BadParameter("is empty; is a variable not set?")
    return text


def session_id(text: str) -> str:
    if (found := parsed(text)) is None:
        raise typer.BadParameter(f"is no session id: {why_invalid(text)}")
    return found


def read_ids(
    output: Output, arguments: Sequence[str] | None, file: Path | None, column: str | None, *, skip_invalid: bool
) -> Ids:
    """The ids from wherever they are, saying what was not taken literally and what is no id. Raises UsageError if there
    are none, or from two places, or if some are invalid and not to be skipped."""
    if not (given := _given(arguments or [], file, column)):
        raise UsageError("no ids were found in what was given")
    ids = sort_out(given)
    for note in ids.notes:
        output.say(note)
    if ids.invalid:
        output.warn(f"{len(ids.invalid)} of what was given is no session id:")
        for one in ids.invalid[:_SHOWN]:
            output.warn(f"  {one.place} {one.line}: {one.text[:80].encode('ascii', 'backslashreplace').decode()}")
            output.warn(f"    {why_invalid(one.text)}")
        if len(ids.invalid) > _SHOWN:
            output.warn(f"  … and {len(ids.invalid) - _SHOWN} more")
        if not skip_invalid or not ids.ids:
            raise UsageError("nothing was done; correct them, or leave them out with --skip-invalid")
    return ids


def _given(arguments: Sequence[str], file: Path | None, column: str | None) -> list[Given]:
    if file is None and len(arguments) == 1 and (arguments[0] == "-" or arguments[0].startswith("@")):
        arguments, file = [], Path(arguments[0].removeprefix("@"))
    if arguments and file is not None:
        raise UsageError("give ids as arguments or in a file, not both")
    if arguments:
        if column is not None:
            raise UsageError("--csv-column is about a file or a pipe")
        return [Given(number, text, "argument") for number, text in enumerate(arguments, 1)]
    if file is None and outputs.is_interactive():
        raise UsageError("no ids: give them as arguments, with --file, or through a pipe")
    text = io.StringIO(read_text(file), newline=None)
    return from_lines(text) if column is None else from_csv(list(text), column)


def piped() -> str:
    """What comes through a pipe, if there is one."""
    return "" if outputs.is_interactive() else read_text(None)


def read_text(file: Path | None) -> str:
    """What is in a file, or in the pipe. Raises UsageError."""
    name = "the pipe" if file is None or str(file) == "-" else str(file)
    try:
        raw = sys.stdin.buffer.read() if file is None or str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-16" if raw.startswith(_UTF_16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{name} is not UTF-8: line {line} has the byte 0x{raw[error.start]:02x}, as in Latin-1; convert it: "
            f"iconv -f LATIN1 -t UTF-8{'' if name == 'the pipe' else f' {shlex.quote(name)}'}"
        ) from None
