"""What a command prints: rows and sentences for people, or JSON for machines with everything else on the standard
error."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TextIO

from comparison import as_seen
from redaction import Redactor

# Rich is imported where it is used: `--help` and pipes do without.
if TYPE_CHECKING:
    from rich.console import Console

# Of one cell in a terminal. Pipes get all there is.
_CELL = 300
_GAP = 2
_SOME = 20
# What people copy: ids, names, times. Prose, addresses and ARNs may be folded.
_WHOLE_WORD = re.compile(r"(?!arn:)[\w.:+-]{1,140},?", re.ASCII)
PROGRESS_SECONDS = 5.0
COLOURS = {"ok": "green", "warning": "yellow", "unknown": "yellow", "failed": "red"}


def is_interactive() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty()


def visible(text: str) -> str:
    """The text with every character that has no glyph escaped, `\\u200b` for one."""
    return "".join(
        char if char == " " or (char.isprintable() and as_seen(char)) else char.encode("unicode_escape").decode()
        for char in text
    )


def console(stream: TextIO) -> Console:
    from rich.console import Console  # noqa: PLC0415

    return Console(file=stream, highlight=False, markup=False, emoji=False)


class Output:
    """Text from outside is shown as it is, without keys, and with invisible characters escaped.

    `rows`: the standard output is for rows alone unless it is a terminal; sentences then go to the standard error.
    """

    def __init__(self, *, as_json: bool, rows: bool = False) -> None:
        self.as_json = as_json
        self._redact = Redactor()
        self._out, self._err = sys.stdout, sys.stderr
        self._people = self._err if as_json or (rows and not self._out.isatty()) else self._out

    @property
    def people(self) -> Console:
        """Where `say` writes to."""
        return console(self._people)

    @property
    def in_terminal(self) -> bool:
        """Whether `say` writes to one."""
        return self._people.isatty()

    def data(self, value: Any) -> None:
        """The one JSON value on the standard output, with --json."""
        if self.as_json:
            print(json.dumps(self._masked(value), indent=2, default=str), file=self._out)

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
        """A line for people; on the standard error with --json."""
        self._line(self._people, text, style)

    def some(self, texts: Sequence[str], say: Callable[[str], None] | None = None) -> None:
        """The first twenty, and how many more there are."""
        say = say or self.say
        for text in texts[:_SOME]:
            say(f"  {text}")
        if len(texts) > _SOME:
            say(f"  … and {len(texts) - _SOME} more")

    def warn(self, text: str) -> None:
        """A line on the standard error, whatever the format."""
        self._line(self._err, text, "yellow")

    def _line(self, stream: TextIO, text: str, style: str) -> None:
        shown = self.cell(text)
        if style and stream.isatty():
            console(stream).print(shown, style=style, soft_wrap=True)
        else:
            print(shown, file=stream)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """For people: a table in a terminal, elsewhere a line for each row with tabs between its cells."""
        if self.as_json:
            return
        cells = [["" if value is None else self.cell(value) for value in row] for row in rows]
        if not self._out.isatty():
            for row in cells:
                print("\t".join(row), file=self._out)
        else:
            _show(console(self._out), self.cell(title), columns, [[_cut(cell) for cell in row] for row in cells])

    def cell(self, value: object) -> str:
        """One line of text that can be shown."""
        return visible(self._redact(str(value)))

    def progress[T](self, doing: str, things: Sequence[T]) -> Iterable[T]:
        """These, one by one, with a bar in a terminal, elsewhere with a line every few seconds."""
        if self._err.isatty():
            from rich.progress import track  # noqa: PLC0415

            yield from track(things, doing, console=console(self._err), transient=True)
            return
        began = shown = time.monotonic()
        for done, thing in enumerate(things):
            if (now := time.monotonic()) - shown >= PROGRESS_SECONDS:
                shown = now
                self.warn(f"{doing}: {done} of {len(things)}{rate_and_rest(done / (now - began), len(things) - done)}")
            yield thing


def _show(on: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with whole words, or, where it is too wide for that, a paragraph for each row."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if title:
        on.print(title, style="bold", soft_wrap=True)
    if not rows:
        return
    widths = _widths(columns, rows, on.width)
    if widths is None:
        for row in rows:
            lines = [f"{name}: {cell}" if name else cell for name, cell in zip(columns, row, strict=True) if cell]
            on.print("\n  ".join(lines), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name, width in zip(columns, widths, strict=True):
        table.add_column(name, width=width, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    on.print(table)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Of the columns in a terminal of this width; None if words that must stay whole do not fit."""
    from rich.cells import cell_len  # noqa: PLC0415

    by_column = list(zip(columns, *rows, strict=True))
    widths = [max(map(_longest_whole_word, texts)) for texts in by_column]
    spare = width - sum(widths) - _GAP * (len(widths) - 1)
    if spare < 0:
        return None
    wants = sorted((max(map(cell_len, texts)) - widths[index], index) for index, texts in enumerate(by_column))
    for left, (wanted, index) in zip(range(len(wants), 0, -1), wants, strict=True):
        given = min(wanted, spare // left)
        widths[index] += given
        spare -= given
    return widths


def _longest_whole_word(text: str) -> int:
    return max((len(word) for word in text.split() if _WHOLE_WORD.fullmatch(word)), default=1)


def _cut(text: str) -> str:
    return text if len(text) <= _CELL else f"{text[:_CELL].rpartition(' ')[0] or text[:_CELL]} …"


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


def rate_and_rest(per_second: float, left: int) -> str:
    """`, 12.3/s, about 4 min 5 s left`; empty if nothing moves."""
    if per_second <= 0 or not left:
        return ""
    return f", {per_second:.1f}/s, about {period(timedelta(seconds=left / per_second))} left"
