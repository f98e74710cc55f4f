"""The limit for asyncio: aiohttp with as many connections as others have threads, and nothing else."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
from typing import Any

import aiohttp
from aws_lambda_powertools.utilities import parameters

WORKERS = int(os.environ["MAX_WORKERS"])
runner = asyncio.Runner()


async def connect() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=WORKERS)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_read=10))


http = runner.run(connect())
atexit.register(lambda: runner.run(http.close()))


async def terminate_all(records: list[dict[str, Any]], url: str, headers: dict[str, str]) -> list[bool]:
    async def terminate(record: dict[str, Any]) -> bool:
        session_id = json.loads(record["body"])["session_id"]
        async with http.delete(f"{url}/v1/sessions/{session_id}", headers=headers) as response:
            await response.read()
            return bool(response.status < 300)

    return await asyncio.gather(*map(terminate, records))


def lambda_handler(event: dict[str, Any], context: object) -> Any:  # noqa: ARG001
    key = parameters.get_secret(os.environ["API_KEY_SECRET_ARN"], max_age=300)
    headers = {"Authorization": f"Bearer {key!s}"}
    done = runner.run(terminate_all(event["Records"], os.environ["DEVIN_API_URL"], headers))
    failed = [record for record, well in zip(event["Records"], done, strict=True) if not well]
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in failed]}
