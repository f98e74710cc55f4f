"""Outcomes as events, if a setting asks for them."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.world import NOT_VALID, Log, World, answer

OUTCOME = "Devin Session Cleanup Outcome"


@pytest.fixture
def publishing(switch: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("PUBLISH_OUTCOMES", "true")
    return switch


@pytest.mark.parametrize("value", ["", "false", "0"])
def test_nothing_is_published_by_default(world: World, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PUBLISH_OUTCOMES", value)
    world.send("devin-1", "nonsense")
    assert world.deliver() == []
    assert "events.PutEvents" not in world.aws.names()


def test_each_outcome_is_an_event_with_the_fields_of_its_log_line(publishing: World, log: Log) -> None:
    publishing.api.on("DELETE", "devin-2", NOT_VALID)
    publishing.api.on("DELETE", "devin-3", answer(503))
    publishing.send('{"session_ids": ["devin-1", "devin-2", "devin-3"]}', "nonsense")
    assert publishing.deliver() == []
    events = publishing.heard(OUTCOME)
    assert [(one.get("session_id"), one["outcome"]) for one in events] == [
        (None, "invalid"),
        ("devin-1", "terminated"),
        ("devin-2", "rejected"),
        ("devin-3", "retry"),
    ]
    terminated, rejected = events[1:3]
    assert (terminated["http_status"], terminated["source"], terminated["receive_count"]) == (200, "sqs", 1)
    assert rejected["detail"] == "path.session_id: session has exited"
    lines = {(line.get("session_id"), line["outcome"]): line for line in log()}
    for one in events:
        line = lines[one.get("session_id"), one["outcome"]]
        assert one == {name: line[name] for name in one}


def test_events_are_published_by_tens(publishing: World) -> None:
    ids = [f"devin-{number:02}" for number in range(25)]
    assert publishing.invoke({"Records": []}) == {"batchItemFailures": []}
    publishing.invoke({"session_ids": ids})
    assert [event["session_id"] for event in publishing.heard(OUTCOME)] == ids
    calls = [given["Entries"] for name, given in publishing.aws.calls if name == "events.PutEvents"]
    assert [len(entries) for entries in calls] == [10, 10, 5]
    assert {entry["Source"] for entries in calls for entry in entries} == {"devin-session-cleanup"}


@pytest.mark.parametrize(
    "failure",
    [
        ClientError({"Error": {"Code": "AccessDeniedException"}}, "PutEvents"),
        lambda _: {"FailedEntryCount": 1, "Entries": [{"EventId": "1"}, {"ErrorCode": "InternalFailure"}]},
    ],
)
def test_a_bus_that_fails_changes_nothing(publishing: World, log: Log, failure: Any) -> None:
    publishing.aws.faults["events.PutEvents"] = failure
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
    assert publishing.invoke({"session_id": "devin-1"}) == {"terminated": ["devin-1"]}
