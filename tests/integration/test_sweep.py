"""The sweep in the deployed stack: policies in, sessions ended by way of the queue, and never one too many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.world import World

DAYS_AGO = datetime.now(UTC) - timedelta(days=2)


def ids(choices: list[dict[str, Any]]) -> list[str]:
    return [choice["session_id"] for choice in choices]


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
    # New processes, so that none remembers what the switch said before.
    quiet.kill_workers()
    quiet.kill_workers(quiet.stack.sweep_function_name)
    with stopped(quiet):
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
    quiet.kill_workers()
    quiet.kill_workers(quiet.stack.sweep_function_name)
