"""What a command prints: text for people, or JSON for machines with everything else on the standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.ops.problems import FoundError, UsageError
from redaction import Redactor, one_line

# A log has no width; 80 would break every row.
_WIDTH_ELSEWHERE = 140
_CELL = 300
COLOURS = {"ok": "green", "warning": "yellow", "unknown": "yellow", "failed": "red"}


def is_interactive() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def console(*, stderr: bool) -> Console:
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDTH_ELSEWHERE)


class Output:
    """Whatever others wrote is made fit to be shown: on one line, cut, and without whatever looks like a key."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._redact = Redactor()
        self.errors = console(stderr=True)
        self.people = self.errors if as_json else console(stderr=False)

    def data(self, value: Any) -> None:
        """The one JSON value on the standard output, with --json."""
        if self.as_json:
            print(json.dumps(self._masked(value), indent=2, default=str))

    def _masked(self, value: Any) -> Any:
        """Text by text: in JSON, what stands before a key may be an escaped line break, and hides where it begins."""
        match value:
            case str():
                return self._redact(value)
            case Mapping():
                return {self._redact(str(key)): self._masked(one) for key, one in value.items()}
            case list() | tuple():
                return [self._masked(one) for one in value]
            case _:
                return value

    def say(self, text: str, style: str = "") -> None:
        """For people; on the standard error with --json."""
        self.people.print(escape(self._redact(text)), style=style, soft_wrap=True)

    def warn(self, text: str) -> None:
        """On the standard error, whatever the format."""
        self.errors.print(escape(self._redact(text)), style="yellow", soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """For people."""
        table = Table(title=escape(title) or None, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(self.cell(value) for value in row))
        self.people.print(table)

    def cell(self, value: object) -> str:
        text = "" if value is None else str(value)
        colour = COLOURS.get(text)
        shown = escape(one_line(self._redact(text), _CELL))
        return f"[{colour}]{shown}[/{colour}]" if colour else shown

    def confirm(self, question: str, *, yes: bool) -> None:
        """Raises FoundError if the operator says no, UsageError if nobody can be asked."""
        if yes:
            return
        if not is_interactive():
            raise UsageError(f"{question} There is nobody to ask here: say --yes. Nothing was done.")
        if not typer.confirm(self._redact(question), err=True):
            raise FoundError("nothing was done")


def count(number: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def period(length: timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = max(int(length.total_seconds()), 0)
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
