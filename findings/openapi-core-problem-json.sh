#!/usr/bin/env bash
# openapi-core refuses every response of the type application/problem+json
#
# Seen with openapi-core 0.23.1.
# One would guess: a JSON object under a media type that ends in "+json" (RFC 6839) is read as JSON.
# What happens: only application/json and application/vnd.api+json are. A problem (RFC 9457), by which many APIs
# describe errors, stays bytes, and bytes are no object: a response that follows the document is refused, and the
# document itself is accepted. `Config.extra_media_type_deserializers` mends it, one type at a time.
#
# Output:
#   application/json: accepted
#   application/vnd.api+json: accepted
#   application/problem+json: b'{"title": "Not found"}' is not of type 'object'
#   application/problem+json, registered: accepted

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for python in "${PYTHON:-python3.13}" python3 ~/.pyenv/versions/3.13*/bin/python3; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
done
"$python" -m venv venv && venv/bin/python -m pip install -qq openapi-core==0.23.1 || exit 2

env -i HOME="$work" venv/bin/python - <<'EOF'
import json

from openapi_core import Config, OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

PROBLEM = "application/problem+json"
SCHEMA = {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}


def validated(media_type, config=None):
    responses = {"404": {"description": "not found", "content": {media_type: {"schema": SCHEMA}}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Items", "version": "1"},
        "servers": [{"url": "http://localhost"}],
        "paths": {"/items": {"get": {"responses": responses}}},
    }
    api = OpenAPI.from_dict(document, config=config)
    body = json.dumps({"title": "Not found"}).encode()
    try:
        api.validate_response(
            MockRequest("http://localhost", "get", "/items"),
            MockResponse(body, status_code=404, content_type=media_type),
        )
    except OpenAPIError as error:
        return next(iter(error.__cause__.schema_errors)).message
    return "accepted"


seen = {media_type: validated(media_type) for media_type in ("application/json", "application/vnd.api+json", PROBLEM)}
registered = Config(extra_media_type_deserializers={PROBLEM: json.loads})
seen[PROBLEM + ", registered"] = validated(PROBLEM, registered)
for media_type, result in seen.items():
    print(f"{media_type}: {result}")
refused = "b'{\"title\": \"Not found\"}' is not of type 'object'"
assert list(seen.values()) == ["accepted", "accepted", refused, "accepted"]
EOF
