"""After a 429 no further call is made, by later invocations either, and everything waits for as long as it asks."""

from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from devin.client import Throttle
from terminate import handler
from tests.unit.world import NOW, Log, World, answer, session

# The first step of the backoff, which is drawn from zero to here, and the longest delay there is.
BACKOFF, LONGEST = 30, 900


def date(**ahead: float) -> str:
    return format_datetime(NOW + timedelta(**ahead), usegmt=True)


# What Retry-After says, and the seconds that it asks for.
ASKED: list[tuple[str | None, int]] = [
    (None, 0),
    ("soon", 0),
    ("-1", 0),
    ("1.5", 0),
    ("120, 60", 0),
    ("0", 0),
    ("31", 31),
    (" 77 ", 77),
    ("900", LONGEST),
    ("9" * 4000, LONGEST),
    (date(seconds=120), 120),
    ("Tuesday, 24-Nov-26 10:02:00 GMT", 120),
    ("Tue, 24 Nov 2026 12:02:00 +0200", 120),
    (date(days=1), LONGEST),
    (date(days=-9), 0),
    ("Mon, 01 Jan 0001 00:00:00 +1400", 0),
]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devin.client.datetime", SimpleNamespace(now=lambda _: NOW))


def throttled(retry_after: str | None) -> Any:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return 429, headers, '{"detail": "Too Many Requests"}'


@pytest.mark.fault(3)
@pytest.mark.parametrize(("said", "asked"), ASKED)
@pytest.mark.parametrize("queued", [True, False])
def test_everything_waits_for_what_the_429_asks(
    world: World, log: Log, said: str | None, asked: int, queued: bool
) -> None:
    world.api.on("DELETE", "devin-1", throttled(said))
    if queued:
        world.send("devin-1", "devin-2", '{"session_ids": ["devin-3", "devin-4"]}')
        assert len(world.deliver()) == 3
        delays = world.hidden()
    else:
        assert list(world.invoke({"session_ids": ["devin-1", "devin-2", "devin-3"]})) == ["retry"]
        delays = [one["DelaySeconds"] for one in world.requeued()]
    assert len(delays) == 3
    assert all(max(asked, 1) <= delay <= min(max(asked, BACKOFF), LONGEST) for delay in delays), delays
    assert {line["retry_in_seconds"] for line in log()} == set(delays)
    assert world.api.calls == [("DELETE", "devin-1")]
    assert world.queued() == ((0, 3, 0) if queued else (0, 0, 3))
    assert world.dead_letters() == []


@pytest.mark.parametrize("status", [408, 425, 500, 503])
def test_retry_after_of_other_statuses_is_for_that_id_alone(world: World, status: int) -> None:
    world.api.on("DELETE", "devin-1", answer(status, "", Retry_After="600"))
    world.api.on("DELETE", "devin-2", answer(503))
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 2
    shorter, longer = sorted(world.hidden())
    assert longer == 600
    assert 1 <= shorter <= BACKOFF
    assert world.api.deleted() == ["devin-1", "devin-2", "devin-3"]


def test_a_429_to_a_read_stops_the_calls_as_well(world: World) -> None:
    world.api.on("GET", "devin-1", throttled("300"))
    world.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-02T00:00:00Z"}', "devin-2")
    assert len(world.deliver()) == 2
    assert world.api.calls == [("GET", "devin-1")]
    assert world.hidden() == [300, 300]


def test_what_was_done_before_a_429_stays_done(world: World) -> None:
    world.api.on("DELETE", "devin-2", throttled("60"))
    world.send('{"session_ids": ["devin-1", "devin-2", "devin-3"]}')
    assert world.deliver() == []
    assert world.api.deleted() == ["devin-1", "devin-2"]
    assert [one["DelaySeconds"] for one in world.requeued()] == [60, 60]


@pytest.mark.parametrize(("receives", "expected"), [(1, 30), (2, 60), (3, 120), (4, 240), (1000, LONGEST)])
def test_the_backoff_doubles_up_to_15_minutes(
    world: World, monkeypatch: pytest.MonkeyPatch, receives: int, expected: int
) -> None:
    monkeypatch.setattr("terminate.plan.random", SimpleNamespace(uniform=lambda _, high: high))
    world.api.on("DELETE", "devin-1", throttled("10"))
    world.send("devin-1")
    world.invoke(world.batch(receives=receives))
    # From the fourth receive on it is requeued, or the redrive policy would move it.
    assert world.hidden() == ([expected] if receives < 4 else [])
    assert [one["DelaySeconds"] for one in world.requeued()] == ([expected] if receives >= 4 else [])


# The pause after a 429 ----------------------------------------------------------------------------------------------


def test_a_pause_lasts_as_long_as_was_asked_for_and_a_little_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("devin.client.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("devin.client.random", SimpleNamespace(uniform=lambda _, high: high))
    throttle = Throttle()
    assert throttle.retry_in() == 0
    throttle.pause(40)
    assert throttle.retry_in() == 50
    throttle.pause(None)
    assert throttle.retry_in() == 50, "a shorter one does not end a longer one"
    now += 50
    assert throttle.retry_in() == 0
    throttle.pause(None)
    assert throttle.retry_in() == 1.25


def test_a_later_invocation_does_not_call_before_the_pause_is_over(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-1", throttled("600"))
    world.send("devin-1")
    assert len(world.deliver()) == 1
    log()

    world.send("devin-2")
    assert len(world.deliver()) == 1
    assert world.invoke({"session_ids": ["devin-3", "devin-4"]}) == {"retry": ["devin-3", "devin-4"]}

    assert world.api.calls == [("DELETE", "devin-1")]
    assert all(590 < line["retry_in_seconds"] <= 750 for line in log())


def test_a_short_pause_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("devin.client.time.sleep", slept.append)
    handler.throttle.pause(2)
    assert world.invoke({"session_id": "devin-1"}) == {"terminated": ["devin-1"]}
    assert 0 < slept[0] <= 2.5


def test_no_call_waits_between_the_read_of_a_session_and_its_end(world: World) -> None:
    """It might wake up in between."""
    world.api.on("GET", "devin-1", session())
    world.api.before = lambda: handler.throttle.pause(300)
    world.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-29T00:00:00Z"}')
    assert world.deliver() == []
    assert world.api.deleted() == ["devin-1"]


# What keeps a message from being called for does not use up its receives ------------------------------------------


def no_time(world: World) -> None:
    world.context.remaining_milliseconds = 1000


def refused(world: World) -> None:
    world.api.good_keys = set()


NOT_CALLED = {"retry": 1, "not_called": 1}


@pytest.mark.fault(41)
@pytest.mark.parametrize(
    ("reason", "metrics"),
    [
        (lambda world: world.secrets.put_secret_value(SecretId=world.secret, SecretString="{}"), NOT_CALLED),
        (lambda world: world.aws.fail("secretsmanager.GetSecretValue"), NOT_CALLED),
        (lambda world: world.api.on("DELETE", "devin-1", answer(429)), NOT_CALLED),
        (no_time, NOT_CALLED),
        (refused, {"unauthorized": 1}),
        (lambda world: world.switch("stop"), {"retry": 1, "stopped": 1}),
        # It was called, and uses its receives up.
        (lambda world: world.api.on("DELETE", "devin-1", answer(500)), {"retry": 1}),
    ],
)
def test_a_message_without_a_call_is_counted_and_requeued_before_the_redrive_policy_moves_it(
    switch: World,
    counted: Callable[[], dict[str, float]],
    reason: Callable[[World], None],
    metrics: dict[str, float],
) -> None:
    reason(switch)
    switch.send("devin-1")
    event = switch.batch(receives=3)
    assert len(switch.invoke(event)["batchItemFailures"]) == 1
    assert counted() == metrics
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = "4"
    kept = switch.invoke(event)["batchItemFailures"]
    requeued = [(one["MessageBody"], one["MessageAttributes"]["attempts"]["StringValue"]) for one in switch.requeued()]
    assert (len(kept), requeued) == ((1, []) if metrics == {"retry": 1} else (0, [("devin-1", "4")]))
