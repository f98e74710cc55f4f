"""`sweep --chart`: the fleet as a page of HTML, with histograms of idle time and a table of thresholds.

It holds static pictures and no script, so it opens anywhere, also where scripts or the network are blocked.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from xml.etree import ElementTree as ET

from infra.ops.cli_context import CliContext, place_of, utc_now
from infra.ops.fleet import Fleet, Point, Threshold, list_sessions, rejected_before, survey
from infra.ops.output import Output, count
from infra.ops.problems import UsageError
from infra.ops.snapshot import StackSnapshot
from infra.ops.sweeps import Policy

COLUMNS = ("idle_for", "chosen", "share", "caps", "units so far", "units spent waiting")
_CHOSEN = "chosen"
_OTHERS = "others"
_CHOSEN_COLOUR = "#d1242f"
_COLOURS = ("#4c78a8", "#72b7b2", "#eeca3b", "#b279a2", "#9d755d", "#54a24b", "#f58518", "#bab0ac")
_TICKS = (0.125, 0.5, 1, 2, 4, 8, 12, 24, 48, 72, 168, 336, 720, 2160, 8760, 26280)
_TICK_LABEL = (
    "datum.value < 1 ? datum.value * 60 + ' min' : datum.value < 24 ? datum.value + ' h' : "
    "datum.value < 8760 ? datum.value / 24 + ' d' : datum.value / 8760 + ' y'"
)
# Two bars for each doubling of the idle time. Shorter times than the least are in the first bar.
_LEAST_HOURS = 0.125
_BAR = [
    {"calculate": f"{_LEAST_HOURS} * pow(2, floor(2 * log(datum.hours / {_LEAST_HOURS}) / LN2) / 2)", "as": "from"},
    {"calculate": "datum.from * SQRT2", "as": "to"},
]
_SVG = "http://www.w3.org/2000/svg"


def draw(output: Output, context: CliContext, policy: Policy, path: Path) -> None:
    """Write the page, and show its table."""
    # A policy's own file might be named by mistake, and would be overwritten.
    if path.suffix != ".html" or not path.parent.is_dir():
        raise UsageError(f"--chart takes the name of an .html file in a directory that exists, not {path}")
    renderer()
    output.say("The key is read from the secret and used from this machine to list the sessions.")
    stack = StackSnapshot(context.account, context.deployment, context.command)
    sessions, listing = list_sessions(stack, output.warn)
    rejected = rejected_before(stack, sessions, output.warn)
    now = utc_now()
    fleet = survey(sessions, listing, policy, now, protect_tag=stack.settings.protect_tag, rejected=rejected)
    path.write_text(page(fleet, policy, place_of(context), now, output.cell), encoding="utf-8")
    if listing != "complete":
        output.warn(f"the listing is not complete: {listing}")
    output.data({"chart": str(path)} | {name: value for name, value in asdict(fleet).items() if name != "points"})
    output.table("", COLUMNS, [cells(one) for one in fleet.thresholds])
    output.say(f"{count(len(fleet.points), 'session')} drawn in {path}; nothing was ended", "bold")


def renderer() -> Callable[..., str]:
    """Raises UsageError if the package that draws is not installed."""
    try:
        from vl_convert import vegalite_to_svg  # noqa: PLC0415 - 80 MB, an extra that only a chart needs
    except ImportError:
        raise UsageError(
            "--chart needs the package vl-convert-python: install it beside this command "
            "(pip install vl-convert-python, or pipx inject devin-session-cleanup vl-convert-python)"
        ) from None
    return vegalite_to_svg


def page(
    fleet: Fleet, policy: Mapping[str, object], place: str, now: datetime, clean: Callable[[str], str] = str
) -> str:
    """The whole page. `clean` makes text from outside fit to be shown."""
    texts = {
        "title": f"Devin sessions of {place}",
        "time": f"{now:%Y-%m-%d %H:%M} UTC",
        "listed": fleet.listed,
        "listing": fleet.listing if fleet.listing == "complete" else f"NOT COMPLETE: {fleet.listing}",
        "could_be_ended": fleet.could_be_ended,
        "policy": json.dumps(policy),
        "drawn": len(fleet.points),
    }
    reasons = [(clean(reason), str(number)) for reason, number in fleet.kept.items()]
    own = next(index for index, one in enumerate(fleet.thresholds) if one.own)
    return Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8")).substitute(
        {name: escape(clean(str(text))) for name, text in texts.items()},
        picture=picture(fleet, clean) if fleet.points else "",
        thresholds=_table(COLUMNS, [cells(one) for one in fleet.thresholds], marked=own),
        kept=_table(("reason", "sessions"), reasons),
    )


def cells(one: Threshold) -> tuple[str, ...]:
    """A row of the table of thresholds."""
    units = ["unknown" if acus is None else f"{acus:,.1f}" for acus in (one.acus, one.waiting_acus)]
    name = f"{one.idle_for} (the policy)" if one.own else one.idle_for
    return (name, str(one.chosen), f"{one.share:.0%}", "over" if one.over_caps else "within", *units)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], marked: int | None = None) -> str:
    lines = [f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr>"]
    for index, row in enumerate(rows):
        style = ' class="marked"' if index == marked else ""
        lines.append(f"<tr{style}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    return "\n".join(["<table>", *lines, "</table>"])


def picture(fleet: Fleet, clean: Callable[[str], str] = str) -> str:
    """Three histograms as SVG; what a bar stands for is shown when the pointer is on it."""
    views: tuple[tuple[str, Callable[[Point], str], bool], ...] = (
        ("What the policy would do", lambda point: point.kept or _CHOSEN, True),
        ("By status (pale: kept by the policy)", lambda point: point.status, False),
        ("By user (pale: kept by the policy)", lambda point: point.user, False),
    )
    own = next(one for one in fleet.thresholds if one.own)
    x = {
        "type": "quantitative",
        "scale": {"type": "log", "nice": False},
        "axis": {"values": _TICKS, "labelExpr": _TICK_LABEL, "title": "idle for"},
        "title": "hours idle",
    }
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": "white",
        # Browsers may show labels in a wider font than the one that they were measured in.
        "padding": {"left": 5, "top": 5, "bottom": 5, "right": 60},
        "config": {
            "numberFormat": ".3~r",
            "view": {"stroke": None},
            "axis": {"grid": False},
            "legend": {"labelLimit": 280},
        },
        "resolve": {"scale": {"color": "independent", "opacity": "independent"}},
        "vconcat": [
            {
                "title": {"text": title, "anchor": "start", "offset": 16},
                "width": 640,
                "height": 170,
                "layer": [
                    _bars(fleet.points, [clean(of(point)) for point in fleet.points], x, by_fate=by_fate),
                    *_mark(own, x),
                ],
            }
            for title, of, by_fate in views
        ],
    }
    return _with_tooltips(renderer()(spec, allowed_base_urls=[]))


def _bars(points: Sequence[Point], labels: Sequence[str], x: Mapping[str, Any], *, by_fate: bool) -> dict[str, Any]:
    """Bars that are stacked by label: the most frequent ones, and all others together. Those that are kept are pale,
    unless the label says so (`by_fate`)."""
    by_number = Counter(labels).most_common()
    # What is chosen always has its own colour.
    groups = [label for label, _ in sorted(by_number, key=lambda one: one[0] != _CHOSEN)][: len(_COLOURS) - 1]
    labels = [label if label in groups else _OTHERS for label in labels]
    groups += {_OTHERS} & {*labels} - {*groups}
    legend = {label: f"{label} ({labels.count(label)})" for label in groups}
    rows = [
        {
            "hours": max(point.idle / timedelta(hours=1), _LEAST_HOURS),
            "group": legend[label],
            "then": "kept" if point.kept else _CHOSEN,
        }
        for point, label in zip(points, labels, strict=True)
    ]
    colours = {
        "domain": [*legend.values()],
        "range": ([_CHOSEN_COLOUR] if by_fate and _CHOSEN in groups else []) + [*_COLOURS],
    }
    pale = {"domain": [_CHOSEN, "kept"], "range": [1, 1 if by_fate else 0.4]}
    return {
        "data": {"values": rows},
        "transform": _BAR,
        "mark": {"type": "bar", "stroke": "white", "strokeWidth": 0.5},
        "encoding": {
            "x": {"field": "from", "bin": "binned", **x},
            "x2": {"field": "to"},
            "y": {"aggregate": "count", "title": "sessions", "axis": {"tickMinStep": 1}},
            "color": {"field": "group", "type": "nominal", "title": None, "scale": colours},
            "opacity": {"field": "then", "type": "nominal", "scale": pale, "legend": None},
        },
    }


def _mark(own: Threshold, x: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line at the policy's `idle_for`, if it has one."""
    text = {"type": "text", "text": f"idle_for {own.idle_for}", "y": -3, "baseline": "bottom"}
    marks = ({"type": "rule", "strokeDash": [5, 3], "strokeWidth": 1.5}, text) if own.hours else ()
    return [{"data": {"values": [{}]}, "mark": mark, "encoding": {"x": {"datum": own.hours, **x}}} for mark in marks]


def _with_tooltips(svg: str) -> str:
    """With the description of each bar, which is there for screen readers, as its title: browsers show it."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(svg)  # noqa: S314 - the renderer's
    for element in root.iter(f"{{{_SVG}}}path"):
        if element.get("aria-roledescription") == "bar":
            ET.SubElement(element, f"{{{_SVG}}}title").text = element.get("aria-label")
    return ET.tostring(root, encoding="unicode")
