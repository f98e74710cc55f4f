"""What a million ids cost that come one by one, at list prices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PRICES: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text())
MEMORY_GB = 0.5
# A whole CPU comes with 1,769 MB: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
CPU_SHARE = 512 / 1769
API_SECONDS = 0.1
# Lambda's own lines of an invocation, start and report as JSON, with what CloudWatch Logs adds to each event.
PLATFORM_BYTES = 620
# The share of a logged byte that is kept once it is compressed, and the months that it is kept by default.
STORED, MONTHS_STORED = 0.15, 3
# One invocation of so many starts an execution environment, and pays for its initialisation:
# https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/
COLD_EVERY = 100
KEY_SECONDS, SWITCH_SECONDS = 300, 15


def price(name: str) -> float:
    return float(PRICES[name]["price"])


def million(cpu_seconds: float, log_bytes: float, init_seconds: float) -> dict[str, float]:
    """Dollars for a million ids, one in an invocation, without tracing. The CPU time of an invocation is stretched to
    Lambda's share, and added to an API's latency of 100 ms."""
    second = MEMORY_GB * price("lambda_gb_second_arm64")
    seconds = API_SECONDS + cpu_seconds / CPU_SHARE
    gigabytes = 1e6 * (log_bytes + PLATFORM_BYTES) / 1e9
    return {
        "compute": 1e6 * seconds * second,
        "initialisations": 1e6 / COLD_EVERY * init_seconds * second,
        "requests of Lambda": price("lambda_million_requests"),
        "requests of SQS: send, receive, delete": 3 * price("sqs_million_requests"),
        "logs": gigabytes * (price("logs_gb_ingested") + STORED * MONTHS_STORED * price("logs_gb_month_stored")),
        # An environment that is busy all the time reads it again when it is too old.
        "reads of the secret": 1e6 * seconds / KEY_SECONDS / 1e4 * price("secrets_manager_ten_thousand_calls"),
    }
