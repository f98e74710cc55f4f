"""`schedule`: one-time schedules to the work queue, and to no other's."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from tests.unit.ops_world import Operator

WHEN = "2099-12-01T18:00:00+01:00"


@pytest.fixture
def scheduler(operator: Operator) -> Any:  # noqa: ARG001 - for its account
    return boto3.client("scheduler")


def test_a_schedule_sends_to_the_work_queue_once_and_is_gone(operator: Operator, scheduler: Any) -> None:
    ran = operator.run("schedule", "at", WHEN, "devin-1", "devin-2", "--yes", "--json")
    assert ran.status == 0
    (made,) = ran.data
    schedule = scheduler.get_schedule(Name=made["name"])
    assert schedule["ScheduleExpression"] == "at(2099-12-01T17:00:00)"
    assert (schedule["ScheduleExpressionTimezone"], schedule["ActionAfterCompletion"]) == ("UTC", "DELETE")
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    target = schedule["Target"]
    assert (target["Arn"], target["RoleArn"]) == (
        operator.outputs["WorkQueueArn"],
        operator.outputs["OneTimeScheduleRoleArn"],
    )
    assert target["DeadLetterConfig"] == {"Arn": operator.outputs["DeadLetterQueueArn"]}
    operator.world.send(target["Input"])
    operator.world.deliver()
    assert operator.world.api.deleted() == ["devin-1", "devin-2"]


def test_the_same_again_makes_no_second_schedule(operator: Operator, scheduler: Any) -> None:
    for _ in range(2):
        assert operator.run("schedule", "at", WHEN, "devin-1", "--yes").status == 0
    assert len(scheduler.list_schedules()["Schedules"]) == 1


def test_hundreds_of_ids_share_schedules(operator: Operator, scheduler: Any) -> None:
    ids = [f"devin-{number}" for number in range(205)]
    made = operator.run("schedule", "at", WHEN, "--yes", "--json", given="\n".join(ids)).data
    assert [len(one["session_ids"]) for one in made] == [100, 100, 5]
    assert all(len(one["name"]) <= 64 for one in made)
    assert len(scheduler.list_schedules()["Schedules"]) == 3


def test_a_condition_travels_with_the_ids(operator: Operator, scheduler: Any) -> None:
    (made,) = operator.run(
        "schedule", "at", WHEN, "devin-1", "--unless-updated-since", "2026-11-01", "--yes", "--json"
    ).data
    assert (
        '"unless_updated_since": "2026-11-01T00:00:00+00:00"'
        in scheduler.get_schedule(Name=made["name"])["Target"]["Input"]
    )


def test_those_of_others_are_neither_listed_nor_cancelled(operator: Operator, scheduler: Any) -> None:
    scheduler.create_schedule(
        Name="theirs",
        ScheduleExpression="rate(1 hour)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:sqs:eu-west-1:123456789012:theirs", "RoleArn": "arn:aws:iam::123456789012:role/theirs"},
    )
    operator.run("schedule", "at", WHEN, "devin-1", "--yes")
    (mine,) = operator.run("schedule", "list", "--json").data
    assert mine["session_ids"] == ["devin-1"]
    assert operator.run("schedule", "cancel", "theirs").status == 1
    assert operator.run("schedule", "cancel", mine["name"]).status == 0
    assert operator.run("schedule", "cancel", mine["name"]).status == 1
    assert [one["Name"] for one in scheduler.list_schedules()["Schedules"]] == ["theirs"]


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize(
    "arguments", [("2099-12-01T18:00:00", "devin-1", "--yes"), (WHEN, "nope", "--yes"), (WHEN, "devin-1")]
)
def test_what_is_in_doubt_is_not_scheduled(operator: Operator, arguments: tuple[str, ...]) -> None:
    assert operator.run("schedule", "at", *arguments).status == 2
    assert operator.run("schedule", "list", "--json").data == []
