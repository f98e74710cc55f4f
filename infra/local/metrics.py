"""What CloudWatch makes of logs and queues on AWS, and the emulator does not: metrics.

Lambda extracts the embedded metric format from log lines, and SQS measures its queues. Here both are read and put as
metrics under the same names and dimensions, so that the deployed alarms and dashboard have something to look at.
Not made: the age of the oldest message, and how many messages were sent, received and deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from infra.local.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef


class Forwarder:
    """Reads what is new in a stack's logs, measures its queues, and puts both as metrics."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._seen: dict[str, int] = {}

    def forward(self) -> None:
        """Everything that was logged since the last time, and the queues as they are now."""
        data: dict[str, list[MetricDatumTypeDef]] = {"AWS/SQS": []}
        for function in (self._stack.terminate_function_name, self._stack.sweep_function_name):
            blobs = [entry for entry in self._stack.log_entries(function) if "_aws" in entry]
            for blob in blobs[self._seen.get(function, 0) :]:
                at = datetime.fromtimestamp(blob["_aws"]["Timestamp"] / 1000, UTC)
                for directive in blob["_aws"]["CloudWatchMetrics"]:
                    data.setdefault(directive["Namespace"], []).extend(_embedded(blob, directive, at))
            self._seen[function] = len(blobs)
        for url in (self._stack.work_queue_url, self._stack.dead_letter_queue_url):
            data["AWS/SQS"] += self._measured(url)
        for namespace, metrics in data.items():
            # AWS takes a thousand at a time.
            for first in range(0, len(metrics), 500):
                self._stack.aws.cloudwatch.put_metric_data(Namespace=namespace, MetricData=metrics[first : first + 500])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Forwards every second, and once more at the end."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(1):
                self.forward()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.forward()

    def _measured(self, url: str) -> Iterator[MetricDatumTypeDef]:
        """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html"""
        attributes = self._stack.aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        for name, value in attributes.items():
            if name.startswith("ApproximateNumberOfMessages"):
                metric = "ApproximateNumberOfMessagesVisible" if name == "ApproximateNumberOfMessages" else name
                dimensions = {"QueueName": url.rsplit("/", 1)[-1]}
                yield _datum(metric, "Count", [float(value)], dimensions, datetime.now(UTC))


def _embedded(blob: dict[str, Any], directive: dict[str, Any], at: datetime) -> Iterator[MetricDatumTypeDef]:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html"""
    for names in directive["Dimensions"]:
        dimensions = {name: blob[name] for name in names}
        for metric in directive["Metrics"]:
            given = blob[metric["Name"]]
            yield _datum(metric["Name"], metric["Unit"], given if isinstance(given, list) else [given], dimensions, at)


def _datum(name: str, unit: Any, values: list[float], dimensions: dict[str, str], at: datetime) -> MetricDatumTypeDef:
    return {
        "MetricName": name,
        "Unit": unit,
        "Timestamp": at,
        "Values": values,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
    }
