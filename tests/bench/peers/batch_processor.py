"""What a competent user writes: Powertools' parameters and BatchProcessor, a `requests.Session`, and a dead letter for
each session that the API refuses."""

from __future__ import annotations

import os
from typing import Any

import boto3
import requests
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="peer")
processor = BatchProcessor(EventType.SQS)
session = requests.Session()
sqs = boto3.client("sqs")


def record_handler(record: SQSRecord) -> None:
    session_id = record.json_body["session_id"]
    key = parameters.get_secret(os.environ["API_KEY_SECRET_ARN"], max_age=300)
    response = session.delete(
        f"{os.environ['DEVIN_API_URL']}/v1/sessions/{session_id}",
        headers={"Authorization": f"Bearer {key!s}"},
        timeout=10,
    )
    if response.status_code == 422:
        sqs.send_message(QueueUrl=os.environ["DEAD_LETTER_QUEUE_URL"], MessageBody=record.body)
        logger.warning("rejected", extra={"session_id": session_id, "detail": response.text})
        return
    response.raise_for_status()
    logger.info("terminated", extra={"session_id": session_id})


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(event, record_handler, processor, context)
