"""What the parts of the benchmark hand back: text, tables, goals; and how they are written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as Grid

_MOST_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", line(self.head), line(["---", *["---:"] * (len(self.head) - 1)])]
        return "\n".join([*lines, *map(line, self.rows)])

    def show(self, console: Console) -> None:
        grid = Grid(title=self.title, title_justify="left")
        for number, name in enumerate(self.head):
            grid.add_column(name, justify="right" if number else "left")
        for row in self.rows:
            grid.add_row(*row)
        console.print(grid)


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that was aimed for, and the number that says whether it was reached. `met` is None where nothing was
    aimed for, and the number stands there to be compared."""

    name: str
    wanted: str
    measured: str
    met: bool | None

    @classmethod
    def at_most(cls, name: str, most: float, of: str, ratio: float, note: str = "") -> Goal:
        """A ratio to something that should not be exceeded."""
        said = f"{against(ratio, most)} x" + (f" ({note})" if note else "")
        return cls(name, f"at most {most:.2f} x {of}", said, ratio <= most)

    @classmethod
    def flat(cls, name: str, ratio: float) -> Goal:
        """What should not grow with the size of the task."""
        return cls(name, "does not grow (at most 1.10 x)", f"{against(ratio, 1.10)} x", ratio <= 1.10)

    @classmethod
    def told(cls, name: str, measured: str) -> Goal:
        return cls(name, "-", measured, met=None)

    def row(self, chapter: str) -> list[str]:
        said = {True: "met", False: "**not met**", None: "for comparison"}[self.met]
        return [self.name, self.wanted, self.measured, said, chapter]


@dataclass(slots=True)
class Section:
    """A part's chapter. `figures` are pictures by file name, in SVG; `stamp` says what it was measured on."""

    title: str
    text: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    stamp: str = ""

    def markdown(self) -> str:
        pictures = [f"![{self.title}]({name})" for name in self.figures]
        parts = [f"## {self.title}", self.stamp, *self.text, *pictures, *(table.markdown() for table in self.tables)]
        return "\n\n".join(part for part in parts if part)


def goals(sections: Sequence[Section]) -> Table:
    rows = [goal.row(section.title) for section in sections for goal in section.goals]
    return Table("What was aimed for", ["goal", "wanted", "measured", "", "chapter"], rows)


def against(value: float, limit: float) -> str:
    """With two digits, or with as many more as it takes to see on which side of the limit it lies."""
    for digits in range(2, _MOST_DIGITS):
        shown = float(text := f"{value:.{digits}f}")
        if (shown < limit, shown > limit) == (value < limit, value > limit):
            return text
    return f"{value:.{_MOST_DIGITS}f}"


def line(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"
