"""The limit for threads: workers on urllib3, each of which takes the next id, with no log line, no metric and no
validation."""

from __future__ import annotations

import json
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import urllib3
from aws_lambda_powertools.utilities import parameters

WORKERS = int(os.environ["MAX_WORKERS"])
executor = ThreadPoolExecutor(WORKERS)
http = urllib3.PoolManager(maxsize=WORKERS, retries=False, timeout=10)


def lambda_handler(event: dict[str, Any], context: object) -> Any:  # noqa: ARG001
    key = parameters.get_secret(os.environ["API_KEY_SECRET_ARN"], max_age=300)
    url, headers = os.environ["DEVIN_API_URL"], {"Authorization": f"Bearer {key!s}"}
    waiting, failed = deque(event["Records"]), []

    def work() -> None:
        while waiting:
            try:
                record = waiting.popleft()
            except IndexError:
                return  # another worker took the last one
            session_id = json.loads(record["body"])["session_id"]
            if http.request("DELETE", f"{url}/v1/sessions/{session_id}", headers=headers).status >= 300:
                failed.append({"itemIdentifier": record["messageId"]})

    working = [executor.submit(work) for _ in range(min(WORKERS, len(waiting)))]
    for worker in working:
        worker.result()
    return {"batchItemFailures": failed}
