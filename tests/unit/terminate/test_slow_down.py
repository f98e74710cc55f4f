"""An API that answers 429: nothing more is asked of it, and everything comes again within what it allows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from terminate.plan import REQUEUE_AT_RECEIVE_COUNT
from tests.unit.world import NOW, World, answer, session

Log = Callable[[], list[dict[str, Any]]]

# The first step of the backoff, which is drawn from zero to here, and the longest delay there is.
BACKOFF, LONGEST = 30, 900


def date(**ahead: float) -> str:
    return format_datetime(NOW + timedelta(**ahead), usegmt=True)


# What Retry-After says, and the seconds that it asks for; None where it asks for nothing.
ASKED: list[tuple[str | None, int | None]] = [
    (None, None),
    ("", None),
    ("soon", None),
    ("-1", None),
    ("-999999999999", None),
    ("+60", None),
    ("1.5", None),
    ("1e3", None),
    ("120, 60", None),
    ("0x10", None),
    ("Fri, 31 Foo 2026 10:00:00 GMT", None),
    ("0", 0),
    ("1", 1),
    ("29", 29),
    ("31", 31),
    (" 77 ", 77),
    ("899", 899),
    ("900", 900),
    ("901", LONGEST),
    ("86400", LONGEST),
    ("9" * 4000, LONGEST),
    (date(seconds=120), 120),
    ("Tuesday, 24-Nov-26 10:02:00 GMT", 120),
    ("Tue Nov 24 10:02:00 2026", 120),
    ("Tue, 24 Nov 2026 12:02:00 +0200", 120),
    (date(days=1), LONGEST),
    ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
    (date(seconds=-1), 0),
    (date(days=-9), 0),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ("Mon, 01 Jan 0001 00:00:00 +1400", None),
]
each_retry_after = pytest.mark.parametrize(("said", "asked"), ASKED)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devin.client.datetime", SimpleNamespace(now=lambda _: NOW))


def slow_down(said: str | None) -> Any:
    return answer(429, {"detail": "Too Many Requests"}, **({} if said is None else {"Retry_After": said}))


def given(world: World, operation: str, name: str) -> list[int]:
    """What a parameter of this operation was, every time it was given."""
    return [parameters[name] for called, parameters in world.aws.calls if called == operation and name in parameters]


def assert_within(delays: list[int], asked: int | None) -> None:
    least = max(asked or 0, 1)
    assert all(least <= delay <= min(max(least, BACKOFF), LONGEST) for delay in delays), delays


@each_retry_after
def test_a_429_keeps_every_record_for_what_it_asks_and_ends_the_calls(
    world: World, log: Log, said: str | None, asked: int | None
) -> None:
    world.api.on("DELETE", "devin-1", slow_down(said))
    world.send("devin-1", "devin-2", '{"session_ids": ["devin-3", "devin-4"]}')

    assert len(world.deliver()) == 3

    hidden = given(world, "sqs.ChangeMessageVisibility", "VisibilityTimeout")
    assert len(hidden) == 3
    assert_within(hidden, asked)
    assert sorted(line["retry_in_seconds"] for line in log()) == sorted([*hidden, hidden[2]])
    assert world.api.calls == [("DELETE", "devin-1")]
    assert world.queued() == (0, 3, 0)
    assert world.dead_letters() == []


@each_retry_after
def test_a_429_sends_the_ids_of_an_event_back_for_what_it_asks(
    world: World, said: str | None, asked: int | None
) -> None:
    world.api.on("DELETE", "devin-1", slow_down(said))

    assert world.invoke({"session_ids": ["devin-1", "devin-2", "devin-3"]}) == {
        "retry": ["devin-1", "devin-2", "devin-3"]
    }

    delays = given(world, "sqs.SendMessage", "DelaySeconds")
    assert len(delays) == 3
    assert_within(delays, asked)
    assert world.api.calls == [("DELETE", "devin-1")]
    assert world.queued() == (0, 0, 3)


@pytest.mark.parametrize("status", [408, 425, 500, 503])
def test_retry_after_of_other_statuses_is_for_that_id_alone(world: World, status: int) -> None:
    world.api.on("DELETE", "devin-1", answer(status, "", Retry_After="600"))
    world.api.on("DELETE", "devin-2", answer(503))
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 2
    longer, shorter = sorted(given(world, "sqs.ChangeMessageVisibility", "VisibilityTimeout"), reverse=True)
    assert longer == 600
    assert 1 <= shorter <= BACKOFF
    assert world.api.deleted() == ["devin-1", "devin-2", "devin-3"]


def test_a_429_to_a_reading_ends_the_calls_as_well(world: World) -> None:
    world.api.on("GET", "devin-1", slow_down("300"))
    world.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-02T00:00:00Z"}', "devin-2")
    assert len(world.deliver()) == 2
    assert world.api.calls == [("GET", "devin-1")]
    assert given(world, "sqs.ChangeMessageVisibility", "VisibilityTimeout") == [300, 300]


def test_a_429_to_a_look_after_a_rejection_keeps_what_was_rejected(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(409, {"detail": "busy"}))
    world.api.on("GET", "devin-1", slow_down("300"), session("working"))
    world.send("devin-1", "devin-2")
    assert len(world.deliver()) == 2
    assert world.api.calls == [("DELETE", "devin-1"), ("GET", "devin-1")]
    assert world.dead_letters() == []


def test_what_was_done_before_a_429_stays_done(world: World) -> None:
    world.api.on("DELETE", "devin-2", slow_down("60"))
    world.send('{"session_ids": ["devin-1", "devin-2", "devin-3"]}')
    assert world.deliver() == []
    assert world.api.deleted() == ["devin-1", "devin-2"]
    assert given(world, "sqs.SendMessage", "DelaySeconds")[-2:] == [60, 60]


@pytest.mark.parametrize("receives", [1, 2, 5, 1000])
def test_the_backoff_of_a_429_grows_and_ends_at_a_quarter_of_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch, receives: int
) -> None:
    monkeypatch.setattr("terminate.invocation.random", SimpleNamespace(uniform=lambda _, high: high))
    world.api.on("DELETE", "devin-1", slow_down("10"))
    world.send("devin-1")
    event = world.batch()
    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = str(receives)
    world.invoke(event)
    expected = min(BACKOFF * 2 ** (receives - 1), LONGEST)
    # Before the redrive policy would move it, it is requeued.
    requeued = receives >= REQUEUE_AT_RECEIVE_COUNT
    operation = (
        ("sqs.SendMessage", "DelaySeconds") if requeued else ("sqs.ChangeMessageVisibility", "VisibilityTimeout")
    )
    assert given(world, *operation)[-1:] == [expected]
