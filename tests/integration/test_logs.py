"""What operators read, and what nobody may: one JSON line per id and outcome, and the key nowhere."""

from __future__ import annotations

import json
import re

from infra.local.standin import Fault
from infra.local.standin.faults import echoing, hostile_detail, html_error
from tests.integration.world import Letter, World, wait_for

# What the platform writes around an invocation's own lines.
PLATFORM = re.compile(r"(START|END|REPORT) RequestId: ")
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
    assert len(metrics["api_latency"]) == 4  # type: ignore[arg-type]


def test_no_key_is_in_any_log_or_dead_letter(quiet: World) -> None:
    """Of all that the tests of this stack did; they stored and rotated several keys."""
    echoed = [quiet.session(f"echo-{status}", echoing(status)) for status in (403, 422, 500)]
    rotated = "apk_user_echoed-1357924680"
    hostile = quiet.session("echo-hostile", hostile_detail(400), Fault(status=401))
    with quiet.api_key(rotated, rotated):
        for session_id in [*echoed, hostile]:
            quiet.send(session_id)
        quiet.invoke_later({"session_ids": [quiet.session("echo-later", echoing(502)), "devin-/" + rotated]})
        assert "[redacted]" in quiet.take_letter(echoed[1]).attributes["detail"]
        quiet.redrive(quiet.take_letter(hostile))
        for session_id in (echoed[0], echoed[2], hostile):
            quiet.story(session_id, "terminated")
    quiet.wait_until_drained()

    lines = [line for line in quiet.stack.log_lines() if not PLATFORM.match(line)]
    assert all(isinstance(json.loads(line), dict) for line in lines)
    letters = [*quiet.letters(), *quiet.taken]
    files = [path.read_text(errors="replace") for path in quiet.stack.directory.glob("*.log")]
    texts = [*lines, *map(said, letters), *files]
    assert len(quiet.keys) >= 2
    for key in quiet.keys:
        # The body of a dead letter is what its sender wrote; all else is ours.
        assert [text for text in texts if key.lower() in text.lower()] == []


def said(letter: Letter) -> str:
    return json.dumps(dict(letter.attributes))
