"""List prices times what is used: what a million ids cost, and what a month costs whatever is done in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra.environments import ROOT

PRICES: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text())
MEMORY_GB = 0.5
# A whole CPU comes with 1,769 MB: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
CPU_SHARE = 512 / 1769
# Lambda's own lines of an invocation, start and report as JSON, with what CloudWatch Logs adds to each event.
PLATFORM_BYTES = 620
EVENT_BYTES = 26
# What is kept of a logged byte once it is compressed, and for how many months by default.
STORED, MONTHS_STORED = 0.15, 3
# One invocation of so many finds no execution environment and is billed for making one, which Lambda does since
# 2025-08: https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/
COLD_EVERY = 100
# X-Ray takes one invocation a second, and so many of the others; for Lambda functions that cannot be set.
# https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html
TRACED = 0.05
# The pollers of a queue that nothing is in: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
POLLERS, POLL_SECONDS = 5, 20
MONTH_SECONDS = 30 * 24 * 3600
# How long a function goes by the secret that it has read.
SECRET_SECONDS = 300


def price(name: str) -> float:
    return float(PRICES[name]["price"])


@dataclass(frozen=True, slots=True)
class Batch:
    """What an invocation with so many ids was measured to take."""

    ids: int
    milliseconds: float
    log_bytes: float


@dataclass(frozen=True, slots=True)
class Bill:
    """Dollars for a million ids, by what they are paid for."""

    compute: float
    cold_starts: float
    requests: float
    queue: float
    logs: float
    traces: float

    @property
    def total(self) -> float:
        return self.compute + self.cold_starts + self.requests + self.queue + self.logs + self.traces


def bill(batch: Batch, cold_milliseconds: float, *, traced: float = TRACED, sent_together: int = 1) -> Bill:
    """For a million ids in such batches. `traced`: X-Ray's share of the invocations. `sent_together`: ids of a
    SendMessageBatch, ten at most."""
    invocations = 1e6 / batch.ids
    # Lambda receives and deletes ten messages with a request.
    queue = 1e6 / sent_together + 2 * invocations * math.ceil(batch.ids / 10)
    seconds = invocations * batch.milliseconds / 1000
    second = MEMORY_GB * price("lambda_gb_second_arm64")
    gigabytes = invocations * (batch.log_bytes + PLATFORM_BYTES) / 1e9
    return Bill(
        compute=seconds * second,
        cold_starts=invocations / COLD_EVERY * cold_milliseconds / 1000 * second,
        # With the readings of the secret by environments that are busy.
        requests=invocations / 1e6 * price("lambda_million_requests") + _readings(seconds),
        queue=queue / 1e6 * price("sqs_million_requests"),
        logs=gigabytes * (price("logs_gb_ingested") + STORED * MONTHS_STORED * price("logs_gb_month_stored")),
        traces=invocations * traced / 1e6 * price("xray_million_traces"),
    )


def _readings(seconds: float) -> float:
    return seconds / SECRET_SECONDS / 1e4 * price("secrets_manager_ten_thousand_calls")


def traced_share(invocations_a_second: float) -> float:
    """X-Ray's share of invocations that come evenly: all of those that are alone in their second."""
    if invocations_a_second <= 1:
        return 1.0
    return (1 + TRACED * (invocations_a_second - 1)) / invocations_a_second


def fixed_costs(metrics: int) -> Mapping[str, float]:
    """Dollars a month, whatever is done in it, by what they are for. So many `metrics` at most are the functions'."""
    resources = yaml_parse((ROOT / "infra" / "observability.yaml").read_text())["Resources"].values()
    of_type = {kind: [one for one in resources if one["Type"] == f"AWS::{kind}"] for kind in _COUNTED}
    alarms, dashboards, keys = of_type.values()
    # An alarm on an expression is paid for by the metrics in it.
    watched = sum(sum("MetricStat" in one for one in alarm["Properties"].get("Metrics", [])) or 1 for alarm in alarms)
    polls = POLLERS * MONTH_SECONDS / POLL_SECONDS
    return {
        f"the secret, and {POLLERS} environments that read it": price("secrets_manager_secret_month")
        + POLLERS * _readings(MONTH_SECONDS),
        f"{metrics} metrics": metrics * price("custom_metric_month"),
        f"{len(alarms)} alarms on {watched} metrics": watched * price("alarm_metric_month"),
        "the dashboard": len(dashboards) * price("dashboard_month"),
        "the key of the alarms' topic": len(keys) * price("kms_key_month"),
        f"polls of an idle queue, {POLLERS} pollers of {POLL_SECONDS} s": polls / 1e6 * price("sqs_million_requests"),
    }


_COUNTED = ("CloudWatch::Alarm", "CloudWatch::Dashboard", "KMS::Key")
