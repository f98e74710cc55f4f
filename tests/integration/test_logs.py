"""What operators read, and what nobody may: one JSON line per id and outcome, and the key nowhere."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from typing import Any

import pytest

from infra.local.fake_devin import Fault
from infra.local.fake_devin.faults import echoing, hostile_detail, html_error
from tests.integration.bus import hearing
from tests.integration.test_permissions import granted, written
from tests.integration.world import Letter, World, wait_for

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
    """Nor in any event or item, of all that the tests of this stack did; they stored and rotated several keys."""
    ids = [quiet.session(f"echo-{status}", echoing(status)) for status in (403, 422, 500)]
    rotated = "apk_user_echoed-1357924680"
    # What a sender wrote is an order: it is kept as it came, and only that is.
    pasted = [{"session_ids": [rotated]}, {"session_ids": ["devin-/" + rotated]}]
    kept = quiet.session("echo-kept", *[echoing(500)] * 3)
    hostile = quiet.session("echo-hostile", hostile_detail(400), Fault(status=401))
    with hearing(quiet) as heard:
        with quiet.environment(PUBLISH_OUTCOMES="true"), may_publish(quiet), quiet.api_key(rotated, rotated):
            for session_id in [*ids, hostile]:
                quiet.send(session_id)
            quiet.invoke_later({"session_ids": [quiet.session("echo-later", echoing(502)), *pasted[1]["session_ids"]]})
            # What a caller wrote where an id belongs is told to nobody, not even to him.
            assert rotated not in json.dumps(quiet.invoke(pasted[0]))
            record = given_up(quiet, kept)
            assert "[redacted]" in quiet.take_letter(ids[1]).attributes["detail"]
            quiet.redrive(quiet.take_letter(hostile))
            quiet.redrive(record)
            for session_id in (ids[0], ids[2], hostile, kept):
                quiet.story(session_id, "terminated")
            reports = [sweep_echoed(quiet, rotated) for sweep_echoed in (announced, refused, failed)]
        events = wait_for(lambda: enough(heard()), "outcomes, an announcement and a report", told=heard)
    quiet.wait_until_drained()

    items = quiet.stack.aws.dynamodb.scan(TableName=quiet.stack.outputs["AnnouncementsTableName"])["Items"]
    assert items
    lines = quiet.stack.log_lines() + quiet.stack.log_lines(quiet.stack.sweep_function_name)
    # Some errors are Lambda's to tell; every line of ours is one of JSON.
    mine = [line for line in quiet.stack.log_lines() if not PLATFORM.match(line) and not KEPT.match(line)]
    assert [line for line in mine if not is_object(line)] == []
    letters = [*quiet.letters(), *quiet.taken]
    bodies = [letter.body for letter in letters]
    assert record.body in bodies
    for given in pasted:
        bodies.remove(json.dumps(given, separators=(",", ":")))
    files = [path.read_text(errors="replace") for path in quiet.stack.directory.glob("*.log")]
    assert "emulator.log" in {path.name for path in quiet.stack.directory.glob("*.log")}
    told = [json.dumps(dict(letter.attributes)) for letter in letters]
    texts = [*lines, *bodies, *told, *files, *events, json.dumps(items), *map(json.dumps, reports)]
    assert len(quiet.keys) >= 2
    for key in quiet.keys:
        assert [text for text in texts if key.lower() in text.lower()] == []


def is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def given_up(world: World, session_id: str) -> Letter:
    """What Lambda writes of an event that it has tried in vain, with the error that the function ended with: the API
    repeats the key each time, and nothing can be sent back."""
    with world.without("Work", "sqs:SendMessage"):
        world.invoke_later({"session_id": session_id})
        letter = world.take_letter(session_id)
    assert json.loads(letter.body)["requestPayload"] == {"session_id": session_id}
    assert json.loads(letter.body)["responsePayload"]["errorMessage"]
    return letter


def may_publish(world: World) -> AbstractContextManager[None]:
    statement = written("TerminateRole", "Outcomes", world, PublishOutcomes="true")
    return granted(world, "TerminateRole", statement)


def enough(events: list[str]) -> list[str]:
    """The events, once there is one of each kind."""
    kinds = {json.loads(event)["detail-type"] for event in events}
    every = {"Devin Session Cleanup Outcome", "Devin Session Termination Announced", "Devin Sweep Completed"}
    return events if kinds >= every else []


def announced(world: World, key: str) -> Any:
    """A sweep with notice, of a session whose owner wrote the key into its title and a tag."""
    world.stale("echo-swept", tags=("echo-swept", key), title=key)
    policy = {"idle_for": "PT6H", "tags": ["echo-swept", key], "notify_first": "PT1H", "max_share": 1, "dry_run": False}
    report = world.sweep(policy)
    assert report["announced"] == 1
    assert "[redacted]" in report["to_announce"][0]["why"][1]
    return report


def refused(world: World, key: str) -> Any:
    """A sweep with the key where a criterion belongs."""
    answer = world.sweep({key: "PT6H"})
    assert "is no key of a policy" in answer["errorMessage"]
    return answer


def failed(world: World, key: str) -> Any:
    """A sweep whose listing is refused by an API that repeats the key."""
    assert key in world.keys
    world.stack.api.script(echoing(500), operation="list", times=1)
    answer = world.sweep({"idle_for": "PT6H"})
    assert "[redacted]" in answer["errorMessage"]
    return answer
