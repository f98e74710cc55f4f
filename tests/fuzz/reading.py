"""The readers of events and bodies, held against a second reader that was written from the documentation alone."""

from __future__ import annotations

import json
import re
import string
import zlib
from datetime import UTC, datetime
from random import Random
from typing import Any

from devin.session_id import InvalidSessionIdError, parse_session_id
from terminate.messages import Item, Message, Reading, Request, parse_body, parse_event, parse_record
from tests.fuzz import sources
from tests.fuzz.checking import Target

_OWN = ("session_id", "session_ids", "unless_updated_since")
_ENVELOPES = ("detail", "Message", "requestPayload", "MessageBody", "Payload")
_ID_CHARACTERS = set(string.ascii_letters + string.digits + "-_")
# Envelopes that may be inside each other; see the reader.
_DEEPEST = 9

Asked = tuple[str | None, datetime | None]
"""An id and its condition; instead of an id, None for something that is none."""


class NothingAskedError(Exception):
    """The payload asks for nothing, or not unambiguously."""


def expected(text: str) -> list[Asked]:
    """What a body asks for. Raises NothingAskedError."""
    if text.lstrip()[:1] not in {"{", '"'}:
        return [(expected_id(text), None)]
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise NothingAskedError from None
    return expected_of(value, 0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def expected_of(value: Any, depth: int) -> list[Asked]:
    """What a parsed payload asks for, inside so many envelopes. Raises NothingAskedError."""
    if isinstance(value, str):
        return [(expected_id(value), None)]
    if not isinstance(value, dict) or depth == _DEEPEST:
        raise NothingAskedError
    carriers = [name for name in _ENVELOPES if name in value]
    own = [name for name in _OWN if name in value]
    if carriers and not own and len(carriers) == 1:
        inner = value[carriers[0]]
        complete = {
            "Message": value.get("Type") == "Notification",
            "MessageBody": "QueueUrl" in value,
            "Payload": "FunctionName" in value,
        }
        if not complete.get(carriers[0], True):
            raise NothingAskedError
        if isinstance(inner, str) and inner.lstrip()[:1] in {"{", '"'}:
            try:
                return expected_of(json.loads(inner, object_pairs_hook=_object), depth + 1)
            except (ValueError, RecursionError):
                raise NothingAskedError from None
        return expected_of(inner, depth + 1)
    if len(own) < len(value) or ("session_id" in own) is ("session_ids" in own):
        raise NothingAskedError
    since = expected_moment(value["unless_updated_since"]) if "unless_updated_since" in own else None
    if "session_id" in own:
        return [(expected_id(value["session_id"]), since)]
    if not isinstance(value["session_ids"], list) or not value["session_ids"]:
        raise NothingAskedError
    return [(expected_id(one), since) for one in _different(value["session_ids"])]


def _different(elements: list[Any]) -> list[Any]:
    """One of each: ids are the same if they mean the same session, and other things if they are written the same."""
    found: dict[str, Any] = {}
    for one in elements:
        named = expected_id(one)
        found.setdefault(json.dumps(one) if named is None else named, one)
    return list(found.values())


def expected_id(given: Any) -> str | None:
    """The id that is given in one of the documented forms, None for anything else."""
    if not isinstance(given, str):
        return None
    plain = given.removeprefix(sources.ADDRESS)
    if len(plain) == 32 and set(plain) <= set(string.hexdigits):
        return "devin-" + plain
    prefix, rest = plain[:6], plain[6:]
    return plain if prefix == "devin-" and 0 < len(rest) <= 122 and set(rest) <= _ID_CHARACTERS else None


def expected_moment(given: Any) -> datetime:
    """The moment that a condition names. Raises NothingAskedError."""
    try:
        moment = datetime.fromisoformat(given)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        raise NothingAskedError from None


def asked(items: tuple[Item, ...]) -> list[Asked]:
    """What the reader under test has read, in the same terms."""
    return [(one.session_id, one.unless_updated_since) if isinstance(one, Request) else (None, None) for one in items]


def without_conditions_of_nothing(pairs: list[Asked]) -> list[Asked]:
    """What is no id has no condition either."""
    return [(named, None if named is None else since) for named, since in pairs]


def judge(reading: Reading, wanted: list[Asked] | None) -> None:
    """Hold a reading to what was to be read, and to its promise that every part of it can be sent again.

    `wanted` is None where nothing is asked for.
    """
    items = reading.items
    got = asked(items)
    if wanted is None:
        assert got == [(None, None)], "something was read that is not plainly asked for"
    else:
        assert got == without_conditions_of_nothing(wanted), "read otherwise than it was written"
    for part in _parts(items):
        again = parse_body(reading.body_for(part))
        # What came as a single thing is asked for as it came.
        assert asked(again.items) == asked(part if len(items) > 1 else items), "a dead letter asks for something else"
        for one, other in zip(part, again.items, strict=False):
            if isinstance(one, Request):
                assert one == other, "a dead letter gives the id otherwise"


def _parts(items: tuple[Item, ...]) -> list[tuple[Item, ...]]:
    """Each item alone, all of them, and some of them."""
    some = tuple(item for at, item in enumerate(items) if zlib.crc32(bytes([at % 256, len(items) % 256])) & 1)
    few = [(item,) for item in items[:8]]
    return [part for part in (*few, items, some, items[1:]) if part]


def check_body(text: str) -> None:
    """A body of a queue message."""
    try:
        wanted: list[Asked] | None = expected(text)
    except NothingAskedError:
        wanted = None
    judge(parse_body(text), wanted)


def check_event(event: Any) -> None:
    """An event, or what a caller or a schedule hands over."""
    try:
        wanted: list[Asked] | None = expected_of(event, 0)
    except NothingAskedError:
        wanted = None
    message = parse_event(event)
    assert (message.attempts, message.receipt_handle) == (1, None)
    assert message.source == ("eventbridge" if isinstance(event, dict) and "detail" in event else "direct")
    judge(message.reading, wanted)


def check_record(record: dict[str, Any]) -> None:
    """A record of SQS; what it says about itself may be anything, as long as it has an id, a handle and a body."""
    whole = {"messageId": "m-1", "receiptHandle": "r-1", "body": "devin-1"} | record
    message: Message = parse_record(whole)
    assert (message.message_id, message.receipt_handle) == (whole["messageId"], whole["receiptHandle"])
    receives = _expected_count(whole.get("attributes", {}).get("ApproximateReceiveCount")) or 1
    written = {name: (one or {}).get("stringValue") for name, one in (whole.get("messageAttributes") or {}).items()}
    before = _expected_count(written.get("attempts"))
    assert message.receive_count == receives
    assert receives + before <= message.attempts < receives + before + 1000 * (_DEEPEST + 1)
    assert message.source == (written.get("source") if written.get("source") in ("eventbridge", "direct") else "sqs")
    check_body(whole["body"])


def _expected_count(given: Any) -> int:
    return int(given) if isinstance(given, str) and re.fullmatch("[0-9]{1,6}", given) else 0


def check_session_id(given: Any) -> None:
    """Anything where an id belongs."""
    try:
        found: str | None = parse_session_id(given)
    except InvalidSessionIdError:
        found = None
    assert found == expected_id(given)
    if found is not None:
        assert parse_session_id(found) == found


def _count(rng: Random) -> Any:
    return rng.choice((None, "1", "2", "999999", "1000000", "-1", "\u0663", "1e3", "", "0", 3, True, "\xb2"))


def _attribute(rng: Random) -> Any:
    return rng.choice(
        (
            None,
            {},
            {"stringValue": rng.choice(("eventbridge", "direct", "sqs", "\n", _count(rng)))},
            {"binaryValue": "x"},
        )
    )


def record(rng: Random) -> dict[str, Any]:
    """What SQS and others may have written on a message."""
    made: dict[str, Any] = {
        "body": sources.body(rng),
        "attributes": {"ApproximateReceiveCount": _count(rng)} if rng.randrange(6) else {},
    }
    if rng.randrange(6):
        made["messageAttributes"] = rng.choice(
            (None, {}, {"attempts": _attribute(rng), "source": _attribute(rng), sources.text(rng): _attribute(rng)})
        )
    return made


TARGETS = (
    # What anybody may send meets these two first.
    Target("body", sources.body, check_body, weight=8, whole=True),
    Target("event", sources.event, check_event, weight=3, whole=True),
    Target("record", record, check_record, weight=2),
    Target(
        "session_id",
        lambda rng: sources.given_id(rng) if rng.randrange(3) else sources.json_value(rng),
        check_session_id,
    ),
)
