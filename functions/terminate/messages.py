"""What comes in: the payload of any trigger, parsed into requests for one session each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from devin.session_id import InvalidSessionIdError, parse_session_id
from timestamps import parse_condition

_OWN_KEYS = {"session_id", "session_ids", "action", "unless_updated_since"}
# Where an envelope keeps its content, and which key beside it marks it as one: EventBridge, SNS, the failure record of
# an asynchronous invocation, and what Scheduler leaves in a dead-letter queue (its request to SQS or Lambda).
# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
_ENVELOPES = {
    "detail": None,
    "Message": "Type",
    "requestPayload": None,
    "MessageBody": "QueueUrl",
    "Payload": "FunctionName",
}
# A dead letter of a dead letter of an event is three deep.
_MAX_DEPTH = 8


class Action(StrEnum):
    """What is asked for. Archiving can be undone, terminating cannot."""

    TERMINATE = "terminate"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A message body that items came from, and how to rebuild it for some of them.

    `raw` is the body as it came. `payload` is our own payload with `session_ids` in it, None where the items cannot be
    told apart; `envelopes` are around it, outermost first, each with its key. `attempts`: how often Lambda invoked the
    function in vain, if envelopes say.
    """

    raw: str
    envelopes: tuple[tuple[Mapping[str, Any], str], ...] = ()
    payload: Mapping[str, Any] | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """End or archive this session, but not if it was updated later than `unless_updated_since`. `raw` is the id as it
    came."""

    session_id: str
    action: Action
    unless_updated_since: datetime | None
    raw: str
    body: Body


@dataclass(frozen=True, slots=True)
class InvalidItem:
    """Something that asks for nothing, or not unambiguously; `why` is for people. `raw` is what stands in place of an
    id, if only that is invalid."""

    why: str
    body: Body
    raw: object = None


Item = Request | InvalidItem


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery: what it asks for, where it came from, and how often.

    `attempts` counts the deliveries of what it asks for, this one included, also those before it was requeued as a
    message of its own. `receipt_handle` is empty where no queue holds the message. `sweep_run` is the sweep's id.
    """

    items: tuple[Item, ...]
    source: str
    attempts: int = 1
    receive_count: int | None = None
    message_id: str | None = None
    receipt_handle: str = ""
    sweep_run: str | None = None


def is_batch(event: object) -> bool:
    """Whether the event is a batch of SQS records. AWS may add keys beside `Records`; an id there is another request,
    which would be overlooked."""
    if not isinstance(event, dict) or not isinstance(records := event.get("Records"), list):
        return False
    if event.keys() & (_OWN_KEYS | _ENVELOPES.keys()):
        return False
    return all(isinstance(record, dict) and record.get("eventSource") == "aws:sqs" for record in records)


def parse_record(record: Mapping[str, Any]) -> Message:
    """One SQS record of a Lambda event. Raises KeyError or TypeError only if SQS itself sent something else."""
    attributes = record.get("messageAttributes") or {}
    items = parse_body(record["body"])
    attempts_before = max((item.body.attempts for item in items), default=0)
    receives = _count(record.get("attributes", {}).get("ApproximateReceiveCount")) or 1
    source = _attribute(attributes, "source")
    return Message(
        items=items,
        source=source if source in {"eventbridge", "direct", "sweep"} else "sqs",
        attempts=receives + _count(_attribute(attributes, "attempts")) + attempts_before,
        receive_count=receives,
        message_id=record["messageId"],
        receipt_handle=record["receiptHandle"],
        sweep_run=_attribute(attributes, "sweep_run"),
    )


def parse_event(event: object) -> Message:
    """An EventBridge event, or the payload of a schedule or a direct invocation."""
    source = "eventbridge" if isinstance(event, dict) and "detail" in event else "direct"
    # As the body of a message, a number of 32 digits would be an id, which it is not here.
    raw = {"session_id": event} if isinstance(event, int) and 10**31 <= event < 10**32 else event
    return Message(items=_parse(event, Body(_dump(raw))), source=source)


def parse_body(text: str, body: Body | None = None) -> tuple[Item, ...]:
    """A bare id, our own payload as JSON, or an envelope around one. `body` is around the text, if anything is."""
    body = body or Body(text)
    if not text.lstrip().startswith(("{", '"')):
        return (_item(text, body),)
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return (InvalidItem("the body is neither a session id nor readable JSON (or a key stands twice in it)", body),)
    return _parse(value, body)


def rebuild_body(items: Sequence[Item]) -> str:
    """A body, in the shape they came in, that asks for these items of one body alone; where they cannot be told apart,
    the body as it came."""
    body = items[0].body
    if body.payload is None:
        return body.raw
    inner: Any = {**body.payload, "session_ids": [item.raw for item in items]}
    for envelope, key in reversed(body.envelopes):
        inner = {**envelope, key: _dump(inner) if isinstance(envelope[key], str) else inner}
    return _dump(inner)


def _parse(value: object, body: Body) -> tuple[Item, ...]:
    if isinstance(value, str):
        # An input path such as $.detail.session_id leaves the id as a JSON text.
        return (_item(value, body),)
    if not isinstance(value, dict):
        return (InvalidItem("expected a JSON object", body),)
    if len(body.envelopes) > _MAX_DEPTH:
        return (InvalidItem("too many envelopes inside each other", body),)
    found = [key for key in _ENVELOPES if key in value]
    if len(found) > 1 or (found and _OWN_KEYS & value.keys()):
        return (InvalidItem("ambiguous: the shape of more than one kind of message", body),)
    return _parse_envelope(value, found[0], body) if found else _parse_own(value, body)


def _parse_envelope(value: Mapping[str, Any], key: str, body: Body) -> tuple[Item, ...]:
    inner, beside = value[key], _ENVELOPES[key]
    if beside is not None and beside not in value:
        return (InvalidItem(f"unknown key; {key} belongs beside {beside}", body),)
    if key == "Message" and value["Type"] != "Notification":
        return (InvalidItem("of what SNS sends, only a Notification carries a message", body),)
    context = value.get("requestContext")
    context = context if isinstance(context, dict) else {}
    if key == "requestPayload" and str(context.get("condition")).lower() == "success":
        return (InvalidItem("the record of an invocation that succeeded asks for nothing", body),)
    count = context.get("approximateInvokeCount")
    attempts = body.attempts + (count if isinstance(count, int) and 0 < count < 1000 else 0)
    if key == "requestPayload" and is_batch(inner):
        # A batch that Lambda dropped because of its recursive-loop detection: each record's body becomes a message.
        items: list[Item] = []
        for record in inner["Records"]:
            text = record["body"] if isinstance(record.get("body"), str) else _dump(record)
            items += parse_body(text, Body(text, attempts=attempts))
        return tuple(items)
    body = replace(body, envelopes=(*body.envelopes, (value, key)), attempts=attempts)
    # Some envelopes hold text, SNS's always, and Scheduler may pass an event's detail as text.
    return parse_body(inner, body) if isinstance(inner, str) else _parse(inner, body)


def _parse_own(payload: Mapping[str, Any], body: Body) -> tuple[Item, ...]:
    if payload.keys() - _OWN_KEYS:
        # A misspelt condition must not become no condition.
        return (InvalidItem(f"unknown key; allowed are {', '.join(sorted(_OWN_KEYS))}", body),)
    if ("session_id" in payload) == ("session_ids" in payload):
        return (InvalidItem("expected either session_id or session_ids", body),)
    if (action := payload.get("action", Action.TERMINATE)) not in [*Action]:
        return (InvalidItem("action should be terminate or archive", body),)
    since = None
    if "unless_updated_since" in payload:
        try:
            since = parse_condition(payload["unless_updated_since"], datetime.now(UTC))
        except ValueError as error:
            return (InvalidItem(str(error), body),)
    ids = [payload["session_id"]] if "session_id" in payload else payload["session_ids"]
    if not isinstance(ids, list) or not ids:
        return (InvalidItem("session_ids is not a list of at least one session id", body),)
    if len(ids) > 1:
        body = replace(body, payload=payload)
    # What is no id may be of any type, and is compared by how it would be written.
    items: dict[tuple[bool, str], Item] = {}
    for one in ids:
        item = _item(one, body, Action(action), since)
        same = (True, item.session_id) if isinstance(item, Request) else (False, _dump(one))
        items.setdefault(same, item)
    return tuple(items.values())


def _item(raw: object, body: Body, action: Action = Action.TERMINATE, since: datetime | None = None) -> Item:
    try:
        return Request(parse_session_id(raw), action, since, str(raw), body)
    except InvalidSessionIdError as error:
        return InvalidItem(str(error), body, raw)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return fields


def _attribute(attributes: Mapping[str, Any], name: str) -> str | None:
    value = (attributes.get(name) or {}).get("stringValue")
    return value if isinstance(value, str) else None


def _count(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 7 else 0


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
