"""What scanners do not look at: how queues, functions, rule, schedules and roles fit together once deployed."""

import ast
import json
import re
import tomllib
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any
from unittest.mock import Mock

import pytest

from devin.api_key import ApiKeyError, parse_api_key
from infra.environments import ROOT
from infra.lint import SETTINGS
from settings import Settings
from stop_switch import stop_switch
from table import Table
from terminate.plan import REQUEUE_AT_RECEIVE_COUNT
from tests.integration.test_permissions import GRANTS
from tests.template.rendered import PSEUDO_PARAMETERS, REGION, TEMPLATE, Json, Stack, render, source, statements

ACCOUNT = PSEUDO_PARAMETERS["AWS::AccountId"]
SECRET = SETTINGS["existing secret"]["ExistingApiKeySecretArn"]
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
# What Ref gives for a parameter is its name, and that begins with a slash.
SWITCH = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameterStopSwitch"
FUNCTIONS = {"TerminateFunction": "terminate", "SweepFunction": "sweep"}
RETRIES = {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 185}


@pytest.fixture(scope="module", params=SETTINGS)
def stack(request: pytest.FixtureRequest) -> Stack:
    """The stack in the combinations of options that change what it consists of."""
    return render(**SETTINGS[request.param])


def _properties(stack: Stack, name: str) -> Json:
    properties: Json = stack.resources[name]["Properties"]
    return properties


@pytest.mark.fault(33)
def test_functions(stack: Stack) -> None:
    functions = stack.of_type("AWS::Lambda::Function")
    assert functions.keys() == FUNCTIONS.keys()
    for name, function in functions.items():
        assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
        # Or Lambda stops messages that wait after about 16 rounds.
        assert function["RecursiveLoop"] == "Allow"
        # The configuration of asynchronous invocations is what counts; this one would never see a queue's failures.
        assert "DeadLetterConfig" not in function
        # One group each, or a function could not write to its own.
        assert function["LoggingConfig"]["LogGroup"] == name.replace("Function", "LogGroup")
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        module, _, handler = function["Handler"].rpartition(".")
        assert module == f"{FUNCTIONS[name]}.handler"
        code = ROOT / source()["Globals"]["Function"]["CodeUri"] / f"{module.replace('.', '/')}.py"
        assert handler in [node.name for node in ast.parse(code.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert {name: (one["Timeout"], one["Role"]) for name, one in functions.items()} == {
        "TerminateFunction": (60, "TerminateRole.Arn"),
        "SweepFunction": (300, "SweepRole.Arn"),
    }


@pytest.mark.parametrize(("function_id", "package"), FUNCTIONS.items())
def test_environment_is_what_the_function_reads(stack: Stack, function_id: str, package: str) -> None:
    asked = set()

    class Environment(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return super().get(name, default)

    variables = Environment(_properties(stack, function_id)["Environment"]["Variables"])
    assert {name: variables.pop(name) for name in list(variables) if name.startswith("POWERTOOLS_")} == {
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_METRICS_NAMESPACE": "DevinSessionCleanup",
        "POWERTOOLS_SERVICE_NAME": package,
    }
    settings = Settings.from_environment(variables)
    assert asked == variables.keys()
    assert settings.api_key_secret_arn == stack.outputs["ApiKeySecretArn"]["Value"]
    assert (settings.work_queue_url, settings.dead_letter_queue_url) == ("WorkQueue", "DeadLetterQueue")
    assert (settings.stop_switch_parameter, settings.announcements_table) == ("StopSwitch", "AnnouncementsTable")
    assert (settings.max_workers, settings.retry_base_seconds, settings.protect_tag) == (10, 30, "keep")


def test_queue_feeds_the_function() -> None:
    mapping = render(MaximumConcurrency="7").only("AWS::Lambda::EventSourceMapping")
    # Nothing beside them: provisioned pollers, for one, exclude MaximumConcurrency.
    assert mapping == {
        "BatchSize": 10,
        "EventSourceArn": "WorkQueue.Arn",
        "FunctionName": "TerminateFunction",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": 7},
    }
    # A reservation below the cap throttles polls, and every throttled poll uses up a receive.
    assert "ReservedConcurrentExecutions" not in _properties(render(), "TerminateFunction")


@pytest.mark.fault(22)
def test_queues(stack: Stack) -> None:
    queues = stack.of_type("AWS::SQS::Queue")
    work, dead = queues.pop("WorkQueue"), queues.pop("DeadLetterQueue")
    assert not queues
    # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    assert work["VisibilityTimeout"] >= 6 * _properties(stack, "TerminateFunction")["Timeout"]
    assert work["RedrivePolicy"] == {"deadLetterTargetArn": "DeadLetterQueue.Arn", "maxReceiveCount": 5}
    # A message whose ids are not called is requeued before the redrive policy moves it.
    assert work["RedrivePolicy"]["maxReceiveCount"] > REQUEUE_AT_RECEIVE_COUNT
    assert dead["RedriveAllowPolicy"] == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [f"arn:aws:sqs:{REGION}:{ACCOUNT}:{work['QueueName']}"],
    }
    assert "RedrivePolicy" not in dead
    # A message that SQS moves keeps its age.
    assert work["MessageRetentionPeriod"] < dead["MessageRetentionPeriod"] == 14 * 24 * 3600
    # Either way: what is dead-lettered has to fit, and so has what is redriven.
    assert dead["MaximumMessageSize"] == work["MaximumMessageSize"] == 1024 * 1024


def test_everything_that_is_stored_is_encrypted(stack: Stack) -> None:
    key = "Key.Arn" if "Key" in stack.resources else None
    for queue in stack.of_type("AWS::SQS::Queue").values():
        # The two exclude each other.
        assert (queue.get("KmsMasterKeyId"), queue.get("SqsManagedSseEnabled")) == (key, None if key else True)
    for kind in ("AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"):  # by AWS without one
        assert {one.get("KmsKeyId") for one in stack.of_type(kind).values()} <= {key}
    encryption = stack.only("AWS::DynamoDB::Table")["SSESpecification"]
    assert (encryption["SSEEnabled"], encryption["SSEType"], encryption.get("KMSMasterKeyId")) == (True, "KMS", key)
    assert {one.get("KmsMasterKeyId") for one in stack.of_type("AWS::SNS::Topic").values()} <= {"Key" if key else None}


def test_no_deployment_writes_the_stop_switch() -> None:
    # CloudFormation writes the value again whenever another property changes, so none may depend on a parameter.
    parameter = render().only("AWS::SSM::Parameter")
    assert parameter["Name"] == "/devin-session-cleanup/cleanup/stop-switch"
    assert [render(**parameters).only("AWS::SSM::Parameter") for parameters in SETTINGS.values()] == [parameter] * 3
    assert stop_switch(lambda: parameter["Value"], parameter["Name"])() is None, "a new stack is not stopped"


def test_table_has_the_keys_of_its_items_and_is_paid_by_use(stack: Stack) -> None:
    table = stack.only("AWS::DynamoDB::Table")
    dynamodb, expires = Mock(), datetime(2030, 1, 1, tzinfo=UTC)
    dynamodb.batch_write_item.return_value = {}
    Table(lambda: dynamodb, "table").put("policy", {"devin-abc": {}}, expires)
    ((request,),) = dynamodb.batch_write_item.call_args.kwargs["RequestItems"].values()
    (key,), (attribute,) = table["KeySchema"], table["AttributeDefinitions"]
    assert request["PutRequest"]["Item"] == {
        key["AttributeName"]: {attribute["AttributeType"]: "policy/devin-abc"},
        # Time to live looks at numbers alone: seconds, not milliseconds.
        table["TimeToLiveSpecification"]["AttributeName"]: {"N": str(int(expires.timestamp()))},
    }
    assert (key["KeyType"], key["AttributeName"]) == ("HASH", attribute["AttributeName"])
    assert table["TimeToLiveSpecification"]["Enabled"] is True
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    # A name of its own would keep the table from being replaced.
    assert "TableName" not in table


def _policy_of(stack: Stack, queue: str) -> list[Json]:
    # Two policies for one queue would overwrite each other.
    (policy,) = [one for one in stack.of_type("AWS::SQS::QueuePolicy").values() if queue in one["Queues"]]
    assert policy["Queues"] == [queue]
    return [{key: one[key] for key in one if key != "Sid"} for one in policy["PolicyDocument"]["Statement"]]


def test_queue_policies(stack: Stack) -> None:
    for queue in ("WorkQueue", "DeadLetterQueue"):
        assert _policy_of(stack, queue)[0] == {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": f"{queue}.Arn",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    (rule,) = stack.of_type("AWS::Events::Rule")
    assert _policy_of(stack, "DeadLetterQueue")[1:] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "DeadLetterQueue.Arn",
            "Condition": {"ArnEquals": {"aws:SourceArn": f"{rule}.Arn"}},
        }
    ]


def test_producers_are_admitted_to_the_work_queue() -> None:
    arns = ["arn:aws:sns:eu-west-1:210987654321:stale", "arn:aws:iam::210987654321:role/rule"]
    assert len(_policy_of(render(), "WorkQueue")) == 1, "nobody is admitted by default"
    stack = render(ProducerArns=", ".join(arns))
    services = {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]}
    send = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "WorkQueue.Arn"}
    assert _policy_of(stack, "WorkQueue")[1:] == [
        {**send, "Principal": services, "Condition": {"ArnEquals": {"aws:SourceArn": arns}}},
        {**send, "Principal": {"AWS": "*"}, "Condition": {"ArnEquals": {"aws:PrincipalArn": arns}}},
    ]


def test_rule_invokes_the_function_and_keeps_what_it_cannot_deliver(stack: Stack) -> None:
    (name,) = stack.of_type("AWS::Events::Rule")
    rule = _properties(stack, name)
    assert rule["EventPattern"] == {"detail-type": ["Devin Session Termination Requested"]}
    (target,) = rule["Targets"]
    assert target.pop("Id")
    assert target == {
        "Arn": "TerminateFunction.Arn",
        "RetryPolicy": RETRIES,
        "DeadLetterConfig": {"Arn": "DeadLetterQueue.Arn"},
    }
    # Nobody else may invoke a function without a role.
    assert stack.only("AWS::Lambda::Permission") == {
        "Action": "lambda:InvokeFunction",
        "FunctionName": "TerminateFunction",
        "Principal": "events.amazonaws.com",
        "SourceArn": f"{name}.Arn",
    }


def test_requests_from_the_bus_can_be_switched_off_and_nothing_else_with_them() -> None:
    on, off = render(), render(EventsEnabled="false")
    (rule,) = on.of_type("AWS::Events::Rule")
    assert (_properties(on, rule)["State"], _properties(off, rule)["State"]) == ("ENABLED", "DISABLED")
    assert {name for name in on.resources if on.resources[name] != off.resources[name]} == {rule}


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("function", "retries", "destination"),
    [
        ("TerminateFunction", 2, {"OnFailure": {"Destination": "DeadLetterQueue.Arn"}}),
        # A failed sweep is neither repeated nor a dead letter.
        ("SweepFunction", 0, None),
    ],
)
def test_failed_asynchronous_invocation(function: str, retries: int, destination: Json | None) -> None:
    configs = render().of_type("AWS::Lambda::EventInvokeConfig").values()
    (config,) = [config for config in configs if config["FunctionName"] == function]
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (retries, 3600)
    assert (config.get("DestinationConfig") or None) == destination


@pytest.mark.parametrize(("enabled", "state"), [("false", "DISABLED"), ("true", "ENABLED")])
def test_schedule_of_sweeps_is_there_and_off_unless_asked_for(enabled: str, state: str) -> None:
    policy = '{"idle_for": "PT6H", "dry_run": false}'
    schedule = render(SweepEnabled=enabled, SweepPolicy=policy, SweepSchedule="cron(0 6 * * ? *)").only(
        "AWS::Scheduler::Schedule"
    )
    assert schedule.pop("Description")
    assert schedule == {
        "State": state,
        "ScheduleExpression": "cron(0 6 * * ? *)",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        # Without a dead-letter queue: those of this stack hold session ids.
        "Target": {
            "Arn": "SweepFunction.Arn",
            "RoleArn": "SweepScheduleRole.Arn",
            "Input": policy,
            "RetryPolicy": RETRIES,
        },
    }


def test_roles_may_do_what_they_do_and_no_more(stack: Stack) -> None:
    secret = stack.outputs["ApiKeySecretArn"]["Value"]
    both = {secret: {"secretsmanager:GetSecretValue"}, SWITCH: {"ssm:GetParameter"}}
    if _properties(stack, "TerminateFunction")["TracingConfig"]["Mode"] == "Active":
        both["*"] = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
    if secret == SECRET:
        both[f"arn:aws:kms:{REGION}:*:key/*"] = {"kms:Decrypt"}
    publishes = _properties(stack, "TerminateFunction")["Environment"]["Variables"]["PUBLISH_OUTCOMES"] == "true"
    logs = {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert {name: _granted(role) for name, role in stack.of_type("AWS::IAM::Role").items()} == {
        "TerminateRole": both
        | {
            # SendMessageBatch and ChangeMessageVisibilityBatch have no actions of their own.
            "WorkQueue.Arn": {
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ChangeMessageVisibility",
                "sqs:SendMessage",
            },
            "DeadLetterQueue.Arn": {"sqs:SendMessage"},
            "AnnouncementsTable.Arn": {"dynamodb:BatchWriteItem"},
            "TerminateLogGroup.Arn": logs,
            **({BUS: {"events:PutEvents"}} if publishes else {}),
        },
        "SweepRole": both
        | {
            "WorkQueue.Arn": {"sqs:SendMessage"},
            "AnnouncementsTable.Arn": {"dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"},
            BUS: {"events:PutEvents"},
            "SweepLogGroup.Arn": logs,
        },
        "SweepScheduleRole": {"SweepFunction.Arn": {"lambda:InvokeFunction"}},
        "OneTimeScheduleRole": {"WorkQueue.Arn": {"sqs:SendMessage"}, "DeadLetterQueue.Arn": {"sqs:SendMessage"}},
    }


def _granted(role: Json) -> dict[str, set[str]]:
    """What a role may do, by resource."""
    assert "ManagedPolicyArns" not in role
    # It would need CAPABILITY_NAMED_IAM.
    assert "RoleName" not in role
    granted: dict[str, set[str]] = {}
    for policy in role["Policies"]:
        for statement, actions, resources in statements(policy["PolicyDocument"]):
            assert statement["Effect"] == "Allow"
            assert not {"NotAction", "NotResource"} & statement.keys()
            for resource in resources:
                granted.setdefault(resource, set()).update(actions)
    return granted


def test_existing_secret_is_decrypted_with_whichever_key_and_no_other_secret() -> None:
    stack = render(ExistingApiKeySecretArn=SECRET)
    assert not stack.of_type("AWS::SecretsManager::Secret")
    assert stack.outputs["ApiKeySecretArn"]["Value"] == SECRET
    for role in ("TerminateRole", "SweepRole"):
        document = _properties(stack, role)["Policies"][0]["PolicyDocument"]
        (statement,) = [one for one in document["Statement"] if one["Sid"] == "KeyOfExistingSecret"]
        assert statement["Condition"] == {
            "StringEquals": {
                "kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com",
                "kms:EncryptionContext:SecretARN": SECRET,
            }
        }


def test_roles_trust_one_service_each() -> None:
    trusted = {}
    for name, role in render().of_type("AWS::IAM::Role").items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        trusted[name] = statement["Principal"]["Service"]
        if trusted[name] == "scheduler.amazonaws.com":
            # Or a schedule in another account could use it, as the service's confused deputy.
            assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    functions, scheduler = "lambda.amazonaws.com", "scheduler.amazonaws.com"
    assert trusted == {
        "TerminateRole": functions,
        "SweepRole": functions,
        "SweepScheduleRole": scheduler,
        "OneTimeScheduleRole": scheduler,
    }


@pytest.mark.fault(42)
def test_switching_the_key_off_keeps_what_was_encrypted_readable() -> None:
    """The key stays with its policy, and that admits the roles: their own statements would go with the option."""
    stack = render(UseCustomerManagedKey="true")
    assert "Key" not in render().resources
    assert stack.resources["Key"]["DeletionPolicy"] == stack.resources["Key"]["UpdateReplacePolicy"] == "Retain"
    assert _properties(stack, "Key")["EnableKeyRotation"] is True
    tagged = {name for name, one in stack.of_type("AWS::IAM::Role").items() if "Tags" in one}
    assert tagged == {"TerminateRole", "SweepRole", "OneTimeScheduleRole"}
    for name in tagged:
        assert _properties(render(), name)["Tags"] == [{"Key": "devin-session-cleanup", "Value": "cleanup"}], (
            "without the option as well"
        )


@pytest.mark.fault(43)
def test_the_key_is_for_what_the_stack_encrypts_and_for_nobody_else() -> None:
    """Who sends to an encrypted queue needs both actions, who reads from one or reads a secret the second.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
    """
    stack = render(**SETTINGS["everything"])
    anybody, send = {"AWS": "*"}, {"kms:GenerateDataKey", "kms:Decrypt"}
    sqs = f"sqs.{REGION}.amazonaws.com"
    producers = [one.strip() for one in SETTINGS["everything"]["ProducerArns"].split(",")]
    rules, alarms = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/*", f"arn:*:cloudwatch:*:{ACCOUNT}:alarm:cleanup-*"
    groups = f"arn:*:logs:*:{ACCOUNT}:log-group:/aws/lambda/cleanup-*"
    of_account = {"aws:SourceAccount": ACCOUNT}
    roles = {
        "aws:PrincipalAccount": ACCOUNT,
        "aws:PrincipalTag/devin-session-cleanup": "cleanup",
        "kms:ViaService": [sqs, f"secretsmanager.{REGION}.amazonaws.com", f"dynamodb.{REGION}.amazonaws.com"],
    }
    document = _properties(stack, "Key")["KeyPolicy"]
    admitted = {one["Sid"]: (one["Principal"], set(actions)) for one, actions, _ in statements(document)}
    assert admitted == {
        "Account": ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, {"kms:*"}),
        "Roles": (anybody, send),
        "UndeliveredEvents": ({"Service": "events.amazonaws.com"}, send),
        "ProducerServices": ({"Service": ["sns.amazonaws.com", "events.amazonaws.com"]}, send),
        "ProducerRoles": (anybody, send),
        "Alarms": ({"Service": "cloudwatch.amazonaws.com"}, send),
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
        "Logs": (
            {"Service": f"logs.{REGION}.amazonaws.com"},
            {"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"},
        ),
    }
    assert {one["Sid"]: one.get("Condition") for one in document["Statement"]} == {
        "Account": None,
        "Roles": {"StringEquals": roles},
        "UndeliveredEvents": {"StringEquals": of_account, "ArnLike": {"aws:SourceArn": rules}},
        "ProducerServices": {"ArnEquals": {"aws:SourceArn": producers}},
        "ProducerRoles": {"ArnEquals": {"aws:PrincipalArn": producers}, "StringEquals": {"kms:ViaService": sqs}},
        "Alarms": {"StringEquals": of_account, "ArnLike": {"aws:SourceArn": alarms}},
        "Logs": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
    }
    for logs in stack.of_type("AWS::Logs::LogGroup").values():
        assert fnmatchcase(f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{logs['LogGroupName']}", groups)
        assert logs["RetentionInDays"] == 90


def test_every_permission_of_the_default_stack_is_tried_with_the_emulator() -> None:
    held = {
        (name, statement["Sid"], action)
        for name, role in render().of_type("AWS::IAM::Role").items()
        for policy in role["Policies"]
        for statement, actions, _ in statements(policy["PolicyDocument"])
        for action in actions
    }
    assert held == {grant[:3] for grant in GRANTS}


def test_alarms_have_a_topic_only_if_somebody_is_subscribed() -> None:
    nested = {name: render(**one).resources["ObservabilityStack"]["Properties"] for name, one in SETTINGS.items()}
    topics = {name: one["Parameters"]["AlarmTopicArn"] for name, one in nested.items()}
    assert topics == {"default": "", "everything": "AlarmTopic", "existing secret": "AlarmTopic"}
    assert not [name for name in render().resources if name.startswith("Alarm")]
    existing = "arn:aws:sns:eu-west-1:123456789012:on-call"
    theirs = render(AlarmTopicArn=existing, AlarmEmail="on-call@example.com")
    assert not theirs.of_type("AWS::SNS::Topic"), "an existing topic has its own subscriptions"
    assert theirs.outputs["AlarmTopicArn"]["Value"] == existing

    ours = render(AlarmEmail="on-call@example.com")
    assert ours.outputs["AlarmTopicArn"]["Value"] == "AlarmTopic"
    assert ours.only("AWS::SNS::Subscription") == {
        "TopicArn": "AlarmTopic",
        "Protocol": "email",
        "Endpoint": "on-call@example.com",
    }
    deny, allow = ours.only("AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert allow["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allow["Condition"] == {
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": f"arn:*:cloudwatch:*:{ACCOUNT}:alarm:cleanup-*"},
    }


def test_no_secret_is_in_the_template() -> None:
    with pytest.raises(ApiKeyError, match="holds no key yet; store"):
        parse_api_key(render().only("AWS::SecretsManager::Secret")["SecretString"])
    text = TEMPLATE.read_text()
    # A resolved reference or a hidden parameter would put the key into the function's configuration.
    assert "{{resolve:" not in text.replace("such as {{resolve:secretsmanager:...}}", "")
    assert "NoEcho" not in text
    assert "SecretString" not in json.dumps(render().outputs)


def test_a_replaced_resource_does_not_take_data_with_it(stack: Stack) -> None:
    stateful = {"AWS::SQS::Queue", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup", "AWS::KMS::Key"}
    kept = {name for name, one in stack.resources.items() if one.get("UpdateReplacePolicy") == "Retain"}
    assert kept == {name for name, one in stack.resources.items() if one["Type"] in stateful}
    # The exception: without a notice, a session is announced, not ended.
    assert stack.resources["AnnouncementsTable"]["UpdateReplacePolicy"] == "Delete"


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == project["version"]
