"""What an id costs the process: CPU, memory, allocations."""

from __future__ import annotations

from tests.bench.fleet import (
    CONTENDERS,
    LIMIT,
    OURS,
    SEQUENTIAL,
    WORKERS,
    Contender,
    Server,
    Spread,
    contenders,
    work,
)
from tests.bench.result import Goal, Section, Table


def _cpu(server: Server, latency: int, ids: int, repeats: int) -> dict[str, Spread]:
    with contenders(server, f"fixed-{latency}-0") as running:
        found: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(repeats):
            for name, contender in running.items():
                share = WORKERS if name in SEQUENTIAL and latency else 1
                took = work(server, contender, ids=ids // share)
                found[name].append(took.cpu / (ids // share) * 1000)
    return {name: Spread.of(values) for name, values in found.items()}


def _peaks(server: Server, ids: int) -> dict[str, int]:
    """Of fresh processes, so that nothing earlier counts."""
    peaks = {}
    for name, module in CONTENDERS.items():
        with Contender(module, server.environment("fixed-0-0")) as contender:
            peaks[name] = work(server, contender, ids=ids).peak_kilobytes
    return peaks


def measure(server: Server, *, quick: bool) -> Section:
    """CPU per id without latency and with some; memory of batches far larger than SQS sends."""
    ids, repeats = (50, 3) if quick else (200, 15)
    busy, waiting = _cpu(server, 0, ids, repeats), _cpu(server, 20, ids, max(repeats // 2, 2))
    small, large = (10, 100) if quick else (1000, 10_000)
    few, many = _peaks(server, small), _peaks(server, large)
    allocated = {}
    with contenders(server, "fixed-0-0") as running:
        for name, contender in running.items():
            allocated[name] = work(server, contender, ids=100, traced=True).allocated
    rows = [
        [
            name,
            busy[name].told(1, 3),
            f"{busy[name].median / busy[LIMIT].median:.2f}",
            waiting[name].told(1, 3),
            f"{waiting[name].median / waiting[LIMIT].median:.2f}",
            f"{few[name] / 1024:.0f}",
            f"{many[name] / 1024:.0f}",
            f"{allocated[name] / 1024:,.0f}",
        ]
        for name in CONTENDERS
    ]
    return Section(
        "What an id costs the process",
        [
            (
                f"Milliseconds of CPU, user and system, of the contender's process alone, for each of {ids} ids of a "
                f"batch (with latency, {ids // WORKERS} for those that call one after the other): median and "
                f"quartiles of {repeats} batches without latency and {max(repeats // 2, 2)} with 20 ms. Peak memory "
                "(`VmHWM`) is that of a fresh process with a single invocation, run once. Allocated: the peak of what "
                "Python held at once during a batch of 100, over what it held before; once as well."
            ),
        ],
        [
            Table(
                "For each id",
                [
                    "contender",
                    "CPU at 0 ms",
                    "/ urllib3",
                    "CPU at 20 ms",
                    "/ urllib3 ",
                    f"peak MB, {small:,} ids",
                    f"peak MB, {large:,} ids",
                    "allocated KB, 100 ids",
                ],
                rows,
            )
        ],
        [
            *(
                Goal.at_most(f"CPU per id at {told}", 1.5, "bare urllib3", cpu[OURS].median / cpu[LIMIT].median)
                for told, cpu in (("20 ms", waiting), ("0 ms", busy))
            ),
            *(
                Goal(
                    f"peak memory, {number:,} ids",
                    "at most 100 MB",
                    f"{peaks[OURS] / 1024:.0f} MB",
                    peaks[OURS] <= 100 * 1024,
                )
                for number, peaks in ((small, few), (large, many))
            ),
        ],
    )
