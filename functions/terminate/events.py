"""What comes in: any trigger's payload, read into requests to end one session each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from devin.session_id import InvalidSessionIdError, parse_session_id
from timestamps import parse_timestamp

_OWN_KEYS = {"session_id", "session_ids", "unless_updated_since"}
# Where an envelope keeps what it carries, and what else tells that it is one. In this order: EventBridge, SNS, the
# failure record of an asynchronous invocation, and what Scheduler leaves in a dead-letter queue, which is its request
# to SQS or Lambda.
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
_ENVELOPES = {
    "detail": None,
    "Message": "Type",
    "requestPayload": None,
    "MessageBody": "QueueUrl",
    "Payload": "FunctionName",
}
# A dead letter of a dead letter of an event is three deep; what is deeper than this is not one of ours.
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Request:
    """End this session, but not if it was updated later than `unless_updated_since`."""

    session_id: str
    unless_updated_since: datetime | None
    given: str


@dataclass(frozen=True, slots=True)
class InvalidItem:
    """Something that asks for nothing, or not unambiguously; `why` is for people. `given` stands where an id belongs,
    if it is only that which is unusable."""

    why: str
    given: object = None


Item = Request | InvalidItem


@dataclass(frozen=True, slots=True)
class Reading:
    """What a payload asks for. `body_for` makes a message body in the same shape that asks for some of it alone; what
    cannot be told apart in the payload is asked for by the body as it came. `tried_before`: how often others tried in
    vain, if an envelope says so."""

    items: tuple[Item, ...]
    body_for: Callable[[Sequence[Item]], str]
    tried_before: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery: what it asks for, where it came from, and how often it has.

    `attempts` counts the deliveries of what it asks for, this one included, also those before it was sent back as a
    message of its own. `receipt_handle` is None where no queue holds the message.
    """

    reading: Reading
    source: str
    attempts: int = 1
    receive_count: int | None = None
    message_id: str | None = None
    receipt_handle: str | None = None


def is_batch(event: object) -> bool:
    """Whether the event is a batch of SQS records, and nothing else: an id beside them would be overlooked."""
    if not isinstance(event, dict) or event.keys() != {"Records"} or not isinstance(records := event["Records"], list):
        return False
    return all(isinstance(record, dict) and record.get("eventSource") == "aws:sqs" for record in records)


def read_record(record: dict[str, Any]) -> Message:
    """One SQS record of a Lambda event. Raises KeyError or TypeError only if SQS itself sent something else."""
    attributes = record.get("messageAttributes") or {}
    reading = read_body(record["body"])
    receives = _count(record.get("attributes", {}).get("ApproximateReceiveCount")) or 1
    source = _attribute(attributes, "source")
    return Message(
        reading=reading,
        source=source if source in {"eventbridge", "direct"} else "sqs",
        attempts=receives + _count(_attribute(attributes, "attempts")) + reading.tried_before,
        receive_count=receives,
        message_id=record["messageId"],
        receipt_handle=record["receiptHandle"],
    )


def read_event(event: object) -> Message:
    """An EventBridge event, or the payload of a schedule or a direct invocation."""
    source = "eventbridge" if isinstance(event, dict) and "detail" in event else "direct"
    # As the body of a message, a number of 32 digits would be an id, which it is not here.
    body = {"session_id": event} if isinstance(event, int) and 10**31 <= event < 10**32 else event
    whole = _Shape(_dump, lambda: _dump(body))
    return Message(reading=_read(event, whole, 0), source=source)


def read_body(text: str) -> Reading:
    """The body of a queue message: a bare id, our own payload as JSON, or an envelope around one."""
    return _read_text(text, _Shape(str, lambda: text), 0)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The way back out of the envelopes that were read so far: `around` makes a whole body around another innermost
    value, `whole` the body as it came."""

    around: Callable[[Any], str]
    whole: Callable[[], str]

    def reading(self, *items: Item) -> Reading:
        return Reading(items, lambda _: self.whole())

    def unusable(self, why: str) -> Reading:
        return self.reading(InvalidItem(why))


def _read_text(text: str, shape: _Shape, depth: int) -> Reading:
    if not text.lstrip().startswith(("{", '"')):
        return shape.reading(_request(text, None))
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return shape.unusable("the body is neither a session id nor readable JSON (or it names a key twice)")
    return _read(value, _Shape(lambda inner: shape.around(_dump(inner)), shape.whole), depth)


def _read(value: object, shape: _Shape, depth: int) -> Reading:
    if isinstance(value, str):
        # An input path such as $.detail.session_id leaves the id as a JSON text.
        return shape.reading(_request(value, None))
    if not isinstance(value, dict):
        return shape.unusable("expected a JSON object")
    if depth > _MAX_DEPTH:
        return shape.unusable("too many envelopes inside each other")
    envelopes = [key for key in _ENVELOPES if key in value]
    if len(envelopes) > 1 or (envelopes and _OWN_KEYS & value.keys()):
        return shape.unusable("ambiguous: the shape of more than one kind of message")
    if not envelopes:
        return _read_own(value, shape)
    key = envelopes[0]
    inner, beside = value[key], _ENVELOPES[key]
    if beside is not None and beside not in value:
        return shape.unusable(f"unknown key; {key} belongs beside {beside}")
    if key == "Message" and value["Type"] != "Notification":
        return shape.unusable("of what SNS sends, only a Notification carries a message")
    around = _Shape(lambda other: shape.around({**value, key: other}), shape.whole)
    # Some envelopes hold text, SNS's always, and Scheduler may tell an event's detail as text.
    reading = _read_text(inner, around, depth + 1) if isinstance(inner, str) else _read(inner, around, depth + 1)
    return replace(reading, tried_before=reading.tried_before + _invocations(value))


def _invocations(envelope: dict[str, Any]) -> int:
    """How often Lambda invoked the function for what is in its failure record."""
    context = envelope.get("requestContext")
    count = context.get("approximateInvokeCount") if isinstance(context, dict) else None
    return count if isinstance(count, int) and 0 < count < 1000 else 0


def _read_own(payload: dict[str, Any], shape: _Shape) -> Reading:
    if payload.keys() - _OWN_KEYS:
        # A misspelt condition must not become no condition.
        return shape.unusable(f"unknown key; allowed are {', '.join(sorted(_OWN_KEYS))}")
    if ("session_id" in payload) == ("session_ids" in payload):
        return shape.unusable("expected either session_id or session_ids")
    since = None
    if "unless_updated_since" in payload:
        try:
            since = parse_timestamp(payload["unless_updated_since"])
        except (ValueError, TypeError):
            return shape.unusable("unless_updated_since is not an ISO 8601 date and time")
    if "session_id" in payload:
        return shape.reading(_request(payload["session_id"], since))
    given = payload["session_ids"]
    if not isinstance(given, list) or not given:
        return shape.unusable("session_ids is not a list of at least one session id")
    if len(given) == 1:
        return shape.reading(_request(given[0], since))
    # Unlike ids, what is no id may be of any type, and is compared by how it would be written.
    items: dict[tuple[bool, str], Item] = {}
    for one in given:
        item = _request(one, since)
        same = (True, item.session_id) if isinstance(item, Request) else (False, _dump(one))
        items.setdefault(same, item)
    return Reading(
        items=tuple(items.values()),
        body_for=lambda items: shape.around({**payload, "session_ids": [item.given for item in items]}),
    )


def _request(given: object, unless_updated_since: datetime | None) -> Item:
    try:
        return Request(parse_session_id(given), unless_updated_since, str(given))
    except InvalidSessionIdError as error:
        return InvalidItem(str(error), given)


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


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
