"""One-time schedules that send ids to the work queue."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import batched
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from botocore.exceptions import ClientError

from infra.ops.deployment import Deployment
from infra.ops.problems import FoundError, code_of
from infra.ops.sending import body_of, ids_in
from infra.ops.time_args import iso

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_scheduler.type_defs import ScheduleSummaryTypeDef

_IDS = 100  # well within what a schedule and a message may hold
_DEFAULT = "default"
_NEVER = datetime.max.replace(tzinfo=UTC)
_AT = re.compile(r"at\((.+)\)")


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule and what it asks for. Its name says its group, unless that is the default one. `at` is None if it
    repeats. `found`: it was there before it was asked for."""

    name: str
    when: str
    at: datetime | None
    state: str
    session_ids: tuple[str, ...]
    found: bool = False

    def as_dict(self) -> dict[str, object]:
        return {"name": self.name, "when": self.when, "state": self.state, "session_ids": self.session_ids}


def plan(
    scheduler: EventBridgeSchedulerClient,
    deployment: Deployment,
    ids: Sequence[str],
    moment: datetime,
    unless_updated_since: datetime | None,
) -> Iterator[Planned]:
    """Schedules that send the ids at this moment and then remove themselves, as they are made.

    The same ids at the same moment make no second schedule. Raises FoundError if another schedule has the name, and
    what botocore raises.
    """
    for some in batched(ids, _IDS, strict=False):
        body = body_of(some, unless_updated_since)
        # At most 64 characters, and no stack of another name, account or Region makes the same.
        stack = f"{deployment.name[:18]}-{_digest(deployment.work_queue_arn)[:8]}"
        name = f"end-{stack}-{moment:%Y%m%dT%H%M%S}-{_digest(body)}"
        wanted = Planned(name, iso(moment), moment, "ENABLED", some)
        try:
            scheduler.create_schedule(
                Name=wanted.name,
                Description="Made by devin-ops",
                ScheduleExpression=f"at({moment:%Y-%m-%dT%H:%M:%S})",
                ScheduleExpressionTimezone="UTC",
                FlexibleTimeWindow={"Mode": "OFF"},
                ActionAfterCompletion="DELETE",
                Target={
                    "Arn": deployment.work_queue_arn,
                    "RoleArn": deployment.output("OneTimeScheduleRoleArn"),
                    "DeadLetterConfig": {"Arn": deployment.dead_letter_queue_arn},
                    "Input": body,
                },
            )
        except ClientError as error:
            if code_of(error) != "ConflictException":
                raise
            yield _existing(scheduler, deployment, wanted, body)
        else:
            yield wanted


def _existing(scheduler: EventBridgeSchedulerClient, deployment: Deployment, wanted: Planned, body: str) -> Planned:
    """The schedule that has the name already. Raises FoundError if it does anything else."""
    schedule = scheduler.get_schedule(Name=wanted.name)
    target = schedule["Target"]
    at = _instant(schedule["ScheduleExpression"], schedule.get("ScheduleExpressionTimezone", "UTC"))
    if (target["Arn"], target.get("Input"), at) != (deployment.work_queue_arn, body, wanted.at):
        raise FoundError(f"there is a schedule {wanted.name} that does something else; see it, or choose another time")
    return replace(wanted, state=schedule["State"], found=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _instant(expression: str, zone: str) -> datetime | None:
    """When a schedule is due, if it is so once."""
    found = _AT.fullmatch(expression)
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) if found else None
    except (ValueError, ZoneInfoNotFoundError, OverflowError):
        return None


def _listed(scheduler: EventBridgeSchedulerClient, deployment: Deployment) -> Iterator[ScheduleSummaryTypeDef]:
    """Of all groups, those that send to the work queue: never another program's, however its name looks."""
    for page in scheduler.get_paginator("list_schedules").paginate():
        for summary in page["Schedules"]:
            if summary.get("Target", {}).get("Arn") == deployment.work_queue_arn:
                yield summary


def _labels(summary: ScheduleSummaryTypeDef) -> tuple[str, str]:
    """Its name, and that with its group."""
    return summary["Name"], f"{summary.get('GroupName', _DEFAULT)}/{summary['Name']}"


def planned(scheduler: EventBridgeSchedulerClient, deployment: Deployment) -> list[Planned]:
    """All schedules of the account that send to the work queue, however they were made: those that are due once in the
    order of their times, then the others."""
    found = []
    for summary in _listed(scheduler, deployment):
        group = summary.get("GroupName", _DEFAULT)
        try:
            schedule = scheduler.get_schedule(Name=summary["Name"], GroupName=group)
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                continue  # its time has come since it was listed
            raise
        zone = schedule.get("ScheduleExpressionTimezone", "UTC")
        at = _instant(schedule["ScheduleExpression"], zone)
        found.append(
            Planned(
                name=_labels(summary)[group != _DEFAULT],
                when=iso(at) if at else f"{schedule['ScheduleExpression']} {zone}",
                at=at,
                state=schedule["State"],
                session_ids=ids_in(schedule["Target"].get("Input", "")),
            )
        )
    return sorted(found, key=lambda one: (one.at is None, one.at or _NEVER, one.name))


def cancel(scheduler: EventBridgeSchedulerClient, deployment: Deployment, label: str) -> None:
    """Raises FoundError if there is none of this name that sends to the work queue, or if there are several."""
    found = [summary for summary in _listed(scheduler, deployment) if label in _labels(summary)]
    if len(found) > 1:
        raise FoundError(f"there are several schedules {label}: {', '.join(_labels(one)[1] for one in found)}")
    gone = FoundError(f"there is no schedule {label} that sends to the work queue; it may have done so already")
    if not found:
        raise gone
    try:
        scheduler.delete_schedule(Name=found[0]["Name"], GroupName=found[0].get("GroupName", _DEFAULT))
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        raise gone from None
