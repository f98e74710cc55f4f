"""A sweep over sockets; tests/unit/sweep has the rules of listing and dates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from infra.local.fake_devin import FakeDevin, Fault
from sweep.sweep import SweepError
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


@pytest.mark.fault(25)
def test_pages_that_shift_and_repeat_enqueue_each_session_once(world: Functions) -> None:
    world.api.script(page(listed("devin-1", ago(days=5)), listed("devin-2", ago(days=5))), times=1)
    world.api.script(page(listed("devin-2", ago(days=5)), listed("devin-3", ago(days=5))), times=1)
    world.api.script(page(), times=1)
    assert world.sweep(**ENDS)["listed"] == 3
    assert enqueued(world) == ["devin-1", "devin-2", "devin-3"]


@pytest.mark.parametrize(
    "second",
    [
        Fault(status=500, body="<h1>no</h1>"),
        Fault(status=200, body='{"sessions": "none"}'),
        Fault(kind="reset", part="body"),
        Fault(kind="close", part="head"),
    ],
    ids=str,
)
def test_a_page_that_fails_fails_the_sweep(world: Functions, second: Fault) -> None:
    world.api.script(page(listed("devin-1", ago(days=5))), times=1)
    world.api.script(second)
    with pytest.raises(SweepError, match="nothing was enqueued"):
        world.sweep(**ENDS)
    assert enqueued(world) == []


@pytest.mark.fault(25, 28)
def test_an_endless_listing_and_another_clock_fail_the_sweep(world: Functions) -> None:
    world.api.script(page(listed("devin-1", ago(days=5))))
    with pytest.raises(SweepError, match="the API repeats itself"):
        world.sweep(**ENDS)
    assert len(world.api.calls()) < 10
    world.api.clear_faults()
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    world.api.script(page(listed("devin-1", ago(days=5)), Date=date))
    with pytest.raises(SweepError, match="clock"):
        world.sweep(**ENDS)
    assert enqueued(world) == []
