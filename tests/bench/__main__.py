"""`make bench`: measures, prints, and writes docs/performance.md. `PARTS="batches per_id"` measures only some."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from infra.environments import ROOT
from infra.local.run_directory import LOCAL
from tests.bench import anatomy, batches, cold_start, deployed, money, per_id, sweeps, tuning
from tests.bench.fleet import PYTHON, Server
from tests.bench.result import Section, Table

PARTS: dict[str, Callable[..., Section]] = {
    "batches": batches.measure,
    "per_id": per_id.measure,
    "anatomy": anatomy.measure,
    "cold_start": cold_start.measure,
    "sweeps": sweeps.measure,
    "money": money.measure,
    "tuning": tuning.measure,
    "deployed": deployed.measure,
}
# Not in a quick run, unless named: it starts the stack.
SLOW = {"deployed"}
INTRODUCTION = """\
# Performance

Written by `make bench`; do not edit. All numbers of a table come from one run on one machine, contenders taking turns,
and are medians. Compare them with each other, not with those of another machine. No test depends on them.

```sh
make bench                      # everything, about twelve minutes; leave the machine alone meanwhile
QUICK=1 make bench              # does it run at all: prints, writes nothing here
make bench PARTS="per_id"       # one part of: {parts}
make bench UPDATE=1 PARTS="per_id"   # and put its chapter here; it says when it was measured
```
"""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _versions() -> str:
    script = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    names = ["boto3", "requests", "urllib3", "aws-lambda-powertools", "aiohttp"]
    return subprocess.run([PYTHON, "-c", script, *names], capture_output=True, text=True, check=True).stdout.strip()


def _machine(load: float) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} x {_cpu()}, {memory:.0f} GB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, {_versions()}, rich "
        f"{importlib.metadata.version('rich')}. Load average when it began: {load:.2f}."
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, less than a minute; writes nothing to docs")
    parser.add_argument("--update", action="store_true", help="replace the chapters of these parts in docs")
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(PARTS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return arguments


def _goals(sections: Sequence[Section]) -> Table:
    goals = [goal.row() for section in sections for goal in section.goals]
    return Table("What was aimed for", ["goal", "wanted", "measured", ""], goals)


def _write(place: Path, sections: Sequence[Section], machine: str) -> Path:
    """The document, with its pictures beside it."""
    place.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for figure, svg in section.figures.items():
            (place / figure).write_text(svg)
    chapters = [
        INTRODUCTION.format(parts=", ".join(PARTS)),
        machine,
        f"## Goals\n\n{_goals(sections).markdown()}",
        *(section.markdown() for section in sections),
    ]
    document = place / "performance.md"
    document.write_text("\n\n".join(chapter.strip() for chapter in chapters) + "\n")
    return document


def _update(sections: Sequence[Section], machine: str) -> Path:
    """Put the chapters of some parts, and their goals, in the place of older ones."""
    document = ROOT / "docs" / "performance.md"
    chapters = {
        chapter.partition("\n")[0].removeprefix("## "): chapter
        for chapter in re.split(r"^(?=## )", document.read_text(), flags=re.MULTILINE)
    }
    for section in sections:
        fresh = section.markdown().strip()
        title, _, text = fresh.partition("\n")
        name = title.removeprefix("## ")
        if name not in chapters:
            raise SystemExit(f"docs/performance.md has no chapter {name!r}; run `make bench` for all of it")
        chapters[name] = f"{title}\n\nMeasured after the others: {machine}\n{text}\n\n"
        for figure, svg in section.figures.items():
            (document.parent / figure).write_text(svg)
        for goal in section.goals:
            row = "| " + " | ".join(goal.row()) + " |"
            old = rf"^\| {re.escape(goal.name)} \|.*$"
            chapters["Goals"] = re.sub(old, row.replace("\\", r"\\"), chapters["Goals"], flags=re.MULTILINE)
    document.write_text("".join(chapters.values()).strip() + "\n")
    return document


def main() -> int:
    """Measure what was asked for. A goal that was not met is said, and is no failure: this is no test."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    machine, sections = _machine(os.getloadavg()[0]), list[Section]()
    document = LOCAL / "bench" / "performance.md"
    for name, measure in PARTS.items():
        wanted = arguments.parts or [name for name in PARTS if not (arguments.quick and name in SLOW)]
        if name not in wanted:
            continue
        began = time.monotonic()
        with Server() as server:
            sections.append(measure(server, quick=arguments.quick))
        for table in sections[-1].tables:
            table.show(console)
        console.print(f"{name}: {time.monotonic() - began:.0f} s\n", style="dim")
        # So that what was measured is not lost if the rest fails.
        document = _write(LOCAL / "bench", sections, machine)
    _goals(sections).show(console)
    if not arguments.quick and not arguments.parts:
        document = _write(ROOT / "docs", sections, machine)
    if arguments.update:
        document = _update(sections, machine)
    console.print(f"written: {document.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
