#!/usr/bin/env bash
# Powertools Logger: a message that reads as JSON is logged as what it means, and can be lost
#
# Seen with aws-lambda-powertools 3.37.0.
# One would guess: `logger.info(text)` writes the text as the string `message`.
# What happens: the text is parsed as JSON first. "123" becomes a number and "true" a boolean, so that a log query for
# the text fails. "null" becomes None, and keys without a value are left out: the line has no message at all. "NaN"
# becomes a bare NaN, which JSON does not have, so the line cannot be read by a strict parser. The text may well come
# from elsewhere, such as the body of an answer.
#
# Output:
#   hello -> "message":"hello"
#   123 -> "message":123
#   null -> no message
#   NaN -> "message":NaN, not JSON

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for python in "${PYTHON:-python3.13}" python3 ~/.pyenv/versions/3.13*/bin/python3; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
done
"$python" -m venv venv && venv/bin/python -m pip install -qq aws-lambda-powertools==3.37.0 || exit 2

env -i HOME="$work" venv/bin/python - <<'EOF'
import io
import json
import re

from aws_lambda_powertools import Logger

stream = io.StringIO()
logger = Logger(service="orders", stream=stream)


def strict(constant):
    raise ValueError(constant)


def logged(text):
    stream.seek(0)
    stream.truncate()
    logger.info(text)
    line = stream.getvalue().strip()
    shown = re.search(r'"message":("[^"]*"|[^,]*)', line)
    try:
        json.loads(line, parse_constant=strict)
    except ValueError:
        return shown[0] + ", not JSON"
    return shown[0] if shown else "no message"


seen = {text: logged(text) for text in ("hello", "123", "null", "NaN")}
for text, result in seen.items():
    print(text, "->", result)
assert seen == {
    "hello": '"message":"hello"',
    "123": '"message":123',
    "null": "no message",
    "NaN": '"message":NaN, not JSON',
}
EOF
