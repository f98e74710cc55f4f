"""The values that the performance chapter recommends are values that the template takes, and what its text says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.tuning import STEPS, Values, recommended
from tests.template.rendered import source

PARAMETERS: dict[str, Any] = source()["Parameters"]

each_api = pytest.mark.parametrize(
    ("allowed", "latency"),
    [(allowed, latency) for allowed in (1, 10, 20, 50, 100, 500, 5000) for latency in (5, 20, 100, 500, 5000)],
)


@each_api
def test_the_template_takes_them(allowed: int, latency: int) -> None:
    values = recommended(allowed, latency)
    assert tuple(PARAMETERS["MaximumConcurrency"]["AllowedValues"]) == STEPS
    assert values.concurrency in STEPS
    for name, value in {
        "MaxWorkers": values.workers,
        "BatchSize": values.batch,
        "BatchWindowSeconds": values.window,
        "MemorySize": values.memory,
    }.items():
        assert PARAMETERS[name]["MinValue"] <= value <= PARAMETERS[name]["MaxValue"], name
    assert values.batch <= 10 or values.window >= 1


@each_api
def test_no_more_calls_than_the_api_allows_unless_fewer_cannot_be(allowed: int, latency: int) -> None:
    values = recommended(allowed, latency)
    assert values.calls_a_second(latency) <= allowed or (values.concurrency, values.workers) == (2, 1)


@each_api
def test_an_invocation_takes_a_tenth_of_its_minute_or_one_round_of_calls(allowed: int, latency: int) -> None:
    values = recommended(allowed, latency)
    assert values.batch / values.workers * latency / 1000 <= 6 or values.batch == values.workers


def test_the_defaults_are_for_the_api_that_the_text_names() -> None:
    names = ("MaximumConcurrency", "MaxWorkers", "BatchSize", "BatchWindowSeconds", "MemorySize")
    assert Values(*(PARAMETERS[name]["Default"] for name in names)) == recommended(500, 100)
