"""How long a batch takes, against the peers and against what is possible at all."""

from __future__ import annotations

import heapq
import http.client
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.bench.fleet import (
    CONTENDERS,
    FIRST_PEER,
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
from tests.bench.plot import IDEAL, Panel, Point, stacked
from tests.bench.result import Goal, Section, Table
from tests.bench.server import latency_of, status_of

LATENCIES = (0, 20, 100, 500)
SIZES = (10, 100, 1000)
# What would take longer is scaled up from a piece of it. Ours and the limit are waited for.
LONGEST_SECONDS = {OURS: 13.0, LIMIT: 13.0}
_LONGEST_OF_OTHERS = 3.0


@dataclass(frozen=True, slots=True)
class Api:
    """How the API behaves: see `server.py`."""

    kind: str
    latency: int
    percent: int = 0

    @property
    def behaviour(self) -> str:
        return f"{self.kind}-{self.latency}-{self.percent}"


def ideal(api: Api, first: int, ids: int, workers: int = WORKERS) -> float:
    """Seconds that a batch takes if nothing costs anything but the API: each worker takes the next id when it is free.
    With one latency for all, that is ceil(ids / workers) x latency."""
    free = [0.0] * workers
    for number in range(first, first + ids):
        heapq.heapreplace(free, free[0] + latency_of(api.kind, api.latency, f"devin-bench-{number}"))
    return max(free)


def failing(name: str, api: Api, first: int, ids: int) -> int:
    """How many of these a contender has to report as failed. Here a 422 is settled: it is in the dead-letter queue."""
    statuses = [status_of(api.percent, f"devin-bench-{number}") for number in range(first, first + ids)]
    return statuses.count(500) + (0 if name == OURS else statuses.count(422))


def _workers(name: str) -> int:
    return 1 if name in SEQUENTIAL else WORKERS


@dataclass(frozen=True, slots=True)
class Cell:
    """Batches of one contender: seconds of each repeat, and the ideal of that very repeat. `scaled` if the whole would
    have taken too long."""

    walls: Sequence[float]
    ideals: Sequence[float]
    scaled: bool

    @property
    def seconds(self) -> float:
        return statistics.median(self.walls)

    @property
    def ratio(self) -> float | None:
        """To the ideal: the median of each repeat's own ratio. None if the ideal is nothing."""
        if not all(self.ideals):
            return None
        return statistics.median(wall / best for wall, best in zip(self.walls, self.ideals, strict=True))

    def told(self) -> str:
        milliseconds = f"{self.seconds * 1000:,.0f}"
        return f"≈ {milliseconds}" if self.scaled else milliseconds


type Row = dict[str, Cell]
# By number of ids and latency.
type Grid = dict[tuple[int, int], Row]


@dataclass(slots=True)
class Course:
    """Where contenders run. A batch that was measured before, because it is a piece of several, is not run again."""

    server: Server
    running: Mapping[str, Contender]
    _at: dict[str, Api] = field(default_factory=dict)
    _known: dict[tuple[str, Api, int, int], float] = field(default_factory=dict)

    def row(self, api: Api, ids: int, *, patience: float, most: int) -> Row:
        """One batch size for all of them in turn, as often as `patience` (seconds for each of them) allows."""
        pieces = {name: self._piece(name, api, ids) for name in self.running}
        repeats = {name: self._repeats(name, api, piece, patience, most) for name, piece in pieces.items()}
        if api.kind == "tail":
            # Every repeat meets another part of the tail, so all of them need the same.
            repeats = dict.fromkeys(repeats, min(repeats.values()))
        walls: dict[str, list[float]] = {name: [] for name in self.running}
        for repeat in range(max(repeats.values())):
            for name, piece in pieces.items():
                if repeat < repeats[name]:
                    walls[name].append(self._wall(name, api, repeat, ids, piece))
        return {
            name: Cell(found, [ideal(api, repeat * ids, ids) for repeat in range(len(found))], pieces[name] < ids)
            for name, found in walls.items()
        }

    @staticmethod
    def _piece(name: str, api: Api, ids: int) -> int:
        whole = ideal(api, 0, ids, _workers(name))
        # Not less than ten ids: of fewer, all may fail, which Powertools takes for an error of its own.
        piece = 10 if name in SEQUENTIAL else 50
        return ids if whole <= LONGEST_SECONDS.get(name, _LONGEST_OF_OTHERS) else min(ids, piece)

    @staticmethod
    def _repeats(name: str, api: Api, piece: int, patience: float, most: int) -> int:
        seconds = ideal(api, 0, piece, _workers(name)) + 0.001 * piece
        return min(most, max(3 if seconds < 2 else 1, int(patience / seconds)))

    def _wall(self, name: str, api: Api, repeat: int, ids: int, piece: int) -> float:
        wall = self._run(name, api, repeat * piece, piece)
        if piece == ids:
            return wall
        # As many times the ideal as the piece took of its own.
        workers = _workers(name)
        return wall * ideal(api, repeat * ids, ids, workers) / ideal(api, repeat * piece, piece, workers)

    def _run(self, name: str, api: Api, first: int, ids: int) -> float:
        key = name, api, first, ids
        if key not in self._known:
            contender = self.running[name]
            if self._at.get(name) != api:
                contender.at(self.server.url(api.behaviour), _workers(name))
                self._at[name] = api
            took = work(self.server, contender, first=first, ids=ids, failing=failing(name, api, first, ids))
            self._known[key] = took.wall
        return self._known[key]


def _call(server: Server, behaviour: str, times: int) -> Spread:
    """Seconds of a call over a kept connection with nothing but the standard library: the server's share, and the
    least that any client adds."""
    address = urlsplit(server.url(behaviour))
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        connection.request("DELETE", f"{address.path}/v1/sessions/devin-bench-1")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - began)
    connection.close()
    return Spread.of(seconds)


def _table(title: str, grid: Grid) -> Table:
    rows = []
    for (ids, latency), row in grid.items():
        ours, peer, limit = row[OURS], row[FIRST_PEER], row[LIMIT]
        ahead = statistics.median(theirs / mine for theirs, mine in zip(peer.walls, ours.walls, strict=False))
        rows.append(
            [
                f"{ids:,} x {latency} ms",
                f"{statistics.median(ours.ideals) * 1000:,.0f}",
                *(row[name].told() for name in CONTENDERS),
                *("-" if cell.ratio is None else f"{cell.ratio:.3f}" for cell in (ours, limit)),
                f"{ahead:.1f}",
                f"{len(ours.walls)}" if len(ours.walls) == len(peer.walls) else f"{len(ours.walls)}, {len(peer.walls)}",
            ]
        )
    ratios = ["ours / ideal", f"{LIMIT} / ideal", "first peer / ours", "repeats"]
    return Table(title, ["ids x latency", "ideal", *CONTENDERS, *ratios], rows)


def _picture(rows: Mapping[int, Row]) -> str:
    """Against batch size: the time, and its ratio to the ideal."""
    times = {
        name: [Point(ids, row[name].seconds, row[name].scaled) for ids, row in rows.items()] for name in CONTENDERS
    }
    times[IDEAL] = [Point(ids, row[OURS].ideals[0]) for ids, row in rows.items()]
    ratios = {
        name: [Point(ids, row[name].ratio or 0, row[name].scaled) for ids, row in rows.items()] for name in CONTENDERS
    }
    ratios[IDEAL] = [Point(ids, 1) for ids in rows]
    up = "times the ideal (one after the other: off the scale)"
    panels = [Panel(times, "seconds (100 ms a call)"), Panel(ratios, up, (0.95, 1.30))]
    return stacked(panels, "ids in the batch")


def _worst(grids: Sequence[Grid], latencies: Sequence[int]) -> tuple[float, str, Row]:
    """The cell in which we are farthest from the ideal: how far, where, and all that was measured there."""
    found = [
        (row[OURS].ratio or 0, f"{ids:,} x {latency} ms", row)
        for grid in grids
        for (ids, latency), row in grid.items()
        if latency in latencies
    ]
    return max(found, key=lambda one: one[0])


def _goals(grids: Sequence[Grid]) -> list[Goal]:
    ten = grids[0][10, 100]
    far, where, _ = _worst(grids, [latency for latency in LATENCIES if latency >= 100])
    short, there, row = _worst(grids, [20])
    ahead = statistics.median(
        theirs / mine for theirs, mine in zip(ten[FIRST_PEER].walls, ten[OURS].walls, strict=False)
    )
    return [
        Goal.at_most("batch time, 10 ids x 100 ms", 1.10, "ideal", ten[OURS].ratio or 0),
        Goal.at_most("batch time at 100 ms and more, worst of all tables", 1.10, "ideal", far, where),
        Goal.at_most(
            "batch time at 20 ms, worst of all tables",
            1.10,
            "ideal",
            short,
            f"{there}; {LIMIT} there: {row[LIMIT].ratio or 0:.2f} x",
        ),
        Goal("10 ids x 100 ms, first peer / ours", "at least 9", f"{ahead:.2f}", ahead >= 9),
    ]


def measure(server: Server, *, quick: bool) -> Section:
    """Batch times: every size and latency, with and without a tail, with and without failures."""
    sizes, latencies = ((10,), (0, 20, 100)) if quick else (SIZES, LATENCIES)
    patience, most = (0.3, 2) if quick else (2.0, 7)
    floor = _call(server, "fixed-0-0", 300)
    over = {latency: _call(server, f"fixed-{latency}-0", 5).median * 1000 - latency for latency in latencies if latency}
    with contenders(server, "fixed-0-0") as running:
        course = Course(server, running)

        def grid(kind: str, percent: int) -> Grid:
            # Latency by latency: a contender that meets another API makes its connections anew.
            found = {
                (ids, latency): course.row(Api(kind, latency, percent), ids, patience=patience, most=most)
                for latency in latencies
                for ids in sizes
            }
            return dict(sorted(found.items()))

        grids = {
            "Every call takes the same time": grid("fixed", 0),
            "With a tail": grid("tail", 0),
            "With a tail, and 10 % failures": grid("tail", 10),
        }
        steps = (1, 10) if quick else (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
        drawn = {ids: course.row(Api("fixed", 100), ids, patience=patience, most=5) for ids in steps}
    return Section(
        "How long a batch takes",
        [
            (
                f"Milliseconds, medians, {WORKERS} workers. The server alone, asked over a kept connection by the "
                f"standard library's client, takes {floor.told(1000, 2)} ms without latency, and more than it was "
                f"asked for by {', '.join(f'{more:.1f} ms at {latency} ms' for latency, more in over.items())}. "
                "`≈`: too long to be waited for; ten ids, or fifty for those that call side by side, took so many "
                "times their own ideal, and so would the whole. This project and the limit are waited for, but for "
                "1,000 x 500 ms."
            ),
            (
                "*Ideal* is what the API's latencies alone allow: each worker takes the next id as soon as it is free. "
                "With one latency for all, that is ceil(ids / workers) x latency. With a tail, it is computed from "
                "the very latencies that the server then takes, which depend on the id alone and are the same for "
                "everybody: log-normal, the 99th percentile three times the median. Ratios are medians of each "
                "repeat's own ratio: to its own ideal, or to the first peer's batch of the same ids. Repeats: ours, "
                "and the first peer's if they were not as many."
            ),
            (
                "Failures are half 500 and half 422. Here they are also written to SQS (a visibility timeout, a dead "
                "letter); the peers only report them. The two limits, urllib3 and aiohttp, neither log nor count nor "
                "check anything. Of every batch, the server's count of calls and the number of reported failures are "
                "held to what they should be."
            ),
        ],
        [_table(title, found) for title, found in grids.items()],
        _goals(list(grids.values())),
        {"performance-batches.svg": _picture(drawn)},
    )
