"""What `status` shows. Each part is read by itself, so that one that cannot be read does not hide the others."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.account import Account
from infra.ops.deployment import Deployment, mapping_of
from infra.ops.depth import depth_of
from infra.ops.dlq import Peek, tally
from infra.ops.output import count
from infra.ops.problems import said
from infra.ops.switch import read_switch
from infra.ops.time_args import iso

_SWEEPS = 3
_LOOK_BACK = timedelta(days=2)
# Dead letters that are read for their reasons: with more, `status` would be slow when there are many.
_SAMPLE = 50
# The name of another stack may begin with this one's, so that a prefix would find its alarms too.
ALARMS = (
    "dead-letters",
    "destination-failures",
    "errors",
    "events-lost",
    "forbidden",
    "new-dead-letters",
    "not-called",
    "oldest-message",
    "recursion",
    "schedules-dropped",
    "stopped",
    "sweep-errors",
    "sweep-missing",
    "sweep-stopped",
    "throttles",
    "unauthorized",
    "unexpected-errors",
)


class Overview:
    """`parts` by name, None if one could not be read: `unread` says why. `blind` if none could. `command` is how the
    user calls this program."""

    def __init__(
        self, account: Account, deployment: Deployment, now: datetime, warn: Callable[[str], object], command: str
    ) -> None:
        self._account = account
        self._deployment = deployment
        self._now = now
        self._warn = warn
        self._command = command
        self.unread: dict[str, str] = {}
        readers: dict[str, Callable[[], Any]] = {
            "stop_switch": self._switch,
            "work_queue": self._work_queue,
            "dead_letters": self._dead_letters,
            "event_source_mapping": self._mapping,
            "alarms": self._alarms,
            "sweeps": self._sweeps,
        }
        for service in ("ssm", "sqs", "lambda_", "cloudwatch", "logs"):
            getattr(account, service)  # a session must not make clients in several threads
        with ThreadPoolExecutor(len(readers)) as pool:
            found = pool.map(self._read, readers, readers.values())
        self.blind = readers.keys() <= self.unread.keys()
        self.parts: dict[str, Any] = {
            "deployment": {
                "stack": deployment.name,
                "status": deployment.status,
                "at": iso(deployment.changed_at),
                "dry_run": deployment.parameters.get("DryRun") == "true",
            },
            **dict(zip(readers, found, strict=True)),
        }

    def as_dict(self) -> dict[str, Any]:
        return {**self.parts, "unread": self.unread, "wrong": self.wrong}

    @property
    def wrong(self) -> list[str]:
        parts, wrong = self.parts, []
        if not parts["deployment"]["status"].endswith("_COMPLETE") or "ROLLBACK" in parts["deployment"]["status"]:
            wrong.append(f"the stack is {parts['deployment']['status']}")
        if (switch := parts["stop_switch"]) is not None and not switch["go"]:
            wrong.append(f"the stop switch is on: no session is ended before {self._command} go")
        if (letters := parts["dead_letters"]) is not None and letters["number"]:
            wrong.append(f"{count(letters['number'], 'dead letter')}; see: {self._command} dead-letters list")
        if (mapping := parts["event_source_mapping"]) is not None and mapping["state"] != "Enabled":
            wrong.append(f"the event source mapping is {mapping['state']}: the work queue is not processed")
        wrong += [f"alarm {alarm['name']}: {alarm['why']}" for alarm in parts["alarms"] or ()]
        # An alarm that could not be read may be in ALARM.
        return [*wrong, "not all could be read"] if self.unread else wrong

    def _read[T](self, name: str, reader: Callable[[], T]) -> T | None:
        try:
            return reader()
        except (ClientError, BotoCoreError) as error:
            self.unread[name] = said(error)
            return None

    def _switch(self) -> dict[str, object]:
        return read_switch(self._account.ssm, self._deployment.output("StopSwitchParameterName")).as_dict()

    def _work_queue(self) -> dict[str, Any]:
        depth = depth_of(self._account.sqs, self._deployment.work_queue_url)
        age = self._read("oldest_message", self._oldest) if depth.total else 0
        return {**asdict(depth), "oldest_seconds": age}

    def _oldest(self) -> float | None:
        """SQS publishes the age as a metric only, minutes late; None where there is none."""
        answer = self._account.cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": self._deployment.work_queue_url.rsplit("/", 1)[-1]}],
            StartTime=self._now - timedelta(minutes=15),
            EndTime=self._now,
            Period=60,
            Statistics=["Maximum"],
        )
        newest = max(answer["Datapoints"], key=lambda point: point["Timestamp"], default=None)
        return newest["Maximum"] if newest else None

    def _dead_letters(self) -> dict[str, Any]:
        """How many there are, and the reasons of some: those that may be counted need not be readable."""
        queue_url = self._deployment.dead_letter_queue_url
        number = depth_of(self._account.sqs, queue_url).total

        def sample() -> Any:
            with Peek(self._account.sqs, queue_url, self._warn) as look:
                return list(look.messages(_SAMPLE))

        letters = (self._read("reasons", sample) if number else None) or []
        return {"number": number, "reasons": tally(letters), "sample": len(letters)}

    def _mapping(self) -> dict[str, Any]:
        if (mapping := mapping_of(self._account.lambda_, self._deployment)) is None:
            return {"state": "missing"}
        return {"state": mapping["State"], "last_result": mapping.get("LastProcessingResult")}

    def _alarms(self) -> list[dict[str, Any]]:
        names = [f"{self._deployment.name}-{name}" for name in ALARMS]
        alarms = self._account.cloudwatch.describe_alarms(AlarmNames=names, StateValue="ALARM")["MetricAlarms"]
        return [{"name": one["AlarmName"], "why": one.get("StateReason", "")} for one in alarms]

    def _sweeps(self) -> list[dict[str, Any]]:
        """The last few, the newest first: reports, and why there is none."""
        found: dict[str, dict[str, Any]] = {}
        # Of the lines of one sweep, the one that says most comes last and takes the place of the others.
        for pattern in ('"platform.report"', '"ERROR"', '"sweep completed"'):
            pages = self._account.logs.get_paginator("filter_log_events").paginate(
                logGroupName=self._deployment.output("SweepLogGroupName"),
                filterPattern=pattern,
                startTime=int((self._now - _LOOK_BACK).timestamp() * 1000),
                endTime=int(self._now.timestamp() * 1000),
            )
            for event in (event for page in pages for event in page["events"]):
                if summary := _summary(event["message"]):
                    request, fields = summary
                    found[request] = {"at": iso(datetime.fromtimestamp(event["timestamp"] / 1000, UTC)), **fields}
        return sorted(found.values(), key=lambda one: one["at"], reverse=True)[:_SWEEPS]


def _summary(message: str) -> tuple[str, dict[str, Any]] | None:
    """The request that a line is about, and what it says of the sweep."""
    try:
        line = json.loads(message)
    except (ValueError, RecursionError):
        return None
    match line:
        case {"function_request_id": request, "report": dict(report)}:
            keys = ("mode", "listed", "chosen", "enqueued", "announced", "why")
            return request, {key: report[key] for key in keys if key in report}
        case {"function_request_id": request, "level": "ERROR", "message": why}:
            return request, {"mode": "failed", "why": why}
        case {"type": "platform.report", "record": {"requestId": request, "status": status} as record}:
            # A sweep that was killed writes no line of its own.
            why = ": ".join(filter(None, (status, record.get("errorType"))))
            return None if status == "success" else (request, {"mode": "killed", "why": why})
        case _:
            return None
