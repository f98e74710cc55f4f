"""SQS does not take what the function writes: every message is kept, whole if need be."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from devin.http import Reply
from queues import Outgoing, Queues
from tests.in_memory import Function, MemorySqs, ScriptedTransport, batch
from tests.unit.world import NOT_VALID, Log, World, answer


@pytest.fixture
def _no_dead_letter_queue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", world.dead_letter_queue + "-gone")


def test_if_requeuing_fails_the_message_is_kept_whole_and_no_part_is_dead_lettered(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.api.on("DELETE", "devin-503", answer(503))
    world.send('{"session_ids": ["devin-1", "devin-422", "devin-503"]}')
    event = world.batch()
    monkeypatch.setenv("WORK_QUEUE_URL", world.work_queue + "-gone")
    assert len(world.invoke(event)["batchItemFailures"]) == 1
    assert world.dead_letters() == []
    outcomes = {line["session_id"]: line["outcome"] for line in log() if "outcome" in line}
    assert outcomes == {"devin-1": "terminated", "devin-422": "retry", "devin-503": "retry"}


@pytest.mark.fault(12)
@pytest.mark.usefixtures("_no_dead_letter_queue")
def test_without_a_dead_letter_queue_the_message_is_kept(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.send("devin-422", "nonsense", "devin-1")
    assert len(world.deliver()) == 2
    assert world.queued() == (0, 2, 0)
    details = {line["detail"] for line in log() if line["outcome"] == "retry"}
    assert details == {"sending to the dead-letter queue: AWS.SimpleQueueService.NonExistentQueue"}


@pytest.mark.usefixtures("_no_dead_letter_queue")
def test_an_id_whose_dead_letter_cannot_be_written_is_requeued_alone(world: World) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.send('{"session_ids": ["devin-1", "devin-422"]}')
    assert world.deliver() == []
    (requeued,) = world.requeued()
    assert json.loads(requeued["MessageBody"]) == {"session_ids": ["devin-422"]}


def test_an_id_whose_dead_letter_is_written_is_told_as_rejected_though_the_message_is_kept_whole() -> None:
    """Neither the dead letter of the other id can be written, nor a message for it alone."""
    sqs = MemorySqs(lambda queue, body: "InternalError" if queue == "work" or "devin-b" in body else None)
    rejected = Reply(422, {}, b'{"detail": "no"}')
    function = Function(ScriptedTransport(lambda *_: rejected), "apk_0", sqs=sqs)
    answer = function.invoke(batch({"body": '{"session_ids": ["devin-a", "devin-b"]}'}))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}
    assert [write.attributes["session_id"] for write in function.written("dead")] == ["devin-a"]
    outcomes = {line["session_id"]: line["outcome"] for line in function.lines()}
    assert outcomes == {"devin-a": "rejected", "devin-b": "retry"}


@pytest.mark.fault(13)
def test_a_message_with_an_expired_receipt_handle_is_reported_and_requeued(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-1", answer(503))
    world.send("devin-1")
    event = world.batch()
    event["Records"][0]["receiptHandle"] = "expired"
    failed = world.invoke(event)["batchItemFailures"]
    assert failed == [{"itemIdentifier": event["Records"][0]["messageId"]}]
    assert [line["message"] for line in log()] == [
        "changing the visibility timeout: ReceiptHandleIsInvalid",
        "the queue does not hold this message; it was sent to the queue",
        "retry",
    ]


class SmallQueue:
    """A queue with SQS's limit, which counts attributes; moto counts the body alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.messages: list[dict[str, Any]] = []

    def send_message_batch(self, **given: Any) -> dict[str, Any]:
        for message in given["Entries"]:
            attributes = message["MessageAttributes"].items()
            size = len(message["MessageBody"].encode()) + sum(
                len(name) + len(value["DataType"]) + len(value["StringValue"].encode()) for name, value in attributes
            )
            if size > self.limit:
                raise ClientError({"Error": {"Code": "InvalidParameterValue"}}, "SendMessageBatch")
            self.messages.append(message)
        return {"Successful": [{"Id": message["Id"]} for message in given["Entries"]]}


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    ("room", "reason", "detail"), [(10, False, 0), (40, True, 1), (500, True, 1), (5000, True, 1000)]
)
def test_attributes_make_room_for_a_large_body(room: int, reason: bool, detail: int) -> None:
    limit = 1024 * 1024
    queue = SmallQueue(limit)
    queues = Queues(queue, work_queue_url="w", dead_letter_queue_url="d")  # type: ignore[arg-type]
    body = "x" * (limit - room)
    letter = Outgoing(body, {"reason": "rejected_422", "http_status": 422, "detail": "é" * 1000})
    assert queues.dead_letter([letter]) == [None]
    (message,) = queue.messages
    attributes = message["MessageAttributes"]
    assert message["MessageBody"] == body
    assert ("reason" in attributes) is reason
    kept = attributes.get("detail", {}).get("StringValue", "")
    assert kept == "é" * len(kept)
    assert detail <= len(kept) <= max(detail, 250)
