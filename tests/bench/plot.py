"""Pictures of curves, one panel above the other, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT = 900, 70, 280
_PANEL, _GAP, _TOP, _BOTTOM = 390, 70, 20, 50
# Told apart also by those who do not see all colours (Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#56B4E9", "#000000")
IDEAL = "ideal"


@dataclass(frozen=True, slots=True)
class Point:
    """`scaled`: not measured as a whole. It is drawn hollow."""

    x: float
    y: float
    scaled: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves by name over a logarithmic axis. `up` says what goes up; that axis is logarithmic too, unless it has
    `bounds`: then it is linear between them, and what lies beyond is not drawn."""

    lines: Mapping[str, Sequence[Point]]
    up: str
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = True

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float) -> _Axis:
        logarithms = [math.log10(value) for value in values if value > 0]
        low, high = math.floor(min(logarithms)), math.ceil(max(logarithms))
        return cls(low, max(high, low + 1), start, end)

    def place(self, value: float) -> float:
        share = ((math.log10(value) if self.logarithmic else value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            return [10.0**power for power in range(round(self.low), round(self.high) + 1)]
        steps = round((self.high - self.low) / 0.05)
        return [self.low + 0.05 * step for step in range(steps + 1)]


def stacked(panels: Sequence[Panel], across: str) -> str:
    """The first curve of a panel is drawn boldest, one that is called IDEAL is dashed."""
    height = _TOP + len(panels) * _PANEL + (len(panels) - 1) * _GAP + _BOTTOM
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
            f'font-size="13"><rect width="{_WIDTH}" height="{height}" fill="white"/>'
        )
    ]
    xs = [point.x for panel in panels for points in panel.lines.values() for point in points]
    for number, panel in enumerate(panels):
        top = _TOP + number * (_PANEL + _GAP)
        parts += _panel(panel, _Axis.around(xs, _LEFT, _WIDTH - _RIGHT), top, number)
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, height - 10, across))
    parts += _legend(list(panels[0].lines))
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, wide: _Axis, top: float, number: int) -> Iterable[str]:
    bottom, right = top + _PANEL, _WIDTH - _RIGHT
    ys = [point.y for points in panel.lines.values() for point in points]
    tall = _Axis(*panel.bounds, bottom, top, logarithmic=False) if panel.bounds else _Axis.around(ys, bottom, top)
    for x in wide.ticks():
        yield f'<path d="M{wide.place(x):.1f} {bottom}V{top}" stroke="#ddd"/>'
        yield _text(wide.place(x), bottom + 18, f"{x:g}")
    for y in tall.ticks():
        yield f'<path d="M{_LEFT} {tall.place(y):.1f}H{right}" stroke="#ddd"/>'
        yield _text(_LEFT - 8, tall.place(y) + 4, f"{y:g}" if tall.logarithmic else f"{y:.2f}", "end")
    turned = f'transform="translate(16 {(top + bottom) / 2}) rotate(-90)"'
    yield f'<text {turned} text-anchor="middle">{escape(panel.up)}</text>'
    yield f'<clipPath id="panel{number}"><rect x="{_LEFT - 5}" y="{top - 5}" width="{right - _LEFT + 10}" '
    yield f'height="{_PANEL + 10}"/></clipPath><g clip-path="url(#panel{number})">'
    for index, (name, points) in enumerate(panel.lines.items()):
        places = [(wide.place(point.x), tall.place(point.y), point.scaled) for point in points if point.y > 0]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
        yield f'<path d="M{path}" fill="none" {_style(index, name)}/>'
        for x, y, scaled in places if name != IDEAL else ():
            yield _marker(x, y, _COLOURS[index], scaled=scaled)
    yield "</g>"


def _legend(names: Sequence[str]) -> Iterable[str]:
    left = _WIDTH - _RIGHT + 14
    for index, name in enumerate(names):
        y = _TOP + 14 + index * 22
        yield f'<path d="M{left} {y}h26" fill="none" {_style(index, name)}/>'
        yield _text(left + 32, y + 4, name, "start")
    y = _TOP + 14 + len(names) * 22 + 8
    for scaled, said in ((False, "measured as a whole"), (True, "scaled up from a piece")):
        yield _marker(left + 13, y, "#555", scaled=scaled)
        yield _text(left + 32, y + 4, said, "start")
        y += 22


def _style(index: int, name: str) -> str:
    dashes = ' stroke-dasharray="6 4"' if name == IDEAL else ""
    return f'stroke="{_COLOURS[index % len(_COLOURS)]}" stroke-width="{2.6 if index == 0 else 1.4}"{dashes}'


def _marker(x: float, y: float, colour: str, *, scaled: bool) -> str:
    fill = "white" if scaled else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{fill}" stroke="{colour}" stroke-width="1.4"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
