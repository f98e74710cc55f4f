"""A picture of the deployed dashboard: its own definition, drawn with the metrics of the stack on this machine.

It draws what CloudWatch would, in a plainer way: lines with a dot for each value, stacked values as columns, a
threshold as a dashed line. Expressions are worked out here, as far as the dashboard uses them, because the emulator
does not.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Any

from infra.local.stack import Stack

# The local stack's minute, not a day: a value for every few seconds.
PERIOD_SECONDS = 2
COLUMN = 52
ROW = 44
GAP = 6
LINE = 14
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
FONT = "Helvetica, Arial, sans-serif"
STATES = {"OK": "#2ca02c", "ALARM": "#d62728", "INSUFFICIENT_DATA": "#7f7f7f"}
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

type Points = dict[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A row of a widget: values by seconds since the picture's beginning, or one for the whole time."""

    label: str
    colour: str
    points: Points


@dataclass(frozen=True, slots=True)
class Box:
    """Where a widget is drawn."""

    x: float
    y: float
    width: float
    height: float


def rows(properties: Mapping[str, Any]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The metrics of a widget, written out, with their options; no texts for an expression.

    A "." repeats what the row above has in its place.
    """
    above: list[str] = []
    for row in properties["metrics"]:
        options: dict[str, Any] = next((part for part in row if isinstance(part, dict)), {})
        texts = [part for part in row if isinstance(part, str)]
        if texts:
            above = [above[place] if part == "." else part for place, part in enumerate(texts)]
        yield above if texts else [], options


def calculate(expression: str, values: Mapping[str, float]) -> float:
    """An expression of CloudWatch's metric math, as far as dashboard and alarms use it.

    The four operations, numbers, names, FILL(name, 0), which is the name or 0, and IF(a >= b, c, d).
    """

    def value(node: ast.expr) -> float:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return values[name]
            case ast.Call(func=ast.Name(id="FILL"), args=[ast.Name(id=name), ast.Constant(value=int() as otherwise)]):
                return values.get(name, float(otherwise))
            case ast.Call(
                func=ast.Name(id="IF"),
                args=[ast.Compare(left=left, ops=[ast.GtE()], comparators=[right]), chosen, otherwise_chosen],
            ):
                return value(chosen if value(left) >= value(right) else otherwise_chosen)
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATORS[type(op)](value(left), value(right))
            case _:
                raise ValueError(f"no such expression here: {ast.unparse(node)}")

    return value(ast.parse(expression, mode="eval").body)


class Picture:
    """The dashboard of a stack, from `start` to `end`."""

    def __init__(self, stack: Stack, start: datetime, end: datetime) -> None:
        self._stack = stack
        self._start = start
        self._end = end

    def svg(self) -> str:
        name = self._stack.outputs["DashboardName"]
        body = json.loads(self._stack.aws.cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
        widgets = body["widgets"]
        width = 24 * COLUMN
        height = max(one["y"] + one["height"] for one in widgets) * ROW + 3 * LINE
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="{FONT}">',
            f'<rect width="{width}" height="{height}" fill="#f2f3f3"/>',
        ]
        for widget in widgets:
            box = Box(
                widget["x"] * COLUMN + GAP / 2,
                widget["y"] * ROW + GAP / 2,
                widget["width"] * COLUMN - GAP,
                widget["height"] * ROW - GAP,
            )
            parts += self._widget(widget, box)
        seconds = (self._end - self._start).total_seconds()
        run = f"drawn by `make pictures` from {seconds:.0f} seconds of `make demo` on the local stack"
        gaps = (
            "Of invocations, the emulator counts direct ones alone; it knows neither the age of messages nor how many"
        )
        notes = (f"Dashboard {name}, {run}, {PERIOD_SECONDS} s a value. Grey: no data.", f"{gaps} were sent.")
        for number, note in enumerate(notes):
            parts.append(text(GAP, height - (2 - number) * LINE, note, colour="#545b64"))
        parts.append("</svg>")
        return "\n".join(parts) + "\n"

    def _widget(self, widget: Mapping[str, Any], box: Box) -> Iterator[str]:
        size = f'width="{box.width}" height="{box.height}"'
        yield f'<rect x="{box.x}" y="{box.y}" {size} fill="#ffffff" stroke="#d5dbdb"/>'
        properties = widget["properties"]
        if widget["type"] == "text":
            lines = [line for line in properties["markdown"].split("\n") if line]
            yield from _wrapped(box, lines)
            return
        yield text(box.x + 8, box.y + 17, properties["title"], weight="bold")
        if widget["type"] == "alarm":
            yield from self._alarms(properties["alarms"], box)
            return
        series = self._series(properties)
        if properties["view"] == "singleValue":
            for place, one in enumerate(series):
                x = box.x + 8 + place * box.width / len(series)
                value = next(iter(one.points.values()), None)
                yield text(x, box.y + 62, "no data" if value is None else f"{value:.6f}", size=24)
                yield text(x, box.y + 82, one.label, colour="#545b64")
            return
        yield from self._chart(properties, series, box)

    def _alarms(self, arns: Sequence[str], box: Box) -> Iterator[str]:
        names = [arn.rsplit(":", 1)[-1] for arn in arns]
        found = self._stack.aws.cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
        states = {one["AlarmName"]: one["StateValue"] for one in found}
        in_a_row = 5
        for place, name in enumerate(names):
            x = box.x + 8 + place % in_a_row * (box.width - 8) / in_a_row
            y = box.y + 40 + place // in_a_row * 34
            state = states.get(name)
            shown = state.lower().replace("_", " ") if state else "not in the emulator"
            colour = STATES.get(state or "", "#d5dbdb")
            yield f'<rect x="{x}" y="{y - 10}" width="5" height="26" fill="{colour}"/>'
            yield text(x + 11, y, name.removeprefix(f"{self._stack.name}-"), weight="bold")
            yield text(x + 11, y + 14, shown, colour=colour if state else "#7f7f7f")

    def _series(self, properties: Mapping[str, Any]) -> list[Series]:
        drawn: list[Series] = []
        sums: dict[str, float] = {}
        expressions: list[tuple[str, str]] = []
        for texts, options in rows(properties):
            if not texts:
                expressions.append((options["label"], options["expression"]))
                continue
            points = self._points(texts, options.get("stat", properties.get("stat", "Average")))
            if "id" in options and points:
                sums[options["id"]] = sum(points.values())
            if options.get("visible", True):
                colour = options.get("color", COLOURS[len(drawn) % len(COLOURS)])
                drawn.append(Series(options.get("label", texts[1]), colour, points))
        for label, expression in expressions:
            # Where nothing was measured, FILL would make it a nought that looks like one that was.
            measured = any(name in sums for name in re.findall(r"[a-z]\w*", expression))
            drawn.append(Series(label, "", {0: calculate(expression, sums)} if measured else {}))
        return drawn

    def _points(self, texts: Sequence[str], stat: str) -> Points:
        namespace, name, *pairs = texts
        (result,) = self._stack.aws.cloudwatch.get_metric_data(
            MetricDataQueries=[
                {
                    "Id": "one",
                    "MetricStat": {
                        "Metric": {
                            "Namespace": namespace,
                            "MetricName": name,
                            "Dimensions": [
                                {"Name": key, "Value": value}
                                for key, value in zip(pairs[::2], pairs[1::2], strict=True)
                            ],
                        },
                        "Period": PERIOD_SECONDS,
                        "Stat": stat,
                    },
                }
            ],
            StartTime=self._start,
            EndTime=self._end + timedelta(seconds=1),
        )["MetricDataResults"]
        return {
            max((at - self._start).total_seconds(), 0.0): value
            for at, value in zip(result["Timestamps"], result["Values"], strict=True)
        }

    def _chart(self, properties: Mapping[str, Any], series: Sequence[Series], box: Box) -> Iterator[str]:
        stacked = bool(properties.get("stacked"))
        threshold = next(iter(properties.get("annotations", {}).get("horizontal", [])), None)
        top = _highest(series, stacked=stacked)
        # A threshold far above everything would flatten it; then it is only named.
        shown = threshold if threshold is not None and top > 0 and threshold["value"] <= 3 * top else None
        scale = _rounded(1.05 * max(top, shown["value"] if shown else 0.0) or 1.0)
        per_line = max(int((box.width - 16) // 180), 1)
        legend_height = LINE * -(-len(series) // per_line)
        plot = Box(box.x + 44, box.y + 28, box.width - 56, box.height - 28 - 22 - legend_height)
        seconds = max((self._end - self._start).total_seconds(), 1.0)

        def place(at: float, value: float) -> tuple[float, float]:
            return plot.x + at / seconds * plot.width, plot.y + plot.height * (1 - value / scale)

        for share in (0.0, 0.5, 1.0):
            _, y = place(0, scale * share)
            yield f'<line x1="{plot.x}" x2="{plot.x + plot.width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eaeded"/>'
            yield text(plot.x - 5, y + 4, f"{scale * share:g}", colour="#545b64", anchor="end")
        unit = properties.get("yAxis", {}).get("left", {}).get("label")
        if unit:
            yield text(box.x + box.width - 8, box.y + 17, unit, colour="#545b64", anchor="end")
        yield text(plot.x, plot.y + plot.height + 14, "0 s", colour="#545b64")
        yield text(plot.x + plot.width, plot.y + plot.height + 14, f"{seconds:.0f} s", colour="#545b64", anchor="end")
        yield from _columns(series, place, seconds) if stacked else _lines(series, place)
        if shown:
            _, y = place(0, shown["value"])
            yield (
                f'<line x1="{plot.x}" x2="{plot.x + plot.width}" y1="{y:.1f}" y2="{y:.1f}" '
                'stroke="#d62728" stroke-dasharray="4 3"/>'
            )
        elif threshold is not None:
            yield text(
                plot.x + plot.width, plot.y + 10, f"alarm at {threshold['value']}", colour="#d62728", anchor="end"
            )
        for number, one in enumerate(series):
            x = box.x + 10 + number % per_line * (box.width - 16) / per_line
            y = plot.y + plot.height + 32 + number // per_line * LINE
            fill = one.colour if one.points else "none"
            yield f'<rect x="{x}" y="{y - 8}" width="8" height="8" fill="{fill}" stroke="{one.colour}"/>'
            yield text(x + 13, y, one.label, colour="#16191f" if one.points else "#879596")


def text(x: float, y: float, said: str, *, colour: str = "#16191f", size: int = 11, **more: str) -> str:
    names = {"weight": "font-weight", "anchor": "text-anchor"}
    extra = "".join(f' {names[name]}="{value}"' for name, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}"{extra}>{escape(said)}</text>'


def _wrapped(box: Box, paragraphs: Sequence[str]) -> Iterator[str]:
    most = int(box.width / 5.6)
    lines: list[str] = []
    for paragraph in paragraphs:
        lines.append("")
        for word in paragraph.split():
            if len(lines[-1]) + len(word) >= most:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
    for number, line in enumerate(lines):
        yield text(box.x + 8, box.y + 20 + number * LINE, line)


def _rounded(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    step = 1.0
    while value > step * 10:
        step *= 10
    return next((step * one for one in (1, 2, 5) if value <= step * one), step * 10)


def _highest(series: Sequence[Series], *, stacked: bool) -> float:
    if not stacked:
        return max((value for one in series for value in one.points.values()), default=0.0)
    sums: Points = {}
    for one in series:
        for at, value in one.points.items():
            sums[at] = sums.get(at, 0.0) + value
    return max(sums.values(), default=0.0)


def _lines(series: Sequence[Series], place: Callable[[float, float], tuple[float, float]]) -> Iterator[str]:
    for one in series:
        dots = [place(at, value) for at, value in sorted(one.points.items())]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
        yield f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="1.5"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{one.colour}"/>' for x, y in dots)


def _columns(
    series: Sequence[Series], place: Callable[[float, float], tuple[float, float]], seconds: float
) -> Iterator[str]:
    below: Points = {}
    for one in series:
        for at, value in one.points.items():
            base = below.get(at, 0.0)
            left, top = place(at, base + value)
            right, bottom = place(min(at + PERIOD_SECONDS, seconds), base)
            below[at] = base + value
            if value > 0:
                yield (
                    f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 1, 1):.1f}" '
                    f'height="{bottom - top:.1f}" fill="{one.colour}"/>'
                )
