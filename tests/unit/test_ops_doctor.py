"""`doctor`: a healthy stack passes, and each thing that may be wrong is found, with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import boto3
import pytest
from botocore.stub import Stubber

from infra.ops.checkup import Patient
from tests.unit.ops_world import Operator
from tests.unit.world import (
    KEY,
    NO_ACCESS,
    NOW,
    ORG_ID,
    SWITCH,
    UNAUTHORIZED,
    V3_KEY,
    answer,
    client,
    page,
    page_v3,
    stale,
    stale_v3,
)

ROLE = "arn:aws:iam::123456789012:role/terminate"


class Stack:
    """What Lambda, IAM and Scheduler say of a stack; a test changes it."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
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
        self.periodic = "DISABLED"
        self.schedules: list[dict[str, Any]] = []
        faults = operator.world.aws.faults
        faults["lambda.GetFunctionConfiguration"] = lambda _: {
            "Timeout": self.timeout,
            "Role": ROLE,
            "Environment": {"Variables": self.environment},
        }
        faults["lambda.ListEventSourceMappings"] = lambda _: {
            "EventSourceMappings": [self.mapping] if self.mapping else []
        }
        faults["cloudformation.DescribeStackResource"] = lambda _: {
            "StackResourceDetail": {"PhysicalResourceId": "periodic"}
        }
        faults["scheduler.GetSchedule"] = lambda _: {"State": self.periodic, **(self.schedules or [{}])[0]}
        faults["scheduler.ListSchedules"] = lambda _: {"Schedules": self.schedules}
        operator.world.aws.faults["iam.SimulatePrincipalPolicy"] = lambda _: {
            "EvaluationResults": [
                {"EvalActionName": action, "EvalDecision": "implicitDeny"} for action in sorted(self.denied)
            ]
        }
        self.set_queue(
            operator.world.work_queue,
            RedrivePolicy=json.dumps(
                {"deadLetterTargetArn": operator.outputs["DeadLetterQueueArn"], "maxReceiveCount": 5}
            ),
        )
        self.set_queue(operator.world.dead_letter_queue, MessageRetentionPeriod="1209600")

    def set_queue(self, url: str, **attributes: str) -> None:
        self.operator.world.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)  # type: ignore[arg-type]

    def store(self, secret: str) -> None:
        self.operator.world.secrets.put_secret_value(SecretId=self.operator.world.secret, SecretString=secret)

    def findings(self, *arguments: str) -> dict[str, set[str]]:
        """The checks by status; the exit status says whether any failed, and no key is shown."""
        ran = self.operator.run("doctor", "--json", *arguments)
        assert KEY not in ran.out + ran.err
        assert V3_KEY not in ran.out + ran.err
        found: dict[str, set[str]] = {"ok": set(), "warning": set(), "failed": set()}
        for one in ran.data["findings"]:
            found[one["status"]].add(one["check"])
            assert bool(one["remedy"]) == (one["status"] != "ok")
        assert ran.status == (1 if found["failed"] else 0)
        return found


@pytest.fixture
def stack(operator: Operator) -> Stack:
    operator.world.api.have(stale())
    return Stack(operator)


@pytest.fixture
def stack_v3(stack: Stack) -> Stack:
    stack.store(V3_KEY)
    stack.environment["DEVIN_ORG_ID"] = ORG_ID
    stack.operator.world.api.on("LIST", "", page_v3(stale_v3()))
    return stack


def test_a_healthy_stack_has_nothing_to_complain_about_but_version_1(stack: Stack) -> None:
    found = stack.findings()
    assert found["failed"] == set()
    assert found["warning"] == {"secret"}
    assert stack.operator.world.api.calls == [("LIST", "limit=1&offset=0")], "one harmless read, and nothing else"
    assert stack.operator.world.api.keys == [KEY]


def test_a_healthy_stack_with_a_key_of_version_3(stack_v3: Stack) -> None:
    found = stack_v3.findings()
    assert (found["failed"], found["warning"]) == (set(), set())
    assert stack_v3.operator.world.api.calls == [("LIST", "first=1")]


def test_settings_are_those_of_the_version_that_the_queue_invokes(stack: Stack) -> None:
    lambda_ = boto3.client("lambda")
    mapping = stack.mapping | {"FunctionArn": f"{stack.mapping['FunctionArn']}:live"}
    environment = {"Variables": stack.environment | {"DRY_RUN": "true"}}
    with Stubber(lambda_) as stub:
        stub.add_response("list_event_source_mappings", {"EventSourceMappings": [mapping]})
        asked = {"FunctionName": "terminate", "Qualifier": "live"}
        stub.add_response("get_function_configuration", {"Environment": environment}, asked)
        account: Any = SimpleNamespace(lambda_=lambda_)
        patient = Patient(account, stack.operator.deployment, lambda: NOW, "devin-ops")
        assert patient.settings.dry_run


def test_what_is_invoked_is_said(stack: Stack) -> None:
    stack.mapping["FunctionArn"] += ":live"
    ran = stack.operator.run("doctor", "--no-api", "--json")
    assert "enabled, invokes terminate:live" in ran.out


def test_doctor_changes_nothing(stack: Stack) -> None:
    stack.operator.world.aws.calls.clear()
    stack.findings()
    reading = ("Get", "List", "Describe", "Simulate")
    assert all(name.partition(".")[2].startswith(reading) for name in stack.operator.world.aws.names())


def test_the_api_is_left_alone_if_asked(stack: Stack) -> None:
    assert "api" not in stack.findings("--no-api")["ok"]
    assert stack.operator.world.api.calls == []


def test_it_is_said_that_the_key_is_used_from_here(stack: Stack) -> None:
    assert "from this machine" in stack.operator.run("doctor").out


def break_queue(name: str, value: str, *, letters: bool = False) -> Callable[[Stack], None]:
    def broken(stack: Stack) -> None:
        world = stack.operator.world
        stack.set_queue(world.dead_letter_queue if letters else world.work_queue, **{name: value})

    return broken


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
    "an output is missing": (lambda stack: stack.operator.outputs.pop("AnnouncementsTableName"), "permissions"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_is_found(stack: Stack, broken: str) -> None:
    breaking, check = BROKEN[broken]
    breaking(stack)
    assert check in stack.findings()["failed"]


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


@pytest.mark.parametrize("status", [404, 410])
def test_a_version_that_was_switched_off_is_said_to_be(stack: Stack, status: int) -> None:
    stack.operator.world.api.on("LIST", "", answer(status, {"detail": "Not Found"}))
    assert f"{status}: this version of the API is switched off" in stack.operator.run("doctor", "--json").out


def test_an_api_that_repeats_a_key_of_no_known_shape_does_not_get_it_shown(stack: Stack) -> None:
    key = "canary0123456789"
    stack.store(key)
    stack.operator.world.api.on("LIST", "", answer(401, {"detail": f"the key {key} is not known"}))
    ran = stack.operator.run("doctor", "--json")
    assert "the key [redacted] is not known" in ran.out
    assert key not in ran.out + ran.err


def test_a_wrong_key_of_version_3_is_found(stack_v3: Stack) -> None:
    stack_v3.operator.world.api.on("LIST", "", NO_ACCESS)
    assert "api" in stack_v3.findings()["failed"]


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


def test_a_sweep_that_somebody_switched_on_is_a_warning(stack: Stack) -> None:
    stack.periodic = "ENABLED"
    assert "schedules" in stack.findings()["warning"]


def test_a_one_time_schedule_that_is_disabled_is_a_warning(stack: Stack) -> None:
    target = {"Arn": stack.operator.outputs["WorkQueueArn"], "Input": "devin-1"}
    stack.schedules = [
        {"Name": "mine", "State": "DISABLED", "Target": target, "ScheduleExpression": "at(2099-01-01T00:00:00)"}
    ]
    assert "schedules" in stack.findings()["warning"]


def test_what_may_not_be_looked_at_is_a_warning_and_the_rest_is_checked(stack: Stack) -> None:
    stack.operator.world.aws.fail("iam.SimulatePrincipalPolicy")
    found = stack.findings()
    assert "permissions" in found["warning"]
    assert {"stop switch", "retention"} <= found["ok"]


def test_a_dry_stack_is_a_warning(stack: Stack) -> None:
    stack.environment["DRY_RUN"] = "true"
    assert "stack" in stack.findings()["warning"]


def test_the_switch_is_read_and_not_remembered(stack: Stack) -> None:
    stack.findings()
    client("ssm").put_parameter(Name=SWITCH, Value="stop", Type="String", Overwrite=True)
    assert "stop switch" in stack.findings()["failed"]
