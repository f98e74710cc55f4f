"""The metrics that both functions embed in their logs: whose they are, and that a stop shows among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.world import World, stale

type Counted = Callable[[], dict[str, float]]


def blobs(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]


def dimensions(blob: dict[str, Any]) -> dict[str, str]:
    (directive,) = blob["_aws"]["CloudWatchMetrics"]
    (names,) = directive["Dimensions"]
    return {name: blob[name] for name in names}


def test_metrics_tell_which_function_of_which_stack_they_are_from(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.send("devin-1")
    world.deliver()
    world.send("devin-2")
    world.deliver()
    world.api.have(stale("devin-3", tags=["keep"]))
    world.sweep(idle_for="PT6H")
    first, second, swept = blobs(capsys)
    assert dimensions(first) == dimensions(second) == {"function_name": "terminate", "service": "terminate"}
    assert dimensions(swept) == {"function_name": "terminate", "service": "sweep"}


def test_a_refused_policy_is_counted_for_its_function(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="criterion"):
        world.sweep()
    (blob,) = blobs(capsys)
    assert dimensions(blob) == {"function_name": "terminate", "service": "sweep"}


def test_what_the_stop_switch_holds_back_is_counted(switch: World, counted: Counted) -> None:
    switch.switch("stop")
    switch.send("devin-1", "devin-2")
    switch.deliver()
    assert counted() == {"retry": 2, "stopped": 1}
    switch.sweep(idle_for="PT6H")
    assert counted() == {"sweep_stopped": 1}


def test_without_a_stop_nothing_counts_as_stopped(switch: World, counted: Counted) -> None:
    switch.send("devin-1")
    switch.deliver()
    switch.sweep(idle_for="PT6H")
    assert not {name for name in counted() if "stopped" in name}


def test_what_nobody_expected_is_counted_beside_what_became_of_it(world: World, counted: Counted) -> None:
    world.api.on("DELETE", "devin-2", ZeroDivisionError("a bug"))
    world.send("devin-1", "devin-2", "devin-3")
    world.deliver()
    assert counted() == {"terminated": 2, "retry": 1, "unexpected_errors": 1}


def test_a_record_that_nobody_can_read_is_counted(world: World, counted: Counted) -> None:
    good = {"eventSource": "aws:sqs", "messageId": "m2", "body": "devin-1", "receiptHandle": "h", "attributes": {}}
    world.invoke({"Records": [{"eventSource": "aws:sqs", "messageId": "m1", "attributes": {}}, good]})
    assert counted() == {"terminated": 1, "unexpected_errors": 1}
