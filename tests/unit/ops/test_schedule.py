"""`schedule`: one-time schedules to the work queue, and to no other's."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.unit.ops.world import Operator
from tests.unit.world import session

WHEN = "2099-12-01T18:00:00+01:00"


@pytest.fixture
def scheduler(operator: Operator) -> Any:  # noqa: ARG001 - for its account
    return boto3.client("scheduler")


def test_a_schedule_sends_to_the_work_queue_once_and_is_gone(operator: Operator, scheduler: Any) -> None:
    condition = ("--unless-updated-since", "2024-11-01T00:00:00Z")
    ran = operator.run("schedule", "at", WHEN, "devin-1", "devin-2", *condition, "--yes", "--json")
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
    assert json.loads(target["Input"])["unless_updated_since"] == "2024-11-01T00:00:00+00:00"
    for one in ("devin-1", "devin-2"):
        operator.world.api.on("GET", one, session(updated_at="2024-10-01T00:00:00Z", session_id=one))
    operator.world.send(target["Input"])
    operator.world.deliver()
    assert operator.world.api.deleted() == ["devin-1", "devin-2"]


def test_the_same_again_makes_no_second_schedule(operator: Operator, scheduler: Any) -> None:
    operator.run("schedule", "at", WHEN, "devin-1", "--yes")
    assert "is there already" in operator.run("schedule", "at", WHEN, "devin-1", "--yes").out
    assert len(scheduler.list_schedules()["Schedules"]) == 1


def test_a_schedule_that_somebody_disabled_is_shown_to_be(operator: Operator, scheduler: Any) -> None:
    (made,) = operator.run("schedule", "at", WHEN, "devin-1", "--yes", "--json").data
    schedule = scheduler.get_schedule(Name=made["name"])
    keys = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    scheduler.update_schedule(**{key: schedule[key] for key in keys}, State="DISABLED")
    ran = operator.run("schedule", "at", WHEN, "devin-1", "--yes")
    assert "DISABLED" in ran.out + ran.err


def test_schedules_that_were_made_before_one_failed_are_named(operator: Operator, scheduler: Any) -> None:
    calls = count()

    def create(_: dict[str, Any]) -> object:
        if next(calls) == 1:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slowly"}}, "CreateSchedule")
        return None

    operator.world.aws.faults["scheduler.CreateSchedule"] = create
    ids = "\n".join(f"devin-{number}" for number in range(205))
    ran = operator.run("schedule", "at", WHEN, "--yes", given=ids)
    (made,) = scheduler.list_schedules()["Schedules"]
    assert ran.status == 3
    assert "1 schedule made before" in ran.err
    assert "cancel with: devin-ops schedule cancel end-" in ran.err
    assert made["Name"] in ran.err
    # Asking again makes the others.
    again = operator.run("schedule", "at", WHEN, "--yes", "--json", given=ids).data
    assert [len(one["session_ids"]) for one in again] == [100, 100, 5]
    assert all(len(one["name"]) <= 64 for one in again)
    assert len(scheduler.list_schedules()["Schedules"]) == 3


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


def test_schedules_of_all_groups_are_listed_and_cancelled(operator: Operator, scheduler: Any) -> None:
    (mine,) = operator.run("schedule", "at", WHEN, "devin-1", "--yes", "--json").data
    schedule = scheduler.get_schedule(Name=mine["name"])
    for group in ("one", "two"):
        scheduler.create_schedule_group(Name=group)
        for name in (mine["name"], f"of-{group}"):
            keys = ("ScheduleExpression", "FlexibleTimeWindow", "Target")
            scheduler.create_schedule(Name=name, GroupName=group, **{key: schedule[key] for key in keys})

    def names() -> set[str]:
        return {one["name"] for one in operator.run("schedule", "list", "--json").data}

    assert names() == {mine["name"], f"one/{mine['name']}", f"two/{mine['name']}", "one/of-one", "two/of-two"}
    assert operator.run("schedule", "cancel", "of-one").status == 0
    assert operator.run("schedule", "cancel", "one/of-two").status == 1
    several = operator.run("schedule", "cancel", mine["name"])
    assert several.status == 1
    assert f"one/{mine['name']}" in several.err
    assert operator.run("schedule", "cancel", f"one/{mine['name']}", "two/of-two").status == 0
    assert operator.run("schedule", "cancel", f"default/{mine['name']}").status == 0
    assert names() == {f"two/{mine['name']}"}


def test_what_is_not_there_keeps_nothing_else_from_being_cancelled(operator: Operator, scheduler: Any) -> None:
    (mine,) = operator.run("schedule", "at", WHEN, "devin-1", "--yes", "--json").data
    ran = operator.run("schedule", "cancel", "gone", "no name!", mine["name"], "--json")
    assert (ran.status, ran.data) == (1, {"cancelled": [mine["name"]]})
    assert "no schedule gone" in ran.err
    assert scheduler.list_schedules()["Schedules"] == []


@pytest.mark.parametrize("other", ["Target", "Input", "ScheduleExpression"])
def test_a_schedule_of_the_same_name_that_does_something_else_is_no_success(
    operator: Operator, scheduler: Any, other: str
) -> None:
    (made,) = operator.run("schedule", "at", WHEN, "devin-1", "--yes", "--json").data
    found = scheduler.get_schedule(Name=made["name"])
    schedule = {key: found[key] for key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    if other == "ScheduleExpression":
        schedule[other] = "at(2098-12-01T17:00:00)"
    else:
        theirs = {"Target": {"Arn": f"{schedule['Target']['Arn']}-too"}, "Input": {"Input": "devin-2"}}
        schedule["Target"] |= theirs[other]
    scheduler.update_schedule(**schedule)
    ran = operator.run("schedule", "at", WHEN, "devin-1", "--yes")
    assert ran.status == 1
    assert "does something else" in ran.err


def test_a_stack_of_a_like_name_has_schedules_of_its_own(operator: Operator, scheduler: Any) -> None:
    for queue in ("work", "work-2"):
        operator.outputs["WorkQueueArn"] = f"arn:aws:sqs:eu-west-1:123456789012:{queue}"
        assert operator.run("schedule", "at", WHEN, "devin-1", "--yes").status == 0
        assert len(operator.run("schedule", "list", "--json").data) == 1
    assert len(scheduler.list_schedules()["Schedules"]) == 2


def test_schedules_are_listed_in_the_order_of_their_times_whatever_their_zones(
    operator: Operator, scheduler: Any
) -> None:
    times = {
        "third": ("at(2099-12-01T18:00:00)", "UTC"),
        "first": ("at(2099-12-01T23:00:00)", "Asia/Tokyo"),
        "second": ("at(2099-12-01T10:00:00)", "America/New_York"),
        "again-and-again": ("rate(1 hour)", "UTC"),
    }
    for name, (expression, zone) in times.items():
        scheduler.create_schedule(
            Name=name,
            ScheduleExpression=expression,
            ScheduleExpressionTimezone=zone,
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": operator.outputs["WorkQueueArn"], "RoleArn": "arn:aws:iam::123456789012:role/x"},
        )
    listed = operator.run("schedule", "list", "--json").data
    assert [(one["name"], one["when"]) for one in listed] == [
        ("first", "2099-12-01T14:00:00Z"),
        ("second", "2099-12-01T15:00:00Z"),
        ("third", "2099-12-01T18:00:00Z"),
        ("again-and-again", "rate(1 hour) UTC"),
    ]


@pytest.mark.usefixtures("scheduler")
@pytest.mark.parametrize(
    "arguments",
    [
        ("2099-12-01T18:00:00", "devin-1", "--yes"),
        (WHEN, "nope", "--yes"),
        (WHEN, "devin-1"),
        (WHEN, "devin-1", "--yes", "--unless-updated-since", "2024-11-01T00:00:00"),
        (WHEN, "devin-1", "--yes", "--unless-updated-since", "2099-11-01T00:00:00Z"),
    ],
)
def test_what_is_in_doubt_is_not_scheduled(operator: Operator, arguments: tuple[str, ...]) -> None:
    assert operator.run("schedule", "at", *arguments).status == 2
    assert operator.run("schedule", "list", "--json").data == []
