"""What the parts of the benchmark hand back: text, tables, goals; and how they are written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as Grid


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", _row(self.head), _row(["---", *["---:"] * (len(self.head) - 1)])]
        return "\n".join([*lines, *map(_row, self.rows)])

    def show(self, console: Console) -> None:
        grid = Grid(title=self.title, title_justify="left")
        for number, name in enumerate(self.head):
            grid.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            grid.add_row(*row)
        console.print(grid)


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that was aimed for, and the number that says whether it was reached."""

    name: str
    wanted: str
    measured: str
    met: bool

    def row(self) -> list[str]:
        return [self.name, self.wanted, self.measured, "met" if self.met else "**not met**"]


@dataclass(slots=True)
class Section:
    """A part's chapter. `figures` are pictures by file name, in SVG."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        pictures = [f"![{self.title}]({name})" for name in self.figures]
        return "\n\n".join([f"## {self.title}", *self.text, *pictures, *(table.markdown() for table in self.tables)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
