#!/usr/bin/env bash
# botocore does not retry one throttling error of SQS: that of the queue's encryption key
#
# Seen with botocore 1.44.8, retry mode "standard", three attempts.
# One would guess: every error by which SQS says "too many requests" is retried.
# What happens: `RequestThrottled` is; `KmsThrottled` is raised after one request, although botocore's own model of SQS
# declares both as errors of SendMessage. It is not among the codes that botocore takes for throttling, and its status,
# 400, is not retried either. A producer for a queue with a customer managed key has to retry by itself.
#
# Output:
#   RequestThrottled: 3 requests
#   KmsThrottled: 1 request

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
import json
from collections import Counter

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
made = Counter()


def refuse(request, **_):
    made[code] += 1
    body = json.dumps({"__type": code, "message": "slow down"}).encode()
    return AWSResponse(request.url, 400, {}, urllib3.HTTPResponse(io.BytesIO(body), preload_content=False))


sqs.meta.events.register("before-send", refuse)  # instead of the network
declared = [shape.name for shape in sqs.meta.service_model.operation_model("SendMessage").error_shapes]
assert {"RequestThrottled", "KmsThrottled"} <= set(declared)
for code in ("RequestThrottled", "KmsThrottled"):
    try:
        sqs.send_message(QueueUrl="https://sqs.eu-west-1.amazonaws.com/123456789012/queue", MessageBody="x")
    except ClientError as error:
        assert error.response["Error"]["Code"] == code
    print(f"{code}: {made[code]} request{'s' if made[code] > 1 else ''}")
assert made == {"RequestThrottled": 3, "KmsThrottled": 1}
EOF
