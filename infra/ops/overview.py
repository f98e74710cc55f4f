"""What `status` shows: each part is asked for on its own, so that one that cannot be read does not hide the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.account import Account
from infra.ops.deployment import Deployment
from infra.ops.depth import depth_of
from infra.ops.letters import Look, tally
from infra.ops.mapping import mapping_of
from infra.ops.output import count
from infra.ops.problems import said
from infra.ops.switch import read_switch

_LOG_PAGES = 20
_SWEEPS = 3
_LOOK_BACK = timedelta(days=2)
# Of the functions' own metrics.
_NAMESPACE = "DevinSessionCleanup"


@dataclass(frozen=True, slots=True)
class Overview:
    """Parts by name. What is wrong is in `wrong`, what could not be read in `unread`, by part."""

    parts: dict[str, Any]
    unread: dict[str, str]
    wrong: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**self.parts, "unread": self.unread, "wrong": list(self.wrong)}


def overview(account: Account, deployment: Deployment, now: datetime, *, sample: int) -> Overview:
    """Ask for everything; `sample` is how many dead letters are looked at for their reasons."""
    parts: dict[str, Any] = {}
    unread: dict[str, str] = {}
    readers: dict[str, Callable[[], Any]] = {
        "stop_switch": lambda: read_switch(account.ssm, deployment.output("StopSwitchParameterName")).as_dict(),
        "work_queue": lambda: _work_queue(account, deployment, now),
        "dead_letters": lambda: _dead_letters(account, deployment, sample),
        "event_source_mapping": lambda: _mapping(account, deployment),
        "alarms": lambda: _alarms(account, deployment),
        "sweeps": lambda: _sweeps(account, deployment, now),
    }
    parts["deployment"] = {
        "stack": deployment.name,
        "status": deployment.status,
        "at": deployment.changed_at.isoformat(timespec="seconds"),
    }
    for name, read in readers.items():
        try:
            parts[name] = read()
        except (ClientError, BotoCoreError) as error:
            parts[name], unread[name] = None, said(error)
    return Overview(parts, unread, tuple(_wrong(parts)))


def _work_queue(account: Account, deployment: Deployment, now: datetime) -> dict[str, Any]:
    depth = depth_of(account.sqs, deployment.work_queue_url)
    return depth.as_dict() | {"oldest_seconds": _oldest(account, deployment, now) if depth.total else 0}


def _oldest(account: Account, deployment: Deployment, now: datetime) -> float | None:
    """SQS tells the age as a metric alone, minutes late; None where there is none."""
    answer = account.cloudwatch.get_metric_statistics(
        Namespace="AWS/SQS",
        MetricName="ApproximateAgeOfOldestMessage",
        Dimensions=[{"Name": "QueueName", "Value": deployment.work_queue_url.rsplit("/", 1)[-1]}],
        StartTime=now - timedelta(minutes=15),
        EndTime=now,
        Period=60,
        Statistics=["Maximum"],
    )
    points = sorted(answer.get("Datapoints", []), key=lambda point: point["Timestamp"])
    return points[-1]["Maximum"] if points else None


def _dead_letters(account: Account, deployment: Deployment, sample: int) -> dict[str, Any]:
    depth = depth_of(account.sqs, deployment.dead_letter_queue_url)
    if not depth.total:
        return {"number": 0, "reasons": {}, "sample": 0}
    with Look(account.sqs, deployment.dead_letter_queue_url) as look:
        letters = list(look.letters(sample)) if depth.waiting and sample else []
    return {"number": depth.total, "reasons": tally(letters), "sample": len(letters)}


def _mapping(account: Account, deployment: Deployment) -> dict[str, Any]:
    mapping = mapping_of(account.lambda_, deployment)
    if mapping is None:
        return {"state": "missing"}
    return {"state": mapping.state, "last_result": mapping.last_result, "invokes": mapping.invokes}


def _alarms(account: Account, deployment: Deployment) -> list[dict[str, Any]]:
    """Those in ALARM that are the stack's, by their name, their namespace or what they watch."""
    mine = {value for name, value in deployment.outputs.items() if name.endswith("Name")}
    mine |= {url.rsplit("/", 1)[-1] for url in (deployment.work_queue_url, deployment.dead_letter_queue_url)}
    found = []
    for page in account.cloudwatch.get_paginator("describe_alarms").paginate(StateValue="ALARM"):
        for alarm in page.get("MetricAlarms", []):
            watched = {dimension["Value"] for dimension in alarm.get("Dimensions", [])}
            named = alarm["AlarmName"].startswith(deployment.name)
            if named or watched & mine or alarm.get("Namespace") == _NAMESPACE:
                found.append({"name": alarm["AlarmName"], "why": alarm.get("StateReason", "")})
    return found


def _sweeps(account: Account, deployment: Deployment, now: datetime) -> list[dict[str, Any]]:
    """The last few, the newest first: reports, and the errors of those that have none."""
    entries: list[tuple[int, dict[str, Any]]] = []
    for pattern in ('"sweep completed"', '"ERROR"'):
        pages = account.logs.get_paginator("filter_log_events").paginate(
            logGroupName=deployment.output("SweepLogGroupName"),
            filterPattern=pattern,
            startTime=int((now - _LOOK_BACK).timestamp() * 1000),
        )
        for page in islice(pages, _LOG_PAGES):
            for event in page["events"]:
                if (entry := _entry(event["message"])) is not None:
                    entries.append((event["timestamp"], entry))  # noqa: PERF401 - a walrus inside reads worse
    entries.sort(key=lambda one: one[0], reverse=True)
    return [entry for _, entry in entries[:_SWEEPS]]


def _entry(message: str) -> dict[str, Any] | None:
    try:
        line = json.loads(message)
    except ValueError:
        return None
    if not isinstance(line, dict):
        return None
    told = {"at": line.get("timestamp")}
    if isinstance(report := line.get("report"), dict):
        keys = ("mode", "listed", "chosen", "enqueued", "announced", "why")
        return told | {key: report[key] for key in keys if key in report}
    if line.get("level") != "ERROR" or line.get("refused") == "CapExceededError":
        return None  # a cap's refusal has a report
    return told | {"mode": "failed", "why": line.get("message")}


def _wrong(parts: dict[str, Any]) -> list[str]:
    wrong = []
    if not parts["deployment"]["status"].endswith("_COMPLETE") or "ROLLBACK" in parts["deployment"]["status"]:
        wrong.append(f"the stack is {parts['deployment']['status']}")
    if (switch := parts["stop_switch"]) is not None and not switch["go"]:
        wrong.append("the stop switch is on: nothing is ended")
    if (letters := parts["dead_letters"]) is not None and letters["number"]:
        wrong.append(
            f"{count(letters['number'], 'dead letter')}: sessions that still run, or messages that say nothing"
        )
    if (mapping := parts["event_source_mapping"]) is not None and mapping["state"] != "Enabled":
        wrong.append(f"the event source mapping is {mapping['state']}: the work queue is not read")
    return wrong + [f"alarm {alarm['name']}: {alarm['why']}" for alarm in parts["alarms"] or ()]
