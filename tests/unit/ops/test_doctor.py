"""`doctor`: a healthy stack passes, and each thing that may be wrong is found, with what to do."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import boto3
import pytest
from requests.structures import CaseInsensitiveDict

from devin.http import Reply
from sweep.policy import parse_policy
from tests.unit.ops.world import Operator, report
from tests.unit.world import API, KEY, ORG_ID, UNAUTHORIZED, V3_KEY, answer, page, stale

ROLES = "arn:aws:iam::123456789012:role"
KEY_ID = "11111111-2222-3333-4444-555555555555"


class Stack:
    """What Lambda, IAM and Scheduler say of a stack; a test changes it."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.asked: Mapping[str, Any] = {}
        self.environment = operator.world.environment()
        self.mapping: dict[str, Any] = {
            "UUID": str(UUID(int=1)),
            "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:terminate",
            "State": "Enabled",
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "LastProcessingResult": "OK",
        }
        self.timeout = 60
        self.denied: set[str] = set()
        self.simulated: set[tuple[str, str, str]] = set()
        self.key_state = "Enabled"
        self.subscriptions = ["arn:aws:sns:eu-west-1:123456789012:alarms:1", "PendingConfirmation"]
        self.periodic = "DISABLED"
        self.schedules: list[dict[str, Any]] = []
        faults = operator.world.aws.faults
        faults["lambda.GetFunctionConfiguration"] = lambda _: {
            "Timeout": self.timeout,
            "Role": f"{ROLES}/{self.asked['FunctionName']}",
            "Environment": {"Variables": self.environment},
        }
        faults["lambda.ListEventSourceMappings"] = lambda _: {
            "EventSourceMappings": [self.mapping] if self.mapping else []
        }
        faults["cloudformation.DescribeStackResource"] = lambda _: {
            "StackResourceDetail": {"PhysicalResourceId": self.resources[self.asked["LogicalResourceId"]]}
        }
        self.resources = {"PeriodicSweep": "periodic", "Key": KEY_ID}
        faults["kms.DescribeKey"] = lambda _: {"KeyMetadata": {"KeyId": KEY_ID, "KeyState": self.key_state}}
        faults["sns.ListSubscriptionsByTopic"] = lambda _: {
            "Subscriptions": [{"SubscriptionArn": one} for one in self.subscriptions]
        }
        faults["scheduler.GetSchedule"] = lambda _: {"State": self.periodic, **(self.schedules or [{}])[0]}
        faults["scheduler.ListSchedules"] = lambda _: {"Schedules": self.schedules}
        faults["iam.SimulatePrincipalPolicy"] = self._simulate
        self.set_queue(
            operator.world.work_queue,
            RedrivePolicy=json.dumps(
                {"deadLetterTargetArn": operator.outputs["DeadLetterQueueArn"], "maxReceiveCount": 5}
            ),
        )
        self.set_queue(operator.world.dead_letter_queue, MessageRetentionPeriod="1209600")

    def hear(self, params: Mapping[str, Any], **_: object) -> None:
        """What is asked of AWS now; faults get only what travels as JSON."""
        self.asked = params

    def _simulate(self, _: object) -> dict[str, Any]:
        (arn,) = self.asked["ResourceArns"]
        role = self.asked["PolicySourceArn"].removeprefix(f"{ROLES}/")
        self.simulated |= {(role, action, arn) for action in self.asked["ActionNames"]}
        return {
            "EvaluationResults": [
                {"EvalActionName": one, "EvalDecision": "implicitDeny" if one in self.denied else "allowed"}
                for one in self.asked["ActionNames"]
            ]
        }

    def set_queue(self, url: str, **attributes: str) -> None:
        self.operator.world.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)  # type: ignore[arg-type]

    def store(self, secret: str) -> None:
        self.operator.world.secrets.put_secret_value(SecretId=self.operator.world.secret, SecretString=secret)

    def findings(self, *arguments: str) -> dict[str, set[str]]:
        """The checks by status; the exit status says whether any failed, and no key is shown."""
        ran = self.operator.run("doctor", "--json", *arguments)
        assert KEY not in ran.out + ran.err
        assert V3_KEY not in ran.out + ran.err
        found: dict[str, set[str]] = {"ok": set(), "warning": set(), "unknown": set(), "failed": set()}
        for one in ran.data["findings"]:
            found[one["status"]].add(one["check"])
            assert bool(one["remedy"]) == (one["status"] != "ok")
        assert ran.status == (1 if found["failed"] else 0)
        assert ("could not be made" in ran.err) == bool(found["unknown"])
        return found


@pytest.fixture
def stack(operator: Operator) -> Iterator[Stack]:
    operator.world.api.have(stale())
    made = Stack(operator)
    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register("provide-client-params", made.hear)
    yield made
    boto3.DEFAULT_SESSION.events.unregister("provide-client-params", made.hear)


class ApiV3:
    """Answers by path; in place of the transport, which knows one version's sessions alone."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str] | None]] = []
        self.me: Any = {"principal_type": "service_user", "service_user_name": "Cleanup\u200b", "org_id": ORG_ID}
        self.listing: tuple[int, Any] = (200, {"items": [], "has_next_page": False})

    def request(self, method: str, path: str, *, params: dict[str, str] | None, **_: object) -> Reply:
        self.asked.append((method, path, params))
        status, body = (200, self.me) if path == "/v3/self" else self.listing
        return Reply(status, CaseInsensitiveDict(), json.dumps(body).encode())


@pytest.fixture
def api_v3(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> ApiV3:
    made = ApiV3()
    monkeypatch.setattr("infra.ops.api_check.Transport", lambda _: made)
    stack.store(V3_KEY)
    stack.environment["DEVIN_ORG_ID"] = ORG_ID
    return made


def test_a_healthy_stack_has_nothing_to_complain_about_but_version_1(stack: Stack) -> None:
    found = stack.findings()
    assert found["failed"] == set()
    assert found["warning"] == {"secret"}
    assert stack.operator.world.api.calls == [("LIST", "limit=1&offset=0")], "one harmless read, and nothing else"
    assert stack.operator.world.api.keys == [KEY]


def test_a_healthy_stack_with_a_key_of_version_3(stack: Stack, api_v3: ApiV3) -> None:
    found = stack.findings()
    assert (found["failed"], found["warning"]) == (set(), set())
    assert "key's owner" in found["ok"]
    assert api_v3.asked == [("GET", "/v3/self", None), ("GET", f"/v3/organizations/{ORG_ID}/sessions", {"first": "1"})]
    ran = stack.operator.run("doctor")
    assert rf"service_user Cleanup\u200b, organisation {ORG_ID}" in ran.out
    assert "from this machine (the functions call from AWS): 200" in ran.out


@pytest.mark.parametrize(
    ("theirs", "status"),
    [
        ("org-other", "failed"),
        (f"org-x{ORG_ID.removeprefix('org-')}", "failed"),
        (ORG_ID.removeprefix("org-"), "ok"),
        (None, "ok"),
    ],
)
def test_the_keys_organisation_is_compared(stack: Stack, api_v3: ApiV3, theirs: str | None, status: str) -> None:
    api_v3.me["org_id"] = theirs
    assert "key's owner" in stack.findings()[status]


def test_a_personal_token_is_named_as_its_owners(stack: Stack, api_v3: ApiV3) -> None:
    api_v3.me = {"principal_type": "pat_user", "user_name": "Ann", "user_email": "ann@example.com", "org_id": ORG_ID}
    assert f"pat_user Ann ann@example.com, organisation {ORG_ID}" in stack.operator.run("doctor").out


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "or this address is not on the enterprise's IP access list"),
        (403, "ViewOrgSessions to list and read, ManageOrgSessions to terminate and archive"),
        (404, "https://api.devinenterprise.com"),
    ],
)
def test_what_the_api_refuses_is_explained(stack: Stack, api_v3: ApiV3, status: int, says: str) -> None:
    api_v3.me = []
    api_v3.listing = (status, {"title": "Forbidden", "detail": "Unauthorized"})
    ran = stack.operator.run("doctor")
    assert ran.status == 1
    assert says in ran.out


def test_the_function_can_be_asked_to_read_from_aws(stack: Stack) -> None:
    policies = stack.operator.answer_sweeps(report())
    assert "api from AWS" in stack.findings("--ask-function")["ok"]
    assert policies[0]["dry_run"] is True
    parse_policy(policies[0])  # the function takes it


def test_what_the_function_cannot_read_is_found(stack: Stack) -> None:
    stack.operator.answer_sweeps({"errorMessage": "listing sessions: the API answered 401"}, error=True)
    assert "api from AWS" in stack.findings("--ask-function", "--no-api")["failed"]


def test_doctor_changes_nothing(stack: Stack) -> None:
    stack.operator.world.aws.calls.clear()
    stack.findings()
    reading = ("Get", "List", "Describe", "Simulate")
    assert all(name.partition(".")[2].startswith(reading) for name in stack.operator.world.aws.names())


def test_the_api_is_left_alone_if_asked(stack: Stack) -> None:
    assert "used from this machine" in stack.operator.run("doctor").err
    stack.operator.world.api.calls.clear()
    assert "api" not in stack.findings("--no-api")["ok"]
    assert stack.operator.world.api.calls == []


def break_queue(name: str, value: str, *, letters: bool = False) -> Callable[[Stack], None]:
    def broken(stack: Stack) -> None:
        world = stack.operator.world
        stack.set_queue(world.dead_letter_queue if letters else world.work_queue, **{name: value})

    return broken


def deny(action: str, *, outcomes: bool = False) -> Callable[[Stack], None]:
    def broken(stack: Stack) -> None:
        stack.denied.add(action)
        stack.environment["PUBLISH_OUTCOMES"] = str(outcomes)

    return broken


def delete_key(stack: Stack) -> None:
    stack.operator.parameters["UseCustomerManagedKey"] = "true"
    stack.key_state = "PendingDeletion"


BROKEN: dict[str, tuple[Callable[[Stack], object], str]] = {
    "rolled back": (lambda stack: setattr(stack.operator, "status", "ROLLBACK_COMPLETE"), "stack"),
    "no key yet": (lambda stack: stack.store('{"api_key": ""}'), "secret"),
    "a key with a line break": (lambda stack: stack.store(f"{KEY}\n"), "secret"),
    "a key of version 3 without organisation": (lambda stack: stack.store(V3_KEY), "secret"),
    "a bad environment": (lambda stack: stack.environment.update(MAX_WORKERS="many"), "stack"),
    "mapping disabled": (lambda stack: stack.mapping.update(State="Disabled"), "event source mapping"),
    "mapping gone": (lambda stack: stack.mapping.clear(), "event source mapping"),
    "failures not reported": (lambda stack: stack.mapping.update(FunctionResponseTypes=[]), "event source mapping"),
    "mapping in trouble": (
        lambda stack: stack.mapping.update(LastProcessingResult="PROBLEM: access"),
        "event source mapping",
    ),
    "visibility": (break_queue("VisibilityTimeout", "359"), "visibility timeout"),
    "visibility with a window": (
        lambda stack: stack.mapping.update(MaximumBatchingWindowInSeconds=61),
        "visibility timeout",
    ),
    "few receives": (
        lambda stack: break_queue(
            "RedrivePolicy",
            json.dumps({"deadLetterTargetArn": stack.operator.outputs["DeadLetterQueueArn"], "maxReceiveCount": 4}),
        )(stack),
        "redrive policy",
    ),
    "no redrive": (break_queue("RedrivePolicy", ""), "redrive policy"),
    "short retention": (break_queue("MessageRetentionPeriod", "345600", letters=True), "retention"),
    "stopped": (lambda stack: stack.operator.world.switch("stop"), "stop switch"),
    "dead letters": (lambda stack: stack.operator.dead_letter("devin-1"), "dead letters"),
    "a permission is missing": (lambda stack: stack.denied.add("sqs:SendMessage"), "permissions of sweep"),
    "schedules may not send": (deny("sqs:SendMessage"), "permissions of one-time schedules"),
    "the schedule may not sweep": (deny("lambda:InvokeFunction"), "permissions of the sweep's schedule"),
    "outcomes may not be published": (deny("events:PutEvents", outcomes=True), "permissions of terminate"),
    "rejections may not be remembered": (deny("dynamodb:BatchWriteItem"), "permissions of terminate"),
    "the key is to be deleted": (delete_key, "key"),
    "the address has a version": (lambda stack: stack.environment.update(DEVIN_API_URL=f"{API}/v1"), "api"),
    "an output is missing": (lambda stack: stack.operator.outputs.pop("AnnouncementsTableName"), "permissions"),
}


DISABLED = {
    "Name": "mine",
    "State": "DISABLED",
    "ScheduleExpression": "at(2099-01-01T00:00:00)",
    "Target": {"Arn": "arn:aws:sqs:eu-west-1:123456789012:work", "Input": "devin-1"},
}
DOUBTFUL: dict[str, tuple[Callable[[Stack], object], str]] = {
    "a sweep that somebody switched on": (lambda stack: setattr(stack, "periodic", "ENABLED"), "schedules"),
    "a one-time schedule that is disabled": (lambda stack: stack.schedules.append(DISABLED), "schedules"),
    "alarms without a subscriber": (lambda stack: stack.subscriptions.clear(), "alarm topic"),
    "an unconfirmed subscriber": (lambda stack: stack.subscriptions.pop(0), "alarm topic"),
    "no alarms": (lambda stack: stack.operator.outputs.pop("AlarmTopicArn"), "alarm topic"),
    "under way": (lambda stack: setattr(stack.operator, "status", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), "stack"),
    "dry": (lambda stack: stack.environment.update(DRY_RUN="true"), "stack"),
}


@pytest.mark.parametrize(
    ("breaking", "check", "status"),
    [(*one, "failed") for one in BROKEN.values()] + [(*one, "warning") for one in DOUBTFUL.values()],
    ids=[*BROKEN, *DOUBTFUL],
)
def test_what_is_wrong_is_found(stack: Stack, breaking: Callable[[Stack], object], check: str, status: str) -> None:
    breaking(stack)
    assert check in stack.findings()[status]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (UNAUTHORIZED, "failed"),
        (answer(404, {"detail": "Not Found"}), "failed"),
        (answer(410, "gone"), "failed"),
        (answer(500, f"key {KEY} of yours"), "failed"),
        (answer(429, "slowly"), "warning"),
        (ConnectionError("refused"), "failed"),
    ],
)
def test_an_api_that_does_not_answer_well_is_found(stack: Stack, said: Any, status: str) -> None:
    stack.operator.world.api.on("LIST", "", said)
    assert "api" in stack.findings()[status]


def test_an_api_that_repeats_a_key_of_no_known_shape_does_not_get_it_shown(stack: Stack) -> None:
    key = "canary0123456789"
    stack.store(key)
    stack.operator.world.api.on("LIST", "", answer(401, {"detail": f"the key {key} is not known"}))
    ran = stack.operator.run("doctor", "--json")
    assert "the key [redacted] is not known" in ran.out
    assert "begins with neither apk_ nor cog_" in ran.out
    assert key not in ran.out + ran.err


@pytest.mark.parametrize("header", ["Sunset", "Deprecation"])
def test_an_api_that_announces_its_end_is_a_warning(stack: Stack, header: str) -> None:
    stack.operator.world.api.on("LIST", "", answer(200, {"sessions": []}, **{header: "Sat, 31 Jan 2027 00:00:00 GMT"}))
    assert "api version" in stack.findings()["warning"]


@pytest.mark.parametrize(("minutes", "status"), [(6, "failed"), (-6, "failed"), (1, "ok")])
def test_clocks_that_differ_are_found(stack: Stack, minutes: int, status: str) -> None:
    status_code, headers, body = page(stale())
    headers = {**headers, "Date": format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)}
    stack.operator.world.api.on("LIST", "", (status_code, headers, body))
    assert "clock" in stack.findings()[status]


def test_a_clock_that_differs_from_that_of_aws_is_found(stack: Stack) -> None:
    assert "clock" not in stack.findings("--no-api")["warning"]

    def late(parsed: dict[str, Any], **_: object) -> None:
        date = format_datetime(datetime.now(UTC) - timedelta(minutes=2), usegmt=True)
        parsed["ResponseMetadata"].setdefault("HTTPHeaders", {})["date"] = date

    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register("after-call.sqs.GetQueueAttributes", late)
    assert "clock" in stack.findings("--no-api")["warning"]
    boto3.DEFAULT_SESSION.events.unregister("after-call.sqs.GetQueueAttributes", late)


def test_what_the_stack_does_not_do_takes_no_permission(stack: Stack) -> None:
    assert stack.findings("--no-api")["failed"] == set()
    assert ("terminate", "events:PutEvents") not in {one[:2] for one in stack.simulated}
    assert {one[0] for one in stack.simulated} == {"terminate", "sweep", "one-time", "sweep-schedule"}


KEY_ARN = f"arn:aws:kms:eu-west-1:123456789012:key/{KEY_ID}"


@pytest.mark.parametrize(
    ("waiting", "state", "status"),
    [(True, "Enabled", "warning"), (True, "PendingDeletion", "failed"), (False, "PendingDeletion", None)],
)
def test_a_key_that_is_no_longer_used_has_to_last_until_the_queues_are_empty(
    stack: Stack, waiting: bool, state: str, status: str | None
) -> None:
    stack.key_state = state
    stack.operator.world.aws.faults["resourcegroupstaggingapi.GetResources"] = lambda _: {
        "ResourceTagMappingList": [{"ResourceARN": KEY_ARN}]
    }
    if waiting:
        stack.operator.world.send("devin-1")
    found = stack.findings("--no-api")
    assert [one for one in found if "key" in found[one]] == ([status] if status else [])


def test_what_may_not_be_looked_at_is_said_and_the_rest_is_checked(stack: Stack) -> None:
    stack.operator.world.aws.fail("iam.SimulatePrincipalPolicy")
    found = stack.findings()
    assert found["unknown"] == {"permissions"}
    assert {"stop switch", "retention"} <= found["ok"]


@pytest.mark.parametrize(
    ("operation", "code", "check"),
    [
        ("sqs.GetQueueAttributes", "QueueDoesNotExist", "queues"),
        ("sqs.GetQueueAttributes", "AWS.SimpleQueueService.NonExistentQueue", "queues"),
        ("lambda.GetFunctionConfiguration", "ResourceNotFoundException", "permissions"),
        ("scheduler.GetSchedule", "ResourceNotFoundException", "schedules"),
        ("sns.ListSubscriptionsByTopic", "NotFound", "alarm topic"),
        ("iam.SimulatePrincipalPolicy", "NoSuchEntity", "permissions"),
    ],
)
def test_what_somebody_deleted_is_a_failure(stack: Stack, operation: str, code: str, check: str) -> None:
    stack.operator.world.aws.fail(operation, code)
    found = stack.findings("--no-api")
    assert check in found["failed"]
    assert found["unknown"] == set()
