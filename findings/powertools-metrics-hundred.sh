#!/usr/bin/env bash
# Powertools Metrics: an invocation that records exactly 100 values gives its dimensions to the next one
#
# Seen with aws-lambda-powertools 3.37.0.
# One would guess: `log_metrics` writes and clears everything when the handler returns.
# What happens: the hundredth value of a metric is written at once, and this keeps dimensions and metadata, as more
# values may follow. If none does, nothing is left to write when the handler returns, and nothing is cleared. The next
# invocation, which adds neither dimension nor metadata, is counted for the former one's tenant. With 99 or 101 values
# all is well, so a test with a few values does not see it.
#
# Output (what the second invocation writes after one of 99, 100 and 101 values for the tenant "a"):
#   99: dimensions ['service'], request None
#   100: dimensions ['tenant', 'service'], request 1
#   101: dimensions ['service'], request None

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for python in "${PYTHON:-python3.13}" python3 ~/.pyenv/versions/3.13*/bin/python3; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
done
"$python" -m venv venv && venv/bin/python -m pip install -qq aws-lambda-powertools==3.37.0 || exit 2

env -i HOME="$work" venv/bin/python -W ignore - <<'EOF'
import contextlib
import io
import json

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

metrics = Metrics(namespace="Shop", service="orders")


@metrics.log_metrics
def for_tenant(event, context):
    metrics.add_dimension(name="tenant", value="a")
    metrics.add_metadata(key="request", value=1)
    for _ in range(event["values"]):
        metrics.add_metric(name="Items", unit=MetricUnit.Count, value=1)


@metrics.log_metrics
def for_nobody(event, context):
    metrics.add_metric(name="Items", unit=MetricUnit.Count, value=1)


seen = {}
for values in (99, 100, 101):
    with contextlib.redirect_stdout(io.StringIO()) as written:
        for_nobody({}, None)  # leaves a clean state
        for_tenant({"values": values}, None)
        for_nobody({}, None)
    last = json.loads(written.getvalue().splitlines()[-1])
    [dimensions] = last["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    seen[values] = (dimensions, last.get("request"))
    print(f"{values}: dimensions {dimensions}, request {last.get('request')}")
clean, leaked = (["service"], None), (["tenant", "service"], 1)
assert seen == {99: clean, 100: leaked, 101: clean}
EOF
