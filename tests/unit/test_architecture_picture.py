"""The picture of the architecture: what it shows is what the templates say, and it can be read."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from html import unescape
from itertools import combinations, pairwise
from typing import Any

import pytest

from infra.environments import ROOT
from infra.local.pictures_architecture import BOXES, COLUMNS, NESTED, ROWS, STEP, Router, picture
from infra.local.pictures_graph import CAPTIONS, KINDS, MANY, OUTSIDE, OUTSIDERS, Edge, Reader, graph, load

FILE = ROOT / "docs" / "pictures" / "architecture.svg"
GRAPH = graph()
PICTURE = picture(GRAPH)
TEMPLATES: dict[str, Any] = {path: load(path) for path in ("template.yaml", "infra/observability.yaml")}
# What only says what others may do: arrows come from these.
ARROWS = {"AWS::IAM::Role", "AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::CloudFormation::Stack"}


def changed(change: Callable[[dict[str, Any]], object]) -> set[tuple[str, str]]:
    """The arrows of a template that is changed like this."""
    template = copy.deepcopy(TEMPLATES["template.yaml"])
    change(template["Resources"])
    return {
        (edge.source, edge.target) for edge in Reader(template, TEMPLATES["infra/observability.yaml"]).graph().edges
    }


ARROWS_NOW = changed(lambda _: None)


def statements(resources: dict[str, Any], role: str) -> list[Any]:
    found: list[Any] = resources[role]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    return found


def test_the_picture_is_that_of_the_template() -> None:
    assert FILE.read_text(encoding="utf-8") == PICTURE, "run `make pictures PARTS=architecture`"


def test_it_is_the_same_every_time() -> None:
    assert picture(graph()) == PICTURE


@pytest.mark.parametrize("path", TEMPLATES)
def test_every_kind_of_resource_is_drawn_or_makes_arrows(path: str) -> None:
    types = {one["Type"] for one in TEMPLATES[path]["Resources"].values()}
    assert types <= KINDS.keys() | ARROWS
    assert {node.kind for node in GRAPH.nodes.values()} >= types - ARROWS


def test_every_box_says_what_it_is() -> None:
    said = [unescape(one) for one in re.findall(r"<text[^>]*>([^<]*)</text>", PICTURE)]
    for node in GRAPH.nodes.values():
        assert node.title in said
        assert KINDS[node.kind][0] in said or node.kind == OUTSIDE
        assert set(node.details) <= set(said)


def test_alarms_and_queries_are_counted() -> None:
    for kind, name in MANY.items():
        number = sum(1 for one in TEMPLATES["infra/observability.yaml"]["Resources"].values() if one["Type"] == kind)
        assert GRAPH.nodes[kind].title == f"{number} {name}"


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (lambda all_: statements(all_, "SweepRole").pop(3), ("SweepFunction", "AnnouncementsTable")),
        (lambda all_: statements(all_, "TerminateRole").pop(3), ("StopSwitch", "TerminateFunction")),
        (lambda all_: all_["WorkQueue"]["Properties"].pop("RedrivePolicy"), ("WorkQueue", "DeadLetterQueue")),
        (
            lambda all_: all_["TerminateFunction"]["Properties"]["Events"].pop("Work"),
            ("WorkQueue", "TerminateFunction"),
        ),
        (
            lambda all_: all_["Schedule"]["Properties"]["Target"].pop("DeadLetterConfig"),
            ("Schedule", "DeadLetterQueue"),
        ),
        (lambda all_: all_.pop("PeriodicSweep"), ("PeriodicSweep", "SweepFunction")),
    ],
)
def test_an_arrow_goes_with_what_it_stands_for(
    change: Callable[[dict[str, Any]], object], gone: tuple[str, str]
) -> None:
    assert gone in ARROWS_NOW
    assert gone not in changed(change)


def test_a_failure_destination_alone_is_an_arrow_too() -> None:
    def no_permission(resources: dict[str, Any]) -> None:
        statements(resources, "TerminateRole").pop(1)

    assert ("TerminateFunction", "DeadLetterQueue") in changed(no_permission)


def test_words_of_our_own_are_about_arrows_and_outsiders_that_are_there() -> None:
    assert CAPTIONS.keys() <= ARROWS_NOW
    touched = {name for arrow in ARROWS_NOW for name in arrow}
    assert OUTSIDERS.keys() <= touched


def test_what_is_not_always_there_says_on_what_it_depends() -> None:
    optional = {node.name: node.optional for node in GRAPH.nodes.values() if node.optional}
    assert optional == {
        "ApiKeySecret": "unless ExistingApiKeySecretArn",
        "Key": "if UseCustomerManagedKey",
        "Schedule": "if ScheduledSessionIds",
        "AWS::SNS::Subscription": "if AlarmEmail",
    }
    assert GRAPH.nested_optional == "if Observability"


def test_boxes_keep_apart_and_each_is_of_use() -> None:
    assert BOXES.keys() == GRAPH.nodes.keys()
    for (_, (x, y, width, height)), (_, (other_x, other_y, other_width, other_height)) in combinations(
        BOXES.items(), 2
    ):
        assert x + width < other_x or other_x + other_width < x or y + height < other_y or other_y + other_height < y
    for name, (x, y, width, height) in BOXES.items():
        assert 0 < x < x + width < COLUMNS
        assert 0 < y < y + height < ROWS
        assert (NESTED[1] < y) == (name in GRAPH.nested)


def test_texts_fit_into_their_boxes() -> None:
    for node in GRAPH.nodes.values():
        _, _, width, height = BOXES[node.name]
        lines = [KINDS[node.kind][0], *node.details, node.optional]
        badge = 26 if node.encrypted else 0
        assert 8.2 * len(node.title) + 15 + badge <= width * STEP, node.title
        assert 6.6 * max(map(len, lines)) + 15 <= width * STEP, node.title
        assert 17 * sum(1 for line in lines if line) + 16 <= height * STEP, node.title


def test_a_box_without_a_place_is_said() -> None:
    template = copy.deepcopy(TEMPLATES["template.yaml"])
    template["Resources"]["SecondQueue"] = template["Resources"]["DeadLetterQueue"]
    with pytest.raises(ValueError, match="where to draw SecondQueue"):
        picture(Reader(template, TEMPLATES["infra/observability.yaml"]).graph())


def test_a_way_leads_from_box_to_box_and_through_none() -> None:
    boxes = {"a": (1, 1, 4, 4), "b": (20, 1, 4, 4), "between": (10, 0, 4, 8)}
    points = Router(boxes).route(Edge("a", "b")).points
    for point, (x, y, width, height) in ((points[0], boxes["a"]), (points[-1], boxes["b"])):
        assert point[0] in (x, x + width) or point[1] in (y, y + height)
    for (x, y), (other_x, other_y) in pairwise(points):
        assert abs(x - other_x) + abs(y - other_y) == 1
    assert not [(x, y) for x, y in points if 10 <= x <= 14 and y <= 8]


def test_ways_of_different_boxes_do_not_lie_on_each_other() -> None:
    boxes = {"a": (1, 1, 4, 4), "b": (1, 10, 4, 4), "c": (20, 1, 4, 13)}
    router = Router(boxes)
    first, second = (router.route(Edge(name, "c")).points for name in ("a", "b"))
    assert not set(pairwise(first)) & set(pairwise(second))
