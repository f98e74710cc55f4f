"""A picture of the architecture: boxes and arrows of the template, laid out on a grid.

Where a box stands is said here, because what is read from left to right and what stands together is a matter of taste.
How an arrow gets from one to another is looked for: the shortest way along the grid that turns seldom, and keeps away
from boxes and from other arrows. Arrows that begin or end in the same box may share a part of their way.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from infra.local.pictures_graph import KINDS, OUTSIDE, Edge, Graph, Node

STEP = 20
COLUMNS, ROWS = 60, 46
FONT = "Helvetica, Arial, sans-serif"
INK, GREY, LINE, FAILURE, PAPER = "#0f172a", "#64748b", "#475569", "#dc2626", "#ffffff"
# Costs of an arrow's way, against 1 for a step.
TURN, CROSSING, BESIDE, SAME_WAY, OFF_CENTRE, USED_PORT = 3.0, 3.0, 0.6, 40.0, 0.2, 25.0

type Point = tuple[int, int]
type State = tuple[Point, Point]
type Box = tuple[int, int, int, int]

# Left edge, upper edge, width and height, in steps of the grid.
BOXES: dict[str, Box] = {
    "producers": (1, 4, 10, 3),
    "OneTimeScheduleRole": (1, 9, 10, 4),
    "TerminateFunctionTerminationRequested": (1, 15, 10, 4),
    "Schedule": (1, 21, 10, 4),
    "callers": (1, 27, 10, 3),
    "PeriodicSweep": (1, 32, 10, 3),
    "WorkQueue": (16, 4, 10, 4),
    "DeadLetterQueue": (16, 28, 10, 4),
    "Key": (16, 34, 10, 4),
    "TerminateFunction": (33, 4, 9, 19),
    "SweepFunction": (33, 29, 9, 8),
    "TerminateLogGroup": (48, 4, 11, 3),
    "api": (48, 9, 11, 3),
    "ApiKeySecret": (48, 14, 11, 4),
    "StopSwitch": (48, 20, 11, 3),
    "bus": (48, 25, 11, 3),
    "AnnouncementsTable": (48, 30, 11, 3),
    "SweepLogGroup": (48, 35, 11, 3),
    "AWS::CloudWatch::Alarm": (2, 41, 8, 3),
    "AWS::SNS::Topic": (14, 41, 8, 3),
    "AWS::SNS::Subscription": (26, 41, 9, 3),
    "AWS::KMS::Key": (37, 41, 6, 3),
    "AWS::CloudWatch::Dashboard": (44, 41, 6, 3),
    "AWS::Logs::QueryDefinition": (51, 41, 7, 3),
}
NESTED: Box = (1, 39, 58, 6)

_TURNS: tuple[Point, ...] = ((1, 0), (-1, 0), (0, 1), (0, -1))


def _opposite(direction: Point) -> Point:
    return -direction[0], -direction[1]


@dataclass(frozen=True, slots=True)
class Way:
    """An arrow and the points of the grid that it goes through."""

    edge: Edge
    points: tuple[Point, ...]


class Router:
    """Looks for the ways of arrows, one after the other, each with those before it in mind."""

    def __init__(self, boxes: Mapping[str, Box]) -> None:
        self._boxes = boxes
        self._inside = {
            (column, row)
            for x, y, width, height in boxes.values()
            for column in range(x, x + width + 1)
            for row in range(y, y + height + 1)
        }
        # Who goes through a point, and whether across or up and down.
        self._across: dict[Point, list[Edge]] = {}
        self._along: dict[Point, list[Edge]] = {}

    def route(self, edge: Edge) -> Way:
        """The cheapest way, by A*. A state is a point and the direction in which it was reached."""
        ends = dict(self._ports(edge.target))
        best: dict[State, float] = {}
        before: dict[State, State | None] = {}
        queue: list[tuple[float, float, State]] = []

        def reach(state: State, cost: float, origin: State | None) -> None:
            if cost < best.get(state, float("inf")):
                best[state], before[state] = cost, origin
                heapq.heappush(queue, (cost + self._far(state[0], edge.target), cost, state))

        for point, (direction, price) in self._ports(edge.source):
            reach((point, direction), price + self._price_of_port(edge, point), None)
        while queue:
            _, cost, state = heapq.heappop(queue)
            if cost > best[state]:
                continue
            if before[state] is not None and state[0] in ends:
                return self._take(edge, state, before)
            turns = _TURNS if before[state] is not None else (state[1],)
            for turn in turns:
                onwards = (state[0][0] + turn[0], state[0][1] + turn[1])
                arrives = onwards in ends and ends[onwards][0] == _opposite(turn)
                if turn == _opposite(state[1]) or not (arrives or self._is_free(onwards)):
                    continue
                price = 1 + TURN * (turn != state[1]) + self._price(edge, onwards, across=turn[1] == 0)
                if arrives:
                    price += ends[onwards][1] + self._price_of_port(edge, onwards)
                reach((onwards, turn), cost + price, state)
        raise ValueError(f"there is no way from {edge.source} to {edge.target}")

    def _far(self, point: Point, target: str) -> float:
        """No way from here is shorter."""
        x, y, width, height = self._boxes[target]
        return max(x - point[0], 0, point[0] - x - width) + max(y - point[1], 0, point[1] - y - height)

    def _is_free(self, point: Point) -> bool:
        return 0 <= point[0] <= COLUMNS and 0 <= point[1] <= ROWS and point not in self._inside

    def _ports(self, name: str) -> Iterator[tuple[Point, tuple[Point, float]]]:
        """Where a way may leave a box: the point, the direction outwards, and what it costs to be off the centre."""
        x, y, width, height = self._boxes[name]
        for row in range(y + 1, y + height):
            price = OFF_CENTRE * abs(row - y - height / 2)
            yield (x, row), ((-1, 0), price)
            yield (x + width, row), ((1, 0), price)
        for column in range(x + 1, x + width):
            price = OFF_CENTRE * abs(column - x - width / 2)
            yield (column, y), ((0, -1), price)
            yield (column, y + height), ((0, 1), price)

    @staticmethod
    def _friends(edge: Edge, other: Edge) -> bool:
        """Whether two arrows may lie on each other: it is clear from where to where both of them go."""
        return edge.failure == other.failure and (
            edge.source == other.source or (edge.failure and edge.target == other.target)
        )

    def _price(self, edge: Edge, point: Point, *, across: bool) -> float:
        mine, others = (self._across, self._along) if across else (self._along, self._across)
        price = sum(0.0 if self._friends(edge, one) else SAME_WAY for one in mine.get(point, ()))
        price += sum(CROSSING for one in others.get(point, ()) if not self._friends(edge, one))
        for shift in (-1, 1):
            beside = (point[0], point[1] + shift) if across else (point[0] + shift, point[1])
            price += BESIDE * (beside in self._inside)
            price += BESIDE * any(not self._friends(edge, one) for one in mine.get(beside, ()))
        return price

    def _price_of_port(self, edge: Edge, point: Point) -> float:
        others = self._across.get(point, []) + self._along.get(point, [])
        return USED_PORT * any(not self._friends(edge, one) for one in others)

    def _take(self, edge: Edge, state: State, before: Mapping[State, State | None]) -> Way:
        points: list[Point] = []
        at: State | None = state
        while at is not None:
            points.append(at[0])
            at = before[at]
        points.reverse()
        for one, other in pairwise(points):
            for point in (one, other):
                uses = self._across if one[1] == other[1] else self._along
                if edge not in uses.setdefault(point, []):
                    uses[point].append(edge)
        return Way(edge, tuple(points))


def picture(graph: Graph) -> str:
    """The graph as SVG. Raises ValueError if a box of it has no place."""
    if homeless := graph.nodes.keys() - BOXES.keys():
        raise ValueError(f"BOXES does not say where to draw {', '.join(sorted(homeless))}")
    router = Router({name: BOXES[name] for name in graph.nodes})
    ways = [router.route(edge) for edge in sorted(graph.edges, key=_importance)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * STEP} {ROWS * STEP}" font-family="{FONT}">',
        "<title>Architecture, drawn from template.yaml</title>",
        *(_marker(name, colour) for name, colour in (("work", LINE), ("failure", FAILURE))),
        f'<rect width="{COLUMNS * STEP}" height="{ROWS * STEP}" fill="{PAPER}"/>',
        *_frame(graph),
        *(_arrow(way) for way in ways),
        *(part for node in graph.nodes.values() for part in _box(node)),
        *_labels(ways),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _importance(edge: Edge) -> tuple[bool, int]:
    """What is done comes first, and of that the arrows between boxes that are near each other."""
    (x, y, width, _), (other_x, other_y, other_width, _) = BOXES[edge.source], BOXES[edge.target]
    gap = max(x - other_x - other_width, other_x - x - width, 0)
    return edge.failure, gap + abs(y - other_y)


def _marker(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        f'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="{colour}"/></marker>'
    )


def _text(x: float, y: float, said: str, *, colour: str = INK, size: int = 13, **more: str) -> str:
    names = {"weight": "font-weight", "anchor": "text-anchor"}
    extra = "".join(f' {names[name]}="{value}"' for name, value in more.items())
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}"{extra}>{escape(said, quote=False)}</text>'


def _corners(points: tuple[Point, ...]) -> list[Point]:
    """Only where a way begins, turns and ends."""
    inner = [
        here
        for before, here, after in zip(points, points[1:], points[2:], strict=False)
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1])
    ]
    return [points[0], *inner, points[-1]]


def _arrow(way: Way) -> str:
    corners = [(x * STEP, y * STEP) for x, y in _corners(way.points)]
    path = f"M{corners[0][0]} {corners[0][1]}"
    for before, here, after in zip(corners, corners[1:], corners[2:], strict=False):
        (x, y), radius = here, 8
        back = (x + _sign(before[0] - x) * radius, y + _sign(before[1] - y) * radius)
        onwards = (x + _sign(after[0] - x) * radius, y + _sign(after[1] - y) * radius)
        path += f" L{back[0]} {back[1]} Q{x} {y} {onwards[0]} {onwards[1]}"
    path += f" L{corners[-1][0]} {corners[-1][1]}"
    name, colour = ("failure", FAILURE) if way.edge.failure else ("work", LINE)
    dashes = ' stroke-dasharray="6 4"' if way.edge.failure else ""
    start = f' marker-start="url(#{name})"' if way.edge.both else ""
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}{start} marker-end="url(#{name})"/>'
    )


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _box(node: Node) -> Iterator[str]:
    x, y, width, height = (STEP * one for one in BOXES[node.name])
    kind, colour = KINDS[node.kind]
    outside = node.kind == OUTSIDE
    fill = "#f8fafc" if outside else "#ffffff"
    dashes = ' stroke-dasharray="3 3"' if node.optional or outside else ""
    yield (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{colour}" '
        f'stroke-width="1.4"{dashes}/>'
    )
    if not outside:
        yield f'<rect x="{x}" y="{y}" width="6" height="{height}" rx="3" fill="{colour}"/>'
    lines = [line for line in (kind, *node.details, node.optional) if line]
    top = y + height / 2 - 8.5 * len(lines) + 5
    yield _text(x + 15, top, node.title, size=16, weight="bold")
    for number, line in enumerate(lines, 1):
        yield _text(x + 15, top + 17 * number, line, colour=GREY)
    if node.encrypted:
        yield f'<circle cx="{x + width - 13}" cy="{y + 13}" r="8" fill="{KINDS["AWS::KMS::Key"][1]}"/>'
        yield _text(x + width - 13, y + 17, "K", colour=PAPER, size=11, weight="bold", anchor="middle")


def _labels(ways: list[Way]) -> Iterator[str]:
    """Above the longest level part of each way, or else beside its longest upright one."""
    for way in ways:
        if not way.edge.label:
            continue
        corners = _corners(way.points)
        (x, y), (other_x, other_y) = max(
            pairwise(corners), key=lambda part: (abs(part[0][0] - part[1][0]), abs(part[0][1] - part[1][1]))
        )
        middle = ((x + other_x) / 2 * STEP, (y + other_y) / 2 * STEP)
        colour = FAILURE if way.edge.failure else LINE
        if y == other_y:
            said = _text(middle[0], middle[1] - 6, way.edge.label, colour=colour, anchor="middle")
        else:
            said = _text(middle[0] + 8, middle[1] + 4, way.edge.label, colour=colour)
        # With a rim, so that what crosses it does not strike it out.
        yield said.replace("<text", f'<text paint-order="stroke" stroke="{PAPER}" stroke-width="5"', 1)


def _frame(graph: Graph) -> Iterator[str]:
    x, y, width, height = (STEP * one for one in NESTED)
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="#f0fdfa" stroke="#99f6e4"/>'
    names = [graph.nodes[name].title for name in graph.watched]
    yield _text(x + 20, y + 25, "infra/observability.yaml", weight="bold")
    yield _text(x + 185, y + 25, f"watches {', '.join(names)}; {graph.nested_optional}", colour=GREY)


def _legend() -> Iterator[str]:
    yield _text(STEP, 34, "devin-session-cleanup", size=20, weight="bold")
    source = "drawn by `make pictures` from template.yaml: resources, what they refer to, and what their roles allow"
    yield _text(STEP, 56, source, colour=GREY)
    x = 41 * STEP
    dashed = 'stroke-width="1.6" stroke-dasharray="6 4" marker-end="url(#failure)"'
    yield f'<path d="M{x} 30 H{x + 40}" stroke="{FAILURE}" {dashed}/>'
    yield _text(x + 50, 34, "what could not be done", colour=GREY)
    yield f'<rect x="{x}" y="44" width="40" height="16" rx="4" fill="none" stroke="{LINE}" stroke-dasharray="3 3"/>'
    yield _text(x + 50, 56, "not part of the stack, or only if a parameter says so", colour=GREY)
