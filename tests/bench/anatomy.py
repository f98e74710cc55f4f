"""What of an id's CPU goes where: from the limit to this project, one step after the other."""

from __future__ import annotations

from contextlib import ExitStack

from tests.bench.fleet import CONTENDERS, LIMIT, OURS, Contender, Server, Spread
from tests.bench.result import Section, Table

STEPS = {
    f"{LIMIT}, the limit": CONTENDERS[LIMIT],
    "the same over this project's transport: requests, bounds in time and size": "tests.bench.steps.transport_alone",
    "all of this project but log lines and metrics": "tests.bench.steps.without_report",
    "with metrics": "tests.bench.steps.without_log_lines",
    f"with log lines: {OURS}": CONTENDERS[OURS],
}


def measure(server: Server, *, quick: bool) -> Section:
    """CPU per id of each step, taking turns."""
    ids, repeats = (50, 3) if quick else (200, 15)
    found: dict[str, list[float]] = {name: [] for name in STEPS}
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(Contender(module, server.environment("fixed-20-0")))
            for name, module in STEPS.items()
        }
        for contender in running.values():
            contender.at(server.url("fixed-20-0"))
        for _ in range(repeats):
            for name, contender in running.items():
                found[name].append(contender.invoke(ids=ids).cpu / ids * 1000)
    spreads = {name: Spread.of(values) for name, values in found.items()}
    rows, before = [], 0.0
    limit = next(iter(spreads.values())).median
    for name, spread in spreads.items():
        rows.append([name, spread.told(1, 3), f"{spread.median - before:+.3f}", f"{spread.median / limit:.2f}"])
        before = spread.median
    return Section(
        "What the difference to the limit is made of",
        [
            (
                f"Milliseconds of CPU per id at 20 ms, {ids} ids a batch, {repeats} batches. The limit checks nothing: "
                "no id against an allow-list, no bound on how long an answer may drip or how much of it is kept, no "
                "condition, no duplicate, no word about what became of a session. requests and Powertools are what the "
                "project is built on; what remains of them here is what an adapter of requests and a JSON line cost. "
                "Switched off or gone around already: environment lookups, cookies, redirects and URL preparation of "
                "requests, its search for a pool at each call, spaces in JSON, clients that few invocations need, and "
                "a thread for what needs no write."
            )
        ],
        [Table("Step by step", ["", "CPU", "more than the one before", "/ the limit"], rows)],
    )
