"""What of an id's CPU goes where: from the limit to this project, and what was switched off to come this close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise

from tests.bench.fleet import CONTENDERS, LIMIT, OURS, Contender, Server, Spread, Took, work
from tests.bench.result import Section, Table

TRANSPORT = "this project's transport: an adapter of requests, bounds in time and size"
UP = {
    f"{LIMIT}, the limit": CONTENDERS[LIMIT],
    TRANSPORT: "tests.bench.steps.transport_alone",
    "all of this project but log lines and metrics": "tests.bench.steps.without_report",
    "with metrics": "tests.bench.steps.without_log_lines",
    f"with log lines: {OURS}": CONTENDERS[OURS],
}
DOWN = {
    "a requests.Session for each worker, as it comes": "tests.bench.steps.session",
    "no environment lookups (proxies, .netrc, CA bundle)": "tests.bench.steps.session_without_environment",
    "no cookies, no redirects": "tests.bench.steps.session_without_cookies",
    "prepared requests: no address taken apart": "tests.bench.steps.session_of_prepared_requests",
    f"no session: {TRANSPORT}": UP[TRANSPORT],
}
# What it is done to, and the handler that does it.
BACK = {
    "a task of the pool for each id": (LIMIT, "tests.bench.steps.task_for_each_id"),
    "an EMF line of metrics for each id": (OURS, "tests.bench.steps.flush_for_each_id"),
    "spaces in the JSON of log lines": (OURS, "tests.bench.steps.spaces_in_json"),
}


def _cpu(tooks: Sequence[Took], ids: int) -> Spread:
    """Milliseconds for each id."""
    return Spread.of([took.cpu / ids * 1000 for took in tooks])


def _logged(tooks: Sequence[Took], ids: int) -> float:
    return tooks[-1].logged / ids


def _chain(names: Sequence[str], cpu: Mapping[str, Spread], base: Spread) -> list[list[str]]:
    """Each with its difference to the one before."""
    steps = ["", *(f"{cpu[one].median - cpu[before].median:+.3f}" for before, one in pairwise(names))]
    return [
        [name, cpu[name].told(1, 3), step, f"{cpu[name].median / base.median:.2f}"]
        for name, step in zip(names, steps, strict=True)
    ]


def measure(server: Server, *, quick: bool) -> Section:
    """CPU per id of each step, taking turns."""
    ids, repeats = (50, 2) if quick else (200, 9)
    modules = UP | DOWN | {name: module for name, (_, module) in BACK.items()}
    of = {module: name for name, module in modules.items()}
    taken: dict[str, list[Took]] = {module: [] for module in of}
    with ExitStack() as stack:
        running = {module: stack.enter_context(Contender(module, server.environment("fixed-20-0"))) for module in of}
        for contender in running.values():
            contender.at(server.url("fixed-20-0"))
        for _ in range(repeats):
            for module, contender in running.items():
                taken[module].append(work(server, contender, ids=ids))
    cpu = {name: _cpu(taken[module], ids) for name, module in modules.items()}
    limit = cpu[next(iter(UP))]
    back = []
    for name, (whose, module) in BACK.items():
        before = CONTENDERS[whose]
        difference = cpu[name].median - _cpu(taken[before], ids).median
        logged = _logged(taken[module], ids) - _logged(taken[before], ids)
        back.append([f"{name} ({whose})", cpu[name].told(1, 3), f"{difference:+.3f}", f"{logged:+.0f}"])
    more = ["", "CPU", "more than the one before", "/ the limit"]
    return Section(
        "What the difference to the limit is made of",
        [
            (
                f"Milliseconds of CPU per id at 20 ms, {ids} ids a batch, {repeats} batches. The limit checks nothing: "
                "no id against an allow-list, no bound on how long an answer may drip or how much of it is kept, no "
                "condition, no duplicate, no word about what became of a session. requests and Powertools are what the "
                "project is built on; what remains of them here is what an adapter of requests and a JSON line cost."
            ),
            (
                "The other two tables show what is switched off already. Down from a `requests.Session` to the "
                "transport, each row has one thing less than the one before; all of them run the limit's workers. Then "
                "what comes of putting single things back. What a cold start is spared is in the chapter about it."
            ),
        ],
        [
            Table("Step by step, up from the limit", more, _chain(list(UP), cpu, limit)),
            Table("Step by step, down from a session", more, _chain(list(DOWN), cpu, limit)),
            Table("Put back", ["", "CPU", "more than without", "more bytes of log per id"], back),
        ],
    )
