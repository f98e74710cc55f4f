"""This project with metrics written for each id, instead of once for an invocation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from terminate import handler
from terminate.invocation import Settled
from terminate.report import report


def _one_by_one(settled: Sequence[Settled], latencies: Sequence[float], *others: Any, **more: Any) -> None:
    for one, latency in zip_longest(settled, latencies):
        # Dimensions go with what was written.
        handler.metrics.add_dimension("function_name", "terminate")
        report([one] if one else [], [] if latency is None else [latency], *others, **more)


handler.report = _one_by_one  # type: ignore[attr-defined]
lambda_handler = handler.lambda_handler
