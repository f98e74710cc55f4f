"""The stop switch, as `terminate` obeys it; how the sweep does is told with the sweep."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from terminate.apply import RedeliveryError
from tests.unit.world import SWITCH, World, answer, attributes_of, visibility_timeouts

Log = Callable[[], list[dict[str, Any]]]

MESSAGES = ("devin-1", '{"session_ids": ["devin-2", "devin-3"]}', '{"detail": {"session_id": "devin-4"}}')


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The visibility timeouts that were set."""
    return visibility_timeouts(monkeypatch)


def received(world: World, times: int) -> dict[str, Any]:
    """What is visible, as if it had been received so many times."""
    event = world.batch()
    for record in event["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = str(times)
    return event


@pytest.mark.parametrize("value", ["stop", "halt", "no", "gone", "false"])
def test_nothing_is_called_and_every_message_is_kept(switch: World, hidden: list[int], log: Log, value: str) -> None:
    switch.switch(value)
    switch.send(*MESSAGES)

    assert len(switch.deliver()) == 3

    assert switch.api.calls == []
    assert switch.queued() == (0, 3, 0)
    assert switch.dead_letters() == []
    assert hidden == [900] * 3
    lines = log()
    assert {line["outcome"] for line in lines} == {"retry"}
    assert {line["retry_in_seconds"] for line in lines} == {900}
    assert all(f"stopped by the switch {SWITCH}; set it to go" in line["detail"] for line in lines)


@pytest.mark.parametrize(
    "code", ["ParameterNotFound", "AccessDeniedException", "ThrottlingException", "InternalServerError"]
)
def test_a_switch_that_cannot_be_read_means_stop(switch: World, log: Log, code: str) -> None:
    switch.aws.fail("ssm.GetParameter", code)
    switch.send("devin-1")
    assert len(switch.deliver()) == 1
    assert switch.api.calls == []
    (line,) = log()
    assert f"the switch {SWITCH} cannot be read" in line["detail"]
    assert code in line["detail"]


def test_while_stopped_it_does_not_matter_whether_there_is_a_key(switch: World, hidden: list[int], log: Log) -> None:
    switch.switch("stop")
    switch.aws.fail("secretsmanager.GetSecretValue")
    switch.send("devin-1")
    assert len(switch.deliver()) == 1
    assert ["stopped by the switch" in line["detail"] for line in log()] == [True]
    assert hidden == [900]


def test_with_the_switch_on_go_all_is_well(switch: World) -> None:
    switch.send(*MESSAGES)
    assert switch.deliver() == []
    assert sorted(switch.api.deleted()) == ["devin-1", "devin-2", "devin-3", "devin-4"]


def test_without_a_switch_all_is_well(world: World) -> None:
    world.send("devin-1")
    assert world.deliver() == []
    assert "ssm.GetParameter" not in world.aws.names()


@pytest.mark.parametrize("receives", [1, 2, 3])
def test_a_message_is_kept_while_it_may_be_received_again(switch: World, receives: int) -> None:
    switch.switch("stop")
    switch.send("devin-1")
    assert len(switch.invoke(received(switch, receives))["batchItemFailures"]) == 1
    assert switch.queued() == (0, 1, 0)


@pytest.mark.parametrize("receives", [4, 5, 9])
@pytest.mark.parametrize("body", MESSAGES)
def test_a_worn_message_is_sent_anew_and_acknowledged_before_it_would_be_a_dead_letter(
    switch: World, receives: int, body: str
) -> None:
    switch.switch("stop")
    switch.send(body)
    assert switch.invoke(received(switch, receives)) == {"batchItemFailures": []}
    ids = body.count("devin-")
    assert switch.queued() == (0, 1, ids), "a delayed message for each id; the received one is Lambda's to delete"
    sends = [given for name, given in switch.aws.calls if name == "sqs.SendMessage"][-ids:]
    assert [send["DelaySeconds"] for send in sends] == [900] * ids
    assert [send["MessageAttributes"]["attempts"]["StringValue"] for send in sends] == [str(receives)] * ids
    assert switch.api.calls == []
    assert switch.dead_letters() == []


def test_a_worn_message_that_cannot_be_sent_anew_is_kept(switch: World) -> None:
    switch.switch("stop")
    switch.send("devin-1")
    event = received(switch, 4)
    switch.aws.fail("sqs.SendMessage", "ThrottlingException")
    assert len(switch.invoke(event)["batchItemFailures"]) == 1


def test_without_the_switch_a_worn_message_is_kept_for_the_redrive_policy(switch: World) -> None:
    switch.api.on("DELETE", "devin-1", answer(503))
    switch.send("devin-1")
    assert len(switch.invoke(received(switch, 4))["batchItemFailures"]) == 1
    assert switch.queued() == (0, 1, 0)


@pytest.mark.parametrize(
    "payload",
    [
        {"session_id": "devin-1"},
        {"detail-type": "Devin Session Termination Requested", "detail": {"session_ids": ["devin-1"]}},
    ],
)
def test_what_no_queue_holds_is_handed_to_the_queue(switch: World, payload: dict[str, Any]) -> None:
    switch.switch("stop")
    assert switch.invoke(payload) == {"retry": ["devin-1"]}
    assert switch.api.calls == []
    assert switch.queued() == (0, 0, 1)
    (send,) = [given for name, given in switch.aws.calls if name == "sqs.SendMessage"]
    assert send["DelaySeconds"] == 900
    assert json.loads(send["MessageBody"]) == payload


def test_what_can_be_kept_nowhere_fails_the_invocation(switch: World) -> None:
    switch.switch("stop")
    switch.aws.fail("sqs.SendMessage")
    with pytest.raises(RedeliveryError):
        switch.invoke({"session_id": "devin-1"})


def test_the_second_try_of_an_invocation_forgets_nothing(switch: World) -> None:
    switch.switch("stop")
    switch.aws.fail("sqs.SendMessage")
    with pytest.raises(RedeliveryError):
        switch.invoke({"session_id": "devin-1"})
    switch.aws.faults.clear()
    switch.switch("go")
    assert switch.invoke({"session_id": "devin-1"}) == {"terminated": ["devin-1"]}


def test_go_again_and_what_was_kept_is_ended(switch: World, hidden: list[int], log: Log) -> None:
    switch.switch("stop")
    switch.send(*MESSAGES)
    event = switch.batch()
    assert len(switch.invoke(event)["batchItemFailures"]) == 3
    switch.switch("go")
    log()
    assert switch.invoke(event) == {"batchItemFailures": []}
    assert sorted(switch.api.deleted()) == ["devin-1", "devin-2", "devin-3", "devin-4"]
    assert {line["outcome"] for line in log()} == {"terminated"}
    assert hidden == [900] * 3


def test_go_again_and_what_was_sent_anew_is_ended(switch: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # In memory too a delay of fifteen minutes is one; without it the message is there at once.
    monkeypatch.setattr("terminate.handler.MAX_DELAY_SECONDS", 0)
    monkeypatch.setattr("terminate.plan.retry_delay", lambda *_: 0)
    switch.switch("stop")
    switch.send('{"session_ids": ["devin-1", "devin-2"]}')
    event = received(switch, 4)
    assert switch.invoke(event) == {"batchItemFailures": []}
    switch.switch("go")
    again = switch.batch()
    assert [json.loads(record["body"]) for record in again["Records"]] == [
        {"session_ids": ["devin-1"]}, {"session_ids": ["devin-2"]},
    ]  # fmt: skip
    assert switch.invoke(again) == {"batchItemFailures": []}
    assert switch.api.deleted() == ["devin-1", "devin-2"]


def test_what_is_unusable_is_a_dead_letter_with_the_switch_on_as_well(switch: World) -> None:
    switch.switch("stop")
    switch.send("nonsense")
    assert switch.deliver() == []
    ((body, attributes),) = switch.dead_letters()
    assert (body, attributes["reason"]) == ("nonsense", "invalid_message")


@pytest.mark.parametrize(
    "body", ["devin-1", '{"session_id": "devin-1", "unless_updated_since": "2026-11-01T00:00:00Z"}']
)
def test_a_dry_run_keeps_its_messages_too(switch: World, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setenv("DRY_RUN", "true")
    switch.switch("stop")
    switch.send(body)
    assert len(switch.deliver()) == 1
    assert switch.queued() == (0, 1, 0)


def test_the_switch_is_not_asked_at_every_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOP_SWITCH_PARAMETER", SWITCH)
    world.switch("go")
    for number in range(5):
        world.send(f"devin-{number}")
        assert world.deliver() == []
    assert world.aws.names().count("ssm.GetParameter") == 1


def test_a_switch_that_could_not_be_read_is_asked_again_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOP_SWITCH_PARAMETER", SWITCH)
    world.switch("go")
    world.aws.fail("ssm.GetParameter", "ThrottlingException")
    assert world.invoke({"session_id": "devin-1"}) == {"retry": ["devin-1"]}
    world.aws.faults.clear()
    assert world.invoke({"session_id": "devin-2"}) == {"terminated": ["devin-2"]}


def test_the_message_that_is_sent_anew_keeps_its_source(switch: World) -> None:
    switch.switch("stop")
    switch.invoke({"detail": {"session_id": "devin-1"}})
    (send,) = [given for name, given in switch.aws.calls if name == "sqs.SendMessage"]
    assert attributes_of(send) == {"attempts": "1", "source": "eventbridge"}
