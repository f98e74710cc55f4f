"""One-time schedules that send ids to the work queue."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
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

# Well within what a schedule and a message may hold.
_IDS = 100
_DEFAULT = "default"
# A time from now that is asked for again within so long is the same request, made again.
_AGAIN = timedelta(minutes=10)
_OURS = re.compile(r"end-.+-([0-9]{8}T[0-9]{6})-([0-9a-f]{12})")
_LABEL = re.compile(r"(?:([0-9a-zA-Z-_.]{1,64})/)?([0-9a-zA-Z-_.]{1,64})")
_NEVER = datetime.max.replace(tzinfo=UTC)
_AT = re.compile(r"at\((.+)\)")


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule and what it asks for. Its name says its group, unless that is the default one. `at` is None of one
    that repeats. `found`: it was there before it was asked for."""

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
    *,
    from_now: bool,
) -> Iterator[Planned]:
    """Schedules that send the ids at this moment and then remove themselves, as they are made.

    Asking for the same again makes no second one: at the same moment or, of one that is counted `from_now`, at nearly
    the same. Raises FoundError if another schedule has the name, and what botocore raises.
    """
    existing = _existing(scheduler, deployment)
    for some in batched(ids, _IDS, strict=False):
        body = body_of(some, unless_updated_since)
        digest = _digest(body)
        leeway = _AGAIN if from_now else timedelta(0)
        same = next((one for at, of, one in existing if of == digest and abs(at - moment) <= leeway), None)
        if same is not None:
            yield replace(same, session_ids=some)
            continue
        wanted = Planned(f"{_prefix(deployment)}{moment:%Y%m%dT%H%M%S}-{digest}", iso(moment), moment, "ENABLED", some)
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
            yield _existing_of_name(scheduler, deployment, wanted, body)
        else:
            yield wanted


def _existing_of_name(
    scheduler: EventBridgeSchedulerClient, deployment: Deployment, wanted: Planned, body: str
) -> Planned:
    """The schedule that has the name already. Raises FoundError if it does anything else."""
    schedule = scheduler.get_schedule(Name=wanted.name)
    target = schedule["Target"]
    at = _instant(schedule["ScheduleExpression"], schedule.get("ScheduleExpressionTimezone", "UTC"))
    if (target["Arn"], target.get("Input"), at) != (deployment.work_queue_arn, body, wanted.at):
        raise FoundError(f"there is a schedule {wanted.name} that does something else; see it, or choose another time")
    return replace(wanted, state=schedule["State"], found=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _prefix(deployment: Deployment) -> str:
    """Of names, which hold 64 characters at most: no stack of another name, account or Region has the same."""
    return f"end-{deployment.name[:18]}-{_digest(deployment.work_queue_arn)[:8]}-"


def _instant(expression: str, zone: str) -> datetime | None:
    """When a schedule is due, if it is so once."""
    found = _AT.fullmatch(expression)
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) if found else None
    except (ValueError, ZoneInfoNotFoundError, OverflowError):
        return None


def _existing(scheduler: EventBridgeSchedulerClient, deployment: Deployment) -> list[tuple[datetime, str, Planned]]:
    """Schedules of this command, with their moment and the digest of what they send, as their names say. Nothing for
    those who may not list schedules: Scheduler itself refuses a name twice."""
    found = []
    try:
        for summary in _listed(scheduler, deployment, _prefix(deployment)):
            if name := _OURS.fullmatch(summary["Name"]):
                with suppress(ValueError):  # somebody else's name that looks like ours
                    at = datetime.strptime(name[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
                    one = Planned(_label(summary), iso(at), at, summary["State"], (), found=True)
                    found.append((at, name[2], one))
    except ClientError:
        return []
    return found


def _listed(
    scheduler: EventBridgeSchedulerClient, deployment: Deployment, prefix: str | None = None
) -> Iterator[ScheduleSummaryTypeDef]:
    """Of all groups, those that send to the work queue: never another program's, however its name looks."""
    paginator = scheduler.get_paginator("list_schedules")
    for page in paginator.paginate(NamePrefix=prefix) if prefix else paginator.paginate():
        for summary in page["Schedules"]:
            if summary.get("Target", {}).get("Arn") == deployment.work_queue_arn:
                yield summary


def _label(summary: ScheduleSummaryTypeDef) -> str:
    group = summary.get("GroupName", _DEFAULT)
    return summary["Name"] if group == _DEFAULT else f"{group}/{summary['Name']}"


def planned(scheduler: EventBridgeSchedulerClient, deployment: Deployment) -> list[Planned]:
    """All schedules of the account that send to the work queue, however they were made: those that are due once in the
    order of their times, then the others."""
    found = []
    for summary in _listed(scheduler, deployment):
        try:
            schedule = scheduler.get_schedule(Name=summary["Name"], GroupName=summary.get("GroupName", _DEFAULT))
        except ClientError as error:
            if code_of(error) == "ResourceNotFoundException":
                continue  # its time has come since it was listed
            raise
        zone = schedule.get("ScheduleExpressionTimezone", "UTC")
        at = _instant(schedule["ScheduleExpression"], zone)
        found.append(
            Planned(
                name=_label(summary),
                when=iso(at) if at else f"{schedule['ScheduleExpression']} {zone}",
                at=at,
                state=schedule["State"],
                session_ids=ids_in(schedule["Target"].get("Input", "")),
            )
        )
    return sorted(found, key=lambda one: (one.at is None, one.at or _NEVER, one.name))


def cancel(scheduler: EventBridgeSchedulerClient, deployment: Deployment, label: str) -> None:
    """Raises FoundError if there is none of this name that sends to the work queue, or if there are several."""
    parts = _LABEL.fullmatch(label)
    if parts is None:
        raise FoundError(f"{label!r} is no name of a schedule; see schedule list")
    group, name = parts.groups()
    found = [
        summary
        for summary in _listed(scheduler, deployment, name)
        if summary["Name"] == name and group in {None, summary.get("GroupName", _DEFAULT)}
    ]
    gone = f"there is no schedule {label} that sends to the work queue; it may have done so already"
    if not found:
        raise FoundError(gone)
    if len(found) > 1:
        labels = ", ".join(f"{summary.get('GroupName', _DEFAULT)}/{name}" for summary in found)
        raise FoundError(f"there are several schedules {label}: say which, {labels}")
    try:
        scheduler.delete_schedule(Name=name, GroupName=found[0].get("GroupName", _DEFAULT))
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        raise FoundError(gone) from None
