#!/usr/bin/env bash
# A botocore client that met many failures stops retrying: the retry quota belongs to the client, not to the call
#
# Seen with botocore 1.44.8, retry mode "standard", three attempts.
# One would guess: each of 30 calls that fail with 500 makes three requests, 90 in all.
# What happens: a retry takes 14 from 500 tokens that the client has for its whole life. 17 calls make three requests,
# the next makes two, and all after that make one; the error's metadata then has `RetryQuotaReached`. A call that
# succeeds at the first attempt gives back one token, so 14 of them pay for one retry. A long-lived client therefore
# makes fewer attempts than its configuration says.
#
# Output:
#   requests of each call: 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 3 2 1 1 1 1 1 1 1 1 1 1 1 1
#   together: 65
#   after 3 calls that succeed: 1
#   after 1 more: 2

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for python in "${PYTHON:-python3.13}" python3 ~/.pyenv/versions/3.13*/bin/python3; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
done
"$python" -m venv venv && venv/bin/python -m pip install -qq botocore==1.44.8 || exit 2

env -i HOME="$work" venv/bin/python - <<'EOF'
import io

import botocore.session
import urllib3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

sqs = botocore.session.Session().create_client(
    "sqs",
    region_name="eu-west-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
    config=Config(retries={"mode": "standard", "total_max_attempts": 3}),
)
status = 500
requests = 0


def answer(request, **_):
    global requests
    requests += 1
    return AWSResponse(request.url, status, {}, urllib3.HTTPResponse(io.BytesIO(b"{}"), preload_content=False))


sqs.meta.events.register("before-send", answer)  # instead of the network


def failing_call():
    global status, requests
    status, requests = 500, 0
    try:
        sqs.list_queues()
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
    assert metadata.get("RetryQuotaReached", False) == (requests < 3)
    return requests


def after_successes(count):
    global status
    status = 200
    for _ in range(count):
        sqs.list_queues()
    return failing_call()


made = [failing_call() for _ in range(30)]
# 35 retries leave 10 tokens. With three more a retry is not paid for, with four it is.
short, enough = after_successes(3), after_successes(1)
print("requests of each call:", *made)
print("together:", sum(made))
print("after 3 calls that succeed:", short)
print("after 1 more:", enough)
assert made == [3] * 17 + [2] + [1] * 12 and (short, enough) == (1, 2)
EOF
