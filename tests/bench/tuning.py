"""How fast may it go: Little's law, held against an API that allows so many calls a second."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event

from tests.bench.fleet import CONTENDERS, OURS, Contender, Server
from tests.bench.result import Section, Table

ALLOWED, LATENCY = 50, 100
# What the template takes as MaximumConcurrency, and its most for MemorySize.
STEPS = (2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
MOST_MEMORY = 3008
# Milliseconds of CPU for an id, as the chapter about it has them, or nearly.
CPU_PER_ID = 0.6
TEXT = """\
By Little's law, the calls under way are the calls a second times the seconds that a call takes. The stack has at most
`MaximumConcurrency` x `MaxWorkers` calls under way, so for an API that allows *N* calls a second and takes *L* seconds:

    MaximumConcurrency x MaxWorkers <= N x L

Take *L* at its fastest (the median of quiet hours, not a percentile of busy ones): when the API is quicker than was
reckoned with, the same workers make more calls. Then

- `MaxWorkers` = N x L / 2, because the queue's least `MaximumConcurrency` is 2; at least 1, and at most 10, so that a
  batch of ten takes one call's time.
- `MaximumConcurrency` = N x L / `MaxWorkers`, rounded down to a value that the template takes. So workers are used
  before environments: those of one environment share a pace, environments find theirs by getting in each other's way.
- `BatchSize` = 10, or fewer if `BatchSize` / `MaxWorkers` x L, which is what an invocation takes, would be more than a
  tenth of its 60 s; but not fewer than `MaxWorkers`. Ten in a batch save most of what can be saved (see above). A
  hundred save a little more, need a window, and are handed back together if one is told to slow down.
- `BatchWindowSeconds` = 0 if ids arrive in bursts, since Lambda fills batches from what is there. With a trickle of r
  ids a second, `BatchSize` / r fills a batch; whoever does not want to wait pays for small batches.
- `MemorySize` = `MaxWorkers` x CPU per id / L x 1,769 MB, for which Lambda gives a whole CPU: with less, the CPU takes
  longer than the API. At least the 512 MB of the default, since imports are most of a cold start. With six tenths of a
  millisecond an id, they do for nearly 50 workers at 100 ms.

A 429 stops the calls of its invocation that have not begun, and what was not called comes back after the time that the
API asked for. From then on the execution environment spaces its calls, and finds by itself how close together they may
be. A 429 leaves four fifths of the rate. Each second of calls that go well adds a tenth of a call a second, and a tenth
of the distance to the rate that met the last 429: much of it below that rate, little near it, and much again far
beyond it.

So workers that are too many are safe. **But they cost throughput**: the only way to find a limit is to overstep it, and
an environment that did rests for a second or longer. They also cost refused calls, the ids that are handed back with
each of them, and the compute of those who wait. The more environments share a limit, the more often one of them
oversteps it. The right number of workers has none of that.

The defaults, 5 x 10 calls under way, suit an API that allows 500 calls a second at 100 ms. The API's limit is not
published; if it is lower, the pace finds it, and the table below says which values need no finding."""


@dataclass(frozen=True, slots=True)
class Values:
    """What to begin with: parameters of the template."""

    concurrency: int
    workers: int
    batch: int
    window: int
    memory: int

    def calls_a_second(self, latency: float) -> int:
        return int(self.concurrency * self.workers / latency * 1000)


def recommended(allowed: int, latency: float) -> Values:
    """The formulas of the text, for an API that takes so many milliseconds, and ids that arrive in bursts."""
    under_way = allowed * latency / 1000
    workers = max(1, min(10, int(under_way / 2)))
    concurrency = max((step for step in STEPS if step * workers <= under_way), default=STEPS[0])
    batch = max(workers, min(10, int(workers * 6000 / latency)))
    memory = min(max(512, round(workers * CPU_PER_ID / latency * 1769)), MOST_MEMORY)
    return Values(concurrency, workers, batch, 0, memory)


def _work(contender: Contender, ids: int, stop: Event, handed_back: list[int]) -> None:
    """One batch after the other; notes how many ids of each were handed back."""
    first = 0
    while not stop.is_set():
        handed_back.append(contender.invoke(first=first, ids=ids).failed)
        first += ids


def _run(server: Server, environments: int, workers: int, settling: float, seconds: float) -> list[str]:
    """So many environments at one API, measured for so many seconds once their paces have settled."""
    environment = server.environment(f"rate-{LATENCY}-{ALLOWED}", workers)
    stop, handed_back = Event(), list[int]()
    with ExitStack() as stack:
        ours = [stack.enter_context(Contender(CONTENDERS[OURS], environment)) for _ in range(environments)]
        pool = stack.enter_context(ThreadPoolExecutor(environments))
        # Whatever happens, the pool has to come to an end before the contenders do.
        stack.callback(stop.set)
        working = [pool.submit(_work, contender, workers * 2, stop, handed_back) for contender in ours]
        time.sleep(settling)
        server.counts()
        began, batches = time.monotonic(), len(handed_back)
        time.sleep(seconds)
        counts, spent, measured = server.counts(), time.monotonic() - began, handed_back[batches:]
        stop.set()
        for worker in working:
            worker.result()
    refused, done = counts.get("429", 0), counts.get("200", 0)
    return [
        f"{environments} x {workers}",
        f"{environments * workers / LATENCY * 1000:.0f}",
        f"{done / spent:.1f}",
        f"{refused / max(refused + done, 1):.1%}",
        f"{sum(measured) / max(len(measured) * workers * 2, 1):.1%}",
    ]


def measure(server: Server, *, quick: bool) -> Section:
    """More and more workers against one limit, in one environment and in five."""
    under_way = ALLOWED * LATENCY // 1000
    alone, together = ((under_way, 4 * under_way), (2,)) if quick else ((under_way, 6, 10, 20), (1, 2, 10))
    # One that is alone oversteps the limit every half minute or so.
    settling, seconds = (1.0, 1.0) if quick else (15.0, 30.0)
    rows = [_run(server, 1, workers, settling, seconds) for workers in alone]
    rows += [_run(server, 5, workers, settling, seconds) for workers in together]
    table = []
    for allowed in (10, 20, 50, 100, 500):
        for latency in (100, 500):
            values = recommended(allowed, latency)
            rate = values.calls_a_second(latency)
            too_fast = " (more than allowed)" if rate > allowed else ""
            numbers = (values.concurrency, values.workers, values.batch, values.window, values.memory)
            table.append([f"{allowed}/s, {latency} ms", *map(str, numbers), f"{rate}{too_fast}"])
    return Section(
        "How fast may it go",
        [
            TEXT,
            (
                "Measured: environments, each a process of its own, that work off one batch after the other, of twice "
                f"as many ids as workers. The API takes {LATENCY} ms for a call and answers 429 to what exceeds "
                f"{ALLOWED} a second, in bursts of a tenth of a second's worth. For the first {settling:.0f} s, which "
                f"do not count, they run against this limit and find their pace; the {seconds:.0f} s after that are "
                f"measured without a break in between. Little's law says {under_way} workers in all."
            ),
        ],
        [
            Table(
                "Workers against a limit",
                ["environments x workers", "calls/s by Little's law", "ended/s", "calls refused", "ids handed back"],
                rows,
            ),
            Table(
                "Values to begin with",
                [
                    "API",
                    "MaximumConcurrency",
                    "MaxWorkers",
                    "BatchSize",
                    "BatchWindowSeconds",
                    "MemorySize",
                    "calls/s at most",
                ],
                table,
            ),
        ],
    )
