"""The sweep in the deployed stack: policies in, sessions ended by way of the queue, and never one too many."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from infra.local.fake_devin import Fault
from tests.integration.world import World, wait_for

DAYS_AGO = datetime.now(UTC) - timedelta(days=2)


def ids(choices: list[dict[str, Any]]) -> list[str]:
    return [choice["session_id"] for choice in choices]


def listed(world: World, session_id: str, **changes: object) -> dict[str, object]:
    """A session as a list shows it, with changes; what is None is not shown at all."""
    shown = {**world.stack.api.session(session_id).as_v1(), **changes}
    return {name: value for name, value in shown.items() if name not in changes or value is not None}


@contextmanager
def listing(world: World, *pages: Sequence[object], date: datetime | None = None) -> Iterator[None]:
    """The API tells these pages, one after the other, the last of them again and again."""
    headers = {} if date is None else {"Date": format_datetime(date, usegmt=True)}
    faults = [Fault(status=200, headers=headers, body=json.dumps({"sessions": page})) for page in pages]
    for fault in faults[:-1]:
        world.stack.api.script(fault, operation="list", times=1)
    world.stack.api.script(faults[-1], operation="list")
    try:
        yield
    finally:
        world.stack.api.clear_faults()


@contextmanager
def stopped(world: World) -> Iterator[None]:
    world.stack.set_stop_switch("stop")
    try:
        yield
    finally:
        world.stack.set_stop_switch("go")


def test_a_dry_run_reports_and_enqueues_nothing(world: World) -> None:
    session_id = world.stale("dry")
    report = world.sweep({"idle_for": "PT6H", "tags": ["dry"]})
    assert (report["mode"], report["listing"], report["enqueued"]) == ("dry_run", "complete", 0)
    assert ids(report["due"]) == [session_id]
    assert report["listed"] == report["chosen"] + sum(report["kept"].values())
    assert world.calls(session_id) == []


@pytest.mark.fault(24)
def test_stale_sessions_end_and_others_live(quiet: World) -> None:
    ending, waking = quiet.stale("enforced"), quiet.stale("enforced")
    living = {
        quiet.stale("enforced", tags=("enforced", "Keep")): "protected by its tag",
        quiet.stale("enforced", updated_at=datetime.now(UTC)): "idle_for: no",
        quiet.session("enforced", tags=("enforced",)): "younger than an hour",
        quiet.stale("enforced", tags=("other",)): "tags: no",
    }
    with quiet.stack.work_queue_held():
        report = quiet.sweep({"idle_for": "PT6H", "tags": ["enforced"], "dry_run": False})
        assert (report["mode"], report["enqueued"]) == ("enforce", 2)
        assert sorted(ids(report["due"])) == sorted([ending, waking])
        assert report["kept"].keys() >= set(living.values())
        quiet.stack.api.wake(waking)
    assert quiet.story(ending, "terminated") == ["terminated"]
    assert quiet.story(waking, "spared") == ["spared"]
    assert quiet.exited(ending)
    assert not any(map(quiet.exited, [waking, *living]))


@pytest.mark.fault(26, 27)
@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({}, "no criterion"),
        ({"idle_for": "PT5M"}, "idle_for"),
        ({"idel_for": "PT6H"}, "idel_for"),
        ({"tags": ["capped"], "max_sessions": 1, "dry_run": False}, "max_sessions is 1"),
    ],
)
def test_a_policy_that_must_not_be_carried_out_fails_loudly(world: World, policy: object, says: str) -> None:
    capped = [world.stale("capped"), world.stale("capped")]
    answer = world.sweep(policy)
    assert says in answer["errorMessage"]
    assert not any(world.calls(session_id) for session_id in capped)


@pytest.mark.fault(25)
def test_of_pages_that_shift_repeat_and_lie_only_what_is_provably_stale_ends(quiet: World) -> None:
    once, twice, shifting, undated, untold, foreign = (quiet.stale("shifting") for _ in range(6))
    lies: list[object] = [None, 7, {}, [], {"session_id": "devin-../x"}, {"session_id": None, "tags": ["shifting"]}]
    first = [
        listed(quiet, twice),
        listed(quiet, shifting),
        listed(quiet, undated, updated_at="yesterday"),
        listed(quiet, untold, updated_at=None),
        *lies,
    ]
    # It was used while the pages were read, and is shown again with its new date.
    used = listed(quiet, shifting, updated_at=datetime.now(UTC).isoformat())
    second = [used, listed(quiet, twice), listed(quiet, once), listed(quiet, foreign, tags=["other"])]
    with listing(quiet, first, second, []):
        report = quiet.sweep({"idle_for": "PT6H", "tags": ["shifting"], "dry_run": False})
    assert sorted(ids(report["due"])) == sorted([once, twice])
    assert (report["listing"], report["pages"], report["enqueued"]) == ("complete", 3, 2)
    assert report["listed"] == report["chosen"] + sum(report["kept"].values())
    for session_id in (once, twice):
        assert quiet.story(session_id, "terminated") == ["terminated"]
        assert quiet.methods(session_id) == ["GET", "DELETE"]
    assert not any(map(quiet.calls, (shifting, undated, untold, foreign)))


@pytest.mark.fault(25)
def test_pages_without_end_end_the_sweep_and_nothing_else(quiet: World) -> None:
    session_id = quiet.stale("endless")
    with listing(quiet, [listed(quiet, session_id)]):
        answer = quiet.sweep({"idle_for": "PT6H", "tags": ["endless"], "dry_run": False})
        assert "the API repeats itself" in answer["errorMessage"]
        assert "nothing was enqueued" in answer["errorMessage"]
        # To look at what there is does no harm, if it is said that it is not all.
        report = quiet.sweep({"idle_for": "PT6H", "tags": ["endless"], "max_share": 1})
        assert (report["listing"], report["enqueued"]) == ("the API repeats itself", 0)
    assert quiet.queued() == 0
    assert quiet.calls(session_id) == []


@pytest.mark.fault(28)
@pytest.mark.parametrize("hours", [-1, 1], ids=["behind", "ahead"])
def test_a_clock_that_is_an_hour_off_ends_the_sweep_and_nothing_else(quiet: World, hours: int) -> None:
    session_id = quiet.stale("skewed")
    with listing(quiet, [listed(quiet, session_id)], [], date=datetime.now(UTC) + timedelta(hours=hours)):
        answer = quiet.sweep({"idle_for": "PT6H", "tags": ["skewed"], "dry_run": False})
    assert "the API's clock and this one differ by" in answer["errorMessage"]
    assert quiet.queued() == 0
    assert quiet.calls(session_id) == []


def test_a_notice_is_announced_and_remembered_before_anything_ends(world: World) -> None:
    session_id = world.stale("notified")
    policy = {"idle_for": "PT6H", "tags": ["notified"], "notify_first": "PT24H", "dry_run": False}
    first, second = world.sweep(policy), world.sweep(policy)
    assert (ids(first["to_announce"]), first["announced"], first["enqueued"]) == ([session_id], 1, 0)
    assert (ids(second["waiting"]), second["announced"], second["enqueued"]) == ([session_id], 0, 0)
    world.stack.api.wake(session_id)
    world.stack.api.update_session(session_id, updated_at=DAYS_AGO + timedelta(hours=1))
    third = world.sweep(policy)
    assert ids(third["to_announce"]) == [session_id], "used again, so the first announcement counts no more"
    assert world.calls(session_id) == []


def test_the_stop_switch_stops_both_functions(quiet: World) -> None:
    swept, sent = quiet.stale("stopped"), quiet.session("stopped")
    # New workers, so that none remembers what the switch said before.
    with stopped(quiet), quiet.environment(DEVIN_ORG_ID="org-stopped"):
        # It may remember for some seconds what the switch said before.
        wait_for(lambda: quiet.sweep({"tags": ["stopped"]})["mode"] == "stopped", "the sweep to stop")
        report = quiet.sweep({"tags": ["stopped"], "dry_run": False})
        assert (report["mode"], report["enqueued"]) == ("stopped", 0)
        quiet.send(sent)
        assert quiet.wait_for_attempt(sent) == ["retry"]
        (line,) = quiet.lines(sent)
        assert "stopped by the switch" in line["detail"]
        assert line["retry_in_seconds"] == 900
        assert quiet.queued() == 1
    assert quiet.calls(sent) == quiet.calls(swept) == []
    # It would be back in a quarter of an hour; other tests need not wait for it.
    quiet.stack.aws.sqs.purge_queue(QueueUrl=quiet.stack.work_queue_url)
    quiet.wait_until_drained()


def test_a_key_of_v3_ends_sessions_by_v3(quiet: World) -> None:
    ending, exited, foreign = (quiet.session("v3") for _ in range(3))
    quiet.stack.api.update_session(exited, status="exit")
    quiet.stack.api.update_session(foreign, org_id="org-another")
    with (
        quiet.environment(DEVIN_ORG_ID="org-fake", ARCHIVE="true"),
        quiet.api_key("cog_0123456789", "cog_0123456789"),
    ):
        answer = quiet.invoke({"session_ids": [ending, exited, foreign]})
    assert answer == {"terminated": [ending], "already_exited": [exited], "forbidden": [foreign]}
    assert quiet.stack.api.session(ending).is_archived
    assert all(call.path.startswith("/v3/organizations/org-fake/sessions/") for call in quiet.calls(ending))
    quiet.stack.aws.sqs.purge_queue(QueueUrl=quiet.stack.work_queue_url)
    quiet.wait_until_drained()
