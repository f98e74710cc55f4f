"""Every alarm that leads to the runbook: it goes off, by the real cause where there can be one here, and ends again.

The alarms are those of infra/observability.yaml, deployed once more in another Region of the emulator, with the names
of the stack that all tests share. There they see no metric but what this module hands over: the emulator's alarms go
by the name of a metric, whatever its dimensions, so that in the stack's own Region the metrics of other tests would
mix in. An alarm ends when what set it off is older than it looks back. Nobody waits for hours here, so what sets it off
is handed over as if it had happened almost that long ago.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra.environments import ROOT
from infra.local.fake_devin import Fault
from infra.local.metrics import Forwarder
from tests.integration.world import World, wait_for

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef, MetricDatumTypeDef

TEMPLATE = ROOT / "infra" / "observability.yaml"
ELSEWHERE = "eu-west-1"
STACK = "ward"
# After the others: nothing is under way that would be killed, or that would have to be waited for.
pytestmark = pytest.mark.usefixtures("quiet")
# How long what sets an alarm off stays within its sight.
SECONDS_IN_SIGHT = 3.0
ALARMS = sorted(
    one["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("${MonitoredStack}-")
    for one in yaml_parse(TEMPLATE.read_text())["Resources"].values()
    # Those on metric math are for AWS alone.
    if one["Type"] == "AWS::CloudWatch::Alarm" and one.get("Condition") != "IsAws"
)


class Ward:
    """The alarms in their Region, and what is handed over to them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._aws = replace(world.stack.aws, region=ELSEWHERE)
        self.seen: dict[str, float] = {}

    def __enter__(self) -> Self:
        own = self._world.stack.aws.cloudformation
        (nested,) = (
            one["PhysicalResourceId"]
            for one in own.describe_stack_resources(StackName=self._world.stack.name)["StackResources"]
            if one["ResourceType"] == "AWS::CloudFormation::Stack"
        )
        (deployed,) = own.describe_stacks(StackName=nested)["Stacks"]
        handed_over = {one["ParameterKey"]: one["ParameterValue"] for one in deployed["Parameters"]}
        handed_over |= {"MonitoredStack": STACK, "SweepsExpected": "true"}
        self._aws.cloudformation.create_stack(
            StackName=STACK,
            TemplateBody=TEMPLATE.read_text(),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in handed_over.items()],
        )
        wait_for(lambda: self._status() == "CREATE_COMPLETE", "alarms in another Region", told=self._status)
        return self

    def __exit__(self, *_: object) -> None:
        self._aws.cloudformation.delete_stack(StackName=STACK)

    def _status(self) -> str:
        return self._aws.cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]

    def alarms(self) -> dict[str, MetricAlarmTypeDef]:
        pages = self._aws.cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{STACK}-")
        return {one["AlarmName"].removeprefix(f"{STACK}-"): one for page in pages for one in page["MetricAlarms"]}

    def states(self) -> dict[str, str]:
        return {name: one["StateValue"] for name, one in self.alarms().items()}

    # What is handed over.

    def put_metric_data(self, *, Namespace: str, MetricData: list[MetricDatumTypeDef]) -> None:  # noqa: N803
        """What the forwarder would put: remembered for the alarm that looks at it, and for no other."""
        for name, alarm in self.alarms().items():
            for datum in MetricData:
                watched = (alarm["Namespace"], alarm["MetricName"], alarm["Dimensions"])
                if (Namespace, datum["MetricName"], datum["Dimensions"]) == watched:
                    values = list(datum["Values"])
                    summed = alarm["Statistic"] == "Sum"
                    self.seen[name] = (
                        self.seen.get(name, 0.0) + sum(values) if summed else max(self.seen.get(name, 0.0), *values)
                    )

    def counted_by_the_emulator(self, name: str) -> None:
        """What the emulator itself counts in the stack's own Region."""
        alarm, now = self.alarms()[name], datetime.now(UTC)
        found = self._world.stack.aws.cloudwatch.get_metric_statistics(
            Namespace=alarm["Namespace"],
            MetricName=alarm["MetricName"],
            Dimensions=alarm["Dimensions"],
            Statistics=["Sum"],
            Period=3600,
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
        )["Datapoints"]
        self.seen[name] = sum(one["Sum"] for one in found)

    def hand_over(self, name: str, value: float, *, ago: bool) -> None:
        """A value of the metric that an alarm looks at: of now, or at the end of its sight."""
        alarm = self.alarms()[name]
        sight = alarm["Period"] * alarm["EvaluationPeriods"]
        past = timedelta(seconds=sight - SECONDS_IN_SIGHT if ago else 0)
        self._aws.cloudwatch.put_metric_data(
            Namespace=alarm["Namespace"],
            MetricData=[
                {
                    "MetricName": alarm["MetricName"],
                    "Dimensions": alarm["Dimensions"],
                    "Timestamp": datetime.now(UTC) - past,
                    "Value": value,
                }
            ],
        )

    def history(self, name: str) -> list[str]:
        """The states that an alarm has gone through."""
        items = self._aws.cloudwatch.describe_alarm_history(
            AlarmName=f"{STACK}-{name}", HistoryItemType="StateUpdate", ScanBy="TimestampAscending"
        )["AlarmHistoryItems"]
        return [json.loads(one["HistoryData"])["newState"]["stateValue"] for one in items]


type Cause = Callable[[World, Ward], object]


def an_unusable_message(world: World, _: Ward) -> None:
    world.send("this names no session")


def a_record_that_nobody_foresaw(world: World, _: Ward) -> None:
    world.invoke({"Records": [{"messageId": "without-a-body", "eventSource": "aws:sqs", "receiptHandle": "x"}]})


def a_key_that_is_refused(world: World, _: Ward) -> None:
    session_id = world.session("refused")
    with world.api_key("apk_user_replaced-by-mistake", "apk_user_the-one-that-counts"):
        assert world.invoke({"session_id": session_id}) == {"unauthorized": [session_id]}
    world.story(session_id, "terminated")


def sessions_of_somebody_else(world: World, _: Ward) -> None:
    ids = [world.session("not-mine", Fault(status=403, body='{"detail": "Forbidden"}')) for _ in range(5)]
    assert world.invoke({"session_ids": ids}) == {"forbidden": ids}


def an_organisation_that_is_wrong(world: World, _: Ward) -> None:
    ids = [world.name("elsewhere") for _ in range(20)]
    assert world.invoke({"session_ids": ids}) == {"rejected": ids}
    world.take_letters("devin-elsewhere-", len(ids))


def a_stop_switch_that_was_thrown(world: World, _: Ward) -> None:
    """Both functions are asked in new processes, because others remember what it said, and these are ended for it."""
    with world.stack.work_queue_held():
        world.stack.set_stop_switch("stop: everybody has gone home")
        try:
            for function in (world.stack.terminate_function_name, world.stack.sweep_function_name):
                world.kill_workers(function)
            world.invoke({"Records": []})
            assert world.invoke({"idle_for": "P1D"}, world.stack.sweep_function_name)["mode"] == "stopped"
        finally:
            world.stack.set_stop_switch("go")
            for function in (world.stack.terminate_function_name, world.stack.sweep_function_name):
                world.kill_workers(function)


def a_policy_that_is_wrong(world: World, ward: Ward) -> None:
    answer = world.stack.aws.lambda_.invoke(
        FunctionName=world.stack.sweep_function_name, Payload=b'{"idle_for": "three days"}'
    )
    assert "idle_for" in json.loads(answer["Payload"].read())["errorMessage"]
    ward.counted_by_the_emulator("sweep-errors")


CAUSES: dict[Cause, tuple[str, ...]] = {
    a_record_that_nobody_foresaw: ("unexpected-errors",),
    a_key_that_is_refused: ("unauthorized",),
    sessions_of_somebody_else: ("forbidden",),
    an_organisation_that_is_wrong: ("rejected",),
    a_policy_that_is_wrong: ("sweep-refused", "sweep-errors"),
    a_stop_switch_that_was_thrown: ("stopped", "sweep-stopped"),
    # The last one, because its letter has to be there when the queues are measured.
    an_unusable_message: ("dead-letters",),
}
CAUSED = [name for names in CAUSES.values() for name in names]
# What the emulator neither does nor measures: a value that is handed over stands for it.
MADE_UP: dict[str, float] = {
    "oldest-message": 3600,
    "throttles": 1,
    "sweep-missing": 0,
    "events-dropped": 1,
    "destination-failures": 1,
    "events-lost": 1,
    "schedules-dropped": 1,
}


@pytest.fixture(scope="module")
def ward(world: World) -> Iterator[Ward]:
    """All alarms have gone off and ended."""
    world.wait_until_drained()
    world.letters()
    with Ward(world) as made:
        assert set(made.states()) == set(ALARMS)
        forwarder = Forwarder(world.stack, made)
        # What other tests did is none of it.
        forwarder.forward()
        made.seen.clear()
        for cause in CAUSES:
            cause(world, made)

        def all_seen() -> bool:
            forwarder.forward()
            return all(made.seen.get(name, 0) >= made.alarms()[name]["Threshold"] for name in CAUSED)

        wait_for(all_seen, "metrics of all causes", told=lambda: made.seen)
        for name, value in {**{name: made.seen[name] for name in CAUSED}, **MADE_UP}.items():
            made.hand_over(name, value, ago=True)
        off = made.states()
        world.take_letter("this names no session")
        time.sleep(SECONDS_IN_SIGHT)
        # Where CloudWatch takes silence for the end, the emulator waits for a value.
        for name in ALARMS:
            made.hand_over(name, 1 if name == "sweep-missing" else 0, ago=False)
        assert off == dict.fromkeys(ALARMS, "ALARM")
        yield made


@pytest.mark.parametrize("name", ALARMS)
def test_alarm_goes_off_and_ends(ward: Ward, name: str) -> None:
    assert ward.history(name)[-2:] == ["ALARM", "OK"]


def test_what_is_made_up_is_what_has_no_cause_here() -> None:
    assert sorted([*CAUSED, *MADE_UP]) == ALARMS


def test_alarms_are_told_apart_by_what_they_are_about(ward: Ward) -> None:
    """All of them lead to the runbook, each to its section."""
    sections: dict[str, Any] = {name: one["AlarmDescription"].partition("#")[2] for name, one in ward.alarms().items()}
    assert {name for name, section in sections.items() if section != name} == {"sweep-stopped"}
    assert sections["sweep-stopped"] == "stopped"
