"""The saved queries of Logs Insights ask for fields that the functions or Lambda write."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

from infra.environments import ROOT
from sweep.selection import CapExceededError
from tests.unit.world import World, answer, session, stale

RESOURCES: dict[str, Any] = yaml_parse((ROOT / "infra" / "observability.yaml").read_text())["Resources"]
QUERIES = {
    name: one["Properties"]["QueryString"]
    for name, one in RESOURCES.items()
    if one["Type"] == "AWS::Logs::QueryDefinition"
}
# What Lambda writes about an invocation when the log format is JSON.
# https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html#platform-report
# https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html#ReportMetrics
PLATFORM = {
    "time",
    "type",
    "record.requestId",
    "record.status",
    "record.errorType",
    *(
        f"record.metrics.{name}"
        for name in ("durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs")
    ),
}
# What its runtime writes of an exception that leaves the handler.
# https://github.com/aws/aws-lambda-python-runtime-interface-client/blob/main/awslambdaric/bootstrap.py
RUNTIME = {"timestamp", "level", "log_level", "errorMessage", "errorType", "requestId", "stackTrace"}
# Of CloudWatch Logs, for every line.
EVERY_LINE = {"@timestamp", "@message"}
WORDS = {
    "and", "as", "asc", "bin", "by", "count", "count_distinct", "desc", "fields", "filter", "in", "latest", "like",
    "limit", "max", "or", "sort", "stats",
}  # fmt: skip


def paths(value: dict[str, Any], above: str = "") -> Iterator[str]:
    """The names of all fields, as Logs Insights finds them."""
    for name, one in value.items():
        yield above + name
        if isinstance(one, dict):
            yield from paths(one, f"{above}{name}.")


@pytest.fixture
def written(switch: World, log: Callable[[], list[dict[str, Any]]]) -> set[str]:
    """The fields of everything that the functions log in a bad week."""
    world = switch
    world.api.on("DELETE", "devin-gone", answer(422, {"detail": "exited"}))
    world.api.on("GET", "devin-gone", session("working"))
    world.api.on("DELETE", "devin-busy", answer(429, "", Retry_After="0"))
    world.api.on("DELETE", "devin-bug", ZeroDivisionError())
    world.send('{"session_id": "devin-gone", "unless_updated_since": "2027-01-01T00:00:00Z"}', "devin-busy", "nonsense")
    world.deliver()
    world.send("devin-bug")
    world.deliver()
    world.api.have(stale("devin-1"), stale("devin-2"))
    world.sweep(idle_for="P1D", max_share=1)
    with pytest.raises(CapExceededError):
        world.sweep(idle_for="P1D", max_sessions=1, max_share=1)
    world.switch("stop")
    world.sweep(idle_for="P1D")
    return {path for line in log() for path in paths(line)}


def named(query: str) -> set[str]:
    """The fields that a query names, without those that it makes."""
    bare = re.sub(r'"[^"]*"|/[^/]*/', "", query)
    made = set(re.findall(r"\bas (\w+)", bare))
    return set(re.findall(r"(?<![\w.])@?[a-z_]\w*(?:\.\w+)*", bare)) - made - WORDS


def test_queries_ask_for_fields_that_are_written(written: set[str]) -> None:
    unknown = {name: named(query) - written - PLATFORM - RUNTIME - EVERY_LINE for name, query in QUERIES.items()}
    assert not any(unknown.values()), unknown


def test_queries_ask_for_values_that_are_written(switch: World, log: Callable[[], list[dict[str, Any]]]) -> None:
    switch.switch("stop")
    switch.send("devin-3")
    switch.deliver()
    switch.sweep(idle_for="P1D")
    held_back, swept = log()
    assert f'message = "{swept["message"]}"' in QUERIES["SweepReportsQuery"]
    assert f'report.mode = "{swept["report"]["mode"]}"' in QUERIES["HeldBackQuery"]
    assert re.match("^stopped", held_back["detail"])
    assert "detail like /^stopped/" in QUERIES["HeldBackQuery"]
