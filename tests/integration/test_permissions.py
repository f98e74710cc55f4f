"""What the roles may do: each permission is needed by something that can be seen, and AWS refuses the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from infra.local.fake_devin import Fault
from infra.local.fake_devin.faults import html_error
from tests.integration.bus import hearing
from tests.integration.world import World, wait_for
from tests.template.rendered import PSEUDO_PARAMETERS, REGION, render


def warnings(world: World, text: str) -> list[str]:
    """What the function logged with this in it, details of ids included."""
    entries = world.stack.log_entries()
    return [said for entry in entries for said in (entry.get("message"), entry.get("detail")) if said and text in said]


@pytest.mark.fault(13)
def test_without_changing_visibility_a_failure_waits_for_the_queues_own_timeout(quiet: World) -> None:
    """The test delivers the message: with a visibility timeout of seconds, a slow machine would deliver it twice."""
    session_id = quiet.session("visibility", html_error())
    with quiet.stack.work_queue_held(), quiet.without("Work", "sqs:ChangeMessageVisibility"):
        record = quiet.received(session_id)
        failed = quiet.invoke({"Records": [record]})["batchItemFailures"]
        assert failed == [{"itemIdentifier": record["messageId"]}]
        assert warnings(quiet, "changing the visibility timeout: AccessDenied")
        assert quiet.queued() == 1
        quiet.make_visible(record)
    assert quiet.story(session_id, "terminated") == ["retry", "terminated"]
    assert quiet.letters_about(session_id) == []


@pytest.mark.fault(21)
def test_without_sending_to_the_work_queue_a_message_is_kept_whole(quiet: World) -> None:
    denied = "sending to the work queue: AccessDenied"
    before = len(warnings(quiet, denied))
    good, failing = quiet.session("whole"), quiet.session("whole-failing", html_error())
    with quiet.without("Work", "sqs:SendMessage"):
        quiet.send(json.dumps({"session_ids": [good, failing]}))
        assert quiet.story(failing, "terminated") == ["retry", "terminated"]
        # Called for its neighbour's sake; the API's rejection is found out to be harmless.
        assert quiet.story(good, "already_exited") == ["terminated", "already_exited"]
    assert len(warnings(quiet, denied)) == before + 1

    good, failing = quiet.session("whole"), quiet.session("whole-failing", html_error())
    quiet.send(json.dumps({"session_ids": [good, failing]}))
    assert quiet.story(failing, "terminated") == ["retry", "terminated"]
    assert quiet.story(good, "terminated") == ["terminated"]
    assert len(warnings(quiet, denied)) == before + 1


@pytest.mark.fault(12)
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


@pytest.mark.fault(11)
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


def test_without_reading_the_switch_everything_is_kept(quiet: World) -> None:
    session_id = quiet.session("switchless")
    # New processes, so that none remembers what the switch said before.
    quiet.kill_workers()
    with quiet.without("StopSwitch", "ssm:GetParameter"):
        quiet.send(session_id)
        assert quiet.wait_for_attempt(session_id) == ["retry"]
        (line,) = quiet.lines(session_id)
        assert "cannot be read" in line["detail"]
        assert "ssm:GetParameter" in line["detail"]
        assert quiet.calls(session_id) == []
        quiet.stack.aws.sqs.purge_queue(QueueUrl=quiet.stack.work_queue_url)  # it would be back in a quarter of an hour
    quiet.wait_until_drained()
    quiet.kill_workers()
    assert quiet.invoke({"session_id": session_id}) == {"terminated": [session_id]}


def test_without_putting_events_outcomes_are_not_published_and_sessions_end_all_the_same(quiet: World) -> None:
    """The statement is there if a stack publishes outcomes. This one does not, so it is put there as it is written."""
    denied = "publishing events: AccessDenied"
    first, second = quiet.session("unpublished"), quiet.session("published")
    with quiet.environment(PUBLISH_OUTCOMES="true"), hearing(quiet, "Devin Session Cleanup Outcome") as heard:
        before = len(warnings(quiet, denied))
        assert quiet.invoke({"session_id": first}) == {"terminated": [first]}
        wait_for(lambda: len(warnings(quiet, denied)) > before, "a warning")
        statement = written("TerminateRole", "Outcomes", quiet, PublishOutcomes="true")
        with quiet.statements("TerminateRole", lambda others: [*others, statement]):
            assert quiet.invoke({"session_id": second}) == {"terminated": [second]}
            found = wait_for(heard, "an outcome")
    assert [json.loads(body)["detail"]["session_id"] for body in found] == [second]


ENFORCED = {"idle_for": "PT6H", "max_share": 1, "dry_run": False}


@pytest.mark.fault(11)
@pytest.mark.parametrize(
    ("sid", "action", "policy", "says"),
    [
        ("Work", "sqs:SendMessage", ENFORCED, "sending to the work queue: AccessDenied"),
        ("ApiKey", "secretsmanager:GetSecretValue", ENFORCED, "the secret cannot be read"),
        ("Announcements", "dynamodb:BatchGetItem", {**ENFORCED, "notify_first": "PT1H"}, "reading the table"),
        ("Announcements", "dynamodb:BatchWriteItem", {**ENFORCED, "notify_first": "PT1H"}, "writing the table"),
        ("AnnouncementsAndReports", "events:PutEvents", {**ENFORCED, "notify_first": "PT1H"}, "publishing events"),
    ],
)
def test_without_a_permission_a_sweep_fails_and_ends_nothing(
    quiet: World, sid: str, action: str, policy: dict[str, Any], says: str
) -> None:
    tag = f"denied-{action.rpartition(':')[2]}"
    session_id = quiet.stale(tag)
    # New processes, which have no key in their cache.
    quiet.kill_workers(quiet.stack.sweep_function_name)
    with quiet.without(sid, action, "SweepRole"):
        error = quiet.sweep({**policy, "tags": [tag]})["errorMessage"]
    assert says in error
    assert "AccessDenied" in error
    assert quiet.calls(session_id) == []
    report = quiet.sweep({**policy, "tags": [tag], "dry_run": True})
    assert report["chosen"] == 1


def test_without_reading_the_switch_a_sweep_stops(quiet: World) -> None:
    quiet.kill_workers(quiet.stack.sweep_function_name)
    with quiet.without("StopSwitch", "ssm:GetParameter", "SweepRole"):
        report = quiet.sweep({"idle_for": "PT6H"})
    assert report["mode"] == "stopped"
    assert "ssm:GetParameter" in report["why"]
    # It remembers for some seconds what the switch said.
    quiet.kill_workers(quiet.stack.sweep_function_name)


# What the policies themselves say, also where the emulator does not ask them.


def resources(world: World) -> dict[str, str]:
    outputs = world.stack.outputs
    beginning = outputs["WorkQueueArn"].split(":")
    region, account = beginning[3], beginning[4]

    def arn(service: str, resource: str) -> str:
        return f"arn:aws:{service}:{region}:{account}:{resource}"

    return {
        "work queue": outputs["WorkQueueArn"],
        "dead letters": outputs["DeadLetterQueueArn"],
        "secret": outputs["ApiKeySecretArn"],
        "another secret": f"{outputs['ApiKeySecretArn'][:-6]}zzzzzz",
        "switch": arn("ssm", f"parameter{outputs['StopSwitchParameterName']}"),
        "another parameter": arn("ssm", f"parameter{outputs['StopSwitchParameterName']}-2"),
        "announcements": arn("dynamodb", f"table/{outputs['AnnouncementsTableName']}"),
        "bus": arn("events", "event-bus/default"),
        "another bus": arn("events", "event-bus/other"),
        "terminate's logs": arn("logs", f"log-group:{outputs['TerminateLogGroupName']}:log-stream:x"),
        "sweep's logs": arn("logs", f"log-group:{outputs['SweepLogGroupName']}:log-stream:x"),
        "terminate": arn("lambda", f"function:{outputs['TerminateFunctionName']}"),
        "sweep": outputs["SweepFunctionArn"],
    }


def may(world: World, holder: str, action: str, resource: str) -> bool:
    """What the account's policies say of a role."""
    role = world.stack.aws.iam.get_role(RoleName=world.role_name(holder))["Role"]["Arn"]
    answer = world.stack.aws.iam.simulate_principal_policy(
        PolicySourceArn=role, ActionNames=[action], ResourceArns=[resources(world)[resource]]
    )
    return [result["EvalDecision"] for result in answer["EvaluationResults"]] == ["allowed"]


def written(holder: str, sid: str, world: World, **parameters: str) -> dict[str, Any]:
    """A statement as the template has it, of this account."""
    role = json.dumps(render(**parameters).resources[holder]["Properties"])
    _, _, _, region, account, _ = world.stack.outputs["WorkQueueArn"].split(":", 5)
    role = role.replace(REGION, region).replace(PSEUDO_PARAMETERS["AWS::AccountId"], account)
    (policy,) = json.loads(role)["Policies"]
    (statement,) = (one for one in policy["PolicyDocument"]["Statement"] if one["Sid"] == sid)
    found: dict[str, Any] = statement
    return found


GRANTS = [
    *(
        ("TerminateRole", "Work", action, "work queue")
        for action in (
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ChangeMessageVisibility",
            "sqs:SendMessage",
        )
    ),
    ("TerminateRole", "DeadLetters", "sqs:SendMessage", "dead letters"),
    ("TerminateRole", "ApiKey", "secretsmanager:GetSecretValue", "secret"),
    ("TerminateRole", "StopSwitch", "ssm:GetParameter", "switch"),
    ("TerminateRole", "Rejections", "dynamodb:BatchWriteItem", "announcements"),
    ("TerminateRole", "Logs", "logs:CreateLogStream", "terminate's logs"),
    ("TerminateRole", "Logs", "logs:PutLogEvents", "terminate's logs"),
    ("SweepRole", "Work", "sqs:SendMessage", "work queue"),
    ("SweepRole", "ApiKey", "secretsmanager:GetSecretValue", "secret"),
    ("SweepRole", "StopSwitch", "ssm:GetParameter", "switch"),
    ("SweepRole", "Announcements", "dynamodb:BatchGetItem", "announcements"),
    ("SweepRole", "Announcements", "dynamodb:BatchWriteItem", "announcements"),
    ("SweepRole", "AnnouncementsAndReports", "events:PutEvents", "bus"),
    ("SweepRole", "Logs", "logs:CreateLogStream", "sweep's logs"),
    ("SweepRole", "Logs", "logs:PutLogEvents", "sweep's logs"),
    ("OneTimeScheduleRole", "Send", "sqs:SendMessage", "work queue"),
    ("OneTimeScheduleRole", "Send", "sqs:SendMessage", "dead letters"),
    ("SweepScheduleRole", "Invoke", "lambda:InvokeFunction", "sweep"),
]


def test_the_roles_may_do_it_and_only_by_their_statements(quiet: World) -> None:
    """The emulator asks no role to poll, to log, or to deliver what is scheduled or has failed; AWS does."""
    for holder, sid, action, resource in GRANTS:
        assert may(quiet, holder, action, resource)
        with quiet.without(sid, action, holder):
            assert not may(quiet, holder, action, resource), f"another statement than {sid} allows {action}"


@pytest.mark.parametrize(
    ("holder", "action", "resource"),
    [
        ("TerminateRole", "sqs:ReceiveMessage", "dead letters"),
        ("TerminateRole", "secretsmanager:GetSecretValue", "another secret"),
        ("TerminateRole", "ssm:GetParameter", "another parameter"),
        ("TerminateRole", "events:PutEvents", "bus"),
        ("TerminateRole", "logs:PutLogEvents", "sweep's logs"),
        ("TerminateRole", "lambda:InvokeFunction", "sweep"),
        ("SweepRole", "sqs:SendMessage", "dead letters"),
        ("SweepRole", "secretsmanager:GetSecretValue", "another secret"),
        ("SweepRole", "events:PutEvents", "another bus"),
        ("SweepRole", "logs:PutLogEvents", "terminate's logs"),
        ("OneTimeScheduleRole", "lambda:InvokeFunction", "terminate"),
        ("SweepScheduleRole", "lambda:InvokeFunction", "terminate"),
    ],
)
def test_a_role_may_do_no_more(world: World, holder: str, action: str, resource: str) -> None:
    assert not may(world, holder, action, resource)


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
