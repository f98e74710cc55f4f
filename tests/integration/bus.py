"""The default event bus, as those hear it who want to know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.integration.world import World

Heard = Callable[[], list[str]]


@contextmanager
def hearing(world: World, *detail_types: str) -> Iterator[Heard]:
    """A rule that leads to a queue while the block lasts: a function that tells which events came so far, whole."""
    aws, name = world.stack.aws, world.name("hearing")
    queue = aws.sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern: dict[str, list[str]] = {"source": ["devin-session-cleanup"]}
    if detail_types:
        pattern["detail-type"] = list(detail_types)
    aws.events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    aws.events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    found: list[str] = []

    def heard() -> list[str]:
        while messages := aws.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            found.extend(message["Body"] for message in messages)
            for message in messages:
                aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return list(found)

    try:
        yield heard
    finally:
        heard()
        aws.events.remove_targets(Rule=name, Ids=["queue"])
        aws.events.delete_rule(Name=name)
        aws.sqs.delete_queue(QueueUrl=queue)
