"""Every way in leads to the end of the session."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from infra.local.fake_devin import Fault
from tests.integration.conftest import PRODUCER, Underway
from tests.integration.world import DETAIL_TYPE, World, wait_for


def bare(session_id: str) -> str:
    return session_id


def address(session_id: str) -> str:
    return f"https://app.devin.ai/sessions/{session_id}"


def one(session_id: str) -> str:
    return json.dumps({"session_id": session_id})


def several(session_id: str) -> str:
    return json.dumps({"session_ids": [session_id, session_id]})


def eventbridge(session_id: str) -> str:
    return json.dumps(
        {
            "version": "0",
            "id": "11112222-3333-4444-5555-666677778888",
            "detail-type": DETAIL_TYPE,
            "source": "com.example.billing",
            "account": "123456789012",
            "time": "2026-11-02T10:00:00Z",
            "region": "us-east-1",
            "resources": [],
            "detail": {"session_id": session_id},
        }
    )


def sns(session_id: str) -> str:
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "22223333-4444-5555-6666-777788889999",
            "TopicArn": "arn:aws:sns:us-east-1:123456789012:idle-sessions",
            "Message": one(session_id),
            "Timestamp": "2026-11-02T10:00:00.000Z",
            "SignatureVersion": "1",
            "Signature": "c2lnbmF0dXJl",
            "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService.pem",
            "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe",
        }
    )


def eventbridge_in_sns(session_id: str) -> str:
    return json.dumps({**json.loads(sns(session_id)), "Message": eventbridge(session_id)})


def failure_record(session_id: str) -> str:
    return json.dumps(
        {
            "version": "1.0",
            "timestamp": "2026-11-02T10:00:00.000Z",
            "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
            "requestPayload": json.loads(eventbridge(session_id)),
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": {"errorType": "RedeliveryError", "errorMessage": "…"},
        }
    )


@pytest.mark.parametrize(
    "body",
    [bare, address, several, eventbridge_in_sns, failure_record],
    ids=lambda body: body.__name__,
)
def test_a_message_of_the_work_queue(world: World, body: Callable[[str], str]) -> None:
    session_id = world.session("queue")

    message_id = world.send(body(session_id))

    assert world.story(session_id, "terminated") == ["terminated"]
    assert world.exited(session_id)
    assert world.methods(session_id) == ["DELETE"]
    (line,) = world.lines(session_id)
    assert (line["source"], line["message_id"], line["receive_count"]) == ("sqs", message_id, 1)


def test_an_event_on_the_bus_and_none_of_another_type(world: World) -> None:
    wanted, unwanted = world.session("bus"), world.session("other-type")

    world.put_event({"session_id": unwanted}, "Devin Session Termination Considered")
    world.put_event({"session_id": wanted})

    assert world.story(wanted, "terminated") == ["terminated"]
    assert world.exited(wanted)
    assert [line["source"] for line in world.lines(wanted)] == ["eventbridge"]
    assert world.calls(unwanted) == []
    assert world.lines(unwanted) == []


def test_a_direct_invocation_answers_with_ids_by_outcome(world: World) -> None:
    good, unknown = world.session("direct"), world.name("direct-unknown")
    answer = world.invoke({"session_ids": [good, unknown, "devin-../x"]})
    assert answer == {"terminated": [good], "rejected": [unknown], "invalid": ["devin-../x"]}
    assert world.exited(good)
    assert world.take_letter(unknown).attributes["source"] == "direct"
    assert world.take_letter("devin-../x").body == '{"session_ids":["devin-../x"]}'


def test_a_direct_invocation_sends_what_needs_another_try_to_the_work_queue(world: World) -> None:
    session_id = world.session("direct-later", Fault(status=503))
    assert world.invoke({"session_id": session_id}) == {"retry": [session_id]}
    assert world.story(session_id, "terminated") == ["retry", "terminated"]
    first, second = world.lines(session_id)
    assert "receive_count" not in first
    assert (second["source"], second["receive_count"], second["attempts"]) == ("direct", 1, 2)


def test_an_asynchronous_invocation(world: World) -> None:
    session_id = world.session("asynchronous")
    world.invoke_later({"session_id": session_id})
    assert world.story(session_id, "terminated") == ["terminated"]
    assert world.methods(session_id) == ["DELETE"]


def test_a_one_time_schedule_ends_the_session_and_then_itself(world: World, underway: Underway) -> None:
    assert world.story(underway.scheduled, "terminated") == ["terminated"]
    assert world.exited(underway.scheduled)

    def schedules() -> list[str]:
        return [schedule["Name"] for schedule in world.stack.aws.scheduler.list_schedules()["Schedules"]]

    # The emulator removes it after it has sent the message, which may be done with by then.
    wait_for(lambda: underway.schedule_name not in schedules(), "the end of the schedule", told=schedules)


@pytest.mark.fault(43)
def test_a_topic_sends_to_the_work_queue_if_it_is_admitted_and_no_other_does(world: World) -> None:
    sns, queue = world.stack.aws.sns, world.stack.outputs["WorkQueueArn"]
    ids = {}
    for name in ("another", PRODUCER.rpartition(":")[2]):
        topic = sns.create_topic(Name=name)["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
        ids[topic] = world.session("published")
        sns.publish(TopicArn=topic, Message=ids[topic])
    assert world.story(ids.pop(PRODUCER), "terminated") == ["terminated"]
    (refused,) = ids.values()
    assert world.calls(refused) == []
