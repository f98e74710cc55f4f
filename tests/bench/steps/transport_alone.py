"""This project's transport: an adapter of requests without a session, and answers held to bounds in time and size."""

from __future__ import annotations

import os
from functools import lru_cache

from devin.http import Transport
from tests.bench.steps.loop import handler

transport = lru_cache(maxsize=1)(Transport)


def terminate(session_id: str, key: str) -> int:
    api = transport(os.environ["DEVIN_API_URL"])
    path = f"/v1/sessions/{session_id}"
    return api.request("DELETE", path, key=key, params=None, seconds=10, keep_bytes=65536).status


lambda_handler = handler(terminate)
