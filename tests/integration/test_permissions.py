"""What the function may do: each permission is needed by something that can be seen, and AWS refuses the rest."""

from __future__ import annotations

import json

import pytest
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from infra.local.standin import Fault
from infra.local.standin.faults import html_error
from tests.integration.world import World


def warnings(world: World, text: str) -> list[str]:
    """What the function logged with this in it, details of ids included."""
    entries = world.stack.log_entries()
    return [said for entry in entries for said in (entry.get("message"), entry.get("detail")) if said and text in said]


def test_without_changing_visibility_a_failure_waits_for_the_queues_own_timeout(quiet: World) -> None:
    denied = "changing the visibility timeout: AccessDenied"
    session_id = quiet.session("visibility", html_error())
    with quiet.without("Work", "sqs:ChangeMessageVisibility"), quiet.visibility_timeout(3):
        quiet.send(session_id)
        assert quiet.wait_for_attempt(session_id)[0] == "retry"
        assert warnings(quiet, denied)
    quiet.wait_until_drained()
    assert quiet.exited(session_id)
    assert quiet.letters_about(session_id) == []

    before = len(warnings(quiet, denied))
    session_id = quiet.session("visibility", html_error())
    quiet.send(session_id)
    assert quiet.story(session_id, "terminated") == ["retry", "terminated"]
    assert len(warnings(quiet, denied)) == before


def test_without_sending_to_the_work_queue_a_message_is_kept_whole(quiet: World) -> None:
    denied = "sending to the work queue: AccessDenied"
    good, failing = quiet.session("whole"), quiet.session("whole-failing", html_error())
    with quiet.without("Work", "sqs:SendMessage"):
        quiet.send(json.dumps({"session_ids": [good, failing]}))
        assert quiet.story(failing, "terminated") == ["retry", "terminated"]
        # Called for its neighbour's sake; the API's rejection is found out to be harmless.
        assert quiet.story(good, "already_exited") == ["terminated", "already_exited"]
    assert len(warnings(quiet, denied)) == 1

    good, failing = quiet.session("whole"), quiet.session("whole-failing", html_error())
    quiet.send(json.dumps({"session_ids": [good, failing]}))
    assert quiet.story(failing, "terminated") == ["retry", "terminated"]
    assert quiet.story(good, "terminated") == ["terminated"]
    assert len(warnings(quiet, denied)) == 1


def test_without_sending_to_the_dead_letters_a_rejection_is_kept(quiet: World) -> None:
    rejection = Fault(status=422, body='{"detail": "no"}')
    session_id = quiet.session("unwritten")
    quiet.stack.api.script(rejection, session_id=session_id)
    with quiet.without("DeadLetters", "sqs:SendMessage"):
        quiet.send(session_id)
        quiet.wait_for_attempt(session_id)
        assert quiet.lines(session_id)[0]["outcome"] == "retry"
        assert quiet.lines(session_id)[0]["detail"] == "sending to the dead-letter queue: AccessDenied"
        assert quiet.queued() == 1
        assert quiet.letters_about(session_id) == []
    assert quiet.take_letter(session_id).attributes["reason"] == "rejected_422"
    assert set(quiet.story(session_id, "rejected")) == {"retry", "rejected"}


def test_without_reading_the_secret_everything_is_kept(quiet: World) -> None:
    ids = [quiet.session("unread") for _ in range(3)]
    # What starts anew has no key in its cache.
    quiet.kill_workers()
    with quiet.without("ApiKey", "secretsmanager:GetSecretValue"):
        quiet.send(json.dumps({"session_ids": ids}))
        for session_id in ids:
            quiet.wait_for_attempt(session_id)
            line = quiet.lines(session_id)[0]
            assert line["outcome"] == "retry"
            assert "secretsmanager:GetSecretValue" in line["detail"]
        assert [quiet.calls(session_id) for session_id in ids] == [[], [], []]
    for session_id in ids:
        assert set(quiet.story(session_id, "terminated")) == {"retry", "terminated"}
        assert quiet.methods(session_id) == ["DELETE"]


WORK, DEAD_LETTERS = "WorkQueueArn", "DeadLetterQueueArn"


def may(world: World, action: str, resource: str) -> bool:
    """What the account's policies say of the function's role."""
    role = world.stack.aws.iam.get_role(RoleName=world.role_name())["Role"]["Arn"]
    answer = world.stack.aws.iam.simulate_principal_policy(
        PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource]
    )
    return [result["EvalDecision"] for result in answer["EvaluationResults"]] == ["allowed"]


@pytest.mark.parametrize("action", ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"])
def test_the_event_source_mapping_may_poll_and_only_by_its_statement(quiet: World, action: str) -> None:
    """The emulator's mapping does not ask the role, Lambda's does; so the policies themselves are asked."""
    queue = quiet.stack.outputs[WORK]
    assert may(quiet, action, queue)
    with quiet.without("Work", action):
        assert not may(quiet, action, queue)
    assert may(quiet, action, queue)


@pytest.mark.parametrize(
    ("action", "output"),
    [
        ("sqs:ReceiveMessage", DEAD_LETTERS),
        ("sqs:DeleteMessage", DEAD_LETTERS),
        ("sqs:PurgeQueue", WORK),
        ("sqs:SetQueueAttributes", WORK),
        ("secretsmanager:PutSecretValue", "ApiKeySecretArn"),
        ("secretsmanager:DeleteSecret", "ApiKeySecretArn"),
    ],
)
def test_the_function_may_do_no_more(world: World, action: str, output: str) -> None:
    assert not may(world, action, world.stack.outputs[output])


def test_the_function_may_read_no_other_secret(world: World) -> None:
    mine = world.stack.api_key_secret_arn
    assert may(world, "secretsmanager:GetSecretValue", mine)
    assert not may(world, "secretsmanager:GetSecretValue", f"{mine[:-6]}zzzzzz")


@pytest.mark.parametrize("queue", ["work", "dead letters"])
def test_the_queues_refuse_what_came_by_plain_http(world: World, queue: str) -> None:
    """The emulator speaks TLS alone, but believes what a proxy in front of it says of a request's last mile."""
    sqs = world.stack.aws.sqs
    url = world.stack.work_queue_url if queue == "work" else world.stack.dead_letter_queue_url
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])

    def by_plain_http(request: AWSRequest, **_: object) -> None:
        request.headers["X-Forwarded-Proto"] = "http"

    event = "before-sign.sqs"
    sqs.meta.events.register(event, by_plain_http)
    try:
        with pytest.raises(ClientError) as refused:
            sqs.send_message(QueueUrl=url, MessageBody=world.name("plain"))
        with pytest.raises(ClientError) as refused_too:
            sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    finally:
        sqs.meta.events.unregister(event, by_plain_http)
    for refusal in (refused, refused_too):
        assert refusal.value.response["Error"]["Code"] == "AccessDenied"
