"""Side by side with what Powertools has: AsyncBatchProcessor, a thread pool, and a shared `requests.Session`."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from requests.adapters import HTTPAdapter

WORKERS = int(os.environ["MAX_WORKERS"])
logger = Logger(service="peer")
processor = AsyncBatchProcessor(EventType.SQS)
executor = ThreadPoolExecutor(WORKERS)
session = requests.Session()
for scheme in ("http://", "https://"):
    session.mount(scheme, HTTPAdapter(pool_maxsize=WORKERS))


def terminate(session_id: str, key: str) -> None:
    response = session.delete(
        f"{os.environ['DEVIN_API_URL']}/v1/sessions/{session_id}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
    )
    response.raise_for_status()


async def record_handler(record: SQSRecord) -> None:
    session_id = record.json_body["session_id"]
    key = parameters.get_secret(os.environ["API_KEY_SECRET_ARN"], max_age=300)
    await asyncio.get_running_loop().run_in_executor(executor, terminate, session_id, str(key))
    logger.info("terminated", extra={"session_id": session_id})


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return async_process_partial_response(event, record_handler, processor, context)
