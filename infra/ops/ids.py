"""Session ids as an operator brings them: arguments, lines of a file or a pipe, a column of a CSV."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from devin.session_id import InvalidSessionIdError, parse_session_id
from infra.ops.problems import UsageError

_DELIMITERS = (",", ";", "\t", "|")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ADDRESSES = "https://app.devin.ai/sessions/<id> or https://<company>.devinenterprise.com/sessions/<id>"
# What may stand around an id: quotes, brackets of an address, and what separates it from the next one.
_AROUND = " \t,;\"'`<>“”\u2018\u2019"


@dataclass(frozen=True, slots=True)
class Given:
    """A text where an id belongs, and the line it stands on, or which argument it is."""

    line: int
    text: str
    place: str = "line"


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids in the order given, each once. `notes` say what was not taken literally."""

    ids: tuple[str, ...]
    invalid: tuple[Given, ...]
    repeats: int
    notes: tuple[str, ...]


def from_lines(lines: Iterable[str]) -> list[Given]:
    """One per line; empty lines and those that begin with # are left out."""
    stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [Given(number, text) for number, text in stripped if text and not text.startswith("#")]


def from_csv(lines: Sequence[str], column: str) -> list[Given]:
    """Those of the column with this name, whichever of the usual delimiters the CSV has. Raises UsageError if there is
    no such column, or more than one."""
    for delimiter in _DELIMITERS:
        # Strict, or a quote that is never closed would swallow the rest of the file, ids included.
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            names = [cell.strip() for cell in next((row for row in reader if any(row)), [])]
        except csv.Error:
            continue  # another delimiter may fit
        if names.count(column) > 1:
            raise UsageError(f"the CSV has {names.count(column)} columns {column[:80]!r}; rename the others")
        if column in names:
            index = names.index(column)
            try:
                return [Given(reader.line_num, "".join(row[index : index + 1]).strip()) for row in reader if any(row)]
            except csv.Error as error:
                raise UsageError(f"line {reader.line_num} of the CSV cannot be read: {error}") from None
    raise UsageError(f"the CSV has no column {column[:80]!r} in its first row")


def parsed(text: str) -> str | None:
    """The session id without what stands around it, as the functions read it; None if it is none."""
    try:
        return parse_session_id(text.strip(_AROUND))
    except InvalidSessionIdError:
        return None


def sort_out(given: Sequence[Given]) -> Ids:
    ids: dict[str, None] = {}
    invalid: list[Given] = []
    read: Counter[str] = Counter()
    for one in given:
        if (session_id := parsed(one.text)) is None:
            invalid.append(one)
            continue
        ids[session_id] = None
        bare = one.text.strip(_AROUND)
        read["without the quotes or comma around them"] += bare != one.text
        read["from their addresses"] += bare.startswith("https:")
        read["in lower case"] += session_id.removeprefix("devin-") not in bare
    notes = tuple(
        f"{number} {'id was' if number == 1 else 'ids were'} read {how}" for how, number in read.items() if number
    )
    return Ids(tuple(ids), tuple(invalid), len(given) - len(ids) - len(invalid), notes)


def why_invalid(text: str) -> str:
    """Why this is no session id."""
    bare = text.strip(_AROUND)
    if not bare:
        return "empty"
    # Many look like others, a non-breaking hyphen for one, or like nothing.
    if strange := sorted({char for char in bare if not (char.isascii() and char.isprintable())}):
        return f"a character that is not ASCII, or invisible: {', '.join(map(ascii, strange))}"
    if parsed(bare.lower()):
        return "upper case: write devin- in lower case"
    if _UUID.fullmatch(bare):
        return "a UUID: a session id has no dashes in its 32 digits"
    if "://" in bare:
        return f"an address, but not {_ADDRESSES}"
    if bare.startswith(("[", "{")):
        return "JSON: give one id a line, as jq -r '.[]' prints them"
    if " " in bare or "," in bare:
        return "more than one word: give one id a line, or name a column with --csv-column"
    return "an id is devin- with letters, digits, - and _ behind it (128 characters at most), or 32 hexadecimal digits"
