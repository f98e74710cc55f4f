"""The stop switch, as `terminate` obeys it; the sweep's tests have the rest."""

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


def test_while_stopped_no_key_is_needed(switch: World, hidden: list[int], log: Log) -> None:
    switch.switch("stop")
    switch.aws.fail("secretsmanager.GetSecretValue")
    switch.send("devin-1")
    assert len(switch.deliver()) == 1
    assert ["stopped by the switch" in line["detail"] for line in log()] == [True]
    assert hidden == [900]


def test_with_the_switch_on_go_sessions_end(switch: World) -> None:
    switch.send(*MESSAGES)
    assert switch.deliver() == []
    assert sorted(switch.api.deleted()) == ["devin-1", "devin-2", "devin-3", "devin-4"]


def test_a_stack_without_a_switch_asks_for_none(world: World) -> None:
    world.send("devin-1")
    assert world.deliver() == []
    assert "ssm.GetParameter" not in world.aws.names()


@pytest.mark.parametrize("receives", [3, 4, 9])
@pytest.mark.parametrize("body", MESSAGES)
def test_a_message_is_requeued_before_it_would_be_a_dead_letter(switch: World, receives: int, body: str) -> None:
    switch.switch("stop")
    switch.send(body)
    failed = switch.invoke(received(switch, receives))["batchItemFailures"]
    assert switch.api.calls == []
    assert switch.dead_letters() == []
    ids = body.count("devin-")
    if receives < 4:
        assert len(failed) == 1
        assert switch.queued() == (0, 1, 0)
        return
    assert failed == []
    assert switch.queued() == (0, 1, ids), "a delayed message for each id; the received one is Lambda's to delete"
    sends = [given for name, given in switch.aws.calls if name == "sqs.SendMessage"][-ids:]
    assert [send["DelaySeconds"] for send in sends] == [900] * ids
    assert [send["MessageAttributes"]["attempts"]["StringValue"] for send in sends] == [str(receives)] * ids


def test_a_message_that_cannot_be_requeued_is_redelivered(switch: World) -> None:
    switch.switch("stop")
    switch.send("devin-1")
    event = received(switch, 4)
    switch.aws.fail("sqs.SendMessage", "ThrottlingException")
    assert len(switch.invoke(event)["batchItemFailures"]) == 1


def test_without_the_switch_a_message_is_left_to_the_redrive_policy(switch: World) -> None:
    switch.api.on("DELETE", "devin-1", answer(503))
    switch.send("devin-1")
    assert len(switch.invoke(received(switch, 4))["batchItemFailures"]) == 1
    assert switch.queued() == (0, 1, 0)


@pytest.mark.parametrize(
    ("payload", "source"),
    [
        ({"session_id": "devin-1"}, "direct"),
        ({"detail-type": "Devin Session Termination Requested", "detail": {"session_ids": ["devin-1"]}}, "eventbridge"),
    ],
)
def test_an_event_is_sent_to_the_queue(switch: World, payload: dict[str, Any], source: str) -> None:
    switch.switch("stop")
    assert switch.invoke(payload) == {"retry": ["devin-1"]}
    assert switch.api.calls == []
    assert switch.queued() == (0, 0, 1)
    (send,) = [given for name, given in switch.aws.calls if name == "sqs.SendMessage"]
    assert send["DelaySeconds"] == 900
    assert json.loads(send["MessageBody"]) == payload
    assert attributes_of(send) == {"attempts": "1", "source": source}


def test_an_event_that_cannot_be_sent_fails_the_invocation_and_works_at_the_second_try(switch: World) -> None:
    switch.switch("stop")
    switch.aws.fail("sqs.SendMessage")
    with pytest.raises(RedeliveryError):
        switch.invoke({"session_id": "devin-1"})
    switch.aws.faults.clear()
    switch.switch("go")
    assert switch.invoke({"session_id": "devin-1"}) == {"terminated": ["devin-1"]}


def test_after_go_what_waited_is_ended(switch: World, hidden: list[int], log: Log) -> None:
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


def test_an_unusable_message_is_a_dead_letter_while_stopped_too(switch: World) -> None:
    switch.switch("stop")
    switch.send("nonsense")
    assert switch.deliver() == []
    ((body, attributes),) = switch.dead_letters()
    assert (body, attributes["reason"]) == ("nonsense", "invalid_message")


@pytest.mark.parametrize(
    "body", ["devin-1", '{"session_id": "devin-1", "unless_updated_since": "2026-11-01T00:00:00Z"}']
)
def test_a_dry_run_is_stopped_too(switch: World, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    monkeypatch.setenv("DRY_RUN", "true")
    switch.switch("stop")
    switch.send(body)
    assert len(switch.deliver()) == 1
    assert switch.queued() == (0, 1, 0)


def test_the_switch_is_read_once_for_many_messages_and_again_after_a_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOP_SWITCH_PARAMETER", SWITCH)
    world.switch("go")
    world.aws.fail("ssm.GetParameter", "ThrottlingException")
    assert world.invoke({"session_id": "devin-1"}) == {"retry": ["devin-1"]}
    world.aws.faults.clear()
    world.aws.calls.clear()
    for number in range(5):
        assert world.invoke({"session_id": f"devin-{number}"}) == {"terminated": [f"devin-{number}"]}
    assert world.aws.names().count("ssm.GetParameter") == 1
