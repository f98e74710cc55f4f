"""One-time schedules that send ids to the work queue."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra.ops.deployment import Deployment
from infra.ops.problems import FoundError, code_of
from infra.ops.sending import body_of
from terminate.events import Request, read_body

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

# Well within what a schedule and a message may hold.
_IDS = 100


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule and what it asks for."""

    name: str
    when: str
    state: str
    session_ids: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {"name": self.name, "when": self.when, "state": self.state, "session_ids": self.session_ids}


def plan(
    scheduler: EventBridgeSchedulerClient,
    deployment: Deployment,
    ids: Sequence[str],
    moment: datetime,
    unless_updated_since: datetime | None,
) -> list[Planned]:
    """Schedules that send the ids at this moment and then remove themselves. Asking for the same again makes no second
    one. Raises what botocore raises."""
    made = []
    for some in batched(ids, _IDS, strict=False):
        body = body_of(some, unless_updated_since)
        name = _name(deployment.name, moment, body)
        try:
            scheduler.create_schedule(
                Name=name,
                Description="Made by the operator's command",
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
        made.append(Planned(name, f"at({moment:%Y-%m-%dT%H:%M:%S}) UTC", "ENABLED", some))
    return made


def _name(stack: str, moment: datetime, body: str) -> str:
    """The same for the same request; 64 characters at most."""
    digest = hashlib.sha256(f"{moment.isoformat()} {body}".encode()).hexdigest()[:12]
    return f"end-{stack[:28]}-{moment:%Y%m%dT%H%M%S}-{digest}"


def planned(scheduler: EventBridgeSchedulerClient, deployment: Deployment) -> list[Planned]:
    """All schedules of the account that send to the work queue, however they were made, in the order of their names."""
    found = []
    for page in scheduler.get_paginator("list_schedules").paginate():
        for summary in page["Schedules"]:
            if summary.get("Target", {}).get("Arn") != deployment.work_queue_arn:
                continue
            try:
                schedule = scheduler.get_schedule(Name=summary["Name"], GroupName=summary.get("GroupName", "default"))
            except ClientError as error:
                if code_of(error) == "ResourceNotFoundException":
                    continue  # its time has come since it was listed
                raise
            items = read_body(schedule["Target"].get("Input", "")).items
            zone = schedule.get("ScheduleExpressionTimezone", "UTC")
            found.append(
                Planned(
                    name=summary["Name"],
                    when=f"{schedule['ScheduleExpression']} {zone}",
                    state=schedule["State"],
                    session_ids=tuple(item.session_id for item in items if isinstance(item, Request)),
                )
            )
    return sorted(found, key=lambda one: (one.when, one.name))


def cancel(scheduler: EventBridgeSchedulerClient, deployment: Deployment, name: str) -> None:
    """Raises FoundError if there is none of this name that sends to the work queue: it may have done so already."""
    # Never another program's schedule, however much its name looks like ours.
    if not re.fullmatch(r"[0-9a-zA-Z-_.]{1,64}", name):
        raise FoundError(f"{name!r} is no name of a schedule; see schedule list")
    gone = f"there is no schedule {name} that sends to the work queue; it may have done so already"
    try:
        schedule = scheduler.get_schedule(Name=name)
        if schedule["Target"]["Arn"] != deployment.work_queue_arn:
            raise FoundError(gone)
        scheduler.delete_schedule(Name=name)
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        raise FoundError(gone) from None
