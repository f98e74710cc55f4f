"""What became of a session id: logs of the functions, dead letters, work queue and schedules, put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.ops.account import Account
from infra.ops.deployment import Deployment
from infra.ops.depth import depth_of
from infra.ops.dlq import Message, Peek
from infra.ops.problems import said
from infra.ops.schedules import planned
from infra.ops.time_args import iso

# Of a page CloudWatch promises nothing: it may be empty, with more behind it.
_LOG_PAGES = 300
_MOST_DEAD_LETTERS = 2000
# Looking at a message of the work queue counts as one of its five receives: only the first are looked at, and none that
# has few left.
_MOST_MESSAGES = 100
_MOST_RECEIVES = 3
_AGAIN = {"retry", "unauthorized", "forbidden"}
_DEAD_LETTERED = {"rejected", "invalid"}
_LISTS = {"due": "chose it", "to_announce": "chose it, to announce its end first", "waiting": "chose it, notice runs"}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the id. `source` is where the request came from, or who reports."""

    at: datetime
    what: str
    source: str = ""
    detail: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"at": iso(self.at), "what": self.what, "source": self.source, "detail": self.detail} | self.fields


@dataclass(frozen=True, slots=True)
class Explanation:
    """Events in their order, where the id is now in a word (`state`) and in a sentence, and what could not be read."""

    session_id: str
    events: list[Event]
    state: str
    now: str
    unread: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "events": [one.as_dict() for one in self.events],
            "state": self.state,
            "now": self.now,
            "unread": self.unread,
        }


def explain(
    account: Account,
    deployment: Deployment,
    session_id: str,
    *,
    since: datetime,
    now: datetime,
    warn: Callable[[str], object],
) -> Explanation:
    """Everything that is known of the id. The work queue is looked at only if the rest does not say where the id is."""
    unread: dict[str, str] = {}

    def read[T](name: str, reader: Callable[[], list[T]]) -> list[T]:
        try:
            return reader()
        except (ClientError, BotoCoreError) as error:
            unread[name] = said(error)
            return []

    def log(output: str, of_line: Callable[[datetime, dict[str, Any], str], Iterator[Event]]) -> list[Event]:
        group = deployment.output(output)
        return [
            event
            for at, line in _lines(account, group, session_id, since, now)
            for event in of_line(at, line, session_id)
        ]

    attempts = read("terminate's log", lambda: log("TerminateLogGroupName", _attempt))
    events = attempts + read("sweep's log", lambda: log("SweepLogGroupName", _sweep))
    letters = read(
        "dead letters", lambda: _find(account, deployment.dead_letter_queue_url, session_id, _MOST_DEAD_LETTERS, warn)
    )
    events += [
        Event(one.sent_at or now, "became a dead letter", "", f"{one.reason} {one.why}".strip()) for one in letters
    ]
    schedules = read(
        "schedules", lambda: [one for one in planned(account.scheduler, deployment) if session_id in one.session_ids]
    )
    attempts.sort(key=lambda one: one.at)
    last = attempts[-1].fields if attempts else {}
    state, sentence = _ended(last, attempts)
    if letters:
        state, sentence = (
            "dead letter",
            f"a dead letter: {letters[-1].reason}; devin-ops dead-letters show {session_id}",
        )
    elif state in {"unknown", "queued"}:
        queued = read(
            "work queue",
            lambda: _find(
                account, deployment.work_queue_url, session_id, _MOST_MESSAGES, warn, receives=_MOST_RECEIVES
            ),
        )
        events += [
            Event(one.sent_at or now, "sent to the work queue", one.attributes.get("source", "")) for one in queued
        ]
        if queued:
            state, sentence = (
                "queued",
                "in the work queue, and visible: it is processed next, unless the stack is stopped",
            )
        elif state == "unknown" and schedules:
            state, sentence = (
                "scheduled",
                "; ".join(f"the schedule {one.name} sends it: {one.when}" for one in schedules),
            )
        elif state == "unknown":
            waiting = read("queue depth", lambda: [depth_of(account.sqs, deployment.work_queue_url).total])
            more = f"; {waiting[0]} messages in the work queue, which may ask for it" if waiting and waiting[0] else ""
            sentence = f"nothing is known of it since {iso(since)}{more}"
    return Explanation(session_id, sorted(events, key=lambda one: int(one.at.timestamp())), state, sentence, unread)


def _ended(last: dict[str, Any], attempts: list[Event]) -> tuple[str, str]:
    """Where the id is, by the last attempt alone."""
    if not attempts:
        return "unknown", ""
    outcome, at = last.get("outcome"), attempts[-1].at
    if outcome in _AGAIN:
        again = at + timedelta(seconds=int(last.get("retry_in_seconds") or 0))
        return "queued", f"in the work queue; the next attempt is due about {iso(again)}"
    if outcome in _DEAD_LETTERED:
        return "gone", f"{outcome} at {iso(at)}, and no longer a dead letter: sent back, discarded, or expired"
    return "done", f"{outcome} at {iso(at)}"


def _lines(
    account: Account, group: str, session_id: str, since: datetime, now: datetime
) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Log lines that hold the id."""
    pages = account.logs.get_paginator("filter_log_events").paginate(
        logGroupName=group,
        filterPattern=f'"{session_id}"',
        startTime=int(since.timestamp() * 1000),
        endTime=int(now.timestamp() * 1000) + 60_000,
    )
    for page in islice(pages, _LOG_PAGES):
        for event in page["events"]:
            try:
                line = json.loads(event["message"])
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict):
                yield datetime.fromtimestamp(event["timestamp"] / 1000, UTC), line


def _attempt(at: datetime, line: dict[str, Any], session_id: str) -> Iterator[Event]:
    if line.get("session_id") != session_id or "outcome" not in line:
        return
    kept = ("outcome", "http_status", "attempts", "receive_count", "session_status", "retry_in_seconds", "message_id")
    fields = {name: line[name] for name in kept if name in line} | {"request_id": line.get("function_request_id")}
    parts = [
        f"HTTP {line['http_status']}" if "http_status" in line else "",
        f"session {line['session_status']}" if "session_status" in line else "",
        f"again in {line['retry_in_seconds']} s" if "retry_in_seconds" in line else "",
        str(line.get("detail", "")),
    ]
    detail = "; ".join(filter(None, parts))
    yield Event(
        at, f"attempt {line.get('attempts', 1)}: {line['outcome']}", str(line.get("source", "")), detail, fields
    )


def _sweep(at: datetime, line: dict[str, Any], session_id: str) -> Iterator[Event]:
    if line.get("session_id") == session_id:
        yield Event(at, str(line.get("message")), "sweep")
        return
    report = line.get("report")
    if not isinstance(report, dict):
        return
    for name, what in _LISTS.items():
        for one in report.get(name, ()):
            if one.get("session_id") == session_id:
                why = "; ".join(map(str, one.get("why", ())))
                yield Event(at, f"a sweep ({report.get('mode')}) {what}", "sweep", why)


def _find(
    account: Account,
    queue_url: str,
    session_id: str,
    most: int,
    warn: Callable[[str], object],
    *,
    receives: int | None = None,
) -> list[Message]:
    """Messages that ask for the id, up to the first that was received so often."""
    if not depth_of(account.sqs, queue_url).waiting:
        return []
    found = []
    with Peek(account.sqs, queue_url, warn) as look:
        for message in look.messages(most):
            if session_id in message.session_ids:
                found.append(message)
            if receives is not None and message.receive_count >= receives:
                break
    if not look.complete and not found:
        warn(f"not all messages of {queue_url.rsplit('/', 1)[-1]} were looked at")
    return found
