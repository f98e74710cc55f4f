"""How fast may it go: Little's law, held against an API that allows so many calls a second."""

from __future__ import annotations

import time

from tests.bench.fleet import CONTENDERS, OURS, Contender, Server
from tests.bench.result import Section, Table

ALLOWED, LATENCY = 50, 100
# The template's bounds for MaximumConcurrency.
STEPS = (2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
TEXT = """\
By Little's law, the calls under way are the calls a second times the seconds that a call takes. The stack has at most
`MaximumConcurrency` x `MaxWorkers` calls under way, so for an API that allows *N* calls a second and takes *L* seconds:

    MaximumConcurrency x MaxWorkers <= N x L

Take *L* at its fastest (the median of quiet hours, not a percentile of busy ones): when the API is quicker than was
reckoned with, the same workers make more calls. Then

- `MaxWorkers` = `BatchSize` up to 10, so that a batch takes one call's time; at least 1, and no more than N x L / 2,
  because the queue's least `MaximumConcurrency` is 2.
- `MaximumConcurrency` = N x L / `MaxWorkers`, rounded down to a value that the template takes.
- `BatchSize` is what saves money (see below), `MaxWorkers` what saves time. With an API that allows little, let
  `BatchSize` be larger than `MaxWorkers`: the invocation takes `BatchSize` / `MaxWorkers` x L, which has to stay far
  below its 60 s.
- `BatchWindowSeconds`: 0 if ids arrive in bursts, since Lambda fills batches from what is there. With a trickle of r
  ids a second, `BatchSize` / r fills a batch; whoever does not want to wait pays for small batches.
- `MemorySize`: a CPU comes with 1,769 MB, and a batch needs `BatchSize` x its CPU per id. That is less than the API's
  time as long as `MaxWorkers` x CPU per id / (MB / 1,769) < L. With half a millisecond an id, 512 MB do some 50 workers
  at 100 ms; the default of 10 leaves them idle most of the time.

A 429 stops the calls of its invocation that have not begun, and what was not called comes back after the time that the
API asked for. From then on the execution environment spaces its calls, and finds by itself how close together they may
be: half as many a second after each 429, one more in each second that goes well. So workers that are too many are safe,
and cost some refused calls and the compute of those who wait. They are never faster than the right number.

The defaults, 5 x 10 calls under way, suit an API that allows 500 calls a second at 100 ms. The API's limit is not
published; if it is lower, the pace finds it, and the table below says which values need no finding."""


def recommended(allowed: int, latency: float) -> tuple[int, int, int]:
    """MaximumConcurrency, MaxWorkers and the calls a second that they allow at most."""
    under_way = allowed * latency / 1000
    workers = max(1, min(10, int(under_way / 2)))
    concurrency = max((step for step in STEPS if step * workers <= under_way), default=STEPS[0])
    return concurrency, workers, int(concurrency * workers / latency * 1000)


def _run(server: Server, workers: int, seconds: float) -> list[str]:
    behaviour = f"rate-{LATENCY}-{ALLOWED}"
    with Contender(CONTENDERS[OURS], server.environment(behaviour, workers)) as ours:
        ours.invoke(ids=workers, environment={"DEVIN_API_URL": server.url(f"fixed-{LATENCY}-0")})
        ours.invoke(ids=workers, environment={"DEVIN_API_URL": server.url(behaviour)})
        server.counts()
        began, failed, sent = time.monotonic(), 0, 0
        while time.monotonic() - began < seconds:
            took = ours.invoke(first=sent, ids=workers * 2)
            failed, sent = failed + took.failed, sent + workers * 2
        spent, counts = time.monotonic() - began, server.counts()
    refused, done = counts.get("429", 0), counts.get("200", 0)
    return [
        str(workers),
        f"{workers / LATENCY * 1000:.0f}",
        f"{done / spent:.1f}",
        f"{refused / max(refused + done, 1):.1%}",
        f"{failed / sent:.1%}",
    ]


def measure(server: Server, *, quick: bool) -> Section:
    """One invocation after the other with more and more workers, against one limit."""
    under_way = ALLOWED * LATENCY // 1000
    workers = (under_way, 4 * under_way) if quick else (1, 2, under_way, 6, 10, 20)
    rows = [_run(server, number, 1.0 if quick else 12.0) for number in workers]
    table = []
    for allowed in (10, 20, 50, 100, 500):
        for latency in (100, 500):
            concurrency, most, rate = recommended(allowed, latency)
            too_fast = " (more than allowed)" if rate > allowed else ""
            table.append([f"{allowed}/s, {latency} ms", str(concurrency), str(most), f"{rate}{too_fast}"])
    return Section(
        "How fast may it go",
        [
            TEXT,
            (
                "Measured: batches of twice as many ids as workers, one after the other for 12 s, against an API that "
                f"takes {LATENCY} ms and answers 429 to what exceeds {ALLOWED} calls a second. Little's law says "
                f"{under_way} workers."
            ),
        ],
        [
            Table(
                "Workers against a limit",
                ["workers", "calls/s by Little's law", "ended/s", "calls refused", "ids handed back"],
                rows,
            ),
            Table("Values to begin with", ["API", "MaximumConcurrency", "MaxWorkers", "calls/s at most"], table),
        ],
    )
