"""The pause after a 429, from one invocation to the next."""

from __future__ import annotations

import pytest

from devin.throttle import Throttle
from terminate import handler
from tests.unit.world import World, answer, session


def test_a_pause_lasts_as_long_as_was_asked_for_and_a_little_longer() -> None:
    now = 100.0
    throttle = Throttle(lambda: now, lambda _, high: high)
    assert throttle.retry_in() == 0
    throttle.pause(40)
    assert throttle.retry_in() == 50
    throttle.pause(None)
    assert throttle.retry_in() == 50, "a shorter one does not end a longer one"
    now += 50
    assert throttle.retry_in() == 0
    throttle.pause(None)
    assert throttle.retry_in() == 1.25


def test_the_next_invocation_makes_no_call_before_the_pause_is_over(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(429, "", Retry_After="300"))
    assert world.invoke({"session_id": "devin-1"}) == {"retry": ["devin-1"]}
    assert world.invoke({"session_id": "devin-2"}) == {"retry": ["devin-2"]}
    assert world.api.deleted() == ["devin-1"]


def test_a_short_pause_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("devin.client.time.sleep", slept.append)
    handler.throttle.pause(2)
    assert world.invoke({"session_id": "devin-1"}) == {"terminated": ["devin-1"]}
    assert 0 < slept[0] <= 2.5


def test_nothing_is_waited_for_between_the_read_of_a_session_and_its_end(world: World) -> None:
    """It might wake up meanwhile."""
    world.api.on("GET", "devin-1", session())
    world.api.before = lambda: handler.throttle.pause(300)
    world.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-29T00:00:00Z"}')
    assert world.deliver() == []
    assert world.api.deleted() == ["devin-1"]


def test_what_a_429_kept_is_requeued_before_the_redrive_policy_would_move_it(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(429))
    world.send("devin-1", "devin-2")
    event = world.batch()
    for record in event["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = "4"
    assert world.invoke(event) == {"batchItemFailures": []}
    sent = [given for name, given in world.aws.calls if name == "sqs.SendMessage"][2:]
    assert [one["MessageBody"] for one in sent] == ["devin-1", "devin-2"]
    assert {one["MessageAttributes"]["attempts"]["StringValue"] for one in sent} == {"4"}
