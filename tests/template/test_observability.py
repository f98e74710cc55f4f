"""Dashboard, alarms and saved queries: each looks at something that exists, and each alarm leads to the runbook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra.local.pictures_dashboard import calculate, rows
from sweep.handler import Metric
from terminate.report import METRICS
from tests.runbook.page import anchors
from tests.runbook.page import text as runbook
from tests.template.rendered import PSEUDO_PARAMETERS, REGION, ROOT, Json, Stack, _Renderer, render, source

TEMPLATE = ROOT / "infra" / "observability.yaml"
RUNBOOK = runbook()
README = (ROOT / "README.md").read_text()
# What the functions emit, by service: taken from their own lists.
EMITTED: dict[str, set[str]] = {"terminate": {str(name) for name in METRICS}, "sweep": {str(name) for name in Metric}}
# What AWS documents: namespace, metrics, the dimension that each of them has.
DOCUMENTED: dict[str, tuple[set[str], str]] = {
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    "AWS/Lambda": (
        {"Invocations", "Errors", "Throttles", "Duration", "AsyncEventsDropped", "DestinationDeliveryFailures"},
        "FunctionName",
    ),
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    "AWS/SQS": (
        {
            "ApproximateAgeOfOldestMessage",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesVisible",
            "NumberOfEmptyReceives",
            "NumberOfMessagesDeleted",
            "NumberOfMessagesReceived",
            "NumberOfMessagesSent",
        },
        "QueueName",
    ),
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
    # The default bus: rules of others have EventBusName as well.
    "AWS/Events": ({"FailedInvocations", "InvocationsFailedToBeSentToDlq"}, "RuleName"),
    # https://docs.aws.amazon.com/scheduler/latest/UserGuide/monitoring-cloudwatch.html
    "AWS/Scheduler": (
        {"InvocationDroppedCount", "InvocationsFailedToBeSentToDeadLetterCount", "TargetErrorCount"},
        "ScheduleGroup",
    ),
}
# What template.yaml hands over, as CloudFormation names it once it is there.
NAMES = {
    "MonitoredStack": "cleanup",
    "AccountId": PSEUDO_PARAMETERS["AWS::AccountId"],
    "WorkQueueName": "cleanup-work",
    "DeadLetterQueueName": "cleanup-dead-letters",
    "TerminateFunctionName": "cleanup-TerminateFunction-A",
    "SweepFunctionName": "cleanup-SweepFunction-B",
    "TerminateLogGroupName": "/aws/lambda/cleanup-terminate",
    "SweepLogGroupName": "/aws/lambda/cleanup-sweep",
    "RequestRuleName": "cleanup-Rule-C",
    "MemorySize": "512",
    "SweepsExpected": "true",
}
FUNCTIONS = {"terminate": NAMES["TerminateFunctionName"], "sweep": NAMES["SweepFunctionName"]}
TARGETS = {
    "FunctionName": set(FUNCTIONS.values()),
    "QueueName": {NAMES["WorkQueueName"], NAMES["DeadLetterQueueName"]},
    "RuleName": {NAMES["RequestRuleName"]},
    "ScheduleGroup": {"default"},  # where schedules are that name none
}
NESTED: Json = yaml_parse(TEMPLATE.read_text())
OURS: Json = source()["Parameters"]
# What has no default is handed over by template.yaml; what has one is somebody's choice.
CHOICES = {name: one for name, one in NESTED["Parameters"].items() if "Default" in one}
THRESHOLDS = [name for name, one in CHOICES.items() if one["Type"] == "Number"]


def rendered(**parameters: str) -> Stack:
    values = {name: str(one.get("Default")) for name, one in NESTED["Parameters"].items()} | NAMES | parameters
    renderer = _Renderer(NESTED, values)
    resources = {name: renderer.value(one) for name, one in NESTED["Resources"].items() if renderer.exists(one)}
    return Stack(resources, {name: renderer.value(one) for name, one in NESTED["Outputs"].items()})


WHOLE = rendered(AlarmEmail="on-call@example.com")
ALARMS = WHOLE.of_type("AWS::CloudWatch::Alarm")
DASHBOARD: Json = json.loads(WHOLE.only("AWS::CloudWatch::Dashboard")["DashboardBody"])
WIDGETS = {one["properties"].get("title", "text"): one for one in DASHBOARD["widgets"]}
QUERIES = {one["Name"].split("/")[1]: one for one in WHOLE.of_type("AWS::Logs::QueryDefinition").values()}


def metrics_of_alarm(alarm: Json) -> Iterator[tuple[str, str, dict[str, str]]]:
    single = [alarm] if "MetricName" in alarm else []
    for one in single + [part["MetricStat"]["Metric"] for part in alarm.get("Metrics", []) if "MetricStat" in part]:
        yield one["Namespace"], one["MetricName"], {pair["Name"]: pair["Value"] for pair in one["Dimensions"]}


def metrics_of_widget(widget: Json) -> Iterator[tuple[str, str, dict[str, str]]]:
    for texts, _ in rows(widget["properties"]) if widget["type"] == "metric" else ():
        if texts:
            namespace, name, *pairs = texts
            yield namespace, name, dict(zip(pairs[::2], pairs[1::2], strict=True))


def assert_exists(namespace: str, name: str, dimensions: dict[str, str]) -> None:
    if namespace == "DevinSessionCleanup":
        service = dimensions["service"]
        assert name in EMITTED[service], f"{service} counts no {name}"
        assert dimensions == {"function_name": FUNCTIONS[service], "service": service}
    else:
        names, dimension = DOCUMENTED[namespace]
        assert name in names, f"{namespace} documents no {name}"
        assert dimensions.keys() == {dimension}
        assert dimensions[dimension] in TARGETS[dimension]


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_watches_a_metric_that_exists(name: str) -> None:
    found = list(metrics_of_alarm(ALARMS[name]))
    assert found
    for one in found:
        assert_exists(*one)


@pytest.mark.parametrize("title", [title for title, one in WIDGETS.items() if one["type"] == "metric"])
def test_widget_shows_metrics_that_exist(title: str) -> None:
    found = list(metrics_of_widget(WIDGETS[title]))
    assert found
    for one in found:
        assert_exists(*one)


def test_dashboard_shows_every_metric_that_the_functions_emit() -> None:
    shown = {(one[2].get("service"), one[1]) for widget in WIDGETS.values() for one in metrics_of_widget(widget)}
    assert {(service, name) for service, names in EMITTED.items() for name in names} <= shown


def test_functions_emit_under_the_namespace_that_is_watched() -> None:
    for function in render().of_type("AWS::Lambda::Function").values():
        assert function["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"] == "DevinSessionCleanup"


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_is_heard_and_leads_to_the_runbook(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm["AlarmActions"] == alarm["OKActions"] == ["AlarmTopic"]
    # The policies of topic and key admit alarms by this beginning.
    assert alarm["AlarmName"].startswith("cleanup-")
    says, anchor = re.fullmatch(r"(.+\.) docs/runbook\.md#([a-z0-9-]+)", alarm["AlarmDescription"]).groups()  # type: ignore[union-attr]
    assert len(says.split()) > 4
    assert anchor in anchors(RUNBOOK)


def test_runbook_can_be_somewhere_else() -> None:
    alarms = rendered(RunbookUrl="https://wiki.example.com/x/runbook.md").of_type("AWS::CloudWatch::Alarm")
    assert all("https://wiki.example.com/x/runbook.md#" in one["AlarmDescription"] for one in alarms.values())


@pytest.mark.parametrize("name", ALARMS)
def test_missing_data_are_meant_to_mean_what_they_do(name: str) -> None:
    # Silence is an alarm where something has to happen, and none where what happens is the trouble.
    alarm = ALARMS[name]
    waits_for_something = alarm["ComparisonOperator"] == "LessThanThreshold"
    assert alarm["TreatMissingData"] == ("breaching" if waits_for_something else "notBreaching")
    (line,) = re.findall(rf"^  {name}:.*?TreatMissingData: (.*?)\n", TEMPLATE.read_text(), re.MULTILINE | re.DOTALL)
    assert "  # " in line, "a choice without a reason"


@pytest.mark.parametrize("name", ALARMS)
def test_cloudwatch_can_evaluate_the_alarm(name: str) -> None:
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    alarm = ALARMS[name]
    periods = {alarm["Period"]} if "Period" in alarm else {m["MetricStat"]["Period"] for m in alarm["Metrics"][1:]}
    (period,) = periods
    assert period % 60 == 0
    most = {"SweepSilenceHours": 168, "StoppedHours": 24}
    written = NESTED["Resources"][name]["Properties"]["EvaluationPeriods"]
    longest = period * (most[written["Ref"]] if isinstance(written, dict) else written)
    assert longest <= (7 * 86400 if period >= 3600 else 86400)


def test_longest_times_are_the_bounds_of_their_parameters() -> None:
    assert NESTED["Parameters"]["SweepSilenceHours"]["MaxValue"] == 168
    assert NESTED["Parameters"]["StoppedHours"]["MaxValue"] == 24


@pytest.mark.parametrize("name", CHOICES)
def test_choice_is_described_and_bounded(name: str) -> None:
    parameter = CHOICES[name]
    assert parameter["Description"].endswith(".")
    if parameter["Type"] == "Number":
        assert parameter["MinValue"] <= parameter["Default"] <= parameter["MaxValue"]
    else:
        assert re.fullmatch(parameter["AllowedPattern"], parameter["Default"])
        assert "ConstraintDescription" in parameter


@pytest.mark.parametrize("name", THRESHOLDS)
def test_threshold_has_a_reason_and_reaches_an_alarm(name: str) -> None:
    written = re.search(rf"^  {name}:\n.*?MinValue", TEMPLATE.read_text(), re.MULTILINE | re.DOTALL)
    assert written is not None
    assert "# " in written[0], "a number without a reason"
    changed = str(CHOICES[name]["MaxValue"])
    before, after = ALARMS, rendered(**{name: changed}).of_type("AWS::CloudWatch::Alarm")
    moved = [one for one in after if after[one] != before[one]]
    assert moved
    for one in moved:
        expressions = [part.get("Expression", "") for part in after[one].get("Metrics", [])]
        assert changed in (after[one]["Threshold"], after[one]["EvaluationPeriods"]) or any(
            f">= {changed}," in expression for expression in expressions
        )


@pytest.mark.parametrize("name", ALARMS)
def test_number_that_is_no_parameter_says_why_not(name: str) -> None:
    written = NESTED["Resources"][name]["Properties"]["Threshold"]
    if not isinstance(written, dict):
        (line,) = re.findall(rf"^  {name}:.*?Threshold: (.*?)\n", TEMPLATE.read_text(), re.MULTILINE | re.DOTALL)
        assert "  # " in line


def test_every_choice_can_be_made_at_deployment() -> None:
    assert CHOICES.keys() <= OURS.keys()
    assert CHOICES.keys() <= render().resources["ObservabilityStack"]["Properties"]["Parameters"].keys()


def metric_math(name: str, /, **values: float) -> float:
    """What an alarm on several metrics makes of these values. DIFF(x), the growth of x, is given as `diff_x`."""
    (expression,) = (part["Expression"] for part in ALARMS[name]["Metrics"] if "Expression" in part)
    return calculate(re.sub(r"DIFF\((\w+)\)", r"diff_\1", expression), values)


@pytest.mark.parametrize("name", [name for name, one in ALARMS.items() if "Metrics" in one])
def test_expression_of_an_alarm_names_what_it_measures(name: str) -> None:
    first, *others = ALARMS[name]["Metrics"]
    assert {one["Id"] for one in others} == set(re.findall(r"\b[a-z_]+\b", first["Expression"]))
    assert "ReturnData" not in first
    assert not any(one["ReturnData"] for one in others)


@pytest.mark.parametrize(
    ("errors", "invocations", "off"), [(0, 10, False), (1, 10, False), (2, 10, True), (2, 40, True), (2, 41, False)]
)
def test_share_of_failed_invocations_needs_more_than_one(errors: int, invocations: int, off: bool) -> None:
    threshold = float(ALARMS["ErrorsAlarm"]["Threshold"])
    assert (metric_math("ErrorsAlarm", errors=errors, invocations=invocations) >= threshold) is off


@pytest.mark.parametrize(
    ("before", "now", "off"),
    [(0, 1, False), (0, 5, False), (1, 1, False), (1, 2, True), (5, 4, False), (5, 0, False), (3, 9, True)],
)
def test_new_dead_letters_are_told_while_others_are_there(before: int, now: int, off: bool) -> None:
    """The first are what the alarm before tells."""
    threshold = float(ALARMS["NewDeadLettersAlarm"]["Threshold"])
    assert (metric_math("NewDeadLettersAlarm", letters=now, diff_letters=now - before) >= threshold) is off
    assert list(metrics_of_alarm(ALARMS["NewDeadLettersAlarm"])) == list(metrics_of_alarm(ALARMS["DeadLettersAlarm"]))


@pytest.mark.parametrize(
    ("measured", "off"), [({}, False), ({"dropped": 1.0}, True), ({"dropped": 1.0, "errors": 1.0}, False)]
)
def test_sweep_that_failed_is_not_told_again_as_dropped(measured: dict[str, float], off: bool) -> None:
    threshold = float(ALARMS["SweepDroppedAlarm"]["Threshold"])
    assert (metric_math("SweepDroppedAlarm", **measured) >= threshold) is off


def test_oldest_message_is_older_than_five_tries_take() -> None:
    slowest = OURS["RetryBaseSeconds"]["MaxValue"]
    four_waits = sum(min(slowest * 2**step, 900) for step in range(4))
    assert CHOICES["OldestMessageSeconds"]["Default"] > four_waits


def test_template_hands_over_what_is_asked_for_and_nothing_else() -> None:
    stack = render().resources["ObservabilityStack"]["Properties"]
    assert (ROOT / stack["TemplateURL"]).samefile(TEMPLATE)
    handed_over = stack["Parameters"]
    assert handed_over.keys() <= NESTED["Parameters"].keys()
    assert NESTED["Parameters"].keys() - handed_over.keys() == CHOICES.keys() - handed_over.keys()
    resources = render().resources
    for value, kind in (
        (handed_over["TerminateFunctionName"], "AWS::Lambda::Function"),
        (handed_over["SweepFunctionName"], "AWS::Lambda::Function"),
        (handed_over["TerminateLogGroupName"], "AWS::Logs::LogGroup"),
        (handed_over["SweepLogGroupName"], "AWS::Logs::LogGroup"),
        (handed_over["RequestRuleName"], "AWS::Events::Rule"),
        (handed_over["WorkQueueName"].removesuffix(".QueueName"), "AWS::SQS::Queue"),
        (handed_over["DeadLetterQueueName"].removesuffix(".QueueName"), "AWS::SQS::Queue"),
    ):
        assert resources[value]["Type"] == kind


@pytest.mark.parametrize("name", sorted(CHOICES.keys() & OURS.keys()))
def test_choice_that_is_handed_on_is_the_same_in_both_templates(name: str) -> None:
    ours, theirs = OURS[name], CHOICES[name]
    for key in ("Type", "Default", "MinValue", "MaxValue", "MaxLength", "AllowedPattern"):
        assert ours.get(key) == theirs.get(key)
    assert render(**{name: str(ours["Default"])}).resources["ObservabilityStack"]["Properties"]["Parameters"][
        name
    ] == str(ours["Default"])


def test_switched_off_nothing_of_it_remains() -> None:
    on, off = render(), render(Observability="false")
    assert on.resources.keys() - off.resources.keys() == {"ObservabilityStack"}
    assert on.outputs.keys() - off.outputs.keys() == {"AlarmTopicArn", "DashboardName"}
    assert "ObservabilityStack" not in json.dumps([off.resources, off.outputs])
    for name, one in off.resources.items():
        assert one == on.resources[name]


def test_silence_is_an_alarm_only_where_a_schedule_sweeps() -> None:
    without = rendered(SweepsExpected="false")
    assert WHOLE.resources.keys() - without.resources.keys() == {"SweepMissingAlarm", "AlarmSubscription"}
    assert "sweep-missing" not in without.only("AWS::CloudWatch::Dashboard")["DashboardBody"]
    handed_over = render(SweepEnabled="true").resources["ObservabilityStack"]["Properties"]["Parameters"]
    assert handed_over["SweepsExpected"] == "true"


def test_dashboard_lists_every_alarm() -> None:
    prefix = f"arn:aws:cloudwatch:{REGION}:{NAMES['AccountId']}:alarm:"
    listed = WIDGETS["Alarms"]["properties"]["alarms"]
    assert sorted(listed) == sorted(prefix + one["AlarmName"] for one in ALARMS.values())


def test_widgets_fill_the_grid_without_covering_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for widget in DASHBOARD["widgets"]:
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not taken & cells
        taken |= cells
    assert taken == {(x, y) for x in range(24) for y in range(max(y for _, y in taken) + 1)}


def test_estimate_is_what_the_prices_say() -> None:
    expressions = {
        options["label"]: options["expression"]
        for texts, options in rows(WIDGETS["Estimate for this time, US dollars"]["properties"])
        if not texts
    }
    # An hour with half a gigabyte, in two functions, and a million invocations; https://aws.amazon.com/lambda/pricing/
    spent = {"d1": 3_000_000.0, "d2": 600_000.0, "i1": 900_000.0, "i2": 100_000.0}
    assert calculate(expressions["Lambda"], spent) == pytest.approx(1800 * 0.0000133334 + 0.20)
    # A million calls; https://aws.amazon.com/sqs/pricing/
    assert calculate(expressions["SQS, at most"], {f"s{n}": 250_000.0 for n in range(1, 5)}) == pytest.approx(0.40)
    # What was not measured is no reason for no estimate.
    assert calculate(expressions["Lambda"], {"i2": 500_000.0}) == pytest.approx(0.10)


def test_expressions_name_what_the_widget_measures() -> None:
    for widget in WIDGETS.values():
        if widget["type"] != "metric":
            continue
        found = list(rows(widget["properties"]))
        ids = {options["id"] for texts, options in found if texts and "id" in options}
        named = {name for texts, one in found if not texts for name in re.findall(r"FILL\((\w+),", one["expression"])}
        assert named == ids


def test_only_an_emulator_lacks_saved_queries_and_metric_math() -> None:
    missing = WHOLE.resources.keys() - rendered(AccountId="000000000000", AlarmEmail="a@b.c").resources.keys()
    assert missing == {
        *(name for name, one in ALARMS.items() if "Metrics" in one),
        *WHOLE.of_type("AWS::Logs::QueryDefinition"),
    }


def test_schedules_of_others_need_not_be_watched() -> None:
    without = rendered(WatchedScheduleGroup="", AlarmEmail="on-call@example.com")
    assert WHOLE.resources.keys() - without.resources.keys() == {"SchedulesDroppedAlarm"}
    body = without.only("AWS::CloudWatch::Dashboard")["DashboardBody"]
    assert json.loads(body)
    assert "AWS/Scheduler" not in body
    assert "schedules-dropped" not in body


def test_readme_shows_pictures_that_are_there() -> None:
    shown = re.findall(r"\((docs/pictures/[a-z]+\.svg)\)", README)
    assert sorted(shown) == sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "pictures").iterdir())


def test_readme_counts_alarms_and_queries() -> None:
    by_default = rendered(SweepsExpected="false").of_type("AWS::CloudWatch::Alarm")
    numbers = re.search(r"\b(\d+) alarms, or (\d+) with a\nschedule of sweeps, and (\w+) saved queries", README)
    assert numbers is not None
    assert [int(one) for one in numbers.groups()[:2]] == [len(by_default), len(ALARMS)]
    assert ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"].index(
        numbers[3]
    ) == len(QUERIES)


def test_readme_says_what_alarms_cost() -> None:
    # A tenth of a dollar for each metric that an alarm looks at; https://aws.amazon.com/cloudwatch/pricing/
    metrics = sum(len(list(metrics_of_alarm(one))) for one in ALARMS.values())
    said = re.search(r"about (\d) USD a month for\nalarms", README)
    assert said is not None
    assert int(said[1]) == round(0.1 * metrics)


@pytest.mark.parametrize("name", OURS)
def test_readme_has_every_parameter_with_its_default(name: str) -> None:
    section = README.partition("### Parameters")[2].partition("\n## ")[0]
    (row,) = re.findall(rf"^\| `{name}` \| (.+?) \|", section, re.MULTILINE)
    default = str(OURS[name]["Default"])
    assert row.strip("`") == (default or "empty")


@pytest.mark.parametrize("name", QUERIES)
def test_saved_query_is_the_one_in_the_runbook(name: str) -> None:
    assert f"**{name}**" in RUNBOOK
    assert f"```\n{QUERIES[name]['QueryString']}\n```" in RUNBOOK


def test_saved_queries_read_the_functions_logs() -> None:
    for query in QUERIES.values():
        assert set(query["LogGroupNames"]) <= {NAMES["TerminateLogGroupName"], NAMES["SweepLogGroupName"]}


def test_topic_is_encrypted_with_a_key_that_alarms_may_use() -> None:
    assert WHOLE.only("AWS::SNS::Topic")["KmsMasterKeyId"] == "AlarmKey"
    key = WHOLE.only("AWS::KMS::Key")
    assert key["EnableKeyRotation"] is True
    (grant,) = (one for one in key["KeyPolicy"]["Statement"] if "Service" in one["Principal"])
    assert grant["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert grant["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    assert grant["Condition"] == OF_THIS_STACK


def test_alarms_of_this_stack_may_publish_and_nobody_without_tls() -> None:
    policy = WHOLE.only("AWS::SNS::TopicPolicy")
    assert policy["Topics"] == ["AlarmTopic"]
    deny, allow = policy["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "sns:Publish")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (allow["Effect"], allow["Principal"]) == ("Allow", {"Service": "cloudwatch.amazonaws.com"})
    assert (allow["Action"], allow["Resource"]) == ("sns:Publish", "AlarmTopic")
    assert allow["Condition"] == OF_THIS_STACK


OF_THIS_STACK: dict[str, Any] = {
    "StringEquals": {"aws:SourceAccount": NAMES["AccountId"]},
    "ArnLike": {"aws:SourceArn": f"arn:aws:cloudwatch:{REGION}:{NAMES['AccountId']}:alarm:cleanup-*"},
}


def test_somebody_is_subscribed_only_if_named() -> None:
    assert rendered().of_type("AWS::SNS::Subscription") == {}
    assert WHOLE.only("AWS::SNS::Subscription") == {
        "TopicArn": "AlarmTopic",
        "Protocol": "email",
        "Endpoint": "on-call@example.com",
    }


@pytest.mark.parametrize(
    ("given", "admitted"),
    [("", True), ("on-call+devin@example.co.uk", True), ("on-call", False), ("a@b", False), ("a@b.c\n", False)],
)
def test_address_of_the_person_on_call(given: str, admitted: bool) -> None:
    assert (re.fullmatch(CHOICES["AlarmEmail"]["AllowedPattern"], given) is not None) is admitted
