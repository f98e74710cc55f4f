"""One-time schedules that send ids to the work queue."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from infra.ops.deployment import Deployment
from infra.ops.problems import FoundError
from infra.ops.sending import body_of, ids_in
from infra.ops.time_args import iso

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_scheduler.type_defs import CreateScheduleInputTypeDef

_IDS = 100  # well within what a schedule and a message may hold
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule and what it asks for. Its name says its group, unless that is the default one."""

    name: str
    when: str
    state: str
    session_ids: tuple[str, ...]


def plan(
    scheduler: EventBridgeSchedulerClient,
    deployment: Deployment,
    ids: Sequence[str],
    moment: datetime,
    unless_updated_since: datetime | None,
) -> Iterator[Planned]:
    """Schedules that send the ids at this moment and then remove themselves, as they are made.

    The same ids at the same moment make no second schedule: the first is written again, and is enabled. Raises
    FoundError if a schedule that sends elsewhere has the name, and what botocore raises.
    """
    for some in batched(ids, _IDS, strict=False):
        body = body_of(some, unless_updated_since)
        # At most 64 characters, and no stack of another name, account or Region makes the same.
        stack = f"{deployment.name[:18]}-{_digest(deployment.work_queue_arn)[:8]}"
        schedule: CreateScheduleInputTypeDef = {
            "Name": f"end-{stack}-{moment:%Y%m%dT%H%M%S}-{_digest(body)}",
            "Description": "Made by devin-ops",
            "ScheduleExpression": f"at({moment:%Y-%m-%dT%H:%M:%S})",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "State": "ENABLED",
            "Target": {
                "Arn": deployment.work_queue_arn,
                "RoleArn": deployment.output("OneTimeScheduleRoleArn"),
                "DeadLetterConfig": {"Arn": deployment.dead_letter_queue_arn},
                "Input": body,
            },
        }
        try:
            scheduler.create_schedule(**schedule)
        except scheduler.exceptions.ConflictException:
            name = schedule["Name"]
            if scheduler.get_schedule(Name=name)["Target"]["Arn"] != deployment.work_queue_arn:
                raise FoundError(f"there is a schedule {name} that sends elsewhere; choose another time") from None
            scheduler.update_schedule(**schedule)
        yield Planned(schedule["Name"], iso(moment), "ENABLED", some)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _when(expression: str, zone: str) -> str:
    """When a schedule is due, in UTC if it is so once."""
    try:
        once = datetime.fromisoformat(expression.removeprefix("at(").removesuffix(")"))
        return iso(once.replace(tzinfo=ZoneInfo(zone)))
    except (ValueError, ZoneInfoNotFoundError, OverflowError):
        return f"{expression} {zone}"


def _listed(scheduler: EventBridgeSchedulerClient, deployment: Deployment) -> Iterator[tuple[str, str, str]]:
    """How it is called here, name and group, of those that send to the work queue: never another program's, however
    its name looks."""
    for page in scheduler.get_paginator("list_schedules").paginate():
        for one in page["Schedules"]:
            if one.get("Target", {}).get("Arn") == deployment.work_queue_arn:
                name, group = one["Name"], one.get("GroupName", _DEFAULT)
                yield name if group == _DEFAULT else f"{group}/{name}", name, group


def planned(scheduler: EventBridgeSchedulerClient, deployment: Deployment) -> list[Planned]:
    """All schedules of the account that send to the work queue, however they were made: those that are due once in the
    order of their times, then the others."""
    found = []
    for label, name, group in _listed(scheduler, deployment):
        # Its time may have come since it was listed.
        with suppress(scheduler.exceptions.ResourceNotFoundException):
            schedule = scheduler.get_schedule(Name=name, GroupName=group)
            when = _when(schedule["ScheduleExpression"], schedule.get("ScheduleExpressionTimezone", "UTC"))
            found.append(Planned(label, when, schedule["State"], ids_in(schedule["Target"].get("Input", ""))))
    return sorted(found, key=lambda one: (one.when, one.name))


def cancel(scheduler: EventBridgeSchedulerClient, deployment: Deployment, label: str) -> None:
    """Raises FoundError if there is none of this name that sends to the work queue."""
    for known, name, group in _listed(scheduler, deployment):
        if known == label:
            scheduler.delete_schedule(Name=name, GroupName=group)
            return
    raise FoundError(f"there is no schedule {label} that sends to the work queue; it may have done so already")
