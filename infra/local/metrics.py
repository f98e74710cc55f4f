"""What CloudWatch makes of logs and queues on AWS, and the emulator does not: metrics.

Lambda extracts the embedded metric format from log lines, and SQS measures its queues. Here both are read, from the log
groups and the queues, and put as metrics under the same names and dimensions, so that the deployed alarms and dashboard
have something to look at.

Not made: the age of the oldest message and how many were sent, received and deleted, which the emulator does not tell,
and what becomes of asynchronous events. Invocations, errors and durations the emulator counts itself, but only of
direct invocations.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from infra.local.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef
    from mypy_boto3_sqs.literals import QueueAttributeNameType

# SQS's metrics and the attribute that is measured in their place.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
QUEUE_METRICS: dict[str, QueueAttributeNameType] = {
    "ApproximateNumberOfMessagesVisible": "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible": "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed": "ApproximateNumberOfMessagesDelayed",
}
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
_MOST_VALUES = 150
_MOST_METRICS = 500  # half of what is allowed
_SECONDS_BETWEEN_LOOKS = 1.0


class Metrics(Protocol):
    """What takes metrics, as a client of CloudWatch does."""

    def put_metric_data(self, *, Namespace: str, MetricData: list[MetricDatumTypeDef]) -> object: ...  # noqa: N803


class Forwarder:
    """Reads what is new in a stack's logs, measures its queues, and puts both as metrics, the stack's own CloudWatch
    unless said."""

    def __init__(self, stack: Stack, metrics: Metrics | None = None) -> None:
        self._stack = stack
        self._metrics: Metrics = metrics or stack.aws.cloudwatch
        self._seen: dict[str, int] = {}
        self._waiting: dict[str, list[MetricDatumTypeDef]] = {}

    def forward(self) -> None:
        """Everything that was logged since the last time, and the queues as they are now."""
        for function in (self._stack.terminate_function_name, self._stack.sweep_function_name):
            blobs = [entry for entry in self._stack.log_entries(function) if "_aws" in entry]
            for blob in blobs[self._seen.get(function, 0) :]:
                self._forward_embedded(blob)
            self._seen[function] = len(blobs)
        for url in (self._stack.work_queue_url, self._stack.dead_letter_queue_url):
            self._measure(url)
        for namespace, data in self._waiting.items():
            for first in range(0, len(data), _MOST_METRICS):
                self._metrics.put_metric_data(Namespace=namespace, MetricData=data[first : first + _MOST_METRICS])
        self._waiting.clear()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Forwards every second, and once more at the end."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(_SECONDS_BETWEEN_LOOKS):
                self.forward()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.forward()

    def _forward_embedded(self, blob: dict[str, Any]) -> None:
        """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html"""
        at = datetime.fromtimestamp(blob["_aws"]["Timestamp"] / 1000, UTC)
        for directive in blob["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = {name: blob[name] for name in names}
                for metric in directive["Metrics"]:
                    given = blob[metric["Name"]]
                    values = given if isinstance(given, list) else [given]
                    self._put(
                        directive["Namespace"], metric["Name"], metric["Unit"], values, dimensions=dimensions, at=at
                    )

    def _measure(self, queue_url: str) -> None:
        now = datetime.now(UTC)
        attributes = self._stack.aws.sqs.get_queue_attributes(
            QueueUrl=queue_url, AttributeNames=list(QUEUE_METRICS.values())
        )["Attributes"]
        dimensions = {"QueueName": queue_url.rsplit("/", 1)[-1]}
        for metric, attribute in QUEUE_METRICS.items():
            self._put("AWS/SQS", metric, "Count", [float(attributes[attribute])], dimensions=dimensions, at=now)

    def _put(
        self, namespace: str, name: str, unit: Any, values: list[float], *, dimensions: dict[str, str], at: datetime
    ) -> None:
        data = self._waiting.setdefault(namespace, [])
        for first in range(0, len(values), _MOST_VALUES):
            data.append(
                {
                    "MetricName": name,
                    "Unit": unit,
                    "Timestamp": at,
                    "Values": values[first : first + _MOST_VALUES],
                    "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                }
            )
