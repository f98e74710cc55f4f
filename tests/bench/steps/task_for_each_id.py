"""The limit with a task of the pool for each id, instead of workers that take the next one."""

from __future__ import annotations

import json
import os
from typing import Any

from aws_lambda_powertools.utilities import parameters

from tests.bench.peers.bare_urllib3 import executor, http


def lambda_handler(event: dict[str, Any], context: object) -> Any:  # noqa: ARG001
    key = parameters.get_secret(os.environ["API_KEY_SECRET_ARN"], max_age=300)
    url, headers = os.environ["DEVIN_API_URL"], {"Authorization": f"Bearer {key!s}"}

    def terminate(record: dict[str, Any]) -> bool:
        session_id = json.loads(record["body"])["session_id"]
        return http.request("DELETE", f"{url}/v1/sessions/{session_id}", headers=headers).status < 300

    done = executor.map(terminate, event["Records"])
    failed = [record for record, well in zip(event["Records"], done, strict=True) if not well]
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in failed]}
