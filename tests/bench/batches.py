"""How long a batch takes, against the peers and against what is possible at all."""

from __future__ import annotations

import heapq
import http.client
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from urllib.parse import urlsplit

from tests.bench.fleet import CONTENDERS, FIRST_PEER, OURS, SEQUENTIAL, WORKERS, Contender, Server, Spread, contenders
from tests.bench.plot import curves
from tests.bench.result import Goal, Section, Table
from tests.bench.server import latency_of

LATENCIES = (0, 20, 100, 500)
SIZES = (10, 100, 1000)


def ideal(kind: str, latency: int, first: int, ids: int, workers: int = WORKERS) -> float:
    """Seconds that a batch takes if nothing costs anything but the API: each worker takes the next id when it is free.
    With one latency for all, that is ceil(ids / workers) x latency."""
    free = [0.0] * workers
    for number in range(first, first + ids):
        heapq.heapreplace(free, free[0] + latency_of(kind, latency, f"devin-bench-{number}"))
    return max(free)


@dataclass(frozen=True, slots=True)
class Cell:
    """Batch times of one contender; `scaled` if the whole would have taken too long."""

    seconds: Spread
    ideal: float
    scaled: bool

    def told(self) -> str:
        milliseconds = f"{self.seconds.median * 1000:,.0f}"
        return f"≈ {milliseconds}" if self.scaled else milliseconds


def _measure(
    running: dict[str, Contender], kind: str, latency: int, ids: int, *, patience: float, most: int, longest: float = 3
) -> dict[str, Cell]:
    """One batch size for all of them in turn, as often as `patience` (seconds for each of them) allows. What would take
    more than `longest` seconds is scaled up from a piece of it."""
    times: dict[str, list[float]] = {name: [] for name in running}
    workers = {name: 1 if name in SEQUENTIAL else WORKERS for name in running}
    # Not less than ten ids: of fewer, all may fail, which Powertools takes for an error of its own.
    pieces = {
        name: ids if ideal(kind, latency, 0, ids, one) <= longest else min(ids, 10 if one == 1 else 50)
        for name, one in workers.items()
    }
    slowest = max(ideal(kind, latency, 0, pieces[name], workers[name]) + 0.001 * pieces[name] for name in running)
    repeats = max(3 if slowest < 2 and most > 2 else 1, min(most, int(patience / slowest)))
    for repeat in range(repeats):
        for name, contender in running.items():
            # Every repeat another piece of the API's tail, the same for all of them.
            first, piece = repeat * ids, pieces[name]
            wall = contender.invoke(first=first, ids=piece).wall
            if piece < ids:
                # As many times the ideal as the piece took of its own.
                wall *= ideal(kind, latency, first, ids, workers[name])
                wall /= ideal(kind, latency, first, piece, workers[name])
            times[name].append(wall)
    best = sum(ideal(kind, latency, repeat * ids, ids) for repeat in range(repeats)) / repeats
    return {name: Cell(Spread.of(times[name]), best, pieces[name] < ids) for name in running}


def _floor(server: Server) -> Spread:
    """Seconds for a call without latency over a kept connection, with nothing but the standard library: the server's
    share, and the least that any client adds."""
    address, path = urlsplit(server.url("fixed-0-0")), "/fixed-0-0/v1/sessions/devin-bench-1"
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    times = []
    for _ in range(300):
        began = time.perf_counter()
        connection.request("DELETE", path)
        connection.getresponse().read()
        times.append(time.perf_counter() - began)
    connection.close()
    return Spread.of(times)


def _over(server: Server, latency: int) -> float:
    """How much longer than asked for the server takes, in milliseconds."""
    address = urlsplit(server.url(f"fixed-{latency}-0"))
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        connection.request("DELETE", f"{address.path}/v1/sessions/devin-bench-1")
        connection.getresponse().read()
        times.append(time.perf_counter() - began)
    connection.close()
    return Spread.of(times).median * 1000 - latency


def _table(title: str, cells: dict[tuple[int, int], dict[str, Cell]]) -> Table:
    rows = []
    for (ids, latency), found in cells.items():
        best = next(iter(found.values())).ideal
        ratio = f"{found[OURS].seconds.median / best:.2f}" if best else "-"
        ahead = f"{found[FIRST_PEER].seconds.median / found[OURS].seconds.median:.1f}"
        times = f"{found[OURS].seconds.times}"
        rows.append(
            [
                f"{ids:,} x {latency} ms",
                f"{best * 1000:,.0f}",
                *(found[name].told() for name in CONTENDERS),
                ratio,
                ahead,
                times,
            ]
        )
    head = ["ids x latency", "ideal", *CONTENDERS, "ours / ideal", "first peer / ours", "repeats"]
    return Table(title, head, rows)


def measure(server: Server, *, quick: bool) -> Section:
    """Batch times: every size and latency, with and without a tail, with and without failures."""
    sizes, latencies = ((10,), (0, 20, 100)) if quick else (SIZES, LATENCIES)
    patience, most = (0.3, 2) if quick else (0.8, 7)
    floor = _floor(server)
    over = ", ".join(f"{_over(server, latency):.1f} ms at {latency} ms" for latency in latencies if latency)
    fixed: dict[tuple[int, int], dict[str, Cell]] = {}
    tails: dict[int, dict[tuple[int, int], dict[str, Cell]]] = {0: {}, 10: {}}
    with contenders(server, "fixed-0-0") as running:

        def cells(kind: str, percent: int, of: Sequence[int]) -> dict[tuple[int, int], dict[str, Cell]]:
            found = {}
            for latency, ids in product(latencies, of):
                for contender in running.values():
                    contender.at(server.url(f"{kind}-{latency}-{percent}"))
                enough = max(patience, 3.5 * latency / 1000) if ids == 10 else patience
                longest = 12 if kind == "fixed" and latency <= 100 and ids > 100 else 3
                found[ids, latency] = _measure(running, kind, latency, ids, patience=enough, most=most, longest=longest)
            return dict(sorted(found.items()))

        fixed = cells("fixed", 0, sizes)
        for percent in tails:
            tails[percent] = cells("tail", percent, sizes)
        for contender in running.values():
            contender.at(server.url("fixed-100-0"))
        steps = (1, 10) if quick else (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
        drawn = {
            ids: _measure(running, "fixed", 100, ids, patience=patience, most=3) if ids not in sizes else None
            for ids in steps
        }
    points = {ids: found or fixed[ids, 100] for ids, found in drawn.items()}
    lines = {name: [(ids, points[ids][name].seconds.median) for ids in steps] for name in CONTENDERS}
    lines["ideal"] = [(ids, points[ids][OURS].ideal) for ids in steps]
    ten = fixed[10, 100]
    ratio, ahead = ten[OURS].seconds.median / ten[OURS].ideal, ten[FIRST_PEER].seconds.median / ten[OURS].seconds.median
    worst, (ids, latency) = max(
        (found[OURS].seconds.median / found[OURS].ideal, cell)
        for cells_of in (fixed, *tails.values())
        for cell, found in cells_of.items()
        if cell[1] >= 100
    )
    return Section(
        "How long a batch takes",
        [
            (
                f"Milliseconds, medians, {WORKERS} workers. The server alone, asked over a kept connection by the "
                f"standard library's client, takes {floor.told(1000, 2)} ms without latency, and more than it was "
                f"asked for by {over}. `≈`: too long to be waited for; ten ids of it, or fifty for those that call "
                "side by side, took so many times their own ideal, and so would the whole."
            ),
            (
                "*Ideal* is what the API's latencies alone allow: each worker takes the next id as soon as it is free. "
                "With one latency for all, that is ceil(ids / workers) x latency. With a tail, it is computed from "
                "the very "
                "latencies that the server then takes, which depend on the id alone and are the same for everybody: "
                "log-normal, the 99th percentile three times the median."
            ),
            (
                "Failures are half 500 and half 422. Here they are also written to SQS (a visibility timeout, a dead "
                "letter); the peers only report them. The two limits, urllib3 and aiohttp, neither log nor count nor "
                "check "
                "anything."
            ),
        ],
        [
            _table("Every call takes the same time", fixed),
            _table("With a tail", tails[0]),
            _table("With a tail, and 10 % failures", tails[10]),
        ],
        [
            Goal("batch time, 10 ids x 100 ms", "at most 1.10 x ideal", f"{ratio:.3f} x", ratio <= 1.10),
            Goal(
                "batch time at 100 ms and more, worst case of all tables",
                "at most 1.10 x ideal",
                f"{worst:.3f} x ({ids} x {latency} ms)",
                worst <= 1.10,
            ),
            Goal("10 ids x 100 ms, first peer / ours", "at least 9", f"{ahead:.2f}", ahead >= 9),
        ],
        {"performance-batches.svg": curves(lines, "ids in the batch", "seconds (100 ms a call)")},
    )
