"""The stop switch in `terminate`; tests/unit/sweep has that of the sweep."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from terminate.apply import RedeliveryError
from tests.unit.world import SWITCH, World, attributes_of

Log = Callable[[], list[dict[str, Any]]]

MESSAGES = ("devin-1", '{"session_ids": ["devin-2", "devin-3"]}', '{"detail": {"session_id": "devin-4"}}')
CONDITIONAL = '{"session_id": "devin-5", "unless_updated_since": "2026-11-01T00:00:00Z"}'


@pytest.mark.parametrize("value", ["stop", "halt", "no", "false"])
@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_nothing_is_called_and_every_message_is_kept_until_the_switch_says_go(
    switch: World, monkeypatch: pytest.MonkeyPatch, log: Log, value: str, dry_run: str
) -> None:
    monkeypatch.setenv("DRY_RUN", dry_run)
    switch.switch(value)
    # It does not matter whether there is a key.
    switch.aws.fail("secretsmanager.GetSecretValue")
    switch.send(*MESSAGES, CONDITIONAL, "nonsense")
    event = switch.batch()

    assert len(switch.invoke(event)["batchItemFailures"]) == 4

    assert switch.api.calls == []
    assert switch.hidden() == [900] * 4
    assert [attributes["reason"] for _, attributes in switch.dead_letters()] == ["invalid_message"]
    lines = [line for line in log() if line["outcome"] != "invalid"]
    assert {(line["outcome"], line["retry_in_seconds"]) for line in lines} == {("retry", 900)}
    assert all(f"stopped by the switch {SWITCH}; set it to go" in line["detail"] for line in lines)

    switch.aws.faults.clear()
    switch.switch("go")
    monkeypatch.setenv("DRY_RUN", "false")
    event["Records"] = event["Records"][:3]
    assert switch.invoke(event) == {"batchItemFailures": []}
    assert sorted(switch.api.deleted()) == ["devin-1", "devin-2", "devin-3", "devin-4"]


@pytest.mark.parametrize("code", ["ParameterNotFound", "AccessDeniedException", "ThrottlingException"])
def test_a_switch_that_cannot_be_read_means_stop(switch: World, log: Log, code: str) -> None:
    switch.aws.fail("ssm.GetParameter", code)
    switch.send("devin-1")
    assert len(switch.deliver()) == 1
    assert switch.api.calls == []
    (line,) = log()
    assert f"the switch {SWITCH} cannot be read" in line["detail"]
    assert code in line["detail"]


def test_without_a_switch_nothing_is_asked(world: World) -> None:
    world.send("devin-1")
    assert world.deliver() == []
    assert "ssm.GetParameter" not in world.aws.names()


@pytest.mark.parametrize("receives", [3, 4, 9])
@pytest.mark.parametrize("body", MESSAGES)
def test_a_message_is_requeued_before_the_redrive_policy_moves_it(switch: World, receives: int, body: str) -> None:
    switch.switch("stop")
    switch.send(body)
    kept = switch.invoke(switch.batch(receives=receives))["batchItemFailures"]
    requeued = switch.requeued()
    if receives < 4:
        assert (len(kept), requeued) == (1, [])
        return
    ids = body.count("devin-")
    assert switch.queued() == (0, 1, ids), "a delayed message for each id; Lambda deletes the received one"
    assert kept == []
    assert [one["DelaySeconds"] for one in requeued] == [900] * ids
    assert [one["MessageAttributes"]["attempts"]["StringValue"] for one in requeued] == [str(receives)] * ids
    assert switch.api.calls == []
    assert switch.dead_letters() == []


def test_a_message_that_cannot_be_requeued_is_kept(switch: World) -> None:
    switch.switch("stop")
    switch.send("devin-1")
    event = switch.batch(receives=4)
    switch.aws.fail("sqs.SendMessage", "ThrottlingException")
    assert len(switch.invoke(event)["batchItemFailures"]) == 1


@pytest.mark.parametrize(
    ("payload", "source"),
    [({"session_id": "devin-1"}, "direct"), ({"detail": {"session_ids": ["devin-1"]}}, "eventbridge")],
)
def test_an_event_is_requeued_or_the_invocation_fails(switch: World, payload: dict[str, Any], source: str) -> None:
    switch.switch("stop")
    assert switch.invoke(payload) == {"retry": ["devin-1"]}
    assert switch.api.calls == []
    (requeued,) = switch.requeued()
    assert (requeued["DelaySeconds"], json.loads(requeued["MessageBody"])) == (900, payload)
    assert attributes_of(requeued) == {"attempts": "1", "source": source}

    switch.aws.fail("sqs.SendMessage")
    with pytest.raises(RedeliveryError):
        switch.invoke(payload)
    switch.aws.faults.clear()
    switch.switch("go")
    assert switch.invoke(payload) == {"terminated": ["devin-1"]}


def test_the_switch_is_read_once_in_a_while_but_again_at_once_after_a_failure(
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
