"""Every statement of every policy is there for something: taken away, a test that is named here fails.

The emulator of the stack on this machine asks the roles that functions act with. It does not ask those of services that
act by themselves, nor for logs, traces and keys; what is granted for these is held to what AWS's documentation says.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.integration.test_permissions import GRANTS
from tests.template.rendered import REGION, ROOT, Json, Stack, render, statements

SECRET = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:team/devin-AbCdEf"
KEY = f"arn:aws:kms:{REGION}:123456789012:key/0f0f0f0f-1111-2222-3333-444444444444"
ACCOUNT = {"StringEquals": {"aws:SourceAccount": "123456789012"}}


@cache
def whole() -> Stack:
    """The stack with every option that adds a statement."""
    return render(
        UseCustomerManagedKey="true",
        ExistingApiKeySecretArn=SECRET,
        ExistingApiKeySecretKmsKeyArn=KEY,
        ScheduledSessionIds="devin-abc",
        SweepEnabled="true",
        PublishOutcomes="true",
    )


def _documents(stack: Stack) -> Iterator[tuple[str, Json]]:
    """Every policy document there is, by who holds it."""
    for name, one in stack.resources.items():
        properties = one.get("Properties", {})
        match one["Type"]:
            case "AWS::IAM::Role":
                yield f"{name} is assumed", properties["AssumeRolePolicyDocument"]
                for policy in properties["Policies"]:
                    yield name, policy["PolicyDocument"]
            case "AWS::SQS::QueuePolicy":
                yield name, properties["PolicyDocument"]
            case "AWS::KMS::Key":
                yield name, properties["KeyPolicy"]
            case "AWS::Lambda::Permission":
                yield name, {"Statement": [{"Sid": "Invoke", "Action": properties["Action"]}]}
            case _:
                pass


def granted() -> set[tuple[str, str, str]]:
    """Who, by which statement, may do what; a trust policy's only statement has no name of its own."""
    return {
        (holder, statement.get("Sid", "Trust"), action)
        for holder, document in _documents(whole())
        for statement, actions, _ in statements(document)
        for action in actions
    }


VIA = "kms:ViaService"
# What the emulator does not ask for: actions, resources, condition, and why it cannot be seen there.
UNASKED: dict[tuple[str, str], tuple[set[str], list[str], Json | None, str]] = {
    ("TerminateRole", "Logs"): (
        {"logs:CreateLogStream", "logs:PutLogEvents"},
        ["TerminateLogGroup.Arn"],
        None,
        "it writes what functions print itself",
    ),
    ("SweepRole", "Logs"): (
        {"logs:CreateLogStream", "logs:PutLogEvents"},
        ["SweepLogGroup.Arn"],
        None,
        "it writes what functions print itself",
    ),
    **{
        (role, "Traces"): (
            {"xray:PutTraceSegments", "xray:PutTelemetryRecords"},
            ["*"],
            None,
            "it makes no traces",
        )
        for role in ("TerminateRole", "SweepRole")
    },
    ("TerminateRole", "Key"): (
        {"kms:Decrypt", "kms:GenerateDataKey"},
        ["Key.Arn"],
        {"StringEquals": {VIA: [f"sqs.{REGION}.amazonaws.com", f"secretsmanager.{REGION}.amazonaws.com"]}},
        "it encrypts nothing with KMS keys",
    ),
    ("SweepRole", "Key"): (
        {"kms:Decrypt", "kms:GenerateDataKey"},
        ["Key.Arn"],
        {"StringEquals": {VIA: [f"{one}.{REGION}.amazonaws.com" for one in ("sqs", "secretsmanager", "dynamodb")]}},
        "it encrypts nothing with KMS keys",
    ),
    **{
        (role, "Key"): (
            {"kms:Decrypt", "kms:GenerateDataKey"},
            ["Key.Arn"],
            {"StringEquals": {VIA: f"sqs.{REGION}.amazonaws.com"}},
            "it encrypts nothing with KMS keys",
        )
        for role in ("ScheduleRole", "OneTimeScheduleRole")
    },
    **{
        (role, "KeyOfExistingSecret"): (
            {"kms:Decrypt"},
            [KEY],
            {"StringEquals": {VIA: f"secretsmanager.{REGION}.amazonaws.com"}},
            "it encrypts nothing with KMS keys",
        )
        for role in ("TerminateRole", "SweepRole")
    },
    ("ScheduleRole", "Invoke"): (
        {"lambda:InvokeFunction"},
        ["TerminateFunction.Arn"],
        None,
        "its scheduler asks no role; nor does the tests' stack have this schedule",
    ),
    ("ScheduleRole", "Undelivered"): (
        {"sqs:SendMessage"},
        ["DeadLetterQueue.Arn"],
        None,
        "its scheduler has no dead-letter queue",
    ),
    **{
        (f"{role} is assumed", "Trust"): (
            {"sts:AssumeRole"},
            [],
            ACCOUNT if role.endswith("ScheduleRole") else None,
            "its services assume roles without asking",
        )
        for role in ("TerminateRole", "SweepRole", "ScheduleRole", "OneTimeScheduleRole", "SweepScheduleRole")
    },
    ("DeadLetterQueuePolicy", "UndeliveredEvents"): (
        {"sqs:SendMessage"},
        ["DeadLetterQueue.Arn"],
        {"ArnEquals": {"aws:SourceArn": "TerminateFunctionTerminationRequested.Arn"}},
        "its rules have no dead-letter queue",
    ),
    ("Key", "Account"): ({"kms:*"}, ["*"], None, "it encrypts nothing with KMS keys"),
    ("Key", "UndeliveredEvents"): (
        {"kms:GenerateDataKey", "kms:Decrypt"},
        ["*"],
        {**ACCOUNT, "ArnLike": {"aws:SourceArn": f"arn:aws:events:{REGION}:123456789012:rule/*"}},
        "it encrypts nothing with KMS keys",
    ),
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    ("Key", "Logs"): (
        {
            "kms:Encrypt",
            "kms:Decrypt",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
            "kms:GenerateDataKey",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:DescribeKey",
        },
        ["*"],
        {
            "ArnLike": {
                "kms:EncryptionContext:aws:logs:arn": (
                    f"arn:aws:logs:{REGION}:123456789012:log-group:/aws/lambda/cleanup-*"
                )
            }
        },
        "it encrypts nothing with KMS keys",
    ),
}

LIVE = "tests/integration/test_permissions.py::"
STACK = "tests/template/test_stack.py::"
HERE = "tests/template/test_statements.py::"
ONLY = f"{LIVE}test_a_role_may_do_it_and_only_by_its_statement"
_VISIBILITY = f"{LIVE}test_without_changing_visibility_a_failure_waits_for_the_queues_own_timeout"
_PLAIN_HTTP = f"{LIVE}test_the_queues_refuse_what_came_by_plain_http"
# Who, by which statement, may do what, and the test that fails without it.
SHOWN: dict[tuple[str, str, str], str] = {
    ("TerminateRole", "Work", "sqs:ReceiveMessage"): ONLY,
    ("TerminateRole", "Work", "sqs:DeleteMessage"): ONLY,
    ("TerminateRole", "Work", "sqs:GetQueueAttributes"): ONLY,
    ("TerminateRole", "Work", "sqs:ChangeMessageVisibility"): _VISIBILITY,
    ("TerminateRole", "Work", "sqs:SendMessage"): (
        f"{LIVE}test_without_sending_to_the_work_queue_a_message_is_kept_whole"
    ),
    ("TerminateRole", "DeadLetters", "sqs:SendMessage"): (
        f"{LIVE}test_without_sending_to_the_dead_letters_a_rejection_is_kept"
    ),
    ("TerminateRole", "ApiKey", "secretsmanager:GetSecretValue"): (
        f"{LIVE}test_without_reading_the_secret_everything_is_kept"
    ),
    ("TerminateRole", "StopSwitch", "ssm:GetParameter"): f"{LIVE}test_without_reading_the_switch_everything_is_kept",
    ("TerminateRole", "Outcomes", "events:PutEvents"): (
        f"{LIVE}test_without_putting_events_outcomes_are_not_published_and_sessions_end_all_the_same"
    ),
    ("SweepRole", "Work", "sqs:SendMessage"): f"{LIVE}test_without_sending_to_the_work_queue_a_sweep_fails",
    ("SweepRole", "ApiKey", "secretsmanager:GetSecretValue"): f"{LIVE}test_without_reading_the_secret_a_sweep_fails",
    ("SweepRole", "StopSwitch", "ssm:GetParameter"): f"{LIVE}test_without_reading_the_switch_a_sweep_stops",
    ("SweepRole", "Announcements", "dynamodb:BatchGetItem"): (
        f"{LIVE}test_without_its_table_a_sweep_with_notice_fails"
    ),
    ("SweepRole", "Announcements", "dynamodb:PutItem"): f"{LIVE}test_without_its_table_a_sweep_with_notice_fails",
    ("SweepRole", "AnnouncementsAndReports", "events:PutEvents"): (
        f"{LIVE}test_without_putting_events_a_sweep_announces_nothing_and_reports_all_the_same"
    ),
    ("OneTimeScheduleRole", "Send", "sqs:SendMessage"): ONLY,
    ("SweepScheduleRole", "Invoke", "lambda:InvokeFunction"): ONLY,
    ("WorkQueuePolicy", "TlsOnly", "sqs:*"): _PLAIN_HTTP,
    ("DeadLetterQueuePolicy", "TlsOnly", "sqs:*"): _PLAIN_HTTP,
    ("TerminateFunctionTerminationRequestedPermission", "Invoke", "lambda:InvokeFunction"): (
        f"{STACK}test_nobody_but_the_rule_may_invoke_a_function_without_a_role"
    ),
    **{
        (holder, sid, action): f"{HERE}test_what_the_emulator_does_not_ask_for_is_granted_as_documented"
        for (holder, sid), (actions, *_) in UNASKED.items()
        for action in actions
    },
}


def _statement(holder: str, sid: str) -> tuple[Any, list[str], list[str]]:
    (found,) = [
        (statement, actions, resources)
        for name, document in _documents(whole())
        if name == holder
        for statement, actions, resources in statements(document)
        if statement.get("Sid", "Trust") == sid
    ]
    return found


@pytest.mark.parametrize(("holder", "sid"), UNASKED)
def test_what_the_emulator_does_not_ask_for_is_granted_as_documented(holder: str, sid: str) -> None:
    actions, resources, condition, why = UNASKED[holder, sid]
    assert why
    statement, granted_actions, granted_resources = _statement(holder, sid)
    assert statement["Effect"] == "Allow"
    assert (set(granted_actions), granted_resources) == (actions, resources)
    assert statement.get("Condition") == condition


def test_every_grant_has_a_test_that_fails_without_it() -> None:
    assert granted() == set(SHOWN)


def test_no_option_adds_a_grant_that_is_not_in_the_whole_stack() -> None:
    """Or the table would not be of everything: a stack with other options has no more than some of it."""
    for parameters in ({}, {"UseCustomerManagedKey": "true"}, {"EventsEnabled": "false"}):
        held = {
            (holder, statement.get("Sid", "Trust"), action)
            for holder, document in _documents(render(**parameters))
            for statement, actions, _ in statements(document)
            for action in actions
        }
        assert held <= granted()


def test_every_statement_of_a_policy_has_a_name_of_its_own() -> None:
    for holder, document in _documents(whole()):
        if not holder.endswith(" is assumed"):
            names = [statement["Sid"] for statement in document["Statement"]]
            assert len(names) == len(set(names)), holder


def test_no_policy_lets_everybody_in() -> None:
    """Services that act by themselves are let in for this account, or for one resource of it, alone."""
    for holder, document in _documents(whole()):
        for statement in document["Statement"]:
            if statement.get("Effect") == "Allow" and "Principal" in statement:
                ((kind, who),) = statement["Principal"].items()
                assert "*" not in who, holder
                if kind == "Service" and who != "lambda.amazonaws.com":
                    assert "123456789012" in str(statement["Condition"]) or ".Arn" in str(statement["Condition"]), (
                        holder
                    )


@pytest.mark.parametrize("name", sorted(set(SHOWN.values())))
def test_a_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_what_the_roles_of_a_deployed_stack_may_is_asked_of_them() -> None:
    """All that the roles of the tests' stack hold, that is with the options it is deployed with."""
    roles = {"TerminateRole", "SweepRole", "OneTimeScheduleRole", "SweepScheduleRole"}
    held = {
        (holder, statement["Sid"], action)
        for holder, document in _documents(render())
        if holder in roles
        for statement, actions, _ in statements(document)
        for action in actions
    }
    assert {grant[:3] for grant in GRANTS} == held
