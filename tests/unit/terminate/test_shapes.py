"""Shapes that AWS sends, or might: records of invocations, batches that come by another way, answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.world import NOT_VALID, World, answer

RECURSION = {
    "version": "1.0",
    "requestContext": {"requestId": "r", "functionArn": "f", "condition": "RecursiveInvocation"},
    "requestPayload": {},
}


def record(body: str, **fields: Any) -> dict[str, Any]:
    return {
        "messageId": "m1",
        "receiptHandle": "unknown to the queue",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    } | fields


@pytest.mark.fault(45)
@pytest.mark.parametrize("condition", ["Success", "success"])
def test_the_record_of_a_success_ends_nothing(world: World, condition: str) -> None:
    context = {"condition": condition, "approximateInvokeCount": 1}
    body = json.dumps({"version": "1.0", "requestContext": context, "requestPayload": {"session_id": "devin-1"},
                       "responsePayload": {"terminated": ["devin-1"]}})  # fmt: skip
    world.send(body)
    assert world.deliver() == []
    assert world.api.calls == []
    assert [attributes["reason"] for _, attributes in world.dead_letters()] == ["invalid_message"]


@pytest.mark.fault(45)
def test_a_new_key_beside_the_records_changes_nothing(world: World) -> None:
    world.send("devin-1", "devin-2")
    assert world.invoke(world.batch() | {"Version": "2.0", "queue": {"arn": "a"}}) == {"batchItemFailures": []}
    assert world.api.deleted() == ["devin-1", "devin-2"]


@pytest.mark.parametrize("beside", [{"session_id": "devin-2"}, {"detail": {}}, {"requestPayload": {}}])
def test_an_id_beside_the_records_is_ambiguous(world: World, beside: dict[str, Any]) -> None:
    assert world.invoke({"Records": [record("devin-1")]} | beside) == {"invalid": []}
    assert world.api.calls == []


@pytest.mark.fault(45)
def test_a_batch_that_no_queue_holds_is_sent_to_the_queue(world: World) -> None:
    """An asynchronous invocation that is shaped like one: nobody reads the answer."""
    world.api.on("DELETE", "devin-1", answer(503))
    world.api.on("DELETE", "devin-2", NOT_VALID)
    records = [record("devin-1"), record("devin-2", messageId="m2"), record("devin-3", messageId="m3")]
    assert world.invoke({"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    sent = [given["MessageBody"] for name, given in world.aws.calls if name == "sqs.SendMessage"]
    assert sorted(sent) == ["devin-1", "devin-2"], "to the work queue, and to the dead letters"
    assert world.queued()[2] == 1


def test_if_it_cannot_be_sent_to_the_queue_the_invocation_fails(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(503))
    world.aws.fail("sqs.SendMessage")
    with pytest.raises(Exception, match="sending to the work queue"):
        world.invoke({"Records": [record("devin-1")]})


@pytest.mark.fault(33)
def test_the_failure_record_of_a_whole_batch_is_read(world: World) -> None:
    """Lambda's recursive-loop detection leaves one."""
    world.api.on("DELETE", "devin-2", answer(503))
    world.api.on("DELETE", "devin-3", NOT_VALID)
    conditional = json.dumps({"session_ids": ["devin-3", "devin-4"]})
    batch = {"Records": [record("devin-1"), record("devin-2"), record(conditional), record("nonsense"), {"x": 1}]}
    world.send(json.dumps(RECURSION | {"requestPayload": {"Records": batch["Records"][:4]}}))
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2", "devin-3", "devin-4"]
    letters = [body for body, _ in world.dead_letters()]
    assert sorted(letters) == ["nonsense", '{"session_ids":["devin-3"]}']
    (requeued,) = [given["MessageBody"] for name, given in world.aws.calls if name == "sqs.SendMessage"][-3:-2]
    assert requeued == "devin-2"


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    "raw", ["d\u00e9vin-1", "devin-\ud83d", "\ud800", "\u2028", "devin-1\x00", "\U0001f600", "\x7f\u202e"]
)
def test_the_answer_of_a_direct_invocation_is_plain_ascii(world: World, raw: str) -> None:
    answered = world.invoke({"session_ids": [raw, "devin-2"]})
    assert answered["terminated"] == ["devin-2"]
    (shown,) = answered["invalid"]
    assert shown.isascii()
    json.dumps(answered, ensure_ascii=False).encode("utf-8")
    assert len(world.dead_letters()) == 1
