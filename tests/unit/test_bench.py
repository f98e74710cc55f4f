"""What the benchmark reckons with and writes; no test measures time."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from tests.bench.batches import Api, Cell, failing, ideal
from tests.bench.bill import Batch, bill, fixed_costs, traced_share
from tests.bench.document import updated, write
from tests.bench.fleet import LIMIT, OURS
from tests.bench.plot import IDEAL, Panel, Point, stacked
from tests.bench.result import Goal, Section, Table, against

PARTS = ["speed", "size"]
SPEED = Section(
    "Speed",
    ["Fast."],
    [Table("Times", ["what", "ms"], [["all", "1"]])],
    [Goal.at_most("speed", 1.05, "the limit", 1.01), Goal.told("haste", "2")],
    stamp="Measured at commit a.",
)
SIZE = Section("Size", ["Small."], goals=[Goal.flat("size", 1.0)], stamp="Measured at commit a.")


def _document(*sections: Section, place: pytest.TempPathFactory) -> str:
    return write(place.mktemp("docs"), sections, PARTS).read_text()


def test_a_chapter_is_replaced_with_its_goals_and_its_stamp(tmp_path_factory: pytest.TempPathFactory) -> None:
    old = _document(SPEED, SIZE, place=tmp_path_factory).replace("do not edit", "an older introduction")
    later = replace(SPEED, text=["Faster."], goals=[Goal.at_most("pace", 1.05, "it", 1.07)], stamp="At commit b.")
    new = updated(old, [later], PARTS)
    assert new == _document(later, SIZE, place=tmp_path_factory)
    assert "| pace | at most 1.05 x it | 1.07 x | **not met** | Speed |" in new
    assert "haste" not in new
    assert updated(new, [later, SIZE], PARTS) == new, "nothing is left over"


def test_a_document_without_the_chapter_has_to_be_written_as_a_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    old = _document(SPEED, place=tmp_path_factory)
    with pytest.raises(SystemExit, match="Size"):
        updated(old, [SIZE], PARTS)
    with pytest.raises(SystemExit, match="whose goal 'speed'"):
        updated(old.replace("| met | Speed |", "| met |"), [SPEED], PARTS)


@pytest.mark.parametrize(
    ("value", "limit", "told"),
    [
        (1.014, 1.05, "1.01"),
        (1.052, 1.05, "1.052"),
        (1.0496, 1.05, "1.0496"),
        (1.05, 1.05, "1.05"),
        (8.998, 9, "8.998"),
    ],
)
def test_a_ratio_has_the_digits_that_tell_it_from_its_limit(value: float, limit: float, told: str) -> None:
    assert against(value, limit) == told


def test_the_ideal_lets_each_worker_take_the_next_id() -> None:
    assert ideal(Api("fixed", 100), 0, 95) == pytest.approx(1.0)
    assert ideal(Api("fixed", 100), 0, 95, workers=1) == pytest.approx(9.5)
    assert ideal(Api("tail", 100), 0, 95) < ideal(Api("tail", 100), 0, 95, workers=9)


def test_the_ratio_of_a_cell_is_that_of_its_repeats() -> None:
    assert Cell([1.1, 4.0, 1.05], [1.0, 2.0, 1.0], scaled=False).ratio == pytest.approx(1.1)
    assert Cell([1.0], [0.0], scaled=False).ratio is None


def test_of_what_fails_this_project_reports_what_is_tried_again() -> None:
    api = Api("tail", 20, 10)
    assert failing(LIMIT, api, 0, 100) == 10
    assert failing(OURS, api, 0, 100) == 5
    assert failing(OURS, Api("tail", 20), 0, 100) == 0


def test_a_trickle_is_traced_as_a_whole_and_a_burst_in_part() -> None:
    assert traced_share(0.3) == 1.0
    assert traced_share(2) == pytest.approx(0.525)
    assert traced_share(10_000) == pytest.approx(0.05, rel=0.01)
    batch = Batch(10, 200, 5000)
    assert bill(batch, 300, traced=1.0).traces == pytest.approx(0.5)
    assert bill(batch, 300, sent_together=10).queue == pytest.approx(0.12)


def test_fixed_costs_count_what_the_template_has() -> None:
    costs = fixed_costs(metrics=20)
    assert costs["20 metrics"] == pytest.approx(6.0)
    (alarms,) = (name for name in costs if "alarms on" in name)
    counted, watched = map(int, re.findall(r"[0-9]+", alarms))
    assert watched > counted > 10, "one of them is on an expression of two metrics"
    assert costs[alarms] == pytest.approx(0.1 * watched)


def test_a_picture_shows_which_points_were_not_measured_as_a_whole() -> None:
    lines = {OURS: [Point(1, 0.1), Point(10, 0.1), Point(100, 1, scaled=True)], IDEAL: [Point(1, 0.1), Point(100, 1)]}
    ratios = {name: [Point(point.x, 1.02) for point in points] for name, points in lines.items()}
    picture = ET.fromstring(stacked([Panel(lines, "s"), Panel(ratios, "times", (0.95, 1.3))], "ids"))  # noqa: S314
    drawn = picture.findall(".//{*}g//{*}circle")
    assert [one.get("fill") == "white" for one in drawn] == [False, False, True, False, False, False]
