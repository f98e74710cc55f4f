"""A picture of some curves, both axes logarithmic, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 860, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 250, 20, 50
# Told apart also by those who do not see all colours (Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#E69F00", "#CC79A7", "#009E73", "#56B4E9", "#000000")


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """The first curve is drawn boldest, one that is called `ideal` is dashed."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points if y > 0]
    left, right = math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs)))
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (math.log10(x) - left) / max(right - left, 1) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (math.log10(y) - low) / max(high - low, 1) * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
            f'font-size="13"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
        )
    ]
    for power in range(left, right + 1):
        x, bottom = place(10**power, 10**low)
        parts.append(f'<path d="M{x:.1f} {bottom:.1f}V{_TOP}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{10**power:g}</text>')
    for power in range(low, high + 1):
        start, y = place(10**left, 10**power)
        parts.append(f'<path d="M{start:.1f} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{start - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{10**power:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>')
    centre = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text transform="translate(16 {centre}) rotate(-90)" text-anchor="middle">{escape(up)}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        style = f'stroke="{colour}" stroke-width="{3 if number == 0 else 1.6}"'
        style += ' stroke-dasharray="6 4"' if name == "ideal" else ""
        path = "L".join("{:.1f} {:.1f}".format(*place(x, y)) for x, y in points if y > 0)
        y = _TOP + 14 + number * 22
        parts.append(f'<path d="M{path}" fill="none" {style}/>')
        parts.append(f'<path d="M{_WIDTH - _RIGHT + 14} {y}h26" fill="none" {style}/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 46}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])
