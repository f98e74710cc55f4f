"""Every statement of every policy is there for something: taken away, a test that is named here fails.

The emulator of the stack on this machine asks the roles that functions act with. It does not ask those of services that
act by themselves, nor for logs, traces and keys. What is granted for these is not exercised but simulated: the
emulator's judge is asked whether the policy, as the template writes it, allows what AWS's documentation says that is
done with it, and whether it still does without the statement, or with any part of it left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pytest

from tests.integration.test_permissions import GRANTS
from tests.template.policies import Use, allowed
from tests.template.rendered import PSEUDO_PARAMETERS, REGION, ROOT, Json, Stack, render, statements

SECRET = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:team/devin-AbCdEf"
KEY = f"arn:aws:kms:{REGION}:123456789012:key/0f0f0f0f-1111-2222-3333-444444444444"
ACCOUNT = PSEUDO_PARAMETERS["AWS::AccountId"]
OTHER_ACCOUNT = "999999999999"


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


@dataclass(frozen=True)
class Simulated:
    """A statement that the emulator does not ask for, and `why`: all that is done with it, and what it is not for."""

    why: str
    done: Sequence[Use]
    not_for: Sequence[Use]
    everything: str = ""

    @property
    def actions(self) -> set[str]:
        """What it has to allow for all that: nothing else, or `everything` if that is how it is meant."""
        return {self.everything} if self.everything else {use.action for use in self.done}


def via(service: str) -> dict[str, str]:
    return {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}


def of_account(account: str = ACCOUNT) -> dict[str, str]:
    return {"aws:SourceAccount": account}


def of_group(name: str) -> dict[str, str]:
    return {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}"}


def of_rule(account: str = ACCOUNT, service: str = "events") -> dict[str, str]:
    arn = f"arn:aws:{service}:{REGION}:{account}:rule/cleanup-TerminateFunctionTerminationRequested-1"
    return of_account(account) | {"aws:SourceArn": arn}


WRITES_NO_LOGS = "it writes what functions print itself"
NO_TRACES = "it makes no traces"
NO_KEYS = "it encrypts nothing with KMS keys"
ASSUMES_UNASKED = "its services assume roles without asking"
# Who sends to an encrypted queue needs both, who reads from one or reads a secret the second.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
SENDS = [Use("kms:GenerateDataKey", "Key.Arn", context=via("sqs")), Use("kms:Decrypt", "Key.Arn", context=via("sqs"))]
READS_THE_SECRET = Use("kms:Decrypt", "Key.Arn", context=via("secretsmanager"))
READS_THE_TABLE = Use("kms:Decrypt", "Key.Arn", context=via("dynamodb"))
NO_USES_OF_A_KEY = [
    Use("kms:Decrypt", "Key.Arn"),
    Use("kms:Decrypt", "Key.Arn", context=via("s3")),
    Use("kms:Decrypt", "AnotherKey.Arn", context=via("sqs")),
    Use("kms:CreateGrant", "Key.Arn", context=via("sqs")),
    Use("kms:ScheduleKeyDeletion", "Key.Arn"),
]
LOGS = f"logs.{REGION}.amazonaws.com"
EVENTS = "events.amazonaws.com"
SIMULATED: dict[tuple[str, str], Simulated] = {
    **{
        (f"{name}Role", "Logs"): Simulated(
            WRITES_NO_LOGS,
            [Use("logs:CreateLogStream", f"{name}LogGroup.Arn"), Use("logs:PutLogEvents", f"{name}LogGroup.Arn")],
            [
                Use("logs:PutLogEvents", f"{other}LogGroup.Arn"),
                Use("logs:CreateLogGroup", f"{name}LogGroup.Arn"),
                Use("logs:DeleteLogStream", f"{name}LogGroup.Arn"),
            ],
        )
        for name, other in (("Terminate", "Sweep"), ("Sweep", "Terminate"))
    },
    **{
        (role, "Traces"): Simulated(
            NO_TRACES,
            [Use("xray:PutTraceSegments"), Use("xray:PutTelemetryRecords")],
            [Use("xray:GetTraceSummaries"), Use("xray:UpdateSamplingRule")],
        )
        for role in ("TerminateRole", "SweepRole")
    },
    ("TerminateRole", "Key"): Simulated(NO_KEYS, [*SENDS, READS_THE_SECRET], [*NO_USES_OF_A_KEY, READS_THE_TABLE]),
    ("SweepRole", "Key"): Simulated(NO_KEYS, [*SENDS, READS_THE_SECRET, READS_THE_TABLE], NO_USES_OF_A_KEY),
    **{
        (role, "Key"): Simulated(NO_KEYS, SENDS, [*NO_USES_OF_A_KEY, READS_THE_SECRET])
        for role in ("ScheduleRole", "OneTimeScheduleRole")
    },
    **{
        (role, "KeyOfExistingSecret"): Simulated(
            NO_KEYS,
            [Use("kms:Decrypt", KEY, context=via("secretsmanager"))],
            [
                Use("kms:Decrypt", KEY),
                Use("kms:Decrypt", KEY, context=via("sqs")),
                Use("kms:GenerateDataKey", KEY, context=via("secretsmanager")),
                Use("kms:Decrypt", f"{KEY}0", context=via("secretsmanager")),
            ],
        )
        for role in ("TerminateRole", "SweepRole")
    },
    ("ScheduleRole", "Invoke"): Simulated(
        "its scheduler asks no role; nor does the tests' stack have this schedule",
        [Use("lambda:InvokeFunction", "TerminateFunction.Arn")],
        [
            Use("lambda:InvokeFunction", "SweepFunction.Arn"),
            Use("lambda:UpdateFunctionCode", "TerminateFunction.Arn"),
        ],
    ),
    ("ScheduleRole", "Undelivered"): Simulated(
        "its scheduler has no dead-letter queue",
        [Use("sqs:SendMessage", "DeadLetterQueue.Arn")],
        [Use("sqs:SendMessage", "WorkQueue.Arn"), Use("sqs:ReceiveMessage", "DeadLetterQueue.Arn")],
    ),
    **{
        (f"{role} is assumed", "Trust"): Simulated(
            ASSUMES_UNASKED,
            [Use("sts:AssumeRole", by="lambda.amazonaws.com")],
            [
                Use("sts:AssumeRole", by="scheduler.amazonaws.com"),
                Use("sts:AssumeRole", by=f"arn:aws:iam::{ACCOUNT}:role/admin"),
                Use("sts:TagSession", by="lambda.amazonaws.com"),
            ],
        )
        for role in ("TerminateRole", "SweepRole")
    },
    **{
        (f"{role} is assumed", "Trust"): Simulated(
            ASSUMES_UNASKED,
            [Use("sts:AssumeRole", by="scheduler.amazonaws.com", context=of_account())],
            [
                Use("sts:AssumeRole", by="scheduler.amazonaws.com", context=of_account(OTHER_ACCOUNT)),
                Use("sts:AssumeRole", by="scheduler.amazonaws.com"),
                Use("sts:AssumeRole", by="lambda.amazonaws.com", context=of_account()),
                Use("sts:AssumeRole", by=f"arn:aws:iam::{ACCOUNT}:role/admin", context=of_account()),
            ],
        )
        for role in ("ScheduleRole", "OneTimeScheduleRole", "SweepScheduleRole")
    },
    ("DeadLetterQueuePolicy", "UndeliveredEvents"): Simulated(
        "its rules have no dead-letter queue",
        [
            Use(
                "sqs:SendMessage",
                "DeadLetterQueue.Arn",
                EVENTS,
                {"aws:SourceArn": "TerminateFunctionTerminationRequested.Arn"},
            )
        ],
        [
            Use("sqs:SendMessage", "DeadLetterQueue.Arn", EVENTS, of_rule()),
            Use("sqs:SendMessage", "DeadLetterQueue.Arn", EVENTS),
            Use(
                "sqs:SendMessage",
                "DeadLetterQueue.Arn",
                "sns.amazonaws.com",
                {"aws:SourceArn": "TerminateFunctionTerminationRequested.Arn"},
            ),
            Use(
                "sqs:ReceiveMessage",
                "DeadLetterQueue.Arn",
                EVENTS,
                {"aws:SourceArn": "TerminateFunctionTerminationRequested.Arn"},
            ),
        ],
    ),
    # Whoever manages the account may manage the key, and let roles use it: all of the above go by this one too.
    ("Key", "Account"): Simulated(
        NO_KEYS,
        [
            Use("kms:PutKeyPolicy", by=f"arn:aws:iam::{ACCOUNT}:root"),
            Use("kms:ScheduleKeyDeletion", by=f"arn:aws:iam::{ACCOUNT}:role/admin"),
            *(Use(use.action, by=f"arn:aws:iam::{ACCOUNT}:role/cleanup", context=use.context) for use in SENDS),
        ],
        [
            Use("kms:Decrypt", by=f"arn:aws:iam::{OTHER_ACCOUNT}:root"),
            Use("kms:Decrypt", by="sqs.amazonaws.com", context=of_account()),
        ],
        everything="kms:*",
    ),
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-encryption-event-bus-rules-targets.html
    ("Key", "UndeliveredEvents"): Simulated(
        NO_KEYS,
        [Use(action, by=EVENTS, context=of_rule()) for action in ("kms:GenerateDataKey", "kms:Decrypt")],
        [
            Use("kms:Decrypt", by=EVENTS, context=of_rule(OTHER_ACCOUNT)),
            Use("kms:Decrypt", by=EVENTS, context=of_rule(service="pipes")),
            Use("kms:Decrypt", by=EVENTS, context=of_account()),
            Use("kms:Decrypt", by="sns.amazonaws.com", context=of_rule()),
            Use("kms:CreateGrant", by=EVENTS, context=of_rule()),
        ],
    ),
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    ("Key", "Logs"): Simulated(
        NO_KEYS,
        [
            Use(f"kms:{action}", by=LOGS, context=of_group("/aws/lambda/cleanup-terminate"))
            for action in (
                "Encrypt",
                "Decrypt",
                "ReEncryptFrom",
                "ReEncryptTo",
                "GenerateDataKey",
                "GenerateDataKeyWithoutPlaintext",
                "DescribeKey",
            )
        ],
        [
            Use("kms:Decrypt", by=LOGS, context=of_group("/aws/lambda/another")),
            Use("kms:Decrypt", by=LOGS),
            Use("kms:CreateGrant", by=LOGS, context=of_group("/aws/lambda/cleanup-terminate")),
            Use("kms:Decrypt", by=EVENTS, context=of_group("/aws/lambda/cleanup-terminate")),
        ],
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
        (holder, sid, action): f"{HERE}test_what_the_emulator_does_not_ask_for_is_allowed_by_its_statement_alone"
        for (holder, sid), one in SIMULATED.items()
        for action in one.actions
    },
}


def document(holder: str, sid: str, *instead: Json) -> Json:
    """The policy that holds a statement, with others in place of it."""
    (found,) = [
        one
        for name, one in _documents(whole())
        if name == holder and any(sid == _sid(statement) for statement in one["Statement"])
    ]
    return {**found, "Statement": [*(one for one in found["Statement"] if _sid(one) != sid), *instead]}


def statement_of(holder: str, sid: str) -> Json:
    (found,) = [
        statement
        for name, one in _documents(whole())
        if name == holder
        for statement in one["Statement"]
        if _sid(statement) == sid
    ]
    statement: Json = found
    return statement


def _sid(statement: Json) -> str:
    sid: str = statement.get("Sid", "Trust")
    return sid


def parts(statement: Json) -> Iterator[tuple[str, Json]]:
    """The statement with one of its actions, resources or admitted values left out, and which one that is."""

    def without(container: Json, key: str) -> Iterator[tuple[str, Json]]:
        given = container[key]
        if isinstance(given, list) and len(given) > 1:
            yield from ((one, {**container, key: [other for other in given if other != one]}) for one in given)

    yield from without(statement, "Action")
    if "Resource" in statement:
        yield from without(statement, "Resource")
    for operator, keys in statement.get("Condition", {}).items():
        for name in keys:
            for one, left in without(keys, name):
                yield one, {**statement, "Condition": {**statement["Condition"], operator: left}}


def test_what_the_emulator_does_not_ask_for_is_allowed_by_its_statement_alone() -> None:
    asked = [(holder, sid, use) for (holder, sid), one in SIMULATED.items() for use in one.done]
    with_it = allowed([(document(holder, sid, statement_of(holder, sid)), use) for holder, sid, use in asked])
    assert [one for one, may in zip(asked, with_it, strict=True) if not may] == []
    without_it = allowed([(document(holder, sid), use) for holder, sid, use in asked])
    assert [one for one, may in zip(asked, without_it, strict=True) if may] == []


def test_what_is_not_asked_for_allows_nothing_that_is_like_it() -> None:
    asked = [(holder, sid, use) for (holder, sid), one in SIMULATED.items() for use in one.not_for]
    may = allowed([(document(holder, sid, statement_of(holder, sid)), use) for holder, sid, use in asked])
    assert [one for one, allows in zip(asked, may, strict=True) if allows] == []


def test_no_action_resource_or_value_is_in_a_simulated_statement_without_need() -> None:
    asked, about = [], []
    for (holder, sid), one in SIMULATED.items():
        for part, left in parts(statement_of(holder, sid)):
            for use in one.done:
                asked.append((document(holder, sid, left), use))
                about.append((holder, sid, part))
    needed = {one for one, may in zip(about, allowed(asked), strict=True) if not may}
    assert set(about) - needed == set()


@pytest.mark.parametrize(("holder", "sid"), SIMULATED)
def test_a_simulated_statement_allows_by_name_and_says_why_it_is_simulated(holder: str, sid: str) -> None:
    statement, one = statement_of(holder, sid), SIMULATED[holder, sid]
    assert statement["Effect"] == "Allow"
    assert not {"NotAction", "NotResource", "NotPrincipal"} & statement.keys()
    assert one.why
    assert one.done
    assert one.not_for


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
