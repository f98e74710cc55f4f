"""EventBridge events, schedules and direct invocations."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from terminate.apply import RedeliveryError
from tests.unit.world import KEY, NOT_VALID, World, answer, attributes_of, session, wait_for

Log = Callable[[], list[dict[str, Any]]]


def event(detail: object) -> dict[str, object]:
    return {
        "version": "0",
        "id": "e1",
        "detail-type": "Devin Session Termination Requested",
        "source": "ops.cleanup",
        "time": "2026-11-24T10:00:00Z",
        "resources": [],
        "detail": detail,
    }


@pytest.mark.parametrize(
    ("payload", "source"),
    [
        ({"session_id": "devin-1"}, "direct"),
        ({"session_ids": ["devin-1"]}, "direct"),
        ("devin-1", "direct"),
        (event({"session_id": "devin-1"}), "eventbridge"),
        (event('{"session_ids": ["devin-1"]}'), "eventbridge"),
    ],
)
def test_the_answer_tells_ids_by_outcome(world: World, log: Log, payload: object, source: str) -> None:
    assert world.invoke(payload) == {"terminated": ["devin-1"]}
    (line,) = log()
    assert (line["source"], line["outcome"]) == (source, "terminated")
    assert "receive_count" not in line


def test_every_outcome_finds_its_way(world: World) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.api.on("DELETE", "devin-409", answer(409))
    world.api.on("GET", "devin-409", session("expired", session_id="devin-409"))
    world.api.on("DELETE", "devin-403", answer(403))
    world.api.on("DELETE", "devin-503", answer(503))
    ids = ["devin-1", "devin-422", "devin-409", "devin-403", "devin-503", "../x", 7]

    assert world.invoke(event({"session_ids": ids})) == {
        "terminated": ["devin-1"],
        "rejected": ["devin-422"],
        "already_exited": ["devin-409"],
        "forbidden": ["devin-403"],
        "retry": ["devin-503"],
        "invalid": ["../x"],
    }

    assert world.queued() == (0, 0, 2)
    letters = world.dead_letters()
    assert [json.loads(body)["detail"] for body, _ in letters] == [
        {"session_ids": ["../x"]},
        {"session_ids": [7]},
        {"session_ids": ["devin-422"]},
    ]
    assert {attributes["source"] for _, attributes in letters} == {"eventbridge"}


def test_spared_by_a_condition(world: World) -> None:
    world.api.on("GET", "devin-1", session(updated_at="2026-11-03T00:00:00Z"))
    payload = {"session_id": "devin-1", "unless_updated_since": "2026-11-02T00:00:00Z"}
    assert world.invoke(payload) == {"spared": ["devin-1"]}
    assert world.api.deleted() == []


@pytest.mark.fault(20)
def test_what_has_to_wait_goes_to_the_work_queue_and_ends_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRY_BASE_SECONDS", "1")
    world.api.on("DELETE", "devin-1", answer(503), NOT_VALID)
    world.api.on("GET", "devin-1", session("working"))
    assert world.invoke(event({"session_id": "devin-1"})) == {"retry": ["devin-1"]}
    assert world.queued() == (0, 0, 1)
    wait_for(lambda: world.queued()[0] == 1)
    (message,) = world.receive(world.work_queue)
    assert json.loads(message["Body"]) == event({"session_id": "devin-1"})
    assert attributes_of(message) == {"attempts": "1", "source": "eventbridge"}
    world.sqs.change_message_visibility(
        QueueUrl=world.work_queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
    )

    assert world.deliver() == []

    ((body, attributes),) = world.dead_letters()
    assert json.loads(body) == event({"session_id": "devin-1"})
    assert attributes["source"] == "eventbridge"
    assert attributes["attempts"] == "3"
    assert attributes["session_status"] == "working"


def test_a_429_sends_every_id_back_with_its_delay(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-0", answer(429, "", Retry_After="600"))
    ids = [f"devin-{number}" for number in range(25)]
    assert world.invoke({"session_ids": ids}) == {"retry": ids}
    assert world.api.deleted() == ["devin-0"]
    assert world.queued() == (0, 0, 25)
    assert {line["retry_in_seconds"] for line in log()} == {600}


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    "payload",
    [{}, [], None, 1, {"session": "devin-1"}, event({}), event(None), event([]), event("{}"),
     {"Records": [], "session_id": "devin-1"},
     {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "devin-1"}}]}],
)  # fmt: skip
def test_an_unusable_payload_is_a_dead_letter(world: World, payload: object) -> None:
    assert world.invoke(payload) == {"invalid": []}
    ((body, attributes),) = world.dead_letters()
    assert json.loads(body) == payload
    assert attributes["reason"] == "invalid_message"
    assert world.api.calls == []


@pytest.mark.fault(20, 21)
def test_if_the_work_queue_cannot_be_written_the_invocation_fails_and_the_retry_repeats_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.api.on("DELETE", "devin-503", answer(503))
    payload = event({"session_ids": ["devin-1", "devin-422", "devin-503"]})
    with monkeypatch.context() as outage:
        outage.setenv("WORK_QUEUE_URL", world.work_queue + "-gone")
        with pytest.raises(RedeliveryError):
            world.invoke(payload)
    assert world.dead_letters() == []

    answered = world.invoke(payload)

    assert answered == {"terminated": ["devin-1"], "rejected": ["devin-422"], "retry": ["devin-503"]}
    assert world.queued() == (0, 0, 1)
    assert len(world.dead_letters()) == 1


def test_without_a_dead_letter_queue_a_rejected_id_waits_in_the_work_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", world.dead_letter_queue + "-gone")
    assert world.invoke({"session_id": "devin-422"}) == {"retry": ["devin-422"]}
    assert world.queued() == (0, 0, 1)


@pytest.mark.fault(21)
def test_without_any_queue_the_invocation_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", world.dead_letter_queue + "-gone")
    monkeypatch.setenv("WORK_QUEUE_URL", world.work_queue + "-gone")
    with pytest.raises(RedeliveryError) as caught:
        world.invoke({"session_id": "devin-422"})
    assert KEY not in repr(caught.value)


@pytest.mark.fault(15)
def test_out_of_time_goes_to_the_work_queue(world: World) -> None:
    world.context.remaining_milliseconds = 1000
    assert world.invoke({"session_ids": ["devin-1", "devin-2"]}) == {"retry": ["devin-1", "devin-2"]}
    assert world.api.calls == []
    assert world.queued() == (0, 0, 2)


@pytest.mark.parametrize(("status", "outcome"), [("expired", "already_exited"), ("working", "rejected")])
def test_a_rejected_event_is_looked_at_because_nobody_tells_whether_it_came_before(
    world: World, status: str, outcome: str
) -> None:
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.api.on("GET", "devin-1", session(status))
    assert world.invoke({"detail": {"session_id": "devin-1"}}) == {outcome: ["devin-1"]}
    assert len(world.dead_letters()) == int(outcome == "rejected")
