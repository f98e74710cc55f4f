"""Session ids as an operator brings them: arguments, lines of a file or a pipe, a column of a CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from devin.session_id import InvalidSessionIdError, parse_session_id
from infra.ops.output import ascii_only, visible
from infra.ops.problems import UsageError

if TYPE_CHECKING:
    from _csv import Reader

_DELIMITERS = (",", ";", "\t", "|")
# Not `isdigit`, which takes more for digits than `int` does.
_NUMBER = re.compile("[0-9]{1,6}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "`": "`", "<": ">", "“": "”", "\u2018": "\u2019"}


@dataclass(frozen=True, slots=True)
class Given:
    """A text where an id belongs, and the line it stands on."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids in the order given, each once; what is none; how many were there before; `notes` say what was not taken
    literally."""

    ids: tuple[str, ...]
    invalid: tuple[Given, ...]
    repeats: int
    notes: tuple[str, ...] = ()


def from_lines(lines: Iterable[str]) -> list[Given]:
    """One per line; empty lines and those that begin with # are left out."""
    stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [Given(number, text) for number, text in stripped if text and not text.startswith("#")]


def from_csv(lines: Iterable[str], column: str, delimiter: str | None = None) -> list[Given]:
    """Those of a column: by its name in the first row, or by its number, from 1, where there are no names.

    Without a delimiter it is the one that finds the column and the most others. Raises UsageError if there is no such
    column.
    """
    text = list(lines)
    choices = [(one, _first_row(text, one)) for one in ([delimiter] if delimiter else _DELIMITERS)]
    # The widest first; of those that are as wide, the most usual.
    choices.sort(key=lambda one: -len(one[1]))
    for delimited_by, first in choices:
        if (found := _find(first, column)) is not None:
            return _read(text, delimited_by, *found)
    _, first = choices[0]
    if _NUMBER.fullmatch(column):
        raise UsageError(f"the CSV has no column {column}; its first row has {len(first)}")
    raise UsageError(f"the CSV has no column {column[:80]!r}; its first row names {', '.join(first) or 'none'}")


def _rows(text: Iterable[str], delimiter: str) -> Reader:
    # Strict, or a quote that is never closed would swallow the rest of the file, ids included.
    return csv.reader(text, delimiter=delimiter, strict=True)


def _first_row(text: Sequence[str], delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next((row for row in _rows(text, delimiter) if any(row)), [])]
    except csv.Error:
        return []  # reported when it is read, unless another delimiter fits


def _find(first: Sequence[str], column: str) -> tuple[int, bool] | None:
    """Where the column stands in this first row, and whether that is a row of names."""
    numbered = _NUMBER.fullmatch(column) is not None
    if first.count(column) > 1:
        raise UsageError(f"the CSV has {first.count(column)} columns {column[:80]!r}; name it by its number, from 1")
    # A column may be called 2026. Where the first row holds an id, it names nothing.
    if column in first and not (numbered and any(map(_is_id, first))):
        return first.index(column), True
    if not numbered:
        return None
    if int(column) == 0:
        raise UsageError("columns of a CSV are counted from 1")
    return (int(column) - 1, False) if int(column) <= len(first) else None


def _read(text: Sequence[str], delimiter: str, index: int, named: bool) -> list[Given]:
    reader = _rows(text, delimiter)
    try:
        rows = (Given(reader.line_num, row[index].strip() if index < len(row) else "") for row in reader if any(row))
        return list(islice(rows, int(named), None))
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num} of the CSV cannot be read: {error}") from None


def _is_id(text: str) -> bool:
    return _parsed(text) is not None


def _parsed(text: str) -> str | None:
    try:
        return parse_session_id(text)
    except InvalidSessionIdError:
        return None


def sort_out(given: Sequence[Given]) -> Ids:
    """Parse each as the functions do, without quotes around it and a comma behind it."""
    ids: dict[str, None] = {}
    invalid: list[Given] = []
    bared = addresses = lowered = 0
    for one in given:
        bare = _bare(one.text)
        if (session_id := _parsed(bare)) is None:
            invalid.append(one)
            continue
        ids[session_id] = None
        bared += bare != one.text
        addresses += bare.startswith("https:")
        lowered += session_id.removeprefix("devin-") not in bare
    kinds = (
        (bared, "without quotes around them or a comma behind them"),
        (addresses, "from their addresses"),
        (lowered, "in lower case"),
    )
    notes = tuple(f"{number} of the ids read {how}" for number, how in kinds if number)
    return Ids(tuple(ids), tuple(invalid), len(given) - len(ids) - len(invalid), notes)


def _bare(text: str) -> str:
    bare = text.rstrip(",; \t")
    while len(bare) > 1 and _QUOTES.get(bare[0]) == bare[-1]:
        bare = bare[1:-1].rstrip(",; \t")
    return bare


def why_invalid(text: str) -> str:
    """Why this is no session id."""
    bare = _bare(text)
    if not bare:
        return "empty"
    if hidden := sorted({char for char in bare if visible(char) != char}):
        return f"invisible or control character {', '.join(map(visible, hidden))}"
    if strange := sorted({char for char in bare if not char.isascii()}):
        # A non-breaking hyphen looks like the one in devin-.
        return f"a character that is not ASCII: {', '.join(map(ascii_only, strange))}"
    if _parsed(bare.lower()):
        return "upper case: write devin- in lower case"
    if _UUID.fullmatch(bare):
        return "a UUID: a session id has no dashes in its 32 digits"
    if "://" in bare:
        return "an address, but not https://app.devin.ai/sessions/<id> or https://<company>.devinenterprise.com/sessions/<id>"
    if bare.startswith(("[", "{")):
        return "JSON: give one id a line, as jq -r '.[]' prints them"
    if " " in bare or "," in bare:
        return "more than one word: give one id a line, or name a column with --csv-column"
    return "an id is devin- with letters, digits, - and _ behind it (128 characters at most), or 32 hexadecimal digits"
