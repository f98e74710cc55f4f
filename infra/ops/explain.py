"""What happened to a session id, from the functions' logs, the dead letters, the work queue and the schedules."""

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

# A page of CloudWatch may be empty, with more behind it.
_LOG_PAGES = 300
_MOST_DEAD_LETTERS = 2000
# Looking at a message of the work queue counts as one of its five receives: only the first are looked at, and none that
# has few left.
_MOST_MESSAGES = 100
_MOST_RECEIVES = 3
_KEPT = ("outcome", "http_status", "attempts", "receive_count", "session_status", "retry_in_seconds", "message_id")
_DETAILS = {
    "http_status": "HTTP {}",
    "session_status": "session {}",
    "retry_in_seconds": "again in {} s",
    "detail": "{}",
}
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


@dataclass(slots=True)
class Explainer:
    """Collects what is known of an id: events in their order, where it is now in a word (`state`) and in a sentence
    (`sentence`), and what may not be read."""

    account: Account
    deployment: Deployment
    session_id: str
    since: datetime
    now: datetime
    warn: Callable[[str], object]
    command: str
    events: list[Event] = field(default_factory=list)
    state: str = "unknown"
    sentence: str = ""
    unread: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        events = [one.as_dict() for one in self.events]
        about = {"session_id": self.session_id, "state": self.state, "now": self.sentence, "unread": self.unread}
        return {"events": events} | about

    def explain(self) -> None:
        """The work queue is looked at only if the rest does not say where the id is."""
        work_queue, dead_letter_queue = self.deployment.work_queue_url, self.deployment.dead_letter_queue_url
        attempts = self._read("terminate's log", lambda: self._log("TerminateLogGroupName", self._attempt))
        attempts.sort(key=lambda one: one.at)
        # Before the attempts, for those of the same second.
        self.events = self._read("sweep's log", lambda: self._log("SweepLogGroupName", self._sweep)) + attempts
        letters = self._read("dead letters", lambda: self._find(dead_letter_queue, _MOST_DEAD_LETTERS))
        for one in letters:
            self._add(one, "became a dead letter", detail=f"{one.reason} {one.why}".strip())
        self.state, self.sentence = self._ended(attempts)
        if letters:
            self.state = "dead letter"
            show = f"{self.command} dead-letters show {self.session_id}"
            self.sentence = f"a dead letter: {letters[-1].reason}; {show}"
        elif self.state in {"unknown", "queued"}:
            queued = self._read("work queue", lambda: self._find(work_queue, _MOST_MESSAGES, receives=_MOST_RECEIVES))
            for one in queued:
                self._add(one, "sent to the work queue", source=one.attributes.get("source", ""))
            if queued:
                self.state = "queued"
                self.sentence = "in the work queue, and visible: it is processed next, unless the stack is stopped"
            elif self.state == "unknown":
                self.state, self.sentence = self._not_seen()
        self.events.sort(key=lambda one: int(one.at.timestamp()))

    def _add(self, message: Message, what: str, source: str = "", detail: str = "") -> None:
        self.events.append(Event(message.sent_at or self.now, what, source, detail))

    def _read[T](self, name: str, reader: Callable[[], list[T]]) -> list[T]:
        try:
            return reader()
        except (ClientError, BotoCoreError) as error:
            self.unread[name] = said(error)
            return []

    def _ended(self, attempts: list[Event]) -> tuple[str, str]:
        """Where the id is, by the last attempt alone."""
        if not attempts:
            return "unknown", ""
        last, at = attempts[-1].fields, attempts[-1].at
        match last["outcome"]:
            case "retry" | "unauthorized" | "forbidden":
                again = at + timedelta(seconds=int(last.get("retry_in_seconds") or 0))
                return "queued", f"in the work queue; the next attempt is due about {iso(again)}"
            case "rejected" | "invalid" as outcome:
                return "gone", f"{outcome} at {iso(at)}, and no longer a dead letter: sent back, discarded, or expired"
            case outcome:
                return "done", f"{outcome} at {iso(at)}"

    def _not_seen(self) -> tuple[str, str]:
        """Neither logs nor queues hold the id."""
        schedules = self._read("schedules", lambda: planned(self.account.scheduler, self.deployment))
        if ours := [one for one in schedules if self.session_id in one.session_ids]:
            return "scheduled", "; ".join(f"the schedule {one.name} sends it: {one.when}" for one in ours)
        queue_url = self.deployment.work_queue_url
        waiting = sum(self._read("queue depth", lambda: [depth_of(self.account.sqs, queue_url).total]))
        more = f"; {waiting} messages in the work queue, which may ask for it" if waiting else ""
        if self.events and all(one.what.startswith("a sweep (dry_run)") for one in self.events):
            return "chosen", f"a dry sweep chose it, which sends nothing; nothing else is known of it{more}"
        return "unknown", f"nothing is known of it since {iso(self.since)}{more}"

    def _log(self, output: str, of_line: Callable[[datetime, dict[str, Any]], Iterator[Event]]) -> list[Event]:
        """Events from the log lines that hold the id."""
        pages = self.account.logs.get_paginator("filter_log_events").paginate(
            logGroupName=self.deployment.output(output),
            filterPattern=f'"{self.session_id}"',
            startTime=int(self.since.timestamp() * 1000),
            endTime=int(self.now.timestamp() * 1000) + 60_000,
        )
        found: list[Event] = []
        for event in (event for page in islice(pages, _LOG_PAGES) for event in page["events"]):
            try:
                line = json.loads(event["message"])
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict):
                found += of_line(datetime.fromtimestamp(event["timestamp"] / 1000, UTC), line)
        return found

    def _attempt(self, at: datetime, line: dict[str, Any]) -> Iterator[Event]:
        if line.get("session_id") != self.session_id or "outcome" not in line:
            return
        fields = {name: line[name] for name in _KEPT if name in line} | {"request_id": line.get("function_request_id")}
        detail = "; ".join(text.format(line[name]) for name, text in _DETAILS.items() if line.get(name))
        what = f"attempt {line.get('attempts', 1)}: {line['outcome']}"
        yield Event(at, what, str(line.get("source", "")), detail, fields)

    def _sweep(self, at: datetime, line: dict[str, Any]) -> Iterator[Event]:
        if line.get("session_id") == self.session_id:
            yield Event(at, str(line.get("message")), "sweep")
        elif isinstance(report := line.get("report"), dict):
            for name, what in _LISTS.items():
                for one in report.get(name, ()):
                    if one.get("session_id") == self.session_id:
                        why = "; ".join(map(str, one.get("why", ())))
                        yield Event(at, f"a sweep ({report.get('mode')}) {what}", "sweep", why)

    def _find(self, queue_url: str, most: int, receives: int | None = None) -> list[Message]:
        """Messages that ask for the id, up to the first that was received so often."""
        found = []
        with Peek(self.account.sqs, queue_url, self.warn) as look:
            for message in look.messages(most):
                if self.session_id in message.session_ids:
                    found.append(message)
                if receives is not None and message.receive_count >= receives:
                    break
        if not found and (look.unseen or not look.complete):
            self.warn(f"not all messages of {queue_url.rsplit('/', 1)[-1]} were looked at")
        return found
