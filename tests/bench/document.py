"""docs/performance.md: written as a whole, or with some of its chapters replaced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.bench.result import Section, goals, line

NAME = "performance.md"
GOALS = "Goals"
INTRODUCTION = """\
# Performance

Written by `make bench`; do not edit. The numbers of a table come from one run on one machine, on which contenders take
turns: compare them with each other, not with those of another machine. Chapters may be of different times; each says
when, where and on which commit it was measured. No test depends on them.

A number with two in brackets is a median with its quartiles, or with its extremes if there were fewer than four
repeats. Batch times, and what a chapter says were repeated, are medians too. Single runs are: batch times whose row
says 1 repeat, peak memory and allocations of batches, workers against a limit, and drains of more than 100 messages.
Money goes by means, since it is a sum that is paid.

```sh
make bench                      # everything, about 25 minutes on two cores; leave the machine alone meanwhile
QUICK=1 make bench              # does it run at all: prints, writes nothing here
make bench PARTS="per_id money" # some parts; prints, writes nothing here
make bench UPDATE=1 PARTS="per_id money"   # and puts their chapters and goals here, in place of the older ones
```

Parts: {parts}.
"""


def write(place: Path, sections: Sequence[Section], parts: Sequence[str]) -> Path:
    """The document, with its pictures beside it."""
    place.mkdir(parents=True, exist_ok=True)
    _draw(place, sections)
    chapters = [_introduction(parts), f"## {GOALS}\n\n{goals(sections).markdown()}"]
    document = place / NAME
    document.write_text(_joined([*chapters, *(section.markdown() for section in sections)]))
    return document


def update(place: Path, sections: Sequence[Section], parts: Sequence[str]) -> Path:
    """Put the chapters of some parts, and their goals, in the place of older ones, and the introduction as it is now.

    Raises SystemExit if there is no such chapter.
    """
    document = place / NAME
    document.write_text(updated(document.read_text(), sections, parts))
    _draw(place, sections)
    return document


def updated(text: str, sections: Sequence[Section], parts: Sequence[str]) -> str:
    """The text of the document with chapters, goals and introduction replaced. Raises SystemExit as `update`."""
    _, *old = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    chapters = {chapter.partition("\n")[0].removeprefix("## "): chapter for chapter in old}
    if missing := [section.title for section in sections if section.title not in chapters]:
        raise SystemExit(f"docs/{NAME} has no chapter {', '.join(missing)}; run `make bench` for all of it")
    chapters |= {section.title: section.markdown() for section in sections}
    chapters[GOALS] = _goals(chapters[GOALS], sections, list(chapters))
    return _joined([_introduction(parts), *chapters.values()])


def _goals(old: str, sections: Sequence[Section], order: Sequence[str]) -> str:
    """The rows of other chapters stay as they are; a row says in its last column whose it is."""
    replaced = {section.title for section in sections}
    fresh = goals(sections)
    rows = [row.strip("| ").split(" | ") for row in old.splitlines() if row.startswith("| ")][2:]
    if strange := [row[0] for row in rows if row[-1] not in order]:
        raise SystemExit(f"docs/{NAME} does not say whose goal {strange[0]!r} is; run `make bench` for all of it")
    kept = [row for row in rows if row[-1] not in replaced]
    rows = sorted([*kept, *map(list, fresh.rows)], key=lambda row: order.index(row[-1]))
    head = fresh.markdown().splitlines()[:4]
    return "\n".join([f"## {GOALS}", "", *head, *map(line, rows)])


def _introduction(parts: Sequence[str]) -> str:
    return INTRODUCTION.format(parts=", ".join(parts))


def _joined(chapters: Sequence[str]) -> str:
    return "\n\n".join(chapter.strip() for chapter in chapters) + "\n"


def _draw(place: Path, sections: Sequence[Section]) -> None:
    for section in sections:
        for figure, svg in section.figures.items():
            (place / figure).write_text(svg)
