"""What the person on call has: the dashboard, the alarms, and an alarm that goes off and is heard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from infra.local.metrics import Forwarder
from tests.integration.world import World, wait_for

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef


def alarm(world: World, name: str) -> MetricAlarmTypeDef:
    (found,) = world.stack.aws.cloudwatch.describe_alarms(AlarmNames=[f"{world.stack.name}-{name}"])["MetricAlarms"]
    return found


def has_reason(world: World, watched: MetricAlarmTypeDef) -> bool:
    """Whether the alarm's metric is at its threshold. The emulator looks at the name alone, this at the dimensions."""
    now = datetime.now(UTC)
    points = world.stack.aws.cloudwatch.get_metric_statistics(
        Namespace=watched["Namespace"],
        MetricName=watched["MetricName"],
        Dimensions=watched["Dimensions"],
        Statistics=[watched["Statistic"]],
        Period=watched["Period"],
        StartTime=now - timedelta(minutes=10),
        EndTime=now + timedelta(minutes=1),
    )["Datapoints"]
    return any(point[watched["Statistic"]] >= watched["Threshold"] for point in points)


def is_off(world: World, forwarder: Forwarder, name: str) -> Callable[[], bool]:
    """Whether an alarm has gone off, and rightly, once what is new has become metrics."""

    def probe() -> bool:
        forwarder.forward()
        found = alarm(world, name)
        return found["StateValue"] == "ALARM" and has_reason(world, found)

    return probe


@contextmanager
def listener(world: World) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is published to the topic of the alarms, as a subscribed queue gets it."""
    sqs, sns, topic = world.stack.aws.sqs, world.stack.aws.sns, world.stack.outputs["AlarmTopicArn"]
    url = sqs.create_queue(QueueName=f"{world.stack.name}-on-call")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [{**allow, "Resource": arn}]}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
    heard: list[dict[str, Any]] = []

    def listen() -> list[dict[str, Any]]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages", [])
        heard.extend(json.loads(json.loads(message["Body"])["Message"]) for message in messages)
        return heard

    try:
        yield listen
    finally:
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
        sqs.delete_queue(QueueUrl=url)


def test_the_stack_has_a_dashboard_and_alarms_for_its_own_parts(world: World) -> None:
    outputs = world.stack.outputs
    body = json.loads(world.stack.aws.cloudwatch.get_dashboard(DashboardName=outputs["DashboardName"])["DashboardBody"])
    shown = json.dumps([widget["properties"].get("metrics", []) for widget in body["widgets"]])
    for part in (world.stack.terminate_function_name, world.stack.sweep_function_name):
        assert f'"{part}"' in shown
    for url in (world.stack.work_queue_url, world.stack.dead_letter_queue_url):
        assert f'"{url.rsplit("/", 1)[-1]}"' in shown
    pages = world.stack.aws.cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=world.stack.name)
    alarms = [one for page in pages for one in page["MetricAlarms"]]
    listed = {arn for widget in body["widgets"] for arn in widget["properties"].get("alarms", [])}
    # The emulator knows no alarms on metric math.
    missing = listed - {one["AlarmArn"] for one in alarms}
    assert {arn.rpartition(f":{world.stack.name}-")[2] for arn in missing} == {"new-dead-letters"}
    assert {one["AlarmArn"] for one in alarms} <= listed
    for one in alarms:
        assert one["AlarmActions"] == one["OKActions"] == [outputs["AlarmTopicArn"]]


def test_a_dead_letter_sets_off_an_alarm_that_is_heard_with_its_runbook(world: World) -> None:
    body = "this is no session"
    watched = alarm(world, "dead-letters")["AlarmName"]
    # Whatever the tests before this one did to it.
    world.stack.aws.cloudwatch.set_alarm_state(AlarmName=watched, StateValue="OK", StateReason="a new test")
    with listener(world) as listen:
        world.send(body)
        wait_for(is_off(world, Forwarder(world.stack), "dead-letters"), "the alarm about dead letters")

        def alarms() -> list[dict[str, Any]]:
            return [one for one in listen() if one["AlarmName"] == watched and one["NewStateValue"] == "ALARM"]

        (notice,) = wait_for(alarms, "the notification", told=listen)
    assert notice["AlarmDescription"].endswith("docs/operations.md#dead-letters")
    world.take_letter(body)


def test_a_sweep_that_is_refused_sets_off_its_alarm(world: World) -> None:
    forwarder = Forwarder(world.stack)
    answer = world.stack.aws.lambda_.invoke(FunctionName=world.stack.sweep_function_name, Payload=b'{"idle_fr": "P1D"}')
    assert answer.get("FunctionError")
    wait_for(is_off(world, forwarder, "sweep-errors"), "the alarm about a failed sweep")


def test_metrics_of_the_stack_carry_the_function_they_are_from(world: World) -> None:
    """Another stack in the account, which has other functions, would not be added to them."""
    world.invoke({"session_id": world.session("observed")})
    forwarder = Forwarder(world.stack)

    def counted() -> list[dict[str, str]]:
        forwarder.forward()
        pages = world.stack.aws.cloudwatch.get_paginator("list_metrics").paginate(
            Namespace="DevinSessionCleanup", MetricName="terminated"
        )
        return [
            {one["Name"]: one["Value"] for one in metric["Dimensions"]} for page in pages for metric in page["Metrics"]
        ]

    mine = {"function_name": world.stack.terminate_function_name, "service": "terminate"}
    wait_for(lambda: mine in counted(), "a metric of this function", told=counted)
    # Other tests have functions of their own.
    assert all(one.keys() == mine.keys() for one in counted())
