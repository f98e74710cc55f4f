"""What a million ids cost: list prices times what was measured."""

from __future__ import annotations

import math
import statistics
import subprocess
from collections.abc import Mapping

from infra.environments import ROOT
from tests.bench.artefact import built, placed, start
from tests.bench.bill import (
    COLD_EVERY,
    CPU_SHARE,
    EVENT_BYTES,
    MONTH_SECONDS,
    MONTHS_STORED,
    PLATFORM_BYTES,
    PRICES,
    STORED,
    TRACED,
    Batch,
    Bill,
    bill,
    fixed_costs,
    traced_share,
)
from tests.bench.cold_start import INITIALISE
from tests.bench.fleet import CONTENDERS, OURS, PYTHON, WORKERS, Contender, Server, work
from tests.bench.result import Goal, Section, Table, against

# By the API's milliseconds: the goal is about 100.
BATCHES = {20: (1, 10, 100), 100: (1, 10, 20, 50, 100), 500: (1, 10, 100)}
LONGEST_WINDOW_SECONDS, LARGEST_BATCH = 60, 100  # the template's bounds
A_MONTH = (1, 10, 100)

# By number of ids and latency.
type Batches = Mapping[tuple[int, int], Batch]


def _durations(server: Server, latency: int, *, quick: bool) -> dict[int, Batch]:
    """Billed milliseconds and log bytes of a batch, by its size; with a tail, as the API will have one.

    While ten threads wait, a fraction of a CPU is enough; the CPU time itself takes as much longer as Lambda's share
    is smaller than the whole CPU it had here. All of it is added, as if none overlapped with the waiting.
    """
    found: dict[int, Batch] = {}
    behaviour = f"tail-{latency}-0"
    with Contender(CONTENDERS[OURS], server.environment(behaviour)) as ours:
        ours.at(server.url(behaviour))
        for ids in BATCHES[latency]:
            times = 2 if quick else max(3, min(12, int(2000 / latency / math.ceil(ids / WORKERS))))
            took = [work(server, ours, first=1000 * number, ids=ids) for number in range(times)]
            # Means, not medians: every one of them is paid for.
            wall = statistics.mean(one.wall for one in took) * 1000
            cpu = statistics.mean(one.cpu for one in took) * 1000
            lines = ids + 1
            logged = took[0].logged + lines * EVENT_BYTES
            found[ids] = Batch(ids, math.ceil(wall + cpu * (1 / CPU_SHARE - 1)), float(logged))
    return found


def _initialisation(server: Server, times: int) -> float:
    """Milliseconds of a cold start's first part, which gets a whole CPU."""
    with built() as artefact:
        variables = placed(artefact.compiled, server.environment("fixed-0-0"))
        start(INITIALISE, variables)
        return statistics.mean(start(INITIALISE, variables).wall for _ in range(times)) * 1000


def _metrics(server: Server) -> int:
    """Metrics that appear in a month in which everything happens, by the functions' own lists."""
    script = "from terminate.report import METRICS; from sweep.handler import Metric; print(len(METRICS) + len(Metric))"
    command = [str(PYTHON), "-c", script]
    environment = server.environment("fixed-0-0")
    return int(subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True).stdout)


def _rows(batches: Batches, cold: float) -> list[list[str]]:
    rows = []
    for (ids, latency), batch in batches.items():
        one = bill(batch, cold)
        each = bill(batch, cold, traced=1.0).total
        together = bill(batch, cold, sent_together=10).total
        parts = (one.compute, one.cold_starts, one.requests, one.queue, one.logs, one.traces)
        rows.append(
            [f"{ids} x {latency} ms", f"{batch.milliseconds:,.0f}", f"{batch.log_bytes / ids:.0f}"]
            + [f"{part:.3f}" for part in parts]
            + [f"**{one.total:.2f}**", f"{each:.2f}", f"{together:.2f}"]
        )
    return rows


def _evenly(batch: Batch, cold: float, ids_a_second: float) -> Bill:
    return bill(batch, cold, traced=traced_share(ids_a_second / batch.ids))


def _month(batches: Batches, cold: float, fixed: float) -> list[list[str]]:
    """Dollars for a million ids, a month's fixed costs among them, by how many there are and how they come."""
    rows = []
    for millions in A_MONTH:
        rate = millions * 1e6 / MONTH_SECONDS
        filled = max(ids for ids in BATCHES[100] if ids <= max(rate * LONGEST_WINDOW_SECONDS, 1))
        variable = [
            bill(batches[10, 100], cold),
            bill(batches[10, 100], cold, sent_together=10),
            _evenly(batches[1, 100], cold, rate),
            _evenly(batches[filled, 100], cold, rate),
        ]
        totals = [f"{one.total + fixed / millions:.2f}" for one in variable]
        rows.append(
            [f"{millions:,} million", f"{fixed / millions:.2f}", *totals[:3], f"{totals[3]} (batches of {filled})"]
        )
    return rows


def _mended(batches: Batches, cold: float) -> str:
    """From which batch size on a trickle of which every invocation is traced costs less than a dollar a million."""
    enough = [ids for ids in BATCHES[100] if bill(batches[ids, 100], cold, traced=1.0).total < 1]
    if not enough:
        return "no window that the template takes mends it"
    ids = enough[0]
    return (
        f"below 1 dollar from batches of {ids} on: with r ids a second, a window of {ids} / r s, so from "
        f"{ids / LONGEST_WINDOW_SECONDS:.2f} ids a second on"
    )


def _goals(batches: Batches, cold: float, month: list[list[str]]) -> list[Goal]:
    burst = bill(batches[10, 100], cold).total
    traced = bill(batches[10, 100], cold, traced=1.0).total
    trickle = bill(batches[1, 100], cold, traced=1.0).total
    wanted = "less than 1 dollar"
    return [
        Goal("a million ids, batches of 10 x 100 ms, in bursts", wanted, f"{against(burst, 1)} dollars", burst < 1),
        Goal(
            "a million ids, batches of 10 x 100 ms, below one a second",
            wanted,
            f"{against(traced, 1)} dollars",
            traced < 1,
        ),
        Goal(
            "a million ids one by one x 100 ms: a trickle without a window",
            wanted,
            f"{trickle:.2f} dollars; {_mended(batches, cold)}",
            trickle < 1,
        ),
        Goal.told(
            f"batches of 10 x 100 ms in bursts with fixed costs, {', '.join(map(str, A_MONTH))} million ids a month",
            f"{', '.join(row[2] for row in month)} dollars a million",
        ),
    ]


def measure(server: Server, *, quick: bool) -> Section:
    """Bills by batch size and latency, by how ids come, and with what a month costs anyway."""
    batches: dict[tuple[int, int], Batch] = {}
    for latency in (100,) if quick else BATCHES:
        for ids, batch in _durations(server, latency, quick=quick).items():
            batches[ids, latency] = batch
    cold = _initialisation(server, 2 if quick else 7)
    fixed = fixed_costs(_metrics(server))
    month = _month(batches, cold, sum(fixed.values()))
    prices = [
        [name.replace("_", " "), f"{entry['price']:.10f}".rstrip("0").rstrip("."), entry["source"]]
        for name, entry in PRICES.items()
        if isinstance(entry, dict)
    ]
    return Section(
        "What a million ids cost",
        [
            (
                f"US dollars at the list prices of {PRICES['region']}, {PRICES['date']} (`tests/bench/prices.json`), "
                "without free tiers, for ids that end at the first attempt. Measured, as means: the duration of a "
                f"batch, with a tail, its CPU time stretched to what 512 MB get of a CPU ({CPU_SHARE:.2f}) and added "
                f"to the waiting; the bytes that it logs; the {cold:.0f} ms of an initialisation. Assumed: one "
                f"invocation of {COLD_EVERY} is a cold start, and pays for it; {PLATFORM_BYTES} bytes an invocation "
                f"are Lambda's own lines; logs are kept for {MONTHS_STORED} months, compressed to {STORED:.0%}."
            ),
            (
                "The queue: each id sent by a request of its own, received and deleted ten at a time. A message with "
                "`session_ids` costs less still than ids sent by tens with `SendMessageBatch`."
            ),
            (
                f"Traces: X-Ray takes the first invocation of each second, and {TRACED:.0%} of the others. In a burst "
                f"of many invocations a second that is {TRACED:.0%}. A trickle of less than one invocation a second "
                "is traced as a whole, and pays for it: that is the total with each traced. `BatchWindowSeconds` makes "
                f"fewer invocations of the same ids, up to {LARGEST_BATCH} ids or {LONGEST_WINDOW_SECONDS} s."
            ),
            (
                f"A month has fixed costs of at most {sum(fixed.values()):.2f}. Ids that come evenly are traced as "
                "their invocations come; without a window each of them has one of its own. With the longest window, "
                f"batches are as large as {LONGEST_WINDOW_SECONDS} s of them fill, of the sizes that were measured."
            ),
        ],
        [
            Table(
                "For a million ids, without fixed costs",
                [
                    "batch x latency",
                    "ms billed",
                    "log bytes per id",
                    "compute",
                    "cold starts",
                    "requests, secret",
                    "queue",
                    "logs",
                    f"traces, {TRACED:.0%}",
                    "total",
                    "total, each traced",
                    "total, sent by tens",
                ],
                _rows(batches, cold),
            ),
            Table(
                "Fixed costs of a month",
                ["what", "US dollars"],
                [
                    *([name, f"{dollars:.2f}"] for name, dollars in fixed.items()),
                    ["**all**", f"{sum(fixed.values()):.2f}"],
                ],
            ),
            Table(
                "For a million ids of 100 ms, fixed costs included",
                [
                    "ids a month",
                    "fixed costs",
                    "in bursts, batches of 10",
                    "in bursts, sent by tens",
                    "evenly, without a window",
                    "evenly, with the longest window",
                ],
                month,
            ),
            Table("Prices", ["what", "US dollars", "source"], prices),
        ],
        _goals(batches, cold, month),
    )
