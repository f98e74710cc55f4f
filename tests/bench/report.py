"""Goals and tables, as text and as docs/performance.md."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.environments import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
INTRODUCTION = """\
# Performance

Written by `make bench`; do not edit. It takes about ten minutes and needs valgrind (`apt-get install valgrind`).

Instructions are counted by `valgrind --tool=callgrind` on the built artefact: they vary by a few per cent from run to
run, whatever else the machine does, where times vary by a third. The API and AWS are local servers; over TLS, with a
CA bundle of real size. Times stand beside them, as medians, and are those of a whole CPU; Lambda gives 512 MB 0.29 of
one after initialisation."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A number that should not be exceeded."""

    name: str
    most: float
    measured: float

    def row(self) -> list[str]:
        met = "met" if self.measured <= self.most else "**not met**"
        return [self.name, f"{self.most:,.2f}", f"{self.measured:,.2f}", met]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        line = ["---", *["---:"] * (len(self.head) - 1)]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in (self.head, line, *self.rows))
        return "\n\n".join(part for part in (f"## {self.title}", self.text, table) if part)


def document(goals: Sequence[Goal], tables: Sequence[Table]) -> str:
    said = Table("Goals", _stamp(), ["", "at most", "measured", ""], [goal.row() for goal in goals])
    return "\n\n".join([INTRODUCTION, *(table.markdown() for table in (said, *tables))]) + "\n"


def _stamp() -> str:
    """When, which code, which machine."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = names[0].partition(": ")[2] if names else platform.machine()
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} at commit {commit or 'unknown'} on {os.cpu_count()} x {cpu}, "
        f"Python {platform.python_version()}."
    )
