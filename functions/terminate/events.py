"""What comes in: any trigger's payload, read into requests to end one session each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from devin.session_id import InvalidSessionIdError, parse_session_id
from instant import parse_instant

_OWN_KEYS = {"session_id", "session_ids", "unless_updated_since"}
# A dead letter of a dead letter of an event is three deep; what is deeper than this is not one of ours.
_MAX_DEPTH = 8

Body = Callable[[], str]
"""Makes a message body that asks for this one id alone, in the shape in which it was asked for."""


@dataclass(frozen=True, slots=True)
class Request:
    """End this session, but not if it was updated later than `unless_updated_since`."""

    session_id: str
    unless_updated_since: datetime | None
    body: Body


@dataclass(frozen=True, slots=True)
class Unusable:
    """Something that asks for nothing, or not unambiguously; `why` is for people. `given` is the id as it came, if
    there was a text where one belongs."""

    why: str
    body: Body
    given: str | None = None


Item = Request | Unusable


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery: where it came from, how often it has, and what it asks for.

    `attempts` counts the deliveries of what it asks for, this one included, also those before it was sent back as a
    message of its own. `receipt_handle` is None where no queue holds the message.
    """

    items: tuple[Item, ...]
    source: str
    attempts: int = 1
    receive_count: int | None = None
    message_id: str | None = None
    receipt_handle: str | None = None


def is_batch(event: object) -> bool:
    """Whether the event is a batch of SQS records."""
    if not isinstance(event, dict) or not isinstance(records := event.get("Records"), list):
        return False
    return all(isinstance(record, dict) and record.get("eventSource") == "aws:sqs" for record in records)


def read_record(record: dict[str, Any]) -> Message:
    """One SQS record of a Lambda event. Raises KeyError or TypeError only if SQS itself sent something else."""
    attributes = record.get("messageAttributes") or {}
    receives = _count(record.get("attributes", {}).get("ApproximateReceiveCount")) or 1
    source = _attribute(attributes, "source")
    return Message(
        items=tuple(read_body(record["body"])),
        source=source if source in {"eventbridge", "direct"} else "sqs",
        attempts=receives + _count(_attribute(attributes, "attempts")),
        receive_count=receives,
        message_id=record["messageId"],
        receipt_handle=record["receiptHandle"],
    )


def read_event(event: object) -> Message:
    """An EventBridge event, or the payload of a schedule or a direct invocation."""
    source = "eventbridge" if isinstance(event, dict) and "detail" in event else "direct"
    return Message(items=tuple(_read(event, _dump, partial(_dump, event), 0)), source=source)


def read_body(text: str) -> list[Item]:
    """The body of a queue message: a bare id, our own payload as JSON, or an envelope around one."""
    return _read_text(text, _identity, lambda: text, 0)


# Reading goes inwards through the envelopes. `wrap` leads back out: it makes the whole body around another innermost
# value. `whole` makes the body as it came.


def _read_text(text: str, wrap: Callable[[str], str], whole: Body, depth: int) -> list[Item]:
    try:
        return [Request(parse_session_id(text), None, whole)]
    except InvalidSessionIdError as error:
        if not text.lstrip().startswith(("{", '"')):
            return [Unusable(str(error), whole)]
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return [Unusable("the body is neither a session id nor readable JSON (or it names a key twice)", whole)]
    return _read(value, lambda inner: wrap(_dump(inner)), whole, depth)


def _read(value: object, wrap: Callable[[Any], str], whole: Body, depth: int) -> list[Item]:
    if isinstance(value, str):
        # An input path such as $.detail.session_id leaves the id as a JSON text.
        return [_request(value, None, whole)]
    if not isinstance(value, dict):
        return [Unusable("expected a JSON object", whole)]
    if depth > _MAX_DEPTH:
        return [Unusable("too many envelopes inside each other", whole)]
    envelopes = [key for key in ("detail", "requestPayload", "Message") if key in value]
    if len(envelopes) > 1 or (envelopes and _OWN_KEYS & value.keys()):
        return [Unusable("ambiguous: the shape of more than one kind of message", whole)]
    if not envelopes:
        return _read_own(value, wrap, whole)
    key = envelopes[0]
    inner = value[key]
    if key == "Message" and not (value.get("Type") == "Notification" and isinstance(inner, str)):
        return [Unusable("an SNS envelope has the Type Notification and a text as its Message", whole)]
    if isinstance(inner, str):
        # SNS always, and Scheduler may: https://github.com/cloud-custodian/cloud-custodian handles detail as text too.
        return _read_text(inner, lambda text: wrap({**value, key: text}), whole, depth + 1)
    return _read(inner, lambda other: wrap({**value, key: other}), whole, depth + 1)


def _read_own(payload: dict[str, Any], wrap: Callable[[Any], str], whole: Body) -> list[Item]:
    unknown = payload.keys() - _OWN_KEYS
    if unknown:
        # A misspelt condition must not become no condition.
        return [Unusable(f"unknown key; allowed are {', '.join(sorted(_OWN_KEYS))}", whole)]
    if ("session_id" in payload) == ("session_ids" in payload):
        return [Unusable("expected either session_id or session_ids", whole)]
    unless_updated_since = None
    if "unless_updated_since" in payload:
        try:
            unless_updated_since = parse_instant(payload["unless_updated_since"])
        except (ValueError, TypeError):
            return [Unusable("unless_updated_since is not an ISO 8601 date and time", whole)]
    if "session_id" in payload:
        return [_request(payload["session_id"], unless_updated_since, whole)]
    given = payload["session_ids"]
    if not isinstance(given, list) or not given:
        return [Unusable("session_ids is not a list of at least one session id", whole)]
    if len(given) == 1:
        return [_request(given[0], unless_updated_since, whole)]
    items: dict[object, Item] = {}
    for one in given:
        item = _request(one, unless_updated_since, lambda one=one: wrap({**payload, "session_ids": [one]}))  # type: ignore[misc]
        items.setdefault(item.session_id if isinstance(item, Request) else (repr(one),), item)
    return list(items.values())


def _request(given: object, unless_updated_since: datetime | None, body: Body) -> Item:
    try:
        return Request(parse_session_id(given), unless_updated_since, body)
    except InvalidSessionIdError as error:
        return Unusable(str(error), body, given if isinstance(given, str) else None)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return fields


def _attribute(attributes: dict[str, Any], name: str) -> str | None:
    value = (attributes.get(name) or {}).get("stringValue")
    return value if isinstance(value, str) else None


def _count(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 7 else 0


def _identity(text: str) -> str:
    return text


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
