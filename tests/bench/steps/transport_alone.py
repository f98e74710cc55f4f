"""The limit's code, over this project's transport: requests, and answers held to bounds in time and size."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from aws_lambda_powertools.utilities import parameters

from devin.transport import Transport

executor = ThreadPoolExecutor(int(os.environ["MAX_WORKERS"]))
transport = lru_cache(maxsize=1)(Transport)


def lambda_handler(event: dict[str, Any], context: object) -> Any:  # noqa: ARG001
    key = str(parameters.get_secret(os.environ["API_KEY_SECRET_ARN"], max_age=300))
    api = transport(os.environ["DEVIN_API_URL"])

    def terminate(record: dict[str, Any]) -> bool:
        path = f"/v1/sessions/{json.loads(record['body'])['session_id']}"
        return api.request("DELETE", path, key=key, params=None, seconds=10, keep_bytes=65536).status < 300

    done = executor.map(terminate, event["Records"])
    failed = [record for record, well in zip(event["Records"], done, strict=True) if not well]
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in failed]}
