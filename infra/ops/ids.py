"""Session ids as an operator brings them: arguments, lines of a file or a pipe, a column of a CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from devin.session_id import InvalidSessionIdError, parse_session_id
from infra.ops.problems import UsageError


@dataclass(frozen=True, slots=True)
class Given:
    """A text where an id belongs, and the line it stands on."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids in the order given, each once; what is none; how many were there before."""

    ids: tuple[str, ...]
    invalid: tuple[Given, ...]
    repeats: int


def from_lines(lines: Iterable[str]) -> list[Given]:
    """One per line; empty lines and those that begin with # are left out."""
    stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [Given(number, text) for number, text in stripped if text and not text.startswith("#")]


def from_csv(lines: Iterable[str], column: str) -> list[Given]:
    """Those of a column: by its name in the first row, or by its number, from 1, where there are no names.

    Raises UsageError if there is no such column.
    """
    reader = csv.reader(lines)
    try:
        if not column.isdigit():
            names = [name.strip() for name in next(reader, [])]
            if column not in names:
                raise UsageError(f"the CSV has no column {column!r}; its first row names {', '.join(names) or 'none'}")
            index = names.index(column)
        elif (index := int(column) - 1) < 0:
            raise UsageError("columns of a CSV are counted from 1")
        rows = (row for row in reader if any(row))
        return [Given(reader.line_num, row[index].strip() if index < len(row) else "") for row in rows]
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num} of the CSV cannot be read: {error}") from None


def sort_out(given: Sequence[Given]) -> Ids:
    """Parse each as the functions do."""
    ids: dict[str, None] = {}
    invalid: list[Given] = []
    for one in given:
        try:
            ids[parse_session_id(one.text)] = None
        except InvalidSessionIdError:
            invalid.append(one)
    return Ids(tuple(ids), tuple(invalid), len(given) - len(ids) - len(invalid))
