"""Every statement of every policy is there for something, and allows nothing beside it.

What the emulator asks roles for is tried there (tests/integration/test_permissions.py). The rest is simulated: the
emulator's IAM evaluator is asked whether the policy, as the template writes it, allows what AWS's documentation says is
done with it, and whether it still does without the statement, or with any part of it left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from infra.lint import SECRET, SETTINGS, TOPIC
from tests.integration.test_permissions import GRANTS
from tests.template.policies import Use, allowed
from tests.template.rendered import PSEUDO_PARAMETERS, REGION, Json, Stack, render, statements

ACCOUNT = PSEUDO_PARAMETERS["AWS::AccountId"]
OTHER_ACCOUNT = "999999999999"
PRODUCER_ROLE = "arn:aws:iam::210987654321:role/rule"


@cache
def whole() -> Stack:
    """The stack with every option that adds a statement."""
    return render(**SETTINGS["everything"], ExistingApiKeySecretArn=SECRET)


def _documents(stack: Stack) -> Iterator[tuple[str, Json]]:
    """Every policy document there is, by its holder."""
    for name, one in stack.resources.items():
        properties = one.get("Properties", {})
        match one["Type"]:
            case "AWS::IAM::Role":
                yield f"{name} is assumed", properties["AssumeRolePolicyDocument"]
                for policy in properties["Policies"]:
                    yield name, policy["PolicyDocument"]
            case "AWS::SQS::QueuePolicy" | "AWS::SNS::TopicPolicy":
                yield name, properties["PolicyDocument"]
            case "AWS::KMS::Key":
                yield name, properties["KeyPolicy"]
            case _:
                pass


def _sid(statement: Json) -> str:
    """A trust policy's only statement has no name of its own."""
    sid: str = statement.get("Sid", "Trust")
    return sid


def granted(stack: Stack) -> set[tuple[str, str, str]]:
    """What may be done, by holder and statement."""
    return {
        (holder, _sid(statement), action)
        for holder, document in _documents(stack)
        for statement, actions, _ in statements(document)
        for action in actions
    }


def via(service: str) -> dict[str, str]:
    return {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}


def of_account(account: str = ACCOUNT) -> dict[str, str]:
    return {"aws:SourceAccount": account}


def of_source(arn: str, account: str = ACCOUNT) -> dict[str, str]:
    return of_account(account) | {"aws:SourceArn": arn}


def of_role(arn: str, service: str = "sqs") -> dict[str, str]:
    return via(service) | {"aws:PrincipalArn": arn, "aws:PrincipalAccount": arn.split(":")[4]}


def tagged(arn: str, service: str = "sqs") -> dict[str, str]:
    return of_role(arn, service) | {"aws:PrincipalTag/devin-session-cleanup": "cleanup"}


def of_group(name: str) -> dict[str, str]:
    return {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}"}


LOGS, EVENTS, SNS, CLOUDWATCH = (
    f"logs.{REGION}.amazonaws.com",
    "events.amazonaws.com",
    "sns.amazonaws.com",
    "cloudwatch.amazonaws.com",
)
LAMBDA, SCHEDULER = "lambda.amazonaws.com", "scheduler.amazonaws.com"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/cleanup-TerminateRole-A"
RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/cleanup-TerminateFunctionTerminationRequested-1"
OUR_RULE = "TerminateFunctionTerminationRequested.Arn"
ALARM = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:cleanup-errors"
SECRETS = via("secretsmanager") | {"kms:EncryptionContext:SecretARN": SECRET}
ANY_KEY = f"arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/0f0f0f0f-1111-2222-3333-444444444444"
# Who sends to an encrypted queue needs both, who reads from one or reads a secret the second.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
SEND = ("kms:GenerateDataKey", "kms:Decrypt")
# By holder and statement: what it is for, and what is like that and must not be allowed.
SIMULATED: dict[tuple[str, str], tuple[list[Use], list[Use]]] = {
    ("TerminateRole", "Outcomes"): (
        [Use("events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default")],
        [Use("events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/other")],
    ),
    **{
        (role, "Traces"): (
            [Use("xray:PutTraceSegments"), Use("xray:PutTelemetryRecords")],
            [Use("xray:GetTraceSummaries"), Use("xray:UpdateSamplingRule")],
        )
        for role in ("TerminateRole", "SweepRole")
    },
    **{
        (role, "KeyOfExistingSecret"): (
            [Use("kms:Decrypt", ANY_KEY, context=SECRETS)],
            [
                Use("kms:Decrypt", ANY_KEY, context=via("secretsmanager")),
                Use("kms:Decrypt", ANY_KEY, context=SECRETS | {"kms:EncryptionContext:SecretARN": f"{SECRET}0"}),
                Use("kms:Decrypt", ANY_KEY, context=SECRETS | via("sqs")),
                Use("kms:GenerateDataKey", ANY_KEY, context=SECRETS),
            ],
        )
        for role in ("TerminateRole", "SweepRole")
    },
    **{
        (f"{role} is assumed", "Trust"): (
            [Use("sts:AssumeRole", by=LAMBDA)],
            [
                Use("sts:AssumeRole", by=SCHEDULER),
                Use("sts:AssumeRole", by=f"arn:aws:iam::{ACCOUNT}:role/admin"),
                Use("sts:TagSession", by=LAMBDA),
            ],
        )
        for role in ("TerminateRole", "SweepRole")
    },
    **{
        (f"{role} is assumed", "Trust"): (
            [Use("sts:AssumeRole", by=SCHEDULER, context=of_account())],
            [
                Use("sts:AssumeRole", by=SCHEDULER, context=of_account(OTHER_ACCOUNT)),
                Use("sts:AssumeRole", by=SCHEDULER),
                Use("sts:AssumeRole", by=LAMBDA, context=of_account()),
            ],
        )
        for role in ("OneTimeScheduleRole", "SweepScheduleRole")
    },
    ("WorkQueuePolicy", "Services"): (
        [Use("sqs:SendMessage", "WorkQueue.Arn", by, of_source(TOPIC)) for by in (SNS, EVENTS)],
        [
            Use("sqs:SendMessage", "WorkQueue.Arn", SNS, of_source(f"{TOPIC}-2")),
            Use("sqs:SendMessage", "WorkQueue.Arn", SNS),
            Use("sqs:SendMessage", "WorkQueue.Arn", CLOUDWATCH, of_source(TOPIC)),
            Use("sqs:ReceiveMessage", "WorkQueue.Arn", SNS, of_source(TOPIC)),
        ],
    ),
    ("WorkQueuePolicy", "Roles"): (
        [Use("sqs:SendMessage", "WorkQueue.Arn", PRODUCER_ROLE, of_role(PRODUCER_ROLE))],
        [
            Use("sqs:SendMessage", "WorkQueue.Arn", f"{PRODUCER_ROLE}-2", of_role(f"{PRODUCER_ROLE}-2")),
            Use("sqs:ReceiveMessage", "WorkQueue.Arn", PRODUCER_ROLE, of_role(PRODUCER_ROLE)),
        ],
    ),
    ("DeadLetterQueuePolicy", "UndeliveredEvents"): (
        [Use("sqs:SendMessage", "DeadLetterQueue.Arn", EVENTS, of_source(OUR_RULE))],
        [
            Use("sqs:SendMessage", "DeadLetterQueue.Arn", EVENTS, of_source(RULE)),
            Use("sqs:SendMessage", "DeadLetterQueue.Arn", EVENTS),
            Use("sqs:SendMessage", "DeadLetterQueue.Arn", SNS, of_source(OUR_RULE)),
            Use("sqs:ReceiveMessage", "DeadLetterQueue.Arn", EVENTS, of_source(OUR_RULE)),
        ],
    ),
    ("AlarmTopicPolicy", "Alarms"): (
        [Use("sns:Publish", "AlarmTopic", CLOUDWATCH, of_source(ALARM))],
        [
            Use("sns:Publish", "AlarmTopic", CLOUDWATCH, of_source(ALARM, OTHER_ACCOUNT)),
            Use("sns:Publish", "AlarmTopic", CLOUDWATCH, of_source(ALARM.replace("cleanup", "other"))),
            Use("sns:Publish", "AlarmTopic", EVENTS, of_source(ALARM)),
            Use("sns:Subscribe", "AlarmTopic", CLOUDWATCH, of_source(ALARM)),
        ],
    ),
    # Managers of the account may manage the key, and let roles use it.
    ("Key", "Account"): (
        [
            Use("kms:PutKeyPolicy", by=f"arn:aws:iam::{ACCOUNT}:root"),
            Use("kms:ScheduleKeyDeletion", by=f"arn:aws:iam::{ACCOUNT}:role/admin"),
        ],
        [
            Use("kms:PutKeyPolicy", by=f"arn:aws:iam::{OTHER_ACCOUNT}:root"),
            Use("kms:CreateGrant", by="sqs.amazonaws.com", context=of_account()),
        ],
    ),
    ("Key", "Roles"): (
        [
            *(Use(action, by=ROLE, context=tagged(ROLE)) for action in SEND),
            *(Use("kms:Decrypt", by=ROLE, context=tagged(ROLE, service)) for service in ("secretsmanager", "dynamodb")),
        ],
        [
            Use("kms:Decrypt", by=ROLE, context=of_role(ROLE)),
            Use("kms:Decrypt", by=ROLE.replace(ACCOUNT, OTHER_ACCOUNT), context=tagged(ROLE)),
            Use("kms:Decrypt", by=ROLE, context=tagged(ROLE, "s3")),
            Use("kms:CreateGrant", by=ROLE, context=tagged(ROLE)),
        ],
    ),
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-encryption-event-bus-rules-targets.html
    ("Key", "UndeliveredEvents"): (
        [Use(action, by=EVENTS, context=of_source(RULE)) for action in SEND],
        [
            Use("kms:Decrypt", by=EVENTS, context=of_source(RULE, OTHER_ACCOUNT)),
            Use("kms:Decrypt", by=EVENTS, context=of_account()),
            Use("kms:Decrypt", by=SNS, context=of_source(RULE)),
            Use("kms:CreateGrant", by=EVENTS, context=of_source(RULE)),
        ],
    ),
    ("Key", "ProducerServices"): (
        [Use(action, by=by, context=of_source(TOPIC)) for action in SEND for by in (SNS, EVENTS)],
        [
            Use("kms:Decrypt", by=SNS, context=of_source(f"{TOPIC}-2")),
            Use("kms:Decrypt", by=CLOUDWATCH, context=of_source(TOPIC)),
            Use("kms:CreateGrant", by=SNS, context=of_source(TOPIC)),
        ],
    ),
    ("Key", "ProducerRoles"): (
        [Use(action, by=PRODUCER_ROLE, context=of_role(PRODUCER_ROLE)) for action in SEND],
        [
            Use("kms:Decrypt", by=PRODUCER_ROLE, context=of_role(PRODUCER_ROLE, "s3")),
            Use("kms:Decrypt", by=f"{PRODUCER_ROLE}-2", context=of_role(f"{PRODUCER_ROLE}-2")),
        ],
    ),
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
    ("Key", "Alarms"): (
        [Use(action, by=CLOUDWATCH, context=of_source(ALARM)) for action in SEND],
        [
            Use("kms:Decrypt", by=CLOUDWATCH, context=of_source(ALARM, OTHER_ACCOUNT)),
            Use("kms:Decrypt", by=CLOUDWATCH, context=of_source(ALARM.replace("cleanup", "other"))),
            Use("kms:CreateGrant", by=CLOUDWATCH, context=of_source(ALARM)),
        ],
    ),
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    ("Key", "Logs"): (
        [
            Use(f"kms:{action}", by=LOGS, context=of_group("/aws/lambda/cleanup-terminate"))
            for action in ("Encrypt", "Decrypt", "ReEncryptFrom", "GenerateDataKeyWithoutPlaintext", "DescribeKey")
        ],
        [
            Use("kms:Decrypt", by=LOGS, context=of_group("/aws/lambda/another")),
            Use("kms:Decrypt", by=LOGS),
            Use("kms:CreateGrant", by=LOGS, context=of_group("/aws/lambda/cleanup-terminate")),
            Use("kms:Decrypt", by=EVENTS, context=of_group("/aws/lambda/cleanup-terminate")),
        ],
    ),
}
# Denials, tried with plain http where the emulator can.
DENIED = {
    ("WorkQueuePolicy", "TlsOnly", "sqs:*"),
    ("DeadLetterQueuePolicy", "TlsOnly", "sqs:*"),
    ("AlarmTopicPolicy", "TlsOnly", "sns:Publish"),
}


def _with(holder: str, sid: str, *instead: Json) -> Json:
    """The policy that holds a statement, with others in place of it."""
    (found,) = [one for name, one in _documents(whole()) if name == holder and sid in map(_sid, one["Statement"])]
    return {**found, "Statement": [*(one for one in found["Statement"] if _sid(one) != sid), *instead]}


def _policy(holder: str, sid: str) -> Json:
    """The policy with the statement; without the key's own for the account, which allows all that its roles are."""
    statement = _statement(holder, sid)
    return {"Statement": [statement]} if (holder, sid) == ("Key", "Roles") else _with(holder, sid, statement)


def _statement(holder: str, sid: str) -> Json:
    (found,) = [
        one
        for name, document in _documents(whole())
        if name == holder
        for one in document["Statement"]
        if _sid(one) == sid
    ]
    statement: Json = found
    return statement


def _parts(statement: Json) -> Iterator[tuple[str, Json]]:
    """The statement with one of its actions or admitted values left out, and which one that is."""

    def without(container: Json, key: str) -> Iterator[tuple[str, Json]]:
        value = container[key]
        if isinstance(value, list) and len(value) > 1:
            yield from ((one, {**container, key: [other for other in value if other != one]}) for one in value)

    yield from without(statement, "Action")
    for operator, keys in statement.get("Condition", {}).items():
        for name in keys:
            for one, left in without(keys, name):
                yield one, {**statement, "Condition": {**statement["Condition"], operator: left}}


def test_each_statement_is_what_allows_its_uses_and_nothing_that_is_like_them() -> None:
    uses = [(place, use) for place, (done, _) in SIMULATED.items() for use in done]
    with_it = allowed([(_policy(*place), use) for place, use in uses])
    assert [one for one, may in zip(uses, with_it, strict=True) if not may] == []
    without_it = allowed([(_with(*place), use) for place, use in uses if place != ("Key", "Roles")])
    assert not any(without_it)
    others = [(place, use) for place, (_, not_for) in SIMULATED.items() for use in not_for]
    assert [
        one for one, may in zip(others, allowed([(_policy(*place), use) for place, use in others]), strict=True) if may
    ] == []


def test_no_action_or_value_is_in_a_simulated_statement_without_need() -> None:
    asked, about = [], []
    for place, (done, _) in SIMULATED.items():
        for part, left in _parts(_statement(*place)):
            for use in done:
                # By itself, so that no other statement allows it.
                asked.append(({"Version": "2012-10-17", "Statement": [left]}, use))
                about.append((*place, part))
    needed = {one for one, may in zip(about, allowed(asked), strict=True) if not may}
    # The producers are one list, of services and roles.
    assert {one for one in set(about) - needed if one[2] not in (TOPIC, PRODUCER_ROLE)} == set()


def test_every_grant_is_tried_or_simulated() -> None:
    simulated = {grant for grant in granted(whole()) if grant[:2] in SIMULATED}
    assert simulated | DENIED | {grant[:3] for grant in GRANTS} == granted(whole())
    # All that the roles of the tests' stack hold.
    roles = {
        grant
        for grant in granted(render())
        if grant[0] in {"TerminateRole", "SweepRole", "OneTimeScheduleRole", "SweepScheduleRole"}
    }
    assert {grant[:3] for grant in GRANTS} == roles
    # No option adds what is not in the whole stack.
    for parameters in SETTINGS.values():
        assert granted(render(**parameters)) <= granted(whole())


def test_every_statement_has_a_name_of_its_own_and_lets_nobody_in_without_a_condition() -> None:
    for holder, document in _documents(whole()):
        names = [_sid(statement) for statement in document["Statement"]]
        assert len(names) == len(set(names)), holder
        for statement in document["Statement"]:
            assert not {"NotAction", "NotResource", "NotPrincipal"} & statement.keys()
            principal = statement.get("Principal", {"AWS": f"arn:aws:iam::{ACCOUNT}:root"})
            if statement["Effect"] == "Allow" and principal not in (
                {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                {"Service": LAMBDA},
            ):
                assert statement["Condition"], holder
