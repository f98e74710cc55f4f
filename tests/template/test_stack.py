"""What scanners do not look at: how queues, functions, rule, schedules and roles fit together once deployed."""

from __future__ import annotations

import ast
import json
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from aws_lambda_powertools.utilities.parameters import SSMProvider

from devin.api_key import ApiKeyError, parse_api_key
from settings import Settings
from stop_switch import stop_switch
from sweep.announcements import Announcement, Announcements
from terminate import invocation
from tests.template.rendered import PSEUDO_PARAMETERS, REGION, ROOT, TEMPLATE, Json, Stack, render, source, statements

SECRET = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:team/devin-AbCdEf"
KEY = f"arn:aws:kms:{REGION}:123456789012:key/0f0f0f0f-1111-2222-3333-444444444444"
BUS = f"arn:aws:events:{REGION}:123456789012:event-bus/default"
# What Ref gives for a parameter is its name, and that begins with a slash.
SWITCH = f"arn:aws:ssm:{REGION}:123456789012:parameterStopSwitch"
FUNCTIONS = {"TerminateFunction": "terminate", "SweepFunction": "sweep"}
VARIANTS: dict[str, dict[str, str]] = {
    "defaults": {},
    "own key": {"UseCustomerManagedKey": "true"},
    "existing secret": {"ExistingApiKeySecretArn": SECRET},
    "existing secret with a key": {"ExistingApiKeySecretArn": SECRET, "ExistingApiKeySecretKmsKeyArn": KEY},
    "schedule": {"ScheduledSessionIds": "devin-abc, devin-def"},
    "sweeps": {"SweepEnabled": "true"},
    "outcomes": {"PublishOutcomes": "true"},
    "everything": {
        "UseCustomerManagedKey": "true",
        "ExistingApiKeySecretArn": SECRET,
        "ExistingApiKeySecretKmsKeyArn": KEY,
        "ScheduledSessionIds": "devin-abc",
        "SweepEnabled": "true",
        "PublishOutcomes": "true",
    },
}


@pytest.fixture(scope="module", params=VARIANTS)
def stack(request: pytest.FixtureRequest) -> Stack:
    """The stack in every combination of options that changes what it consists of."""
    return render(**VARIANTS[request.param])


def test_functions(stack: Stack) -> None:
    functions = stack.of_type("AWS::Lambda::Function")
    assert functions.keys() == FUNCTIONS.keys()
    for function in functions.values():
        assert function["Runtime"] == "python3.13"
        assert function["Architectures"] == ["arm64"]
        assert function["TracingConfig"] == {"Mode": "Active"}
        # The configuration of asynchronous invocations is what counts; this one would never see a queue's failures.
        assert "DeadLetterConfig" not in function
    assert {name: (one["Timeout"], one["Role"]) for name, one in functions.items()} == {
        "TerminateFunction": (60, "TerminateRole.Arn"),
        "SweepFunction": (300, "SweepRole.Arn"),
    }


@pytest.mark.parametrize(("function_id", "package"), FUNCTIONS.items())
def test_handler_is_there(function_id: str, package: str) -> None:
    function = source()["Resources"][function_id]["Properties"]
    assert function["Handler"] == f"{package}.handler.lambda_handler"
    module, _, name = function["Handler"].rpartition(".")
    code = ROOT / source()["Globals"]["Function"]["CodeUri"] / f"{module.replace('.', '/')}.py"
    assert name in [node.name for node in ast.parse(code.read_text()).body if isinstance(node, ast.FunctionDef)]


class _Environment(dict[str, str]):
    """Variables that remember which of them were asked for."""

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__(variables)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


@pytest.mark.parametrize(("function_id", "package"), FUNCTIONS.items())
def test_environment_is_what_the_function_reads(stack: Stack, function_id: str, package: str) -> None:
    variables = dict(_variables(stack, function_id))
    powertools = {name: variables.pop(name) for name in list(variables) if name.startswith("POWERTOOLS_")}
    assert powertools == {
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_METRICS_NAMESPACE": "DevinSessionCleanup",
        "POWERTOOLS_SERVICE_NAME": package,
    }
    environment = _Environment(variables)
    settings = Settings.from_environment(environment)
    assert environment.asked == variables.keys()
    assert settings.devin_api_url == "https://api.devin.ai"
    assert settings.api_key_secret_arn == stack.outputs["ApiKeySecretArn"]["Value"]
    assert (settings.work_queue_url, settings.dead_letter_queue_url) == ("WorkQueue", "DeadLetterQueue")
    assert (settings.stop_switch_parameter, settings.announcements_table) == ("StopSwitch", "AnnouncementsTable")
    assert settings.protect_tag == "keep"


def test_queue_feeds_the_function(stack: Stack) -> None:
    mapping = stack.only("AWS::Lambda::EventSourceMapping")
    assert mapping["FunctionName"] == "TerminateFunction"
    assert mapping["EventSourceArn"] == "WorkQueue.Arn"
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 5}
    # It excludes MaximumConcurrency.
    assert "ProvisionedPollerConfig" not in mapping
    # A reservation below the cap throttles polls, and every throttled poll uses up a receive.
    reserved = stack.of_type("AWS::Lambda::Function")["TerminateFunction"].get("ReservedConcurrentExecutions")
    assert reserved is None or int(reserved) > mapping["ScalingConfig"]["MaximumConcurrency"]


def test_batch_and_concurrency_are_parameters() -> None:
    mapping = render(BatchSize="25", BatchWindowSeconds="3", MaximumConcurrency="20").only(
        "AWS::Lambda::EventSourceMapping"
    )
    assert (mapping["BatchSize"], mapping["MaximumBatchingWindowInSeconds"]) == ("25", "3")
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 20}


def test_visibility_timeout_outlasts_six_invocations_and_the_longest_window(stack: Stack) -> None:
    # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    timeout = stack.of_type("AWS::Lambda::Function")["TerminateFunction"]["Timeout"]
    longest_window = source()["Parameters"]["BatchWindowSeconds"]["MaxValue"]
    assert stack.of_type("AWS::SQS::Queue")["WorkQueue"]["VisibilityTimeout"] >= 6 * timeout + longest_window


def test_queues_redrive_into_each_other_alone(stack: Stack) -> None:
    queues = stack.of_type("AWS::SQS::Queue")
    assert queues["WorkQueue"]["RedrivePolicy"] == {"deadLetterTargetArn": "DeadLetterQueue.Arn", "maxReceiveCount": 5}
    name, account = queues["WorkQueue"]["QueueName"], PSEUDO_PARAMETERS["AWS::AccountId"]
    assert queues["DeadLetterQueue"]["RedriveAllowPolicy"] == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [f"arn:aws:sqs:{REGION}:{account}:{name}"],
    }
    assert "RedrivePolicy" not in queues["DeadLetterQueue"]


def test_stop_switch_does_not_wear_messages_out(stack: Stack) -> None:
    # A message that is sent anew at its last receive but one never gets to be moved.
    most = stack.of_type("AWS::SQS::Queue")["WorkQueue"]["RedrivePolicy"]["maxReceiveCount"]
    assert most > invocation._MOST_RECEIVES_UNCALLED


def test_no_deployment_turns_the_stop_switch(stack: Stack) -> None:
    # CloudFormation writes the value again whenever another property changes, so none may depend on a parameter.
    assert stack.only("AWS::SSM::Parameter") == {
        "Name": "/devin-session-cleanup/cleanup/stop-switch",
        "Description": "go lets the functions act. Anything else stops them.",
        "Type": "String",
        "Value": "go",
    }


def test_functions_go_with_a_new_switch() -> None:
    parameter = render().only("AWS::SSM::Parameter")
    provider = Mock(spec=SSMProvider)
    provider.get.return_value = parameter["Value"]
    assert stop_switch(provider, parameter["Name"])() is None


def test_announcements_have_the_keys_of_their_table(stack: Stack) -> None:
    table = stack.only("AWS::DynamoDB::Table")
    dynamodb, now = Mock(), datetime.now(UTC)
    Announcements(dynamodb, "table", "policy").add("devin-abc", Announcement(now, now, now))
    item = dynamodb.put_item.call_args.kwargs["Item"]
    (key,), (attribute,) = table["KeySchema"], table["AttributeDefinitions"]
    assert key["KeyType"] == "HASH"
    assert key["AttributeName"] == attribute["AttributeName"]
    assert item[key["AttributeName"]].keys() == {attribute["AttributeType"]}
    # Time to live looks at numbers alone: seconds, not milliseconds.
    expiry = table["TimeToLiveSpecification"]
    assert expiry["Enabled"] is True
    expires = datetime.fromtimestamp(int(item[expiry["AttributeName"]]["N"]), UTC)
    assert timedelta(days=30) < expires - now < timedelta(days=366)


def test_table_is_encrypted_and_paid_by_use(stack: Stack) -> None:
    table = stack.only("AWS::DynamoDB::Table")
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    key = {"KMSMasterKeyId": "Key.Arn"} if "Key" in stack.resources else {}
    assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", **key}
    # A name of its own would keep the table from being replaced.
    assert "TableName" not in table


def test_dead_letters_are_kept_longest_and_fit(stack: Stack) -> None:
    work, dead = (stack.of_type("AWS::SQS::Queue")[name] for name in ("WorkQueue", "DeadLetterQueue"))
    assert dead["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert work["MessageRetentionPeriod"] < dead["MessageRetentionPeriod"]
    # Either way: what is dead-lettered has to fit, and so has what is redriven.
    assert dead["MaximumMessageSize"] == work["MaximumMessageSize"]


def test_every_queue_is_encrypted(stack: Stack) -> None:
    key = "Key.Arn" if "Key" in stack.resources else None
    for queue in stack.of_type("AWS::SQS::Queue").values():
        assert queue.get("KmsMasterKeyId") == key
        # The two exclude each other.
        assert queue.get("SqsManagedSseEnabled") is (True if key is None else None)


def test_every_queue_refuses_plain_http(stack: Stack) -> None:
    policies = stack.of_type("AWS::SQS::QueuePolicy").values()
    for name in stack.of_type("AWS::SQS::Queue"):
        # Two policies for one queue would overwrite each other.
        (policy,) = [policy for policy in policies if name in policy["Queues"]]
        assert policy["Queues"] == [name]
        (denial,) = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
        assert denial["Principal"] == "*"
        assert denial["Action"] == "sqs:*"
        assert denial["Resource"] == f"{name}.Arn"
        assert denial["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_queue_policies_admit_nobody_but_the_rule_to_the_dead_letters(stack: Stack) -> None:
    allowed = [
        statement
        for policy in stack.of_type("AWS::SQS::QueuePolicy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]
    (rule,) = stack.of_type("AWS::Events::Rule")
    assert [{key: one[key] for key in one if key != "Sid"} for one in allowed] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "DeadLetterQueue.Arn",
            "Condition": {"ArnEquals": {"aws:SourceArn": f"{rule}.Arn"}},
        }
    ]


def test_rule_invokes_the_function_and_keeps_what_it_cannot_deliver(stack: Stack) -> None:
    rule = stack.only("AWS::Events::Rule")
    assert rule["EventPattern"] == {"detail-type": ["Devin Session Termination Requested"]}
    assert rule["State"] == "ENABLED"
    (target,) = rule["Targets"]
    assert target["Arn"] == "TerminateFunction.Arn"
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 185}
    assert target["DeadLetterConfig"] == {"Arn": "DeadLetterQueue.Arn"}
    # Without an input of its own: the event as it came.
    assert target.keys() == {"Arn", "Id", "RetryPolicy", "DeadLetterConfig"}


def test_requests_from_the_bus_can_be_switched_off_and_nothing_else_with_them() -> None:
    on, off = render(), render(EventsEnabled="false")
    (rule,) = on.of_type("AWS::Events::Rule")
    assert off.only("AWS::Events::Rule") == on.only("AWS::Events::Rule") | {"State": "DISABLED"}
    assert {name: one for name, one in off.resources.items() if name != rule} == {
        name: one for name, one in on.resources.items() if name != rule
    }


def test_nobody_but_the_rule_may_invoke_a_function_without_a_role(stack: Stack) -> None:
    (rule,) = stack.of_type("AWS::Events::Rule")
    assert stack.only("AWS::Lambda::Permission") == {
        "Action": "lambda:InvokeFunction",
        "FunctionName": "TerminateFunction",
        "Principal": "events.amazonaws.com",
        "SourceArn": f"{rule}.Arn",
    }


def _invoke_config(stack: Stack, function_id: str) -> Json:
    configs = stack.of_type("AWS::Lambda::EventInvokeConfig").values()
    (config,) = [config for config in configs if config["FunctionName"] == function_id]
    return config


def test_failed_asynchronous_invocation_ends_in_the_dead_letters(stack: Stack) -> None:
    config = _invoke_config(stack, "TerminateFunction")
    assert config["MaximumRetryAttempts"] == 2
    assert config["MaximumEventAgeInSeconds"] == 3600
    assert config["DestinationConfig"] == {"OnFailure": {"Destination": "DeadLetterQueue.Arn"}}


def test_failed_sweep_is_neither_repeated_nor_a_dead_letter(stack: Stack) -> None:
    config = _invoke_config(stack, "SweepFunction")
    assert config["MaximumRetryAttempts"] == 0
    assert config["MaximumEventAgeInSeconds"] == 3600
    assert not config.get("DestinationConfig")


def test_there_is_no_schedule_of_ids_unless_they_are_given() -> None:
    stack = render()
    assert stack.of_type("AWS::Scheduler::Schedule").keys() == {"PeriodicSweep"}
    assert "ScheduleRole" not in stack.resources


@pytest.mark.parametrize(("parameters", "state"), [({}, "DISABLED"), ({"SweepEnabled": "true"}, "ENABLED")])
def test_schedule_of_sweeps_is_there_and_off_unless_asked_for(parameters: dict[str, str], state: str) -> None:
    policy = '{"idle_for": "PT6H", "dry_run": false}'
    schedule = render(
        **parameters, SweepPolicy=policy, SweepSchedule="cron(0 6 * * ? *)", ScheduleTimezone="Europe/Berlin"
    ).only("AWS::Scheduler::Schedule")
    assert schedule["State"] == state
    assert schedule["ScheduleExpression"] == "cron(0 6 * * ? *)"
    assert schedule["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    # Without a dead-letter queue: those of this stack hold session ids.
    assert schedule["Target"] == {
        "Arn": "SweepFunction.Arn",
        "RoleArn": "SweepScheduleRole.Arn",
        "Input": policy,
        "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 185},
    }


@pytest.mark.parametrize("ids", [["devin-abc"], ["devin-abc", "0123456789abcdef" * 2]])
def test_schedule_hands_its_ids_to_the_function(ids: list[str]) -> None:
    schedule = render(
        ScheduledSessionIds=", ".join(ids), ScheduleExpression="rate(2 hours)", ScheduleTimezone="Europe/Berlin"
    ).of_type("AWS::Scheduler::Schedule")["Schedule"]
    assert schedule["ScheduleExpression"] == "rate(2 hours)"
    assert schedule["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    target = schedule["Target"]
    assert json.loads(target.pop("Input")) == {"session_ids": ids}
    assert target == {
        "Arn": "TerminateFunction.Arn",
        "RoleArn": "ScheduleRole.Arn",
        "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 185},
        "DeadLetterConfig": {"Arn": "DeadLetterQueue.Arn"},
    }


def _variables(stack: Stack, function_id: str) -> dict[str, str]:
    variables: dict[str, str] = stack.of_type("AWS::Lambda::Function")[function_id]["Environment"]["Variables"]
    return variables


def _granted(role: Json) -> dict[str, set[str]]:
    """What a role may do, by resource."""
    granted: dict[str, set[str]] = {}
    for policy in role["Policies"]:
        for statement, actions, resources in statements(policy["PolicyDocument"]):
            assert statement["Effect"] == "Allow"
            for resource in resources:
                granted.setdefault(resource, set()).update(actions)
    return granted


def test_terminate_may_do_what_it_does_and_no_more(stack: Stack) -> None:
    secret = stack.outputs["ApiKeySecretArn"]["Value"]
    granted = {
        "WorkQueue.Arn": {
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ChangeMessageVisibility",
            "sqs:SendMessage",
        },
        "DeadLetterQueue.Arn": {"sqs:SendMessage"},
        secret: {"secretsmanager:GetSecretValue"},
        SWITCH: {"ssm:GetParameter"},
        "TerminateLogGroup.Arn": {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"xray:PutTraceSegments", "xray:PutTelemetryRecords"},
    }
    if _variables(stack, "TerminateFunction")["PUBLISH_OUTCOMES"] == "true":
        granted[BUS] = {"events:PutEvents"}
    if "Key" in stack.resources:
        granted["Key.Arn"] = {"kms:Decrypt", "kms:GenerateDataKey"}
    assert {
        resource: actions
        for resource, actions in _granted(stack.resources["TerminateRole"]["Properties"]).items()
        if resource != KEY
    } == granted


def test_sweep_may_do_what_it_does_and_no_more(stack: Stack) -> None:
    granted = {
        "WorkQueue.Arn": {"sqs:SendMessage"},
        stack.outputs["ApiKeySecretArn"]["Value"]: {"secretsmanager:GetSecretValue"},
        SWITCH: {"ssm:GetParameter"},
        "AnnouncementsTable.Arn": {"dynamodb:BatchGetItem", "dynamodb:PutItem"},
        BUS: {"events:PutEvents"},
        "SweepLogGroup.Arn": {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"xray:PutTraceSegments", "xray:PutTelemetryRecords"},
    }
    if "Key" in stack.resources:
        granted["Key.Arn"] = {"kms:Decrypt", "kms:GenerateDataKey"}
    assert {
        resource: actions
        for resource, actions in _granted(stack.resources["SweepRole"]["Properties"]).items()
        if resource != KEY
    } == granted


@pytest.mark.parametrize(
    ("variant", "granted"), [("existing secret", None), ("existing secret with a key", {"kms:Decrypt"})]
)
def test_functions_may_use_the_key_of_an_existing_secret(variant: str, granted: set[str] | None) -> None:
    stack = render(**VARIANTS[variant])
    assert not stack.of_type("AWS::SecretsManager::Secret")
    assert stack.outputs["ApiKeySecretArn"]["Value"] == SECRET
    for role in ("TerminateRole", "SweepRole"):
        assert _granted(stack.resources[role]["Properties"]).get(KEY) == granted


@pytest.mark.parametrize("own_key", ["false", "true"])
def test_schedules_may_send_and_invoke_and_no_more(own_key: str) -> None:
    stack = render(ScheduledSessionIds="devin-abc", UseCustomerManagedKey=own_key)
    key = {"Key.Arn": {"kms:Decrypt", "kms:GenerateDataKey"}} if own_key == "true" else {}
    assert _granted(stack.resources["ScheduleRole"]["Properties"]) == {
        "TerminateFunction.Arn": {"lambda:InvokeFunction"},
        "DeadLetterQueue.Arn": {"sqs:SendMessage"},
        **key,
    }
    # No key, because it writes to no queue.
    assert _granted(stack.resources["SweepScheduleRole"]["Properties"]) == {
        "SweepFunction.Arn": {"lambda:InvokeFunction"}
    }
    assert _granted(stack.resources["OneTimeScheduleRole"]["Properties"]) == {
        "WorkQueue.Arn": {"sqs:SendMessage"},
        "DeadLetterQueue.Arn": {"sqs:SendMessage"},
        **key,
    }


def test_no_role_has_a_wildcard(stack: Stack) -> None:
    for name, role in stack.of_type("AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role
        for policy in role["Policies"]:
            for statement, actions, resources in statements(policy["PolicyDocument"]):
                assert not {"NotAction", "NotResource"} & statement.keys()
                assert not [action for action in actions if "*" in action], name
                if resources == ["*"]:
                    # The two that know no resource.
                    assert set(actions) == {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}, name
                else:
                    assert not [resource for resource in resources if "*" in resource], name


def test_roles_trust_one_service_each(stack: Stack) -> None:
    trusted: dict[str, Any] = {}
    for name, role in stack.of_type("AWS::IAM::Role").items():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        trusted[name] = statement["Principal"]
        if statement["Principal"] == {"Service": "scheduler.amazonaws.com"}:
            # Or a schedule in another account could use it, as the service's confused deputy.
            assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    functions, scheduler = {"Service": "lambda.amazonaws.com"}, {"Service": "scheduler.amazonaws.com"}
    assert trusted.pop("ScheduleRole", scheduler) == scheduler
    assert trusted == {
        "TerminateRole": functions,
        "SweepRole": functions,
        "SweepScheduleRole": scheduler,
        "OneTimeScheduleRole": scheduler,
    }


def test_keys_are_used_through_the_services_that_need_them(stack: Stack) -> None:
    for role in stack.of_type("AWS::IAM::Role").values():
        for policy in role["Policies"]:
            for statement, actions, _ in statements(policy["PolicyDocument"]):
                if actions[0].startswith("kms:"):
                    assert "kms:ViaService" in statement["Condition"]["StringEquals"]


def test_sweep_uses_the_key_through_all_that_it_encrypts() -> None:
    role = render(UseCustomerManagedKey="true").resources["SweepRole"]["Properties"]
    (statement,) = [one for one in role["Policies"][0]["PolicyDocument"]["Statement"] if one["Sid"] == "Key"]
    assert set(statement["Condition"]["StringEquals"]["kms:ViaService"]) == {
        f"{service}.{REGION}.amazonaws.com" for service in ("sqs", "secretsmanager", "dynamodb")
    }


def test_key_is_rotated_kept_and_open_to_what_has_no_role() -> None:
    stack = render(UseCustomerManagedKey="true")
    assert stack.resources["Key"]["DeletionPolicy"] == stack.resources["Key"]["UpdateReplacePolicy"] == "Retain"
    key = stack.only("AWS::KMS::Key")
    assert key["EnableKeyRotation"] is True
    granted = {}
    for statement, actions, _ in statements(key["KeyPolicy"]):
        assert statement["Effect"] == "Allow"
        (principal,) = statement["Principal"].values()
        granted[principal] = set(actions)
        assert "Condition" in statement or principal == "arn:aws:iam::123456789012:root"
    assert granted["arn:aws:iam::123456789012:root"] == {"kms:*"}
    assert granted["events.amazonaws.com"] == {"kms:GenerateDataKey", "kms:Decrypt"}
    assert {"kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"} <= granted[f"logs.{REGION}.amazonaws.com"]
    assert len(granted) == 3


def test_key_encrypts_secret_and_logs_too() -> None:
    stack = render(UseCustomerManagedKey="true")
    assert stack.only("AWS::SecretsManager::Secret")["KmsKeyId"] == "Key.Arn"
    (statement,) = [one for one in stack.only("AWS::KMS::Key")["KeyPolicy"]["Statement"] if one["Sid"] == "Logs"]
    ((admitted,),) = [one.values() for one in statement["Condition"].values()]
    for logs in stack.of_type("AWS::Logs::LogGroup").values():
        assert logs["KmsKeyId"] == "Key.Arn"
        arn = f"arn:aws:logs:{REGION}:123456789012:log-group:{logs['LogGroupName']}"
        assert arn.startswith(admitted.removesuffix("*"))


def test_there_is_no_key_unless_asked_for() -> None:
    stack = render()
    assert not stack.of_type("AWS::KMS::Key")
    assert "KmsKeyId" not in stack.only("AWS::SecretsManager::Secret")
    assert not [logs for logs in stack.of_type("AWS::Logs::LogGroup").values() if "KmsKeyId" in logs]


def test_secret_is_made_without_a_key() -> None:
    with pytest.raises(ApiKeyError, match="holds no key yet; store"):
        parse_api_key(render().only("AWS::SecretsManager::Secret")["SecretString"])


def test_no_secret_is_in_the_template() -> None:
    text = TEMPLATE.read_text()
    # A resolved reference or a hidden parameter would put the key into the function's configuration.
    assert "{{resolve:" not in text
    assert "NoEcho" not in text
    for name, output in render().outputs.items():
        assert "SecretString" not in str(output), name


def test_logs_are_json_and_expire(stack: Stack) -> None:
    groups = stack.of_type("AWS::Logs::LogGroup")
    assert [group["RetentionInDays"] for group in groups.values()] == ["90", "90"]
    functions = stack.of_type("AWS::Lambda::Function").values()
    # One each, or a function could not write to its own.
    assert sorted(function["LoggingConfig"]["LogGroup"] for function in functions) == sorted(groups)
    assert [function["LoggingConfig"]["LogFormat"] for function in functions] == ["JSON", "JSON"]


def test_a_replaced_resource_does_not_take_data_with_it(stack: Stack) -> None:
    stateful = {"AWS::SQS::Queue", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup", "AWS::KMS::Key"}
    kept = {name for name, one in stack.resources.items() if one.get("UpdateReplacePolicy") == "Retain"}
    assert kept == {name for name, one in stack.resources.items() if one["Type"] in stateful}
    # The exception: without an announcement, a session is announced, not ended.
    assert stack.resources["AnnouncementsTable"]["UpdateReplacePolicy"] == "Delete"


def test_outputs(stack: Stack) -> None:
    values = {name: output["Value"] for name, output in stack.outputs.items()}
    # GetAtt Id: what Ref of a secret gives is not the same everywhere.
    secret = "ApiKeySecret.Id" if "ApiKeySecret" in stack.resources else SECRET
    assert values == {
        "AlarmTopicArn": "ObservabilityStack.Outputs.AlarmTopicArn",
        "AnnouncementsTableName": "AnnouncementsTable",
        "ApiKeySecretArn": secret,
        "DashboardName": "ObservabilityStack.Outputs.DashboardName",
        "DeadLetterQueueArn": "DeadLetterQueue.Arn",
        "DeadLetterQueueUrl": "DeadLetterQueue",
        "OneTimeScheduleRoleArn": "OneTimeScheduleRole.Arn",
        "StopSwitchParameterName": "StopSwitch",
        "SweepFunctionArn": "SweepFunction.Arn",
        "SweepFunctionName": "SweepFunction",
        "SweepLogGroupName": "SweepLogGroup",
        "SweepScheduleRoleArn": "SweepScheduleRole.Arn",
        "TerminateFunctionName": "TerminateFunction",
        "TerminateLogGroupName": "TerminateLogGroup",
        "WorkQueueArn": "WorkQueue.Arn",
        "WorkQueueUrl": "WorkQueue",
    }
    assert all(output["Description"] for output in stack.outputs.values())


def test_sam_needs_no_flags() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]
    assert config["global"]["parameters"]["stack_name"]
    # SAM looks for it in functions/ otherwise, finds none, and ships no dependency without a word.
    assert (ROOT / config["build"]["parameters"]["manifest"]).is_file()
    assert config["validate"]["parameters"]["lint"] is True
    deploy = config["deploy"]["parameters"]
    assert deploy["capabilities"] == "CAPABILITY_IAM"
    assert deploy["resolve_s3"] is True
    # Roles with names of their own would need CAPABILITY_NAMED_IAM.
    assert not [
        name
        for name, role in render(ScheduledSessionIds="devin-abc").of_type("AWS::IAM::Role").items()
        if "RoleName" in role
    ]
