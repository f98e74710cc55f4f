"""The metrics that both functions embed in their logs, and that a stop shows among them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.world import World, answer


def test_metrics_name_the_function_and_its_stack(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.api.on("DELETE", "devin-3", answer(500))
    for bodies in (("devin-1", "devin-2", "devin-2", "devin-3"), ("devin-4",)):
        world.send(*bodies)
        world.deliver()
    with pytest.raises(ValueError, match="criterion"):
        world.sweep()
    blobs: list[dict[str, Any]] = [
        json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line
    ]
    for blob, service in zip(blobs, ("terminate", "terminate", "sweep"), strict=True):
        (directive,) = blob["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "DevinSessionCleanup"
        (names,) = directive["Dimensions"]
        assert {name: blob[name] for name in names} == {"function_name": "terminate", "service": service}
    assert (blobs[0]["terminated"], blobs[0]["retry"], len(blobs[0]["api_latency"])) == ([2], [1], 3)


def test_what_the_stop_switch_holds_back_is_counted(switch: World, counted: Callable[[], dict[str, float]]) -> None:
    switch.send("devin-1")
    switch.deliver()
    switch.sweep(idle_for="PT6H")
    assert not {name for name in counted() if "stopped" in name}
    switch.switch("stop")
    switch.send("devin-1", "devin-2")
    switch.deliver()
    assert counted() == {"retry": 2, "stopped": 1}
    switch.sweep(idle_for="PT6H")
    assert counted() == {"sweep_stopped": 1}
