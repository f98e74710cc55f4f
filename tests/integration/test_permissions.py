"""What the roles may do: each permission is needed by something that can be seen, and AWS refuses the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
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


def test_without_reading_the_switch_everything_is_kept(quiet: World) -> None:
    session_id = quiet.session("switchless")
    # New workers, so that none remembers what the switch said before.
    with (
        without(quiet, "TerminateRole", "StopSwitch", "ssm:GetParameter"),
        quiet.environment(DEVIN_ORG_ID="org-switchless"),
    ):
        quiet.send(session_id)
        assert quiet.wait_for_attempt(session_id) == ["retry"]
        (line,) = quiet.lines(session_id)
        assert "cannot be read" in line["detail"]
        assert "ssm:GetParameter" in line["detail"]
        assert quiet.calls(session_id) == []
        quiet.stack.aws.sqs.purge_queue(QueueUrl=quiet.stack.work_queue_url)  # it would be back in a quarter of an hour
    quiet.wait_until_drained()
    assert quiet.invoke({"session_id": session_id}) == {"terminated": [session_id]}


def test_without_putting_events_outcomes_are_not_published_and_sessions_end_all_the_same(quiet: World) -> None:
    """The statement is there if a stack publishes outcomes. This one does not, so it is put there as it is written."""
    denied = "publishing events: AccessDenied"
    first, second = quiet.session("unpublished"), quiet.session("published")
    with quiet.environment(PUBLISH_OUTCOMES="true"), hearing(quiet, "Devin Session Cleanup Outcome") as heard:
        before = len(warnings(quiet, denied))
        assert quiet.invoke({"session_id": first}) == {"terminated": [first]}
        wait_for(lambda: len(warnings(quiet, denied)) > before, "a warning")
        with granted(quiet, "TerminateRole", written("TerminateRole", "Outcomes", quiet, PublishOutcomes="true")):
            assert quiet.invoke({"session_id": second}) == {"terminated": [second]}
            found = wait_for(heard, "an outcome")
    assert [json.loads(body)["detail"]["session_id"] for body in found] == [second]


ENFORCED = {"idle_for": "PT6H", "max_share": 1, "dry_run": False}


def test_without_sending_to_the_work_queue_a_sweep_fails(quiet: World) -> None:
    session_id = swept(quiet, "unsent")
    with without(quiet, "SweepRole", "Work", "sqs:SendMessage"):
        said = sweep(quiet, {**ENFORCED, "tags": ["unsent"]})["errorMessage"]
        assert "enqueued 0 of 1 sessions: sending to the work queue: AccessDenied" in said
    assert quiet.calls(session_id) == []
    assert sweep(quiet, {**ENFORCED, "tags": ["unsent"]})["enqueued"] == 1
    quiet.story(session_id, "terminated")


def test_without_reading_the_secret_a_sweep_fails(quiet: World) -> None:
    with without(quiet, "SweepRole", "ApiKey", "secretsmanager:GetSecretValue"), fresh_sweep(quiet):
        said = sweep(quiet, {"idle_for": "PT6H"})["errorMessage"]
        assert "the secret cannot be read" in said
        assert "AccessDenied" in said
    assert sweep(quiet, {"idle_for": "PT6H"})["mode"] == "dry_run"


def test_without_reading_the_switch_a_sweep_stops(quiet: World) -> None:
    with without(quiet, "SweepRole", "StopSwitch", "ssm:GetParameter"), fresh_sweep(quiet):
        report = sweep(quiet, {"idle_for": "PT6H"})
        assert report["mode"] == "stopped"
        assert "ssm:GetParameter" in report["why"]
    assert sweep(quiet, {"idle_for": "PT6H"})["mode"] == "dry_run"


@pytest.mark.parametrize("action", ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"])
def test_without_its_table_a_sweep_with_notice_fails(quiet: World, action: str) -> None:
    tag = f"unremembered-{action.rpartition(':')[2]}"
    session_id = swept(quiet, tag)
    policy = {**ENFORCED, "tags": [tag], "notify_first": "PT1H"}
    with without(quiet, "SweepRole", "Announcements", action):
        said = sweep(quiet, policy)["errorMessage"]
        assert "AccessDenied" in said
        assert action in said
    assert sweep(quiet, policy)["announced"] == 1
    assert quiet.calls(session_id) == []


def test_without_putting_events_a_sweep_announces_nothing_and_reports_all_the_same(quiet: World) -> None:
    session_id = swept(quiet, "unannounced")
    policy = {**ENFORCED, "tags": ["unannounced"], "notify_first": "PT1H"}
    with (
        hearing(quiet, "Devin Session Termination Announced", "Devin Sweep Completed") as heard,
        without(quiet, "SweepRole", "AnnouncementsAndReports", "events:PutEvents"),
    ):
        assert "publishing events: AccessDenied" in sweep(quiet, policy)["errorMessage"]
        assert sweep(quiet, {"tags": ["unannounced"]})["mode"] == "dry_run"
        assert heard() == []
    with hearing(quiet, "Devin Session Termination Announced", "Devin Sweep Completed") as heard:
        assert sweep(quiet, policy)["announced"] == 1
        kinds = {"Devin Session Termination Announced", "Devin Sweep Completed"}
        wait_for(lambda: {json.loads(body)["detail-type"] for body in heard()} == kinds, "both events", told=heard)
    assert quiet.calls(session_id) == []


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
        "anything": "*",
    }


def role_name(world: World, holder: str) -> str:
    functions = {"TerminateRole": "TerminateFunctionName", "SweepRole": "SweepFunctionName"}
    if holder in functions:
        name = world.stack.outputs[functions[holder]]
        role = world.stack.aws.lambda_.get_function_configuration(FunctionName=name)["Role"]
    else:
        role = world.stack.outputs[f"{holder}Arn"]
    return role.rpartition("/")[2]


def may(world: World, holder: str, action: str, resource: str) -> bool:
    """What the account's policies say of a role."""
    role = world.stack.aws.iam.get_role(RoleName=role_name(world, holder))["Role"]["Arn"]
    answer = world.stack.aws.iam.simulate_principal_policy(
        PolicySourceArn=role, ActionNames=[action], ResourceArns=[resources(world)[resource]]
    )
    return [result["EvalDecision"] for result in answer["EvaluationResults"]] == ["allowed"]


@contextmanager
def granted(world: World, holder: str, *statements: dict[str, Any]) -> Iterator[None]:
    """The role with these statements in place of those of the same name, or beside the others."""
    iam, role = world.stack.aws.iam, role_name(world, holder)
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document: Any = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    replaced = {statement["Sid"] for statement in statements}
    kept = [one for one in document["Statement"] if one["Sid"] not in replaced]
    if changed := [*kept, *(one for one in statements if one["Action"])]:
        now = json.dumps({**document, "Statement": changed})
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=now)
    else:
        iam.delete_role_policy(RoleName=role, PolicyName=policy)
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


@contextmanager
def without(world: World, holder: str, sid: str, action: str) -> Iterator[None]:
    """The role without an action of one statement."""
    iam, role = world.stack.aws.iam, role_name(world, holder)
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document: Any = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    (statement,) = (one for one in document["Statement"] if one["Sid"] == sid)
    actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
    assert action in actions
    with granted(world, holder, {**statement, "Action": [one for one in actions if one != action]}):
        yield


def written(holder: str, sid: str, world: World, **parameters: str) -> dict[str, Any]:
    """A statement as the template has it, of this account."""
    role = json.dumps(render(**parameters).resources[holder]["Properties"])
    _, _, _, region, account, _ = world.stack.outputs["WorkQueueArn"].split(":", 5)
    role = role.replace(REGION, region).replace(PSEUDO_PARAMETERS["AWS::AccountId"], account)
    (policy,) = json.loads(role)["Policies"]
    (statement,) = (one for one in policy["PolicyDocument"]["Statement"] if one["Sid"] == sid)
    found: dict[str, Any] = statement
    return found


@contextmanager
def fresh_sweep(world: World) -> Iterator[None]:
    """The sweep in new workers, which remember neither key nor switch."""
    functions, name = world.stack.aws.lambda_, world.stack.sweep_function_name
    before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**before, "MAX_WORKERS": "9"}}
    )
    try:
        yield
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": before})


def swept(world: World, tag: str) -> str:
    """A session that a sweep for this tag chooses."""
    long_ago = datetime.now(UTC) - timedelta(days=2)
    return world.session(tag, tags=(tag,), created_at=long_ago, updated_at=long_ago)


def sweep(world: World, policy: dict[str, Any]) -> Any:
    """Invoke the sweep and return its report, or Lambda's error."""
    answer = world.stack.aws.lambda_.invoke(
        FunctionName=world.stack.sweep_function_name, Payload=json.dumps(policy).encode()
    )
    return json.loads(answer["Payload"].read())


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
    ("TerminateRole", "Logs", "logs:CreateLogStream", "terminate's logs"),
    ("TerminateRole", "Logs", "logs:PutLogEvents", "terminate's logs"),
    ("TerminateRole", "Traces", "xray:PutTraceSegments", "anything"),
    ("TerminateRole", "Traces", "xray:PutTelemetryRecords", "anything"),
    ("SweepRole", "Work", "sqs:SendMessage", "work queue"),
    ("SweepRole", "ApiKey", "secretsmanager:GetSecretValue", "secret"),
    ("SweepRole", "StopSwitch", "ssm:GetParameter", "switch"),
    ("SweepRole", "Announcements", "dynamodb:BatchGetItem", "announcements"),
    ("SweepRole", "Announcements", "dynamodb:BatchWriteItem", "announcements"),
    ("SweepRole", "AnnouncementsAndReports", "events:PutEvents", "bus"),
    ("SweepRole", "Logs", "logs:CreateLogStream", "sweep's logs"),
    ("SweepRole", "Logs", "logs:PutLogEvents", "sweep's logs"),
    ("SweepRole", "Traces", "xray:PutTraceSegments", "anything"),
    ("SweepRole", "Traces", "xray:PutTelemetryRecords", "anything"),
    ("OneTimeScheduleRole", "Send", "sqs:SendMessage", "work queue"),
    ("OneTimeScheduleRole", "Send", "sqs:SendMessage", "dead letters"),
    ("SweepScheduleRole", "Invoke", "lambda:InvokeFunction", "sweep"),
]


@pytest.mark.parametrize(("holder", "sid", "action", "resource"), GRANTS)
def test_a_role_may_do_it_and_only_by_its_statement(
    quiet: World, holder: str, sid: str, action: str, resource: str
) -> None:
    """The emulator asks no role to poll, to log, to trace, or to deliver what is scheduled or has failed; AWS does."""
    assert may(quiet, holder, action, resource)
    with without(quiet, holder, sid, action):
        assert not may(quiet, holder, action, resource)
    assert may(quiet, holder, action, resource)


@pytest.mark.parametrize(
    ("holder", "action", "resource"),
    [
        ("TerminateRole", "sqs:ReceiveMessage", "dead letters"),
        ("TerminateRole", "sqs:DeleteMessage", "dead letters"),
        ("TerminateRole", "sqs:PurgeQueue", "work queue"),
        ("TerminateRole", "sqs:SetQueueAttributes", "work queue"),
        ("TerminateRole", "secretsmanager:PutSecretValue", "secret"),
        ("TerminateRole", "secretsmanager:DeleteSecret", "secret"),
        ("TerminateRole", "secretsmanager:GetSecretValue", "another secret"),
        ("TerminateRole", "ssm:PutParameter", "switch"),
        ("TerminateRole", "ssm:GetParameter", "another parameter"),
        ("TerminateRole", "events:PutEvents", "bus"),
        ("TerminateRole", "dynamodb:PutItem", "announcements"),
        ("TerminateRole", "logs:PutLogEvents", "sweep's logs"),
        ("TerminateRole", "lambda:InvokeFunction", "sweep"),
        ("SweepRole", "sqs:ReceiveMessage", "work queue"),
        ("SweepRole", "sqs:SendMessage", "dead letters"),
        ("SweepRole", "secretsmanager:PutSecretValue", "secret"),
        ("SweepRole", "secretsmanager:GetSecretValue", "another secret"),
        ("SweepRole", "ssm:PutParameter", "switch"),
        ("SweepRole", "dynamodb:Scan", "announcements"),
        ("SweepRole", "dynamodb:DeleteItem", "announcements"),
        ("SweepRole", "events:PutEvents", "another bus"),
        ("SweepRole", "logs:PutLogEvents", "terminate's logs"),
        ("SweepRole", "lambda:InvokeFunction", "terminate"),
        ("OneTimeScheduleRole", "sqs:ReceiveMessage", "work queue"),
        ("OneTimeScheduleRole", "lambda:InvokeFunction", "terminate"),
        ("OneTimeScheduleRole", "secretsmanager:GetSecretValue", "secret"),
        ("SweepScheduleRole", "lambda:InvokeFunction", "terminate"),
        ("SweepScheduleRole", "lambda:UpdateFunctionCode", "sweep"),
        ("SweepScheduleRole", "sqs:SendMessage", "work queue"),
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
