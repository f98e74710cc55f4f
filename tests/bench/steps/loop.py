"""The limit's workers, for handlers that differ from it in nothing but how they make a call."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from aws_lambda_powertools.utilities import parameters

WORKERS = int(os.environ["MAX_WORKERS"])
executor = ThreadPoolExecutor(WORKERS)


def handler(terminate: Callable[[str, str], int]) -> Callable[[dict[str, Any], object], Any]:
    """A handler that calls `terminate(session_id, key)`, which answers with the status."""

    def lambda_handler(event: dict[str, Any], context: object) -> Any:  # noqa: ARG001
        key = str(parameters.get_secret(os.environ["API_KEY_SECRET_ARN"], max_age=300))
        waiting, failed = deque(event["Records"]), []

        def work() -> None:
            while waiting:
                try:
                    record = waiting.popleft()
                except IndexError:
                    return  # another worker took the last one
                if terminate(json.loads(record["body"])["session_id"], key) >= 300:
                    failed.append({"itemIdentifier": record["messageId"]})

        working = [executor.submit(work) for _ in range(min(WORKERS, len(waiting)))]
        for worker in working:
            worker.result()
        return {"batchItemFailures": failed}

    return lambda_handler


def of_sessions(
    make: Callable[[], requests.Session], send: Callable[[requests.Session, str, str], requests.Response]
) -> Callable[[dict[str, Any], object], Any]:
    """A handler whose workers have a session each; `send(session, address, key)` makes a call with it."""
    mine = threading.local()

    def terminate(session_id: str, key: str) -> int:
        session: requests.Session | None = getattr(mine, "session", None)
        if session is None:
            session = mine.session = make()
        return send(session, f"{os.environ['DEVIN_API_URL']}/v1/sessions/{session_id}", key).status_code

    return handler(terminate)
