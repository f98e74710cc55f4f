"""`make bench`: measures, prints, and writes docs/performance.md. `PARTS="batches per_id"` measures only some."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from rich.console import Console

from infra.environments import ROOT
from infra.local.run_directory import LOCAL
from tests.bench import anatomy, batches, cold_start, deployed, document, money, per_id, sweeps, tls, tuning
from tests.bench.fleet import Server
from tests.bench.machine import stamp
from tests.bench.result import Section, goals

PARTS: dict[str, Callable[..., Section]] = {
    "batches": batches.measure,
    "per_id": per_id.measure,
    "anatomy": anatomy.measure,
    "tls": tls.measure,
    "cold_start": cold_start.measure,
    "sweeps": sweeps.measure,
    "money": money.measure,
    "tuning": tuning.measure,
    "deployed": deployed.measure,
}
# Not in a quick run, unless named: it starts the stack.
SLOW = {"deployed"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute or two; writes nothing to docs")
    parser.add_argument("--update", action="store_true", help="replace the chapters of these parts in docs")
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(PARTS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if arguments.quick and arguments.update:
        parser.error("what a quick run measures is not for the document")
    return arguments


def main() -> int:
    """Measure what was asked for. A goal that was not met is said, and is no failure: this is no test."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    sections, parts, written = list[Section](), list(PARTS), LOCAL / "bench" / document.NAME
    for name, measure in PARTS.items():
        wanted = arguments.parts or [name for name in PARTS if not (arguments.quick and name in SLOW)]
        if name not in wanted:
            continue
        began, said = time.monotonic(), stamp()
        with Server() as server:
            sections.append(measure(server, quick=arguments.quick))
        spent = time.monotonic() - began
        sections[-1].stamp = f"{said} It took {spent:.0f} s."
        for table in sections[-1].tables:
            table.show(console)
        console.print(f"{name}: {spent:.0f} s\n", style="dim")
        # So that what was measured is not lost if the rest fails.
        written = document.write(LOCAL / "bench", sections, parts)
    goals(sections).show(console)
    if not arguments.quick and not arguments.parts:
        written = document.write(ROOT / "docs", sections, parts)
    elif arguments.update:
        written = document.update(ROOT / "docs", sections, parts)
    console.print(f"written: {written.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
