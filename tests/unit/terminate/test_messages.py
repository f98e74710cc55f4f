"""What messages may look like, and what becomes of several ids in one message or one batch."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.world import NOT_VALID, Log, World, answer, session

EVENT = {
    "version": "0",
    "id": "e1",
    "detail-type": "Devin Session Termination Requested",
    "source": "ops",
    "account": "123456789012",
    "time": "2026-11-24T10:00:00Z",
    "region": "eu-west-1",
    "resources": [],
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


def failure_record(payload: object, condition: str = "RetriesExhausted", invocations: int = 3) -> str:
    """What Lambda sends to the destination of an asynchronous invocation."""
    context = {"requestId": "r", "functionArn": "f", "condition": condition, "approximateInvokeCount": invocations}
    return json.dumps({"version": "1.0", "requestContext": context, "requestPayload": payload, "responsePayload": {}})


def reasons(world: World) -> list[str]:
    return [attributes["reason"] for _, attributes in world.dead_letters()]


@pytest.mark.fault(18, 30)
@pytest.mark.parametrize(
    "body",
    [
        " ", "devin-", "devin-1 ", "devin-1\n", "devin-../../admin", "devin-%2e%2e", "devin-1?archive=true",
        "devin-1\r\nX-Injected: 1", "http://169.254.169.254/latest/meta-data",
        "https://app.devin.ai.evil.example/sessions/devin-1", "https://app.devin.ai/sessions/devin-1/../x",
        "dеvin-1",  # noqa: RUF001 - a Cyrillic letter, on purpose
        "devin-１",  # noqa: RUF001 - a full-width digit, on purpose
        "devin-" + "a" * 123, "..", "{}", "[]", "null", "12",
        '{"session_id": 1}', '{"session_id": null}', '{"session_id": ["devin-1"]}',
        '{"session_ids": []}', '{"session_ids": "devin-1"}',
        '{"session_id": "devin-1", "session_ids": ["devin-2"]}',
        '{"session_id": "devin-1", "unless_updated_sinc": "2026-01-01T00:00:00Z"}',
        '{"session_id": "devin-1", "action": "delete"}', '{"session_id": "devin-1", "action": null}',
        '{"detail": {"session_id": "devin-1", "outcome": "terminated"}}',
        '{"detail": {"session_id": "devin-1"}, "session_id": "devin-2"}',
        '{"detail": {"session_id": "devin-1"}, "requestPayload": {"session_id": "devin-2"}}',
        '{"Message": "devin-1"}', '{"Type": "SubscriptionConfirmation", "Message": "devin-1"}',
        '{"MessageBody": "devin-1"}', '{"Payload": {"session_id": "devin-1"}}',
        '{"detail": ' * 20 + '{"session_id": "devin-1"}' + "}" * 20,
        '{"session_id": "devin-1"',
        failure_record({"session_id": "devin-1"}, "Success"),
    ],
)  # fmt: skip
def test_what_is_not_clearly_asked_for_is_a_dead_letter_as_it_came(world: World, body: str) -> None:
    assert world.invoke({"Records": [record(body)]}) == {"batchItemFailures": []}
    ((kept, attributes),) = world.dead_letters()
    assert (kept, attributes["reason"]) == (body, "invalid_message")
    assert attributes["detail"]
    assert "session_id" not in attributes
    assert world.api.calls == []


@pytest.mark.parametrize(
    "body",
    [
        "devin-1",
        '"devin-1"',
        "https://app.devin.ai/sessions/devin-1",
        '{"session_id": "devin-1"}',
        ' {"session_ids": ["devin-1", "https://app.devin.ai/sessions/devin-1"]} ',
        json.dumps(EVENT | {"detail": {"session_id": "devin-1"}, "something": "new"}),
        json.dumps(EVENT | {"detail": '{"session_id": "devin-1"}'}),
        json.dumps({"Type": "Notification", "Message": "devin-1", "TopicArn": "t"}),
        json.dumps({"Type": "Notification", "Message": json.dumps(EVENT | {"detail": {"session_id": "devin-1"}})}),
        failure_record({"session_id": "devin-1"}),
        failure_record(EVENT | {"detail": {"session_ids": ["devin-1"]}}),
        json.dumps({"MessageBody": "devin-1", "QueueUrl": "q"}),
        json.dumps({"FunctionName": "f", "InvocationType": "Event", "Payload": '{"session_ids": ["devin-1"]}'}),
    ],
)
def test_each_shape_of_the_contract_is_read(world: World, body: str) -> None:
    world.send(body)
    assert world.deliver() == []
    assert world.api.calls == [("DELETE", "devin-1")]
    assert world.dead_letters() == []


def test_an_event_that_lambda_tried_before_counts_as_redelivered(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.api.on("GET", "devin-1", session("expired"))
    world.send(failure_record({"session_id": "devin-1"}))
    assert world.deliver() == []
    assert [(line["outcome"], line["attempts"]) for line in log()] == [("already_exited", 4)]


@pytest.mark.fault(33, 45)
def test_the_failure_record_of_a_whole_batch_is_read(world: World) -> None:
    """Lambda's recursive-loop detection leaves one."""
    world.api.on("DELETE", "devin-2", answer(503))
    world.api.on("DELETE", "devin-3", NOT_VALID)
    bodies = ["devin-1", "devin-2", json.dumps({"session_ids": ["devin-3", "devin-4"]}), "nonsense"]
    world.send(failure_record({"Records": [record(body) for body in bodies]}, "RecursiveInvocation", 1))
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2", "devin-3", "devin-4"]
    assert sorted(body for body, _ in world.dead_letters()) == ["nonsense", '{"session_ids":["devin-3"]}']
    assert [one["MessageBody"] for one in world.requeued()] == ["devin-2"]


# Batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(45)
def test_a_new_key_beside_the_records_changes_nothing(world: World) -> None:
    world.send("devin-1", "devin-2")
    assert world.invoke(world.batch() | {"Version": "2.0", "queue": {"arn": "a"}}) == {"batchItemFailures": []}
    assert world.api.deleted() == ["devin-1", "devin-2"]


@pytest.mark.parametrize("beside", [{"session_id": "devin-2"}, {"detail": {}}, {"requestPayload": {}}])
def test_an_id_beside_the_records_is_ambiguous(world: World, beside: dict[str, Any]) -> None:
    assert world.invoke({"Records": [record("devin-1")]} | beside) == {"invalid": []}
    assert world.api.calls == []


@pytest.mark.fault(19)
def test_a_record_that_cannot_be_read_is_kept_and_counted(
    world: World, counted: Callable[[], dict[str, float]]
) -> None:
    broken = {"eventSource": "aws:sqs", "messageId": "m0", "attributes": {}}
    world.send("devin-1")
    records = [broken, *world.batch()["Records"]]
    assert world.invoke({"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert counted() == {"terminated": 1, "unexpected_errors": 1}


@pytest.mark.fault(19)
def test_a_bug_affects_one_record_and_is_logged_with_one_traceback(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.api.on("DELETE", "devin-2", ZeroDivisionError("a bug"))
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 1
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2", "devin-3"]
    assert world.queued() == (0, 1, 0)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["message"] for line in lines if "exception" in line] == ["unexpected error"]
    (metrics,) = [line for line in lines if "_aws" in line]
    assert (metrics["terminated"], metrics["retry"], metrics["unexpected_errors"]) == ([2], [1], [1])


@pytest.mark.fault(17)
def test_duplicates_are_called_once_and_rejected_ones_are_one_dead_letter(world: World) -> None:
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send("devin-1", "devin-1", '{"session_id": "devin-1"}', '{"session_ids": ["devin-1", "devin-1"]}', "devin-2")
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2"]
    assert reasons(world) == ["rejected_422"]
    assert world.queued() == (0, 0, 0)


@pytest.mark.fault(15)
def test_no_call_starts_that_cannot_finish(world: World, log: Log) -> None:
    def time_passes() -> None:
        world.context.remaining_milliseconds -= 29_000

    world.api.before = time_passes
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 1
    assert world.api.deleted() == ["devin-1", "devin-2"]
    assert "not enough time left in this invocation" in {line.get("detail") for line in log()}


def test_as_many_calls_as_there_are_workers_run_side_by_side(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "4")
    together = threading.Barrier(4)
    # Passes only if four calls are under way at once; a fifth would break the next round.
    world.api.before = lambda: together.wait(20)
    world.send(json.dumps({"session_ids": [f"devin-{number}" for number in range(8)]}))
    assert world.deliver() == []
    assert len(world.api.deleted()) == 8


@pytest.mark.parametrize("name", ["DRY_RUN", "DEVIN_API_URL"])
def test_an_unusable_setting_fails_the_batch_and_names_the_variable(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "ftp://maybe")
    world.send("devin-1")
    with pytest.raises(ValueError, match=name):
        world.deliver()
    assert world.api.calls == []
    assert world.queued() == (0, 1, 0)


# Several ids in one message ----------------------------------------------------------------------------------------


def test_each_id_of_a_message_is_settled_for_itself(world: World) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.api.on("DELETE", "devin-503", answer(503, "", Retry_After="60"))
    world.send('{"session_ids": ["devin-1", "devin-422", "devin-503", "../x"], "action": "terminate"}')

    assert world.deliver() == []

    letters = [(json.loads(body)["session_ids"], attributes["reason"]) for body, attributes in world.dead_letters()]
    assert letters == [(["../x"], "invalid_message"), (["devin-422"], "rejected_422")]
    (requeued,) = world.requeued()
    assert json.loads(requeued["MessageBody"]) == {"session_ids": ["devin-503"], "action": "terminate"}
    assert requeued["DelaySeconds"] == 60
    assert world.queued() == (0, 0, 1)


@pytest.mark.fault(23)
def test_every_dead_letter_works_when_it_is_redriven(world: World) -> None:
    world.api.on("DELETE", "devin-a", NOT_VALID)
    world.api.on("DELETE", "devin-b", answer(404))
    world.send(json.dumps(EVENT | {"detail": {"session_ids": ["devin-a", "devin-b", "devin-c"]}}), "devin-a")
    world.deliver()
    world.api.scripts.clear()
    world.api.calls.clear()
    world.redrive()

    assert world.deliver() == []

    assert sorted(world.api.deleted()) == ["devin-a", "devin-b"]
    assert world.dead_letters() == []
