"""What a million ids cost: list prices times what was measured."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.fleet import CONTENDERS, OURS, WORKERS, Contender, Server, Spread
from tests.bench.result import Goal, Section, Table

PRICES: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text())
MEMORY_GB = 0.5
# A whole CPU comes with 1,769 MB: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
CPU_SHARE = 512 / 1769
# Lambda's own lines of an invocation, start and report as JSON, with what CloudWatch Logs adds to each event (26).
PLATFORM_BYTES = 620
EVENT_BYTES = 26
# X-Ray samples one request a second, and of the others so many.
TRACED = 0.05
BATCHES = (1, 10, 100)
LATENCIES = (20, 100, 500)
# Metrics that appear in a month in which everything happens: the outcomes, api_latency, and those of the sweep.
METRICS = 9 + 1 + 7


def _price(name: str) -> float:
    return float(PRICES[name]["price"])


@dataclass(frozen=True, slots=True)
class Bill:
    """Dollars for a million ids, by what they are paid for."""

    compute: float
    requests: float
    queue: float
    secrets: float
    logs: float
    traces: float

    @property
    def total(self) -> float:
        return self.compute + self.requests + self.queue + self.secrets + self.logs + self.traces


def bill(ids: int, milliseconds: float, log_bytes: float, *, sent_together: int) -> Bill:
    """For batches of so many ids that take so long. `sent_together`: ids of a SendMessageBatch, ten at most."""
    invocations = 1e6 / ids
    # Lambda receives and deletes ten messages with a request.
    queue = 1e6 / sent_together + 2 * invocations * math.ceil(ids / 10)
    seconds = invocations * milliseconds / 1000
    return Bill(
        compute=seconds * MEMORY_GB * _price("lambda_gb_second_arm64"),
        requests=invocations / 1e6 * _price("lambda_million_requests"),
        queue=queue / 1e6 * _price("sqs_million_requests"),
        # An environment that is busy reads the secret every five minutes.
        secrets=seconds / 300 / 1e4 * _price("secrets_manager_ten_thousand_calls"),
        logs=(invocations * (log_bytes + PLATFORM_BYTES)) / 1e9 * _price("logs_gb_ingested"),
        traces=invocations * TRACED / 1e6 * _price("xray_million_traces"),
    )


def _durations(server: Server, latency: int, *, quick: bool) -> dict[int, tuple[float, float]]:
    """Billed milliseconds and log bytes of a batch, by its size; with a tail, as the API will have one.

    While ten threads wait, a fraction of a CPU is enough; the CPU time itself takes as much longer as Lambda's share
    is smaller than the whole CPU it had here. All of it is added, as if none overlapped with the waiting.
    """
    found: dict[int, tuple[float, float]] = {}
    behaviour = f"tail-{latency}-0"
    with Contender(CONTENDERS[OURS], server.environment(behaviour)) as ours:
        ours.at(server.url(behaviour))
        for ids in BATCHES:
            times = 2 if quick else max(3, min(12, int(2000 / latency / math.ceil(ids / WORKERS))))
            took = [ours.invoke(first=1000 * number, ids=ids) for number in range(times)]
            wall = sum(one.wall for one in took) / times * 1000
            cpu = Spread.of([one.cpu for one in took]).median * 1000
            lines = ids + 1
            logged = took[0].logged + lines * EVENT_BYTES
            found[ids] = math.ceil(wall + cpu * (1 / CPU_SHARE - 1)), float(logged)
    return found


def measure(server: Server, *, quick: bool) -> Section:
    """Bills by batch size and latency, and the calls that were counted for them."""
    rows, totals = [], {}
    bytes_per_id: dict[int, float] = {}
    for latency in (100,) if quick else LATENCIES:
        for ids, (milliseconds, logged) in _durations(server, latency, quick=quick).items():
            bytes_per_id[ids] = logged / ids
            one = bill(ids, milliseconds, logged, sent_together=1)
            totals[ids, latency] = one.total
            parts = (one.compute, one.requests, one.queue, one.secrets, one.logs, one.traces)
            saved = one.total - bill(ids, milliseconds, logged, sent_together=10).total
            rows.append(
                [f"{ids} x {latency} ms", f"{milliseconds:,.0f}", f"{logged / ids:.0f}"]
                + [f"{part:.3f}" for part in parts]
                + [f"**{one.total:.2f}**", f"{one.total - saved:.2f}"]
            )
    total = totals[10, 100]
    prices = [
        [name.replace("_", " "), f"{entry['price']:.10f}".rstrip("0"), entry["source"]]
        for name, entry in PRICES.items()
        if isinstance(entry, dict)
    ]
    monthly = _price("secrets_manager_secret_month") + METRICS * _price("custom_metric_month")
    return Section(
        "What a million ids cost",
        [
            (
                f"US dollars at the list prices of {PRICES['region']}, {PRICES['date']} (`tests/bench/prices.json`), "
                "without free tiers, for ids that end at the first attempt. Measured: the duration of a batch, with "
                "a tail, "
                f"its CPU time stretched to what 512 MB get of a CPU ({CPU_SHARE:.2f}) and added to the waiting; and "
                "the "
                f"bytes that it logs. {PLATFORM_BYTES} bytes an invocation for Lambda's own lines, {TRACED:.0%} of "
                "the invocations "
                "traced. The queue: each id sent by a request of its own, received and deleted ten at a time. The last "
                "column is for senders that use `SendMessageBatch` with ten ids. A message with `session_ids` costs "
                "less "
                "still."
            ),
            (
                f"Beside that, a month costs {_price('secrets_manager_secret_month'):.2f} for the secret and up to "
                f"{METRICS} x {_price('custom_metric_month'):.2f} for metrics (one for each outcome that occurs, the "
                "API's "
                f"latency, the sweep's), together at most {monthly:.2f}, and the polls of an idle queue, five "
                "pollers of "
                f"20 s: {5 * 3 * 60 * 24 * 30 / 1e6 * _price('sqs_million_requests'):.2f}."
            ),
        ],
        [
            Table(
                "For a million ids",
                [
                    "batch x latency",
                    "ms billed",
                    "log bytes per id",
                    "compute",
                    "requests",
                    "queue",
                    "secret",
                    "logs",
                    "traces",
                    "total",
                    "sent by tens",
                ],
                rows,
            ),
            Table("Prices", ["what", "US dollars", "source"], prices),
        ],
        [Goal("a million ids, batches of 10 x 100 ms", "less than 1 dollar", f"{total:.2f} dollars", total < 1)],
    )
