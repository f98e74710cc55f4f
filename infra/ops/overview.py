"""What `status` shows. Each part is read by itself, so that one that cannot be read does not hide the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.account import Account
from infra.ops.deployment import Deployment, mapping_of, resource_of
from infra.ops.depth import depth_of
from infra.ops.dlq import Peek, tally
from infra.ops.output import count
from infra.ops.problems import said
from infra.ops.switch import read_switch

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import DimensionTypeDef, MetricAlarmTypeDef

_SWEEPS = 3
# Dead letters that are read for their reasons: with more, `status` would be slow when there are many.
_SAMPLE = 50
# CloudWatch returns the oldest lines first. So the last minutes are read first, and more only if they hold too little.
_LOOK_BACK = [timedelta(minutes=15), timedelta(hours=2), timedelta(days=2)]
# Lines of one sweep lie no farther apart: it has 300 s.
_SWEEP_LASTS = timedelta(minutes=6)
_LOG_PAGES = 100
# Dimensions whose values belong to one stack alone.
_OWNED = ("QueueName", "FunctionName", "function_name", "RuleName")


@dataclass(frozen=True, slots=True)
class Overview:
    """Parts by name. What is wrong is in `wrong`, what could not be read in `unread`, by part; `blind` if none was."""

    parts: dict[str, Any]
    unread: dict[str, str]
    wrong: tuple[str, ...]
    blind: bool

    def as_dict(self) -> dict[str, Any]:
        return {**self.parts, "unread": self.unread, "wrong": list(self.wrong)}


def overview(
    account: Account, deployment: Deployment, now: datetime, warn: Callable[[str], object], command: str
) -> Overview:
    """Read all parts at the same time. `command` is how the user calls this program."""
    readers: dict[str, Callable[[], Any]] = {
        "stop_switch": lambda: read_switch(account.ssm, deployment.output("StopSwitchParameterName")).as_dict(),
        "work_queue": lambda: asdict(depth_of(account.sqs, deployment.work_queue_url)),
        "dead_letters": lambda: _dead_letters(account, deployment, warn),
        "event_source_mapping": lambda: _mapping(account, deployment),
        "alarms": lambda: _alarms(account, deployment),
        "sweeps": lambda: _sweeps(account, deployment, now),
        "oldest_message": lambda: _oldest(account, deployment, now),
    }
    for service in ("ssm", "sqs", "lambda_", "cloudwatch", "logs", "cloudformation"):
        getattr(account, service)  # a session must not make clients in several threads
    parts: dict[str, Any] = {
        "deployment": {
            "stack": deployment.name,
            "status": deployment.status,
            "at": deployment.changed_at.isoformat(timespec="seconds"),
            "dry_run": deployment.parameters.get("DryRun") == "true",
        }
    }
    unread: dict[str, str] = {}
    with ThreadPoolExecutor(len(readers)) as pool:
        for name, reading in {name: pool.submit(read) for name, read in readers.items()}.items():
            try:
                parts[name] = reading.result()
            except (ClientError, BotoCoreError) as error:
                parts[name], unread[name] = None, said(error)
    blind = readers.keys() - {"oldest_message"} <= unread.keys()
    age = parts.pop("oldest_message")
    if (work := parts["work_queue"]) is None:
        unread.pop("oldest_message", None)
    elif any(work.values()):
        work["oldest_seconds"] = age
    else:
        work["oldest_seconds"] = 0
        unread.pop("oldest_message", None)
    if (letters := parts["dead_letters"]) is not None and (why := letters.pop("unread", None)):
        unread["reasons"] = why  # those that may be counted need not be readable
    return Overview(parts, unread, tuple(_wrong(parts, command)), blind)


def _oldest(account: Account, deployment: Deployment, now: datetime) -> float | None:
    """SQS publishes the age as a metric only, minutes late; None where there is none."""
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


def _dead_letters(account: Account, deployment: Deployment, warn: Callable[[str], object]) -> dict[str, Any]:
    """How many there are, and the reasons of some."""
    found: dict[str, Any] = {"number": depth_of(account.sqs, deployment.dead_letter_queue_url).total}
    letters = []
    if found["number"]:
        try:
            with Peek(account.sqs, deployment.dead_letter_queue_url, warn) as look:
                letters = list(look.messages(_SAMPLE))
        except (ClientError, BotoCoreError) as error:
            found["unread"] = said(error)
    return found | {"reasons": tally(letters), "sample": len(letters)}


def _mapping(account: Account, deployment: Deployment) -> dict[str, Any]:
    mapping = mapping_of(account.lambda_, deployment)
    if mapping is None:
        return {"state": "missing"}
    return {"state": mapping.state, "last_result": mapping.last_result, "invokes": mapping.invokes}


def _alarms(account: Account, deployment: Deployment) -> list[dict[str, Any]]:
    """Those in ALARM of this stack: named after it, with a dimension of its own, because the name of another stack may
    begin with this one's."""
    mine = {value for name, value in deployment.outputs.items() if name.endswith("Name")}
    mine |= {url.rsplit("/", 1)[-1] for url in (deployment.work_queue_url, deployment.dead_letter_queue_url)}
    prefix, rule = f"{deployment.name}-", ""
    found = []
    pages = account.cloudwatch.get_paginator("describe_alarms").paginate(StateValue="ALARM", AlarmNamePrefix=prefix)
    for page in pages:
        for alarm in page.get("MetricAlarms", []):
            watched = {one["Name"]: one["Value"] for one in _dimensions(alarm)}
            if "RuleName" in watched and not rule:
                # CloudFormation chooses its name, and no output has it.
                rule = resource_of(account.cloudformation, deployment.name, "TerminateFunctionTerminationRequested")
                mine.add(rule)
            if alarm["AlarmName"].startswith(prefix) and any(watched.get(one) in mine for one in _OWNED):
                found.append({"name": alarm["AlarmName"], "why": alarm.get("StateReason", "")})
    return found


def _dimensions(alarm: MetricAlarmTypeDef) -> Iterator[DimensionTypeDef]:
    """Of its metric, or of those in its expression."""
    yield from alarm.get("Dimensions", [])
    for metric in alarm.get("Metrics", []):
        if "MetricStat" in metric:
            yield from metric["MetricStat"]["Metric"].get("Dimensions", [])


@dataclass(slots=True)
class _Sweep:
    """An invocation in the log: the time of its last line, and the summary of the line with the highest rank."""

    at: int
    rank: int
    summary: dict[str, Any]


def _sweeps(account: Account, deployment: Deployment, now: datetime) -> list[dict[str, Any]]:
    """The last few, the newest first: reports, and why there is none."""
    found: list[_Sweep] = []
    for length in _LOOK_BACK:
        start = now - length
        # Of a sweep that ended before the start, lines may be missing.
        sweeps = _sweeps_between(account, deployment, start - _SWEEP_LASTS, now)
        found = sorted((one for one in sweeps if one.at >= _milliseconds(start)), key=lambda one: -one.at)[:_SWEEPS]
        if len(found) == _SWEEPS:
            break
    return [one.summary for one in found]


def _sweeps_between(account: Account, deployment: Deployment, start: datetime, end: datetime) -> list[_Sweep]:
    found: dict[str, _Sweep] = {}
    for pattern in ('"sweep completed"', '"ERROR"', '"platform.report"'):
        pages = account.logs.get_paginator("filter_log_events").paginate(
            logGroupName=deployment.output("SweepLogGroupName"),
            filterPattern=pattern,
            startTime=_milliseconds(start),
            endTime=_milliseconds(end),
        )
        for page in islice(pages, _LOG_PAGES):
            for event in page["events"]:
                if (line := _line(event["message"])) is None:
                    continue
                request, rank, summary = line
                sweep = found.setdefault(request or event.get("eventId", event["message"]), _Sweep(0, -1, {}))
                sweep.at = max(sweep.at, event["timestamp"])
                if rank > sweep.rank:
                    sweep.rank, sweep.summary = rank, summary
    return [one for one in found.values() if one.summary]


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _line(message: str) -> tuple[str | None, int, dict[str, Any]] | None:
    """The request id of a line, its rank among the lines of one invocation, and its summary."""
    try:
        line = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    request, summary = line.get("function_request_id"), {"at": _iso(line.get("timestamp"))}
    if isinstance(report := line.get("report"), dict):
        keys = ("mode", "listed", "chosen", "enqueued", "announced", "why")
        return request, 3, summary | {key: report[key] for key in keys if key in report}
    if line.get("level") == "ERROR":
        # The function's own line is meant for people, that of Lambda's runtime is not.
        summary |= {"mode": "failed", "why": line.get("message")}
        return request or line.get("requestId"), 2 if request else 1, summary
    if line.get("type") == "platform.report" and isinstance(record := line.get("record"), dict):
        status = record.get("status")
        why = ": ".join(filter(None, (status, record.get("errorType"))))
        # A sweep that was killed writes no line of its own.
        summary = {} if status == "success" else {"at": _iso(line.get("time")), "mode": "killed", "why": why}
        return record.get("requestId"), 0, summary
    return None


def _iso(text: Any) -> Any:
    """Powertools writes `2026-11-30 03:00:25,522+0000`."""
    try:
        return datetime.fromisoformat(text).isoformat(timespec="seconds")
    except (TypeError, ValueError):
        return text


def _wrong(parts: dict[str, Any], command: str) -> list[str]:
    wrong = []
    if not parts["deployment"]["status"].endswith("_COMPLETE") or "ROLLBACK" in parts["deployment"]["status"]:
        wrong.append(f"the stack is {parts['deployment']['status']}")
    if (switch := parts["stop_switch"]) is not None and not switch["go"]:
        wrong.append(f"the stop switch is on: no session is ended before {command} go")
    if (letters := parts["dead_letters"]) is not None and letters["number"]:
        reasons = ", ".join(f"{number} {reason}" for reason, number in letters["reasons"].items())
        found = f"{count(letters['number'], 'dead letter')}{f' ({reasons})' if reasons else ''}"
        wrong.append(f"{found}; see: {command} dead-letters list")
    if (mapping := parts["event_source_mapping"]) is not None and mapping["state"] != "Enabled":
        wrong.append(f"the event source mapping is {mapping['state']}: the work queue is not processed")
    return wrong + [f"alarm {alarm['name']}: {alarm['why']}" for alarm in parts["alarms"] or ()]
