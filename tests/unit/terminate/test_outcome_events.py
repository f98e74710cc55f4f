"""Outcomes as events, which a setting asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.world import KEY, NOT_VALID, World, answer

Log = Callable[[], list[dict[str, Any]]]
OUTCOME = "Devin Session Cleanup Outcome"


@pytest.fixture
def publishing(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("PUBLISH_OUTCOMES", "true")
    return world


@pytest.mark.parametrize("said", [None, "", "false", "0"])
def test_nothing_is_published_unless_it_is_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    if said is not None:
        monkeypatch.setenv("PUBLISH_OUTCOMES", said)
    world.send("devin-1", "nonsense")
    assert world.deliver() == []
    assert "events.PutEvents" not in world.aws.names()


def test_every_outcome_is_an_event(publishing: World, log: Log) -> None:
    publishing.api.on("DELETE", "devin-2", NOT_VALID)
    publishing.api.on("DELETE", "devin-3", answer(503))
    publishing.send('{"session_ids": ["devin-1", "devin-2", "devin-3"]}', "nonsense")
    assert publishing.deliver() == []
    heard = publishing.heard(OUTCOME)
    assert [(one.get("session_id"), one["outcome"]) for one in heard] == [
        (None, "invalid"),
        ("devin-1", "terminated"),
        ("devin-2", "rejected"),
        ("devin-3", "retry"),
    ]
    terminated, rejected = heard[1:3]
    assert (terminated["http_status"], terminated["source"], terminated["receive_count"]) == (200, "sqs", 1)
    assert rejected["detail"] == "path.session_id: session has exited"
    lines = {(line.get("session_id"), line["outcome"]): line for line in log()}
    for one in heard:
        line = lines[one.get("session_id"), one["outcome"]]
        assert one == {name: line[name] for name in one}, "an event says what the log line says"


def test_a_direct_invocation_publishes_too(publishing: World) -> None:
    assert publishing.invoke({"session_id": "devin-1"}) == {"terminated": ["devin-1"]}
    (event,) = publishing.heard(OUTCOME)
    assert (event["session_id"], event["source"]) == ("devin-1", "direct")


def test_many_are_published_ten_at_a_time(publishing: World) -> None:
    ids = [f"devin-{number:02}" for number in range(25)]
    publishing.invoke({"session_ids": ids})
    assert [event["session_id"] for event in publishing.heard(OUTCOME)] == ids
    calls = [given["Entries"] for name, given in publishing.aws.calls if name == "events.PutEvents"]
    assert [len(entries) for entries in calls] == [10, 10, 5]
    assert {entry["Source"] for entries in calls for entry in entries} == {"devin-session-cleanup"}


def test_an_empty_batch_publishes_nothing(publishing: World) -> None:
    assert publishing.invoke({"Records": []}) == {"batchItemFailures": []}
    assert "events.PutEvents" not in publishing.aws.names()


FAILURES: list[Any] = [
    "AccessDeniedException",
    "ThrottlingException",
    {"FailedEntryCount": 1, "Entries": [{"EventId": "1"}, {"ErrorCode": "InternalFailure"}]},
    {"FailedEntryCount": 1, "Entries": [{}]},
]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_bus_that_fails_changes_nothing(publishing: World, log: Log, failure: Any) -> None:
    if isinstance(failure, str):
        publishing.aws.fail("events.PutEvents", failure)
    else:
        publishing.aws.faults["events.PutEvents"] = lambda _: failure
    publishing.api.on("DELETE", "devin-2", NOT_VALID)
    publishing.api.on("DELETE", "devin-3", answer(503))
    publishing.send("devin-1", "devin-2", "devin-3")

    assert len(publishing.deliver()) == 1

    assert publishing.queued() == (0, 1, 0)
    assert [attributes["reason"] for _, attributes in publishing.dead_letters()] == ["rejected_422"]
    lines = log()
    assert sorted(line["outcome"] for line in lines if "outcome" in line) == ["rejected", "retry", "terminated"]
    (warning,) = [line for line in lines if "outcome" not in line]
    assert (warning["level"], warning["message"].partition(":")[0]) == ("WARNING", "publishing events")


def test_a_bus_that_fails_changes_no_answer(publishing: World) -> None:
    publishing.aws.fail("events.PutEvents")
    assert publishing.invoke({"session_id": "devin-1"}) == {"terminated": ["devin-1"]}


def test_an_event_holds_no_key_and_no_megabytes(publishing: World) -> None:
    publishing.api.on("DELETE", "devin-1", answer(422, {"detail": f"{KEY}\r\n\x1b[31m" + "x" * 1_000_000}))
    publishing.send("devin-1")
    publishing.deliver()
    (event,) = publishing.heard(OUTCOME)
    assert "canary" not in json.dumps(event)
    assert len(event["detail"]) <= 1000
    assert event["detail"].isprintable()


def test_what_is_held_by_the_stop_switch_is_published_as_well(switch: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLISH_OUTCOMES", "true")
    switch.switch("stop")
    switch.send("devin-1")
    switch.deliver()
    (event,) = switch.heard(OUTCOME)
    assert (event["outcome"], event["retry_in_seconds"]) == ("retry", 900)
    assert "stopped by the switch" in event["detail"]
