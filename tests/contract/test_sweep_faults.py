"""A sweep over sockets: listings that lie or never end, clocks that differ, odd dates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from infra.local.fake_devin import FakeDevin, Fault
from sweep.sweep import SweepError
from tests.contract.caller import V3_KEY
from tests.contract.functions import Functions, functions

ENDS: dict[str, Any] = {"idle_for": "P1D", "dry_run": False, "max_share": 1}


@pytest.fixture
def world(api: FakeDevin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    with functions(api, monkeypatch) as made:
        made.context.remaining_milliseconds = 300_000
        yield made


def listed(session_id: str, updated_at: object) -> dict[str, Any]:
    created = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    return {
        "session_id": session_id,
        "status_enum": "blocked",
        "created_at": created,
        "updated_at": updated_at,
        "tags": [],
        "pull_request": None,
    }


def ago(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).isoformat()


def page(*sessions: dict[str, Any], **headers: str) -> Fault:
    return Fault(status=200, body=json.dumps({"sessions": list(sessions)}), headers=headers)


def enqueued(world: Functions) -> list[str]:
    return sorted(json.loads(message.body)["session_id"] for message in world.aws.sent_to("work"))


def test_pages_that_shift_and_repeat_enqueue_each_once(world: Functions) -> None:
    world.api.script(page(listed("devin-1", ago(days=5)), listed("devin-2", ago(days=5))), times=1)
    world.api.script(page(listed("devin-2", ago(days=5)), listed("devin-3", ago(days=5))), times=1)
    world.api.script(page(), times=1)
    assert world.sweep(**ENDS)["listed"] == 3
    assert enqueued(world) == ["devin-1", "devin-2", "devin-3"]


def test_a_session_that_one_page_shows_in_use_is_kept(world: Functions) -> None:
    world.api.script(page(listed("devin-1", ago(days=5))), times=1)
    world.api.script(page(listed("devin-1", ago(hours=1))), times=1)
    world.api.script(page(), times=1)
    world.sweep(**ENDS)
    assert enqueued(world) == []


@pytest.mark.fault(25)
def test_a_listing_without_end_is_ended_and_nothing_is_enqueued(world: Functions) -> None:
    world.api.script(page(listed("devin-1", ago(days=5))))
    with pytest.raises(SweepError, match="the API repeats itself"):
        world.sweep(**ENDS)
    assert len(world.api.calls()) < 10
    assert enqueued(world) == []


def test_a_cursor_that_leads_nowhere_fails_the_sweep(world: Functions) -> None:
    world.aws.secret = V3_KEY
    world.api.set_keys([V3_KEY])
    world.api.script(Fault(status=200, body=json.dumps({"items": [], "has_next_page": True, "end_cursor": None})))
    with pytest.raises(SweepError, match="a page that cannot be read"):
        world.sweep(**ENDS)
    assert enqueued(world) == []


@pytest.mark.parametrize(
    "second",
    [
        Fault(status=500, body="<h1>no</h1>"),
        Fault(status=200, body="{"),
        Fault(status=200, body='{"sessions": "none"}'),
        Fault(kind="reset", part="body"),
        Fault(kind="close", part="head"),
        Fault(status=302, headers={"Location": "/v1/sessions"}),
    ],
    ids=str,
)
def test_a_page_that_fails_fails_the_sweep_whatever_was_listed_before(world: Functions, second: Fault) -> None:
    world.api.script(page(listed("devin-1", ago(days=5))), times=1)
    world.api.script(second)
    with pytest.raises(SweepError, match="nothing was enqueued"):
        world.sweep(**ENDS)
    assert enqueued(world) == []


@pytest.mark.fault(28)
@pytest.mark.parametrize("skew", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=365)], ids=str)
def test_a_clock_that_is_an_hour_off_fails_the_sweep(world: Functions, skew: timedelta) -> None:
    date = format_datetime(datetime.now(UTC) + skew, usegmt=True)
    world.api.script(page(listed("devin-1", ago(days=5)), Date=date))
    with pytest.raises(SweepError, match="clock"):
        world.sweep(**ENDS)
    assert enqueued(world) == []


def naive(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).replace(tzinfo=None).isoformat()


def zoned(**time: float) -> str:
    return (datetime.now(UTC) - timedelta(**time)).astimezone().isoformat()


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("updated_at", "chosen"),
    [
        pytest.param(naive(hours=25), True, id="naive, a day and an hour old"),
        pytest.param(naive(hours=23), False, id="naive, not a day old"),
        pytest.param(zoned(hours=25), True, id="zoned, a day and an hour old"),
        ("2026-11-01T00:00:00+14:00", True),
        ("9999-12-31T23:59:59Z", False),
        ("9999-12-31T23:59:59-14:00", False),
        ("0001-01-01T00:00:00+14:00", False),
        ("1970-01-01T00:00:00Z", False),
        ("yesterday", False),
        ("", False),
        (None, False),
        (1e308, False),
    ],
)
def test_a_date_is_judged_in_utc_and_keeps_when_in_doubt(world: Functions, updated_at: object, chosen: bool) -> None:
    world.api.script(page(listed("devin-1", updated_at)), times=1)
    world.api.script(page(), times=1)
    world.sweep(**ENDS)
    assert enqueued(world) == (["devin-1"] if chosen else [])
