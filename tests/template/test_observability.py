"""Alarms, dashboard and saved queries look at what exists, and each alarm leads to the operations page."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from infra.environments import ROOT
from infra.rendered import OBSERVABILITY, observability
from sweep.handler import METRICS as SWEEP_METRICS
from terminate.report import METRICS
from tests.template.rendered import PSEUDO_PARAMETERS, REGION, Json, Stack, of, render

# What the functions emit, by service: taken from their own lists.
EMITTED: dict[str, set[str]] = {
    "terminate": {str(name) for name in METRICS},
    "sweep": {f"sweep_{name}" for name in SWEEP_METRICS},
}
# What AWS documents: namespace, metrics, the dimension that each of them has.
DOCUMENTED: dict[str, tuple[set[str], str]] = {
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    "AWS/Lambda": (
        {
            "AsyncEventsDropped",
            "DestinationDeliveryFailures",
            "Errors",
            "Invocations",
            "RecursiveInvocationsDropped",
            "Throttles",
        },
        "FunctionName",
    ),
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    "AWS/SQS": (
        {
            "ApproximateAgeOfOldestMessage",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesVisible",
        },
        "QueueName",
    ),
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
    "AWS/Events": ({"InvocationsFailedToBeSentToDlq"}, "RuleName"),
    # https://docs.aws.amazon.com/scheduler/latest/UserGuide/monitoring-cloudwatch.html
    "AWS/Scheduler": ({"InvocationDroppedCount"}, "ScheduleGroup"),
}
# What template.yaml passes, as CloudFormation names it once it is there.
PASSED = {
    "MonitoredStack": "cleanup",
    "WorkQueueName": "cleanup-work",
    "DeadLetterQueueName": "cleanup-dead-letters",
    "TerminateFunctionName": "cleanup-TerminateFunction-A",
    "SweepFunctionName": "cleanup-SweepFunction-B",
    "TerminateLogGroupName": "/aws/lambda/cleanup-terminate",
    "SweepLogGroupName": "/aws/lambda/cleanup-sweep",
    "RequestRuleName": "cleanup-Rule-C",
    "AlarmTopicArn": "topic",
    "SweepsExpected": "true",
    "SweepSilenceHours": "3",
    "MakeDashboard": "true",
}
FUNCTIONS = {"terminate": PASSED["TerminateFunctionName"], "sweep": PASSED["SweepFunctionName"]}
TARGETS = {
    "FunctionName": set(FUNCTIONS.values()),
    "QueueName": {PASSED["WorkQueueName"], PASSED["DeadLetterQueueName"]},
    "RuleName": {PASSED["RequestRuleName"]},
    "ScheduleGroup": {"default"},
}


def rendered(**parameters: str) -> Stack:
    return of(observability(), **PASSED | parameters)


WHOLE = rendered()
ALARMS = WHOLE.of_type("AWS::CloudWatch::Alarm")
WIDGETS: list[Json] = json.loads(WHOLE.only("AWS::CloudWatch::Dashboard")["DashboardBody"])["widgets"]

type Metrics = Iterator[tuple[str, str, dict[str, str]]]


def watched(alarm: Json) -> Metrics:
    metrics = [alarm] if "MetricName" in alarm else []
    for one in metrics + [part["MetricStat"]["Metric"] for part in alarm.get("Metrics", []) if "MetricStat" in part]:
        yield one["Namespace"], one["MetricName"], {pair["Name"]: pair["Value"] for pair in one["Dimensions"]}


def shown(widget: Json) -> Metrics:
    """The metrics of a widget, with "." for what is as in the row before."""
    before: list[str] = []
    for row in widget["properties"].get("metrics", []):
        texts = [one for one in row if isinstance(one, str)]
        before = [before[place] if text == "." else text for place, text in enumerate(texts)]
        yield before[0], before[1], dict(zip(before[2::2], before[3::2], strict=True))


def exists(namespace: str, name: str, dimensions: dict[str, str]) -> bool:
    if namespace == "DevinSessionCleanup":
        service = dimensions["service"]
        return name in EMITTED[service] and dimensions == {"function_name": FUNCTIONS[service], "service": service}
    names, dimension = DOCUMENTED[namespace]
    return name in names and dimensions.keys() == {dimension} and dimensions[dimension] in TARGETS[dimension]


def test_alarms_and_widgets_watch_metrics_that_exist() -> None:
    for metrics in [*map(watched, ALARMS.values()), *map(shown, WIDGETS)]:
        assert [one for one in metrics if not exists(*one)] == []
    assert all(list(watched(one)) for one in ALARMS.values())
    # An alarm that has others' properties names its own metric; two look at the dead letters.
    assert len({str(list(watched(one))) for one in ALARMS.values()}) == len(ALARMS) - 1
    assert len({one["AlarmDescription"] for one in ALARMS.values()}) == len(ALARMS)


def test_dashboard_shows_every_metric_and_every_alarm() -> None:
    metrics = {(one[2].get("service"), one[1]) for widget in WIDGETS for one in shown(widget)}
    assert {(service, name) for service, names in EMITTED.items() for name in names} - metrics == set()
    prefix = f"arn:aws:cloudwatch:{REGION}:{PSEUDO_PARAMETERS['AWS::AccountId']}:alarm:"
    assert sorted(WIDGETS[-1]["properties"]["alarms"]) == sorted(prefix + one["AlarmName"] for one in ALARMS.values())


@pytest.mark.fault(33)
@pytest.mark.parametrize("name", ALARMS)
def test_alarm(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm["AlarmActions"] == alarm["OKActions"] == ["topic"]
    # The policies of topic and key admit alarms by this prefix.
    assert alarm["AlarmName"].startswith("cleanup-")
    assert re.fullmatch(r"(\S+ ){4,}docs/operations\.md#[a-z-]+", alarm["AlarmDescription"])
    # Silence is an alarm where something has to happen, and none where what happens is the trouble.
    waits_for_something = alarm["ComparisonOperator"] == "LessThanThreshold"
    assert alarm["TreatMissingData"] == ("breaching" if waits_for_something else "notBreaching")
    (line,) = re.findall(rf"^  {name}:.*?Threshold: (.*?)\n", OBSERVABILITY.read_text(), re.MULTILINE | re.DOTALL)
    assert "  # " in line, "a number without a reason"
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    (period,) = {alarm["Period"]} if "Period" in alarm else {m["MetricStat"]["Period"] for m in alarm["Metrics"][1:]}
    assert period % 60 == 0
    assert period * alarm["EvaluationPeriods"] <= (7 * 86400 if period >= 3600 else 86400)


def test_alarms_lead_to_sections_of_the_operations_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    assert {one["AlarmDescription"].partition("#")[2] for one in ALARMS.values()} - anchors == set()


@pytest.mark.fault(41)
@pytest.mark.parametrize(
    ("periods", "off"),
    [
        ([0, 0, 7, 0], False),  # a stray 429 holds back an invocation; its ids come back within 15 minutes
        ([0, 3, 4, 0], False),  # or two, if it straddles periods
        ([0, 1, 1, 1], True),  # no key: a single id comes back in every quarter of an hour
        ([1, 0, 1, 1], True),
    ],
)
def test_every_reason_for_which_nothing_is_called_is_an_alarm_within_the_hour(periods: list[int], off: bool) -> None:
    alarm = ALARMS["NotCalledAlarm"]
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 3600
    breaching = sum(one >= alarm["Threshold"] for one in periods)
    assert (breaching >= alarm["DatapointsToAlarm"]) is off


def test_new_dead_letters_are_reported_while_others_are_there() -> None:
    """The first ones raise the other alarm."""
    alarm = ALARMS["NewDeadLettersAlarm"]
    assert alarm["Metrics"][0]["Expression"] == "IF(letters - DIFF(letters) >= 1, DIFF(letters), 0)"
    assert alarm["Threshold"] == 1
    assert list(watched(alarm)) == list(watched(ALARMS["DeadLettersAlarm"]))


@pytest.mark.parametrize(
    ("without", "gone"),
    [
        ({"SweepsExpected": "false"}, {"SweepMissingAlarm"}),
        ({"MakeDashboard": "false"}, {"Dashboard"}),
        ({"AlarmTopicArn": ""}, set(ALARMS)),
        ({"AlarmTopicArn": "", "MakeDashboard": "false"}, {*ALARMS, "Dashboard"}),
    ],
)
def test_what_nobody_asked_for_is_not_made(without: dict[str, str], gone: set[str]) -> None:
    less = rendered(**without)
    assert WHOLE.resources.keys() - less.resources.keys() == gone
    for dashboard in less.of_type("AWS::CloudWatch::Dashboard").values():
        types = [widget["type"] for widget in json.loads(dashboard["DashboardBody"])["widgets"]]
        assert ("alarm" in types) is (without.get("AlarmTopicArn") != "")


def test_template_passes_what_is_asked_for_and_nothing_else() -> None:
    stack = render(SweepEnabled="true", SweepSilenceHours="30", AlarmTopicArn="", Dashboard="true")
    properties = stack.resources["ObservabilityStack"]["Properties"]
    assert (ROOT / properties["TemplateURL"]).samefile(OBSERVABILITY)
    passed: dict[str, Any] = properties["Parameters"]
    assert passed.keys() == observability()["Parameters"].keys() == PASSED.keys()
    assert {name: str(value) for name, value in passed.items()} == {
        "MonitoredStack": "cleanup",
        "WorkQueueName": "WorkQueue.QueueName",
        "DeadLetterQueueName": "DeadLetterQueue.QueueName",
        "TerminateFunctionName": "TerminateFunction",
        "SweepFunctionName": "SweepFunction",
        "TerminateLogGroupName": "TerminateLogGroup",
        "SweepLogGroupName": "SweepLogGroup",
        "RequestRuleName": "TerminateFunctionTerminationRequested",
        "AlarmTopicArn": "",
        "SweepsExpected": "true",
        "SweepSilenceHours": "30",
        "MakeDashboard": "true",
    }
    assert passed["RequestRuleName"] in stack.of_type("AWS::Events::Rule")
