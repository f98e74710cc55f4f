"""Messages of the work queue in; calls, dead letters and what is left in the queue out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from queues import Outgoing, Queues
from tests.unit.world import KEY, NOT_VALID, Answer, World, answer, session, visibility_timeouts, wait_for

Log = Callable[[], list[dict[str, Any]]]


def test_a_session_is_terminated_and_its_message_acknowledged(world: World, log: Log) -> None:
    world.send("devin-1")

    assert world.deliver() == []

    assert world.api.calls == [("DELETE", "devin-1")]
    assert world.queued() == (0, 0, 0)
    assert world.dead_letters() == []
    (line,) = log()
    assert line["outcome"] == line["message"] == "terminated"
    assert line["session_id"] == "devin-1"
    assert line["http_status"] == 200
    assert line["source"] == "sqs"
    assert line["receive_count"] == 1
    assert line["message_id"]
    assert line["duration_ms"] >= 0


THE_SESSION = {"session_id": "devin-1", "status": "exit"}
ANOTHER = {"session_id": "devin-2", "status": "exit"}


@pytest.mark.fault(7)
@pytest.mark.parametrize("status", [200, 202, 299])
@pytest.mark.parametrize(
    "body", ["", {"detail": "Session terminated successfully"}, THE_SESSION, THE_SESSION | {"session_id": "1"}]
)
def test_a_2xx_that_says_so_is_a_termination(world: World, status: int, body: object) -> None:
    world.api.on("DELETE", "devin-1", answer(status, body))
    world.send("devin-1")
    assert world.deliver() == []
    assert world.api.calls == [("DELETE", "devin-1")]


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "body", ["<h1>Down for maintenance</h1>", [], {"detail": "Try again"}, ANOTHER, "{", "\x00" * 100_000]
)
@pytest.mark.parametrize(
    ("get", "outcome"),
    [
        (session("expired"), "already_exited"),
        (session("working"), "retry"),
        (session("expired", session_id="devin-2"), "retry"),
        (answer(200, "<h1>Down for maintenance</h1>"), "retry"),
        (answer(404), "retry"),
        (answer(503), "retry"),
    ],
)
def test_any_other_2xx_is_looked_into(world: World, log: Log, body: object, get: Answer, outcome: str) -> None:
    world.api.on("DELETE", "devin-1", answer(200, body))
    world.api.on("GET", "devin-1", get)
    world.send("devin-1")
    world.deliver()
    assert [line["outcome"] for line in log()] == [outcome]
    assert world.dead_letters() == []


@pytest.mark.fault(1)
def test_422_becomes_a_dead_letter_with_the_apis_words(world: World) -> None:
    world.api.on("DELETE", "devin-bad", NOT_VALID)
    world.send("devin-1", '{"session_id": "devin-bad", "unless_updated_since": "2026-11-02T00:00:00Z"}')
    world.api.on("GET", "devin-bad", session(session_id="devin-bad"))

    assert world.deliver() == []

    ((body, attributes),) = world.dead_letters()
    assert body == '{"session_id": "devin-bad", "unless_updated_since": "2026-11-02T00:00:00Z"}'
    assert attributes.pop("failed_at").endswith("+00:00")
    assert attributes == {
        "reason": "rejected_422",
        "http_status": "422",
        "detail": "path.session_id: session has exited",
        "session_id": "devin-bad",
        "session_status": "working",
        "source": "sqs",
        "request_id": "request-1",
        "attempts": "1",
    }
    assert sorted(world.api.deleted()) == ["devin-1", "devin-bad"]


@pytest.mark.fault(2)
@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 402, 404, 405, 406, 410, 412, 418, 451, 499])
def test_every_other_rejection_is_a_dead_letter_and_no_redirect_is_followed(world: World, status: int) -> None:
    world.api.on("DELETE", "devin-1", answer(status, "<p>no</p>", Location="http://127.0.0.1:9/v1/sessions/devin-2"))
    world.send("devin-1")
    assert world.deliver() == []
    ((body, attributes),) = world.dead_letters()
    assert body == "devin-1"
    assert attributes["reason"] == f"rejected_{status}"
    assert attributes["detail"] == "<p>no</p>"
    assert world.api.calls == [("DELETE", "devin-1")]


@pytest.mark.fault(2)
@pytest.mark.parametrize("status", [400, 409])
def test_a_400_or_409_of_an_exited_session_is_its_end(world: World, log: Log, status: int) -> None:
    world.api.on("DELETE", "devin-1", answer(status, {"detail": "gone"}))
    world.api.on("GET", "devin-1", session("expired"))
    world.send("devin-1")
    assert world.deliver() == []
    assert world.dead_letters() == []
    assert [line["outcome"] for line in log()] == ["already_exited"]


@pytest.mark.fault(2)
@pytest.mark.parametrize("status", [400, 409])
@pytest.mark.parametrize(
    ("get", "reason"), [(session("working"), "rejected"), (answer(404), "rejected"), (answer(503), None)]
)
def test_a_400_or_409_of_a_living_session_is_a_rejection(
    world: World, status: int, get: Answer, reason: str | None
) -> None:
    world.api.on("DELETE", "devin-1", answer(status, {"detail": "Devin session already exited"}))
    world.api.on("GET", "devin-1", get)
    world.send("devin-1")
    world.deliver()
    found = [attributes["reason"] for _, attributes in world.dead_letters()]
    assert found == ([] if reason is None else [f"{reason}_{status}"])


@pytest.mark.parametrize(
    ("get", "outcome"),
    [
        (session("expired"), "already_exited"),
        (session("terminated"), "already_exited"),
        (session("working"), "rejected"),
        (session("something new"), "rejected"),
        (answer(404, {"detail": "unknown"}), "rejected"),
        (answer(200, "no json"), "rejected"),
        (session("expired", session_id="devin-2"), "retry"),
        (answer(503), "retry"),
        (requests.ReadTimeout(), "retry"),
    ],
)
def test_a_redelivered_rejection_is_looked_at_again(
    world: World, log: Log, get: Answer | Exception, outcome: str
) -> None:
    world.api.on("DELETE", "devin-1", answer(503), NOT_VALID)
    world.api.on("GET", "devin-1", get)
    world.send("devin-1")
    event = world.batch()
    world.invoke(event)
    log()

    event["Records"][0]["attributes"]["ApproximateReceiveCount"] = "2"
    world.invoke(event)

    assert [line["outcome"] for line in log()] == [outcome]
    assert world.api.calls[-2:] == [("DELETE", "devin-1"), ("GET", "devin-1")]


def test_an_event_that_lambda_tried_before_counts_as_redelivered(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.api.on("GET", "devin-1", session("expired"))
    context = {"requestId": "r", "condition": "RetriesExhausted", "approximateInvokeCount": 3}
    world.send(json.dumps({"version": "1.0", "requestContext": context, "requestPayload": {"session_id": "devin-1"}}))
    assert world.deliver() == []
    assert [(line["outcome"], line["attempts"]) for line in log()] == [("already_exited", 4)]


def test_a_first_rejection_is_not_looked_at(world: World) -> None:
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send("devin-1")
    world.deliver()
    assert world.api.calls == [("DELETE", "devin-1")]
    assert len(world.dead_letters()) == 1


@pytest.mark.fault(3, 4, 5)
@pytest.mark.parametrize(
    "said",
    [
        answer(408),
        answer(425),
        answer(429),
        answer(500, "<h1>oops</h1>"),
        answer(502),
        answer(503),
        answer(504),
        answer(599),
        requests.ConnectionError("refused"),
        requests.ReadTimeout("slow"),
        requests.exceptions.SSLError("bad certificate"),
        requests.exceptions.ChunkedEncodingError("cut"),
    ],
)
def test_what_may_pass_is_kept_for_later(world: World, log: Log, said: Answer | Exception) -> None:
    world.api.on("DELETE", "devin-1", said)
    world.send("devin-1")

    assert len(world.deliver()) == 1

    assert world.queued() == (0, 1, 0)
    assert world.dead_letters() == []
    (line,) = log()
    assert line["outcome"] == "retry"
    assert 1 <= line["retry_in_seconds"] <= 30


@pytest.mark.fault(3)
def test_retry_after_is_obeyed_and_a_429_brakes_the_whole_invocation(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-1", answer(429, "", Retry_After="120"))
    world.send("devin-1", "devin-2", "devin-3")

    assert len(world.deliver()) == 3

    assert world.api.calls == [("DELETE", "devin-1")]
    assert {line["retry_in_seconds"] for line in log()} == {120}
    assert world.queued() == (0, 3, 0)


def test_a_failed_record_gets_its_visibility_timeout(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = visibility_timeouts(monkeypatch)
    world.api.on("DELETE", "devin-1", answer(503, "", Retry_After="77"))
    world.send("devin-1")
    world.deliver()
    assert hidden == [77]


@pytest.mark.fault(13)
def test_an_expired_receipt_handle_does_no_harm(world: World, log: Log) -> None:
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


@pytest.mark.fault(4)
def test_ten_failures_log_ten_lines_and_no_traceback(world: World, log: Log) -> None:
    for number in range(10):
        world.api.on("DELETE", f"devin-{number}", answer(500, "<html>" * 1000))
    world.send(*(f"devin-{number}" for number in range(10)))
    assert len(world.deliver()) == 10
    lines = log()
    assert [line["outcome"] for line in lines] == ["retry"] * 10
    assert not any("exception" in line for line in lines)


@pytest.mark.fault(1)
def test_a_batch_is_judged_record_by_record(world: World) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.api.on("DELETE", "devin-500", answer(500))
    world.send("devin-1", "devin-422", "devin-500", "nonsense", "devin-2")
    assert len(world.deliver()) == 1
    assert world.queued() == (0, 1, 0)
    assert [attributes["reason"] for _, attributes in world.dead_letters()] == ["invalid_message", "rejected_422"]
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2", "devin-422", "devin-500"]


@pytest.mark.fault(18, 30)
@pytest.mark.parametrize(
    "body",
    [
        " ",
        "devin-",
        "devin-1 ",
        "devin-1\n",
        "devin-../../admin",
        "devin-%2e%2e",
        "devin-1?archive=true",
        "devin-1#x",
        "devin-1\r\nX-Injected: 1",
        "http://169.254.169.254/latest/meta-data",
        "https://app.devin.ai.evil.example/sessions/devin-1",
        "https://app.devin.ai/sessions/devin-1/../x",
        "dеvin-1",  # noqa: RUF001 - a Cyrillic letter, on purpose
        "devin-１",  # noqa: RUF001 - a full-width digit, on purpose
        "devin-" + "a" * 123,
        "..",
        "{}",
        "[]",
        "null",
        "12",
        '{"session_id": 1}',
        '{"session_id": null}',
        '{"session_id": ["devin-1"]}',
        '{"session_ids": []}',
        '{"session_ids": "devin-1"}',
        '{"session_id": "devin-1", "session_ids": ["devin-2"]}',
        '{"session_id": "devin-1", "session_id": "devin-2"}',
        '{"session_id": "devin-1", "unless_updated_sinc": "2026-01-01T00:00:00Z"}',
        '{"session_id": "devin-1", "unless_updated_since": "yesterday"}',
        '{"session_id": "devin-1", "unless_updated_since": null}',
        '{"session_id": "devin-1", "unless_updated_since": 0}',
        '{"detail": {"session_id": "devin-1", "outcome": "terminated"}}',
        '{"detail": {"session_id": "devin-1"}, "session_id": "devin-2"}',
        '{"detail": {"session_id": "devin-1"}, "requestPayload": {"session_id": "devin-2"}}',
        '{"Message": "devin-1"}',
        '{"Type": "SubscriptionConfirmation", "Message": "devin-1"}',
        '{"MessageBody": "devin-1"}',
        '{"Payload": {"session_id": "devin-1"}}',
        '{"detail": ' * 20 + '{"session_id": "devin-1"}' + "}" * 20,
        '{"session_id": "devin-1"',
        "[" * 100_000,
        '{"session_id": ' + "1" * 100_000 + "}",
        '{"session_id": "\\ud800"}',
        '{"session_id": "devin-\\u0000"}',
    ],
)
def test_what_is_not_plainly_asked_for_is_never_called(world: World, body: str) -> None:
    event = {
        "Records": [
            {
                "messageId": "m1",
                "receiptHandle": "r1",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
            }
        ]
    }
    assert world.invoke(event) == {"batchItemFailures": []}
    ((kept, attributes),) = world.dead_letters()
    assert kept == body
    assert attributes["reason"] == "invalid_message"
    assert attributes["detail"]
    assert "session_id" not in attributes
    assert world.api.calls == []


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


@pytest.mark.parametrize(
    "body",
    [
        "devin-1",
        '"devin-1"',
        "https://app.devin.ai/sessions/devin-1",
        '{"session_id": "devin-1"}',
        '{"session_ids": ["devin-1"]}',
        ' {"session_ids": ["devin-1", "https://app.devin.ai/sessions/devin-1"]} ',
        json.dumps(EVENT | {"detail": {"session_id": "devin-1"}, "something": "new"}),
        json.dumps(EVENT | {"detail": '{"session_id": "devin-1"}'}),
        json.dumps({"Type": "Notification", "Message": "devin-1", "TopicArn": "t"}),
        json.dumps({"Type": "Notification", "Message": '{"session_id": "devin-1"}'}),
        json.dumps({"version": "1.0", "requestPayload": {"session_id": "devin-1"}, "responsePayload": {"a": 1}}),
        json.dumps({"MessageBody": "devin-1", "QueueUrl": "q"}),
        json.dumps({"MessageBody": '{"session_id": "devin-1"}', "QueueUrl": "q"}),
        json.dumps({"FunctionName": "f", "InvocationType": "Event", "Payload": '{"session_ids": ["devin-1"]}'}),
        json.dumps({"requestPayload": EVENT | {"detail": {"session_ids": ["devin-1"]}}}),
        json.dumps({"Type": "Notification", "Message": json.dumps(EVENT | {"detail": {"session_id": "devin-1"}})}),
    ],
)
def test_every_shape_of_the_contract_is_understood(world: World, body: str) -> None:
    world.send(body)
    assert world.deliver() == []
    assert world.api.calls == [("DELETE", "devin-1")]
    assert world.dead_letters() == []


def test_32_hexadecimal_digits_get_their_prefix(world: World) -> None:
    world.send("0123456789abcdef0123456789abcdef")
    world.deliver()
    assert world.api.deleted() == ["devin-0123456789abcdef0123456789abcdef"]


@pytest.mark.fault(17)
def test_duplicates_are_called_once(world: World) -> None:
    world.send("devin-1", '{"session_id": "devin-1"}', '{"session_ids": ["devin-1", "devin-1"]}', "devin-2")
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2"]
    assert world.queued() == (0, 0, 0)


@pytest.mark.fault(17)
def test_a_rejected_duplicate_is_one_dead_letter(world: World) -> None:
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send("devin-1", "devin-1", '{"session_ids": ["devin-1", "devin-1"]}')
    assert world.deliver() == []
    assert len(world.dead_letters()) == 1


def test_ids_of_one_message_have_lives_of_their_own(world: World) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.api.on("DELETE", "devin-503", answer(503, "", Retry_After="60"))
    world.send('{"session_ids": ["devin-1", "devin-422", "devin-503", "../x"]}')

    assert world.deliver() == []

    letters = [(json.loads(body), attributes["reason"]) for body, attributes in world.dead_letters()]
    assert letters == [
        ({"session_ids": ["../x"]}, "invalid_message"),
        ({"session_ids": ["devin-422"]}, "rejected_422"),
    ]
    assert world.queued() == (0, 0, 1), "the one that has to wait is a delayed message of its own"


def test_an_id_sent_back_is_not_called_because_of_its_neighbour_and_keeps_its_history(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setenv("RETRY_BASE_SECONDS", "1")
    world.api.on("DELETE", "devin-503", answer(503), NOT_VALID)
    world.api.on("GET", "devin-503", session("expired", session_id="devin-503"))
    event = EVENT | {"detail": {"session_ids": ["devin-1", "devin-503"]}}
    world.send(json.dumps(event))
    world.deliver()
    wait_for(lambda: world.queued()[0] == 1)
    log()

    world.deliver()

    assert world.api.calls == [
        ("DELETE", "devin-1"),
        ("DELETE", "devin-503"),
        ("DELETE", "devin-503"),
        ("GET", "devin-503"),
    ]
    (line,) = log()
    assert (line["outcome"], line["attempts"], line["receive_count"]) == ("already_exited", 2, 1)
    assert world.dead_letters() == []


def test_a_message_none_of_whose_ids_is_settled_is_kept_whole(world: World) -> None:
    world.api.on("DELETE", "devin-1", answer(503))
    world.api.on("DELETE", "devin-2", answer(503))
    world.send('{"session_ids": ["devin-1", "devin-2"]}')
    assert len(world.deliver()) == 1
    assert world.queued() == (0, 1, 0)


@pytest.mark.fault(21)
def test_if_sending_back_fails_the_message_is_kept_whole_and_nothing_is_dead_lettered(
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
    assert outcomes == {"devin-1": "terminated", "devin-422": "retry", "devin-503": "retry"}, "said is what was done"


@pytest.mark.fault(12)
def test_without_a_dead_letter_queue_the_message_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.send("devin-422", "nonsense", "devin-1")
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", world.dead_letter_queue + "-gone")
    assert len(world.deliver()) == 2
    assert world.queued() == (0, 2, 0)
    details = {line["detail"] for line in log() if line["outcome"] == "retry"}
    assert details == {"sending to the dead-letter queue: AWS.SimpleQueueService.NonExistentQueue"}


@pytest.mark.fault(12)
def test_a_dead_letter_that_cannot_be_written_goes_back_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.api.on("DELETE", "devin-422", NOT_VALID)
    world.send('{"session_ids": ["devin-1", "devin-422"]}')
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", world.dead_letter_queue + "-gone")
    assert world.deliver() == []
    assert world.queued() == (0, 0, 1)


@pytest.mark.fault(23)
def test_every_dead_letter_works_when_it_is_redriven(world: World) -> None:
    world.api.on("DELETE", "devin-a", NOT_VALID)
    world.api.on("DELETE", "devin-b", answer(404))
    world.send(json.dumps(EVENT | {"detail": {"session_ids": ["devin-a", "devin-b", "devin-c"]}}), "devin-a")
    world.deliver()
    world.api.scripts.clear()
    for message in world.receive(world.dead_letter_queue):
        world.sqs.send_message(
            QueueUrl=world.work_queue,
            MessageBody=message["Body"],
            MessageAttributes={
                name: {"DataType": value["DataType"], "StringValue": value["StringValue"]}
                for name, value in message["MessageAttributes"].items()
            },
        )
    world.api.calls.clear()

    assert world.deliver() == []

    assert sorted(world.api.deleted()) == ["devin-a", "devin-b"]
    assert world.dead_letters() == []


SINCE = '{"session_id": "devin-1", "unless_updated_since": "2026-11-02T12:00:00+02:00"}'


@pytest.mark.parametrize(
    ("updated_at", "outcome"),
    [
        ("2026-11-02T10:00:00.001Z", "spared"),
        ("2026-11-02T12:00:00", "spared"),
        ("2026-11-02T10:00:00Z", "terminated"),
        ("2026-11-02T09:59:59", "terminated"),
        ("2026-11-02T11:59:59+02:00", "terminated"),
        ("9999-12-31T23:59:59-01:00", "retry"),
        ("soon", "retry"),
    ],
)
def test_a_session_that_moved_on_is_spared(world: World, log: Log, updated_at: str, outcome: str) -> None:
    world.api.on("GET", "devin-1", session(updated_at=updated_at))
    world.send(SINCE)
    world.deliver()
    assert [line["outcome"] for line in log()] == [outcome]
    assert world.api.deleted() == (["devin-1"] if outcome == "terminated" else [])


def test_a_session_that_has_ended_is_not_called_spared(world: World, log: Log) -> None:
    """Its end was an update as well: perhaps an earlier attempt's, whose answer was lost."""
    world.api.on("GET", "devin-1", session("expired", updated_at="2999-01-01T00:00:00Z"))
    world.send(SINCE)
    world.deliver()
    assert [(line["outcome"], line["session_status"]) for line in log()] == [("already_exited", "expired")]
    assert world.api.deleted() == []


@pytest.mark.parametrize(
    ("get", "outcome"), [(answer(500), "retry"), (answer(200, "?"), "retry"), (answer(200, "{}"), "retry"),
                         (answer(404, {"detail": "unknown"}), "rejected"), (answer(429), "retry")]
)  # fmt: skip
def test_without_knowing_when_it_was_updated_no_session_is_ended(
    world: World, log: Log, get: Answer, outcome: str
) -> None:
    world.api.on("GET", "devin-1", get)
    world.send(SINCE)
    world.deliver()
    assert world.api.deleted() == []
    assert [line["outcome"] for line in log()] == [outcome]


def test_a_dry_run_ends_nothing(world: World, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.setenv("DRY_RUN", "true")
    world.api.on("GET", "devin-1", session())
    world.send("devin-2", SINCE, "nonsense")
    assert world.deliver() == []
    assert world.api.deleted() == []
    assert sorted(line["outcome"] for line in log()) == ["invalid", "would_terminate", "would_terminate"]


@pytest.mark.fault(8)
def test_a_rotated_key_is_read_anew(world: World, log: Log) -> None:
    world.api.good_keys = {KEY}
    world.send("devin-1")
    world.deliver()
    world.api.good_keys = {"apk_new"}
    world.secrets.put_secret_value(SecretId=world.secret, SecretString='{"service_key": "apk_new"}')
    world.send("devin-2", "devin-3")

    assert world.deliver() == []

    assert world.api.keys == [KEY, KEY, "apk_new", "apk_new"]
    assert [line["outcome"] for line in log()] == ["terminated"] * 3


@pytest.mark.fault(9)
def test_a_refused_key_is_not_used_again_in_the_invocation(world: World, log: Log) -> None:
    world.api.good_keys = set()
    world.send("devin-1", "devin-2", "devin-3")

    assert len(world.deliver()) == 3

    assert len(world.api.calls) == 1
    assert world.queued() == (0, 3, 0)
    lines = log()
    assert [line["outcome"] for line in lines] == ["unauthorized"] * 3
    assert all("store a valid one" in line["detail"] for line in lines)


def test_a_new_key_that_is_refused_too_is_not_tried_again(world: World) -> None:
    world.send("devin-1")
    world.deliver()
    world.api.good_keys = set()
    world.secrets.put_secret_value(SecretId=world.secret, SecretString="apk_also-bad")
    world.send("devin-2", "devin-3")
    assert len(world.deliver()) == 2
    assert world.api.keys[1:] == [KEY, "apk_also-bad"]


@pytest.mark.fault(10)
def test_403_stays_one_ids_problem(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-2", answer(403, {"detail": "Forbidden"}))
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 1
    assert sorted(line["outcome"] for line in log()) == ["forbidden", "terminated", "terminated"]


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    "secret",
    ["apk_secret\n", "apk_ secret", "apk_sécret", '{"api_key": ""}', '{"api_key": 1}', '{"other": "apk_secret"}',
     '{"api_key": "apk_secret"', '{"api_key": "apk_secret\\r\\nX: y"}', b"apk_secret"],
)  # fmt: skip
def test_an_unusable_secret_keeps_everything_and_says_what_to_store(
    world: World, log: Log, secret: str | bytes
) -> None:
    if isinstance(secret, bytes):
        binary = world.secrets.create_secret(Name="binary", SecretBinary=secret)["ARN"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("API_KEY_SECRET_ARN", binary)
            world.send("devin-1")
            assert len(world.deliver()) == 1
    else:
        world.secrets.put_secret_value(SecretId=world.secret, SecretString=secret)
        world.send("devin-1")
        assert len(world.deliver()) == 1
    assert world.api.calls == []
    (line,) = log()
    assert "store the bare key" in line["detail"]
    assert "secret\\n" not in json.dumps(line)
    assert "apk_" not in json.dumps(line)


@pytest.mark.fault(11)
def test_an_unreadable_secret_keeps_everything_and_says_what_to_check(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setenv("API_KEY_SECRET_ARN", "gone")
    world.send("devin-1", "devin-2")
    assert len(world.deliver()) == 2
    assert all("secretsmanager:GetSecretValue" in line["detail"] for line in log())


def test_a_mended_secret_works_without_waiting_for_the_cache(world: World) -> None:
    world.secrets.put_secret_value(SecretId=world.secret, SecretString="apk_bad\n")
    world.send("devin-1")
    world.deliver()
    world.secrets.put_secret_value(SecretId=world.secret, SecretString=KEY)
    world.send("devin-2")
    assert world.deliver() == []
    assert world.api.deleted() == ["devin-2"]


@pytest.mark.fault(15)
def test_no_call_starts_that_cannot_finish(world: World, log: Log) -> None:
    world.send("devin-1", "devin-2", "devin-3")

    def time_passes() -> None:
        world.context.remaining_milliseconds -= 29_000

    world.api.before = time_passes
    assert len(world.deliver()) == 1
    assert world.api.deleted() == ["devin-1", "devin-2"]
    assert world.queued() == (0, 1, 0)
    assert "not enough time left in this invocation" in {line.get("detail") for line in log()}


@pytest.mark.fault(19)
def test_a_bug_costs_one_record_and_one_traceback(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-2", ZeroDivisionError("a bug"))
    world.send("devin-1", "devin-2", "devin-3")
    assert len(world.deliver()) == 1
    assert sorted(world.api.deleted()) == ["devin-1", "devin-2", "devin-3"]
    assert world.queued() == (0, 1, 0)
    assert [line["message"] for line in log() if "exception" in line] == ["unexpected error"]


@pytest.mark.fault(19)
def test_a_record_that_is_none_is_kept(world: World) -> None:
    records = [{"eventSource": "aws:sqs", "messageId": "m1", "attributes": {}}]
    assert world.invoke({"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}


def test_an_empty_batch_is_no_failure(world: World) -> None:
    assert world.invoke({"Records": []}) == {"batchItemFailures": []}


def test_calls_run_side_by_side_up_to_the_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "4")
    together = threading.Barrier(4)
    # Passes only if four calls are under way at once; a fifth at once would break the next round.
    world.api.before = lambda: together.wait(20)
    world.send(
        '{"session_ids": ["devin-1", "devin-2", "devin-3", "devin-4", "devin-5", "devin-6", "devin-7", "devin-8"]}'
    )
    assert world.deliver() == []
    assert len(world.api.deleted()) == 8


@pytest.mark.fault(16)
def test_five_thousand_ids_in_one_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WORKERS", "10")
    world.context.remaining_milliseconds = 600_000
    ids = [f"devin-{number}" for number in range(5_000)]
    world.send(json.dumps({"session_ids": ids}))
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == sorted(ids)


@pytest.mark.parametrize("name", ["DRY_RUN", "MAX_WORKERS", "DEVIN_API_URL"])
def test_an_unusable_setting_fails_the_batch_and_names_the_variable(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "ftp://maybe")
    world.send("devin-1")
    with pytest.raises(ValueError, match=name):
        world.deliver()
    assert world.api.calls == []
    assert world.queued() == (0, 1, 0)


@pytest.mark.fault(31)
def test_an_api_that_repeats_the_key_does_not_get_it_into_a_log_or_a_dead_letter(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"your key {KEY.upper()} ({KEY}) Bearer {KEY}\r\n\x1b[31mred\x1b[0m " + "x" * 10_000 + KEY
    world.api.on("DELETE", "devin-1", answer(422, {"detail": said}))
    world.api.on("DELETE", "devin-2", answer(500, said))
    world.api.on("DELETE", "devin-3", ZeroDivisionError(f"with {KEY} in it"))
    world.send("devin-1", "devin-2", "devin-3")
    world.deliver()
    printed = capsys.readouterr()
    ((_, attributes),) = world.dead_letters()
    for text in (printed.out, printed.err, json.dumps(attributes)):
        assert "canary" not in text.lower()
    assert attributes["detail"].startswith("your key [redacted]")
    assert len(attributes["detail"]) <= 1000
    assert not set(attributes["detail"]) & set("\r\n\x1b")
    assert all(json.loads(line) for line in printed.out.splitlines())


def test_outcomes_and_latencies_are_metrics(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.api.on("DELETE", "devin-3", answer(500))
    world.send("devin-1", "devin-2", "devin-2", "devin-3")
    world.deliver()
    (blob,) = (json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line)
    (published,) = blob["_aws"]["CloudWatchMetrics"]
    assert published["Namespace"] == "DevinSessionCleanup"
    assert {metric["Name"] for metric in published["Metrics"]} == {"terminated", "retry", "api_latency"}
    assert (blob["terminated"], blob["retry"]) == ([2.0], [1.0])
    assert len(blob["api_latency"]) == 3


def test_a_dead_letter_that_sqs_finds_too_long_is_kept_in_the_work_queue(world: World, log: Log) -> None:
    world.sqs.set_queue_attributes(QueueUrl=world.dead_letter_queue, Attributes={"MaximumMessageSize": "1024"})
    world.send("x" * 2000)
    assert len(world.deliver()) == 1
    assert world.queued() == (0, 1, 0)
    assert [line["detail"] for line in log()] == ["sending to the dead-letter queue: InvalidParameterValue"]


class SmallQueue:
    """A queue as SQS limits it, attributes included; moto counts the body alone."""

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


@pytest.mark.parametrize("room", [0, 10, 40, 100, 500, 5000])
def test_attributes_make_room_for_a_large_body(room: int) -> None:
    limit = 1024 * 1024
    queue = SmallQueue(limit)
    queues = Queues(queue, work_queue_url="w", dead_letter_queue_url="d")  # type: ignore[arg-type]
    body = "x" * (limit - room)
    letter = Outgoing(body, {"reason": "rejected_422", "http_status": 422, "detail": "é" * 1000})
    assert queues.dead_letter([letter]) == [None]
    (message,) = queue.messages
    assert message["MessageBody"] == body
    assert ("reason" in message["MessageAttributes"]) == (room >= 40)
    detail = message["MessageAttributes"].get("detail", {}).get("StringValue", "")
    assert detail == "é" * len(detail)
    assert (len(detail) == 1000) == (room == 5000)
    assert (len(detail) > 0) == (room >= 40)


@pytest.mark.fault(16)
def test_what_is_left_of_a_long_message_goes_back_in_a_bounded_number_of_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRY_BASE_SECONDS", "1")
    world.context.remaining_milliseconds = 1000
    ids = [f"devin-{number}" for number in range(1234)]
    assert world.invoke({"session_ids": ids}) == {"retry": ids}
    assert world.api.calls == []
    assert world.queued()[2] <= 100
    wait_for(lambda: world.queued()[2] == 0)

    world.context.remaining_milliseconds = 600_000
    assert world.deliver() == []
    assert sorted(world.api.deleted()) == sorted(ids)


@pytest.mark.fault(9)
def test_a_refused_key_is_read_anew_once_however_many_workers_meet_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "8")
    reads: list[str] = []
    real_client = boto3.client

    def counting_client(service: str, **options: Any) -> Any:
        client = real_client(service, **options)  # type: ignore[call-overload]
        client.meta.events.register("before-call.secrets-manager.GetSecretValue", lambda **_: reads.append("read"))
        return client

    monkeypatch.setattr("runtime.boto3.client", counting_client)
    world.api.good_keys = set()
    world.send(*(f"devin-{number}" for number in range(10)))

    assert len(world.deliver()) == 10

    assert reads == ["read"] * 2, "the first time, and past the cache"
    assert len(world.api.calls) <= 8
