"""What operators read, and what nobody may: one JSON line per id and outcome, and the key nowhere."""

from __future__ import annotations

import json
import re

import pytest

from infra.local.fake_devin.faults import echoing, hostile_detail, html_error
from tests.integration.world import World, wait_for

# What the platform writes around an invocation's own lines, and of processes that were killed while they worked or
# before.
PLATFORM = re.compile(r"(START|END|REPORT) RequestId: |Worker process died$|\[Errno 32\] Broken pipe$")
# How it prints what an invocation was ended by on purpose, so that the event is kept.
KEPT = re.compile(r"Traceback \(most recent call last\):$|  |terminate\.apply\.RedeliveryError: ")
FIELDS = {
    "timestamp", "level", "service", "message", "outcome", "session_id", "duration_ms", "source", "attempts",
    "function_request_id",
}  # fmt: skip


def test_every_attempt_at_every_id_is_one_line(world: World) -> None:
    ids = [world.session("line") for _ in range(4)]
    again = world.session("line-again", html_error(), html_error(503))
    message_id = world.send(json.dumps({"session_ids": [*ids, again]}))
    for session_id in [*ids, again]:
        world.story(session_id, "terminated")
    lines = [world.lines(session_id) for session_id in ids]
    assert [len(one) for one in lines] == [1] * 4
    first, second, third = world.lines(again)
    for line in (first, *(line for one in lines for line in one)):
        assert line["message_id"] == message_id
        assert line["receive_count"] == 1
    for line in (first, second, third, *(line for one in lines for line in one)):
        assert line.keys() >= FIELDS
        assert line["message"] == line["outcome"]
    assert [line["http_status"] for line in (first, second, third)] == [500, 503, 200]
    assert [line["attempts"] for line in (first, second, third)] == [1, 2, 3]
    assert [line["level"] for line in (first, second, third)] == ["WARNING", "WARNING", "INFO"]


def test_metrics_count_outcomes_in_the_embedded_format(world: World) -> None:
    ids = [world.session("metric") for _ in range(3)]
    answer = world.invoke({"session_ids": [*ids, world.name("metric-unknown")]})
    assert {outcome: len(named) for outcome, named in answer.items()} == {"terminated": 3, "rejected": 1}

    def published() -> list[dict[str, object]]:
        return [
            entry
            for entry in world.stack.log_entries()
            if entry.get("terminated") == [3.0] and entry.get("rejected") == [1.0]
        ]

    (metrics,) = wait_for(published, "the metrics of this invocation")
    (space,) = metrics["_aws"]["CloudWatchMetrics"]  # type: ignore[index]
    assert space["Namespace"] == "DevinSessionCleanup"
    assert {metric["Name"] for metric in space["Metrics"]} == {"terminated", "rejected", "api_latency"}
    # The fourth was rejected, and looked at.
    assert len(metrics["api_latency"]) == 4 + 1  # type: ignore[arg-type]


@pytest.mark.fault(31)
def test_no_key_is_in_any_log_or_dead_letter(quiet: World) -> None:
    """Of all that the tests of this stack did; they stored and rotated several keys."""
    ids = [quiet.session(f"echo-{status}", echoing(status)) for status in (403, 422, 500)]
    hostile = quiet.session("echo-hostile", hostile_detail(400))
    rotated = "apk_user_echoed-1357924680"
    # What a sender wrote is kept as it came.
    pasted = {"session_ids": [rotated]}
    with quiet.api_key(rotated, rotated):
        for session_id in [*ids, hostile]:
            quiet.send(session_id)
        # It is not repeated in the answer.
        assert rotated not in json.dumps(quiet.invoke(pasted))
        assert "[redacted]" in quiet.take_letter(ids[1]).attributes["detail"]
        assert quiet.take_letter(hostile).attributes["detail"].isprintable()
        for session_id in (ids[0], ids[2]):
            quiet.story(session_id, "terminated")
        quiet.stack.api.script(echoing(500), operation="list", times=1)
        refused = quiet.sweep({rotated: "PT6H"})["errorMessage"]
        failed = quiet.sweep({"idle_for": "PT6H"})["errorMessage"]
        assert "[redacted]" in failed
    quiet.wait_until_drained()

    lines = quiet.stack.log_lines() + quiet.stack.log_lines(quiet.stack.sweep_function_name)
    # Some errors are Lambda's to print; every line of ours is one of JSON.
    mine = [line for line in quiet.stack.log_lines() if not PLATFORM.match(line) and not KEPT.match(line)]
    assert [line for line in mine if not is_object(line)] == []
    letters = [*quiet.letters(), *quiet.taken]
    bodies = [letter.body for letter in letters]
    bodies.remove(json.dumps(pasted, separators=(",", ":")))
    attributes = [json.dumps(dict(letter.attributes)) for letter in letters]
    files = [path.read_text(errors="replace") for path in quiet.stack.directory.glob("*.log")]
    assert files
    assert len(quiet.keys) >= 2
    for key in quiet.keys:
        texts = [*lines, *bodies, *attributes, *files, refused, failed]
        assert [text for text in texts if key.lower() in text.lower()] == []


def is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
