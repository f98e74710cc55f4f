"""The samples under tests/events, events and policies: each is read as what it is a sample of."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sweep.policy import parse_policy
from terminate.messages import Item, Message, Request, is_batch, parse_event, parse_record

SAMPLES = Path(__file__).resolve().parent.parent / "events"
SINCE = datetime(2026, 1, 31, 18, tzinfo=UTC)

Asked = tuple[str, int, list[object]]
"""Source, attempts, and what is asked for: ids, with their condition where there is one; None for what is unusable."""


def ids(*numbers: int, since: datetime | None = None) -> list[object]:
    wanted = [f"devin-example-{number}" for number in numbers]
    return [(session_id, since) for session_id in wanted] if since else [*wanted]


EXPECTED: dict[str, list[Asked]] = {
    "direct.json": [("direct", 1, ids(10, 11, 12))],
    "eventbridge.json": [("eventbridge", 1, ids(13))],
    "schedule.json": [("direct", 1, ids(14))],
    "sqs-batch.json": [
        ("sqs", 1, ids(1)),
        ("sqs", 1, ["devin-0123456789abcdef0123456789abcdef"]),
        *(("sqs", 1, ids(number)) for number in (2, 3)),
        ("sqs", 1, ids(4, 5)),
        ("sqs", 1, ids(6, since=SINCE)),
        *(("sqs", 1, ids(number)) for number in (7, 8, 9)),
    ],
    "sqs-failure-destination.json": [("sqs", 4, ids(15, 16))],
    "sqs-requeued.json": [("eventbridge", 3, ids(17))],
    "sqs-redriven-dead-letter.json": [("sqs", 2, ids(18))],
    "sqs-unusable.json": [("sqs", 1, [None]), ("sqs", 1, [None]), ("sqs", 1, [*ids(20), None])],
}
# The event of `sweep` is a policy.
POLICIES = ["sweep-big-spenders.json", "sweep-idle-overnight.json", "sweep-nightly-experiments.json"]


def load(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def asked(item: Item) -> object:
    if not isinstance(item, Request):
        return None
    return (item.session_id, item.unless_updated_since) if item.unless_updated_since else item.session_id


def summary(message: Message) -> Asked:
    return message.source, message.attempts, [asked(item) for item in message.items]


def test_every_sample_is_expected() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {*EXPECTED, *POLICIES}


def test_no_session_is_named_by_two_samples() -> None:
    """The samples can be run one after the other, in any order, and `make up` has a session for each id."""
    named = [str(one) for messages in EXPECTED.values() for *_, asked in messages for one in asked if one is not None]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("name", EXPECTED)
def test_sample_asks_for_what_it_says(name: str) -> None:
    event = load(name)
    assert is_batch(event) == name.startswith("sqs-")
    messages = [parse_record(record) for record in event["Records"]] if is_batch(event) else [parse_event(event)]
    assert [summary(message) for message in messages] == EXPECTED[name]


@pytest.mark.parametrize("name", POLICIES)
def test_sample_policy_is_one(name: str) -> None:
    parse_policy(load(name))
