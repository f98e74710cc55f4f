"""What a month costs in which nothing is sent, at list prices: what the README says."""

import json
from typing import Any

import pytest

from infra.environments import ROOT
from infra.rendered import observability
from tests.template.rendered import of, render

PRICES: dict[str, Any] = json.loads((ROOT / "tests" / "bench" / "prices.json").read_text(encoding="utf-8"))
# The pollers of an empty queue: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
POLLERS, POLL_SECONDS = 5, 20
MONTH_SECONDS = 30 * 24 * 3600
README = (ROOT / "README.md").read_text(encoding="utf-8")


def price(name: str) -> float:
    return float(PRICES[name]["price"])


def idle_month(**parameters: str) -> float:
    """Dollars. No invocation, so no metric of the functions: CloudWatch bills those for the hours that have values."""
    stack = render(**parameters)
    passed = stack.resources["ObservabilityStack"]["Properties"]["Parameters"]
    nested = of(observability(), **{name: str(value) for name, value in passed.items()})
    alarms = nested.of_type("AWS::CloudWatch::Alarm").values()
    # An alarm on an expression is paid for by the metrics in it.
    watched = sum(sum("MetricStat" in one for one in alarm.get("Metrics", [])) or 1 for alarm in alarms)
    return (
        len(stack.of_type("AWS::SecretsManager::Secret")) * price("secrets_manager_secret_month")
        + len(stack.of_type("AWS::KMS::Key")) * price("kms_key_month")
        + watched * price("alarm_metric_month")
        + len(nested.of_type("AWS::CloudWatch::Dashboard")) * price("dashboard_month")
        + POLLERS * MONTH_SECONDS / POLL_SECONDS / 1e6 * price("sqs_million_requests")
    )


@pytest.mark.parametrize(
    ("parameters", "most"),
    [
        ({}, 0.66),
        ({"AlarmEmail": "on-call@example.com"}, 2.30),
        ({"AlarmEmail": "on-call@example.com", "SweepEnabled": "true"}, 2.40),
        ({"AlarmEmail": "on-call@example.com", "Dashboard": "true", "UseCustomerManagedKey": "true"}, 6.30),
    ],
)
def test_an_idle_month(parameters: dict[str, str], most: float) -> None:
    assert idle_month(**parameters) == pytest.approx(most, abs=0.05)


def test_nothing_is_traced_by_default() -> None:
    """So ids that come one by one cost requests, compute and logs alone."""
    functions = render().of_type("AWS::Lambda::Function").values()
    assert {one["TracingConfig"]["Mode"] for one in functions} == {"PassThrough"}


def test_the_readme_says_the_figures() -> None:
    """Without alarms, and with them."""
    for parameters in ({}, {"AlarmEmail": "on-call@example.com"}):
        assert f"{idle_month(**parameters):.2f} USD a month" in " ".join(README.split())
