"""Lambda function `terminate`: ends the sessions that a queue message, an event, a schedule or a caller names."""

from __future__ import annotations

import json
import os
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from devin.api_key import ApiKeys
from redaction import Redactor, masked_errors
from retry import MAX_DELAY_SECONDS
from runtime import initialise, runtime_for
from settings import Settings
from terminate.calls import Calls
from terminate.deadline import Deadline
from terminate.events import Message, Request, is_batch, read_event, read_record
from terminate.invocation import Invocation, Settled
from terminate.memory import Memory
from terminate.outcomes import Outcome, Verdict
from terminate.pace import Pace
from terminate.report import publish, report

redact = Redactor()
# Last line of defence: whatever a line holds, a traceback included, the key is masked before it is printed.
logger = Logger(
    service="terminate", json_serializer=lambda fields: redact(json.dumps(fields, default=str, separators=(",", ":")))
)
metrics = Metrics(namespace="DevinSessionCleanup", service="terminate")
memory = Memory()
pace = Pace()

initialise(os.environ)


class KeptError(Exception):
    """Something could be neither settled nor written to a queue: whoever delivered it has to deliver it again."""


@masked_errors(redact)
def lambda_handler(event: Any, context: LambdaContext) -> PartialItemFailureResponse | dict[str, list[str]]:
    """End every session that the event asks for.

    For a batch of SQS records, answers with those to be delivered again (partial batch response). For anything else,
    answers with the ids by outcome, `{"terminated": ["devin-…"], …}`, and raises KeptError if an id could be neither
    settled nor sent to the work queue, so that Lambda's own retries and failure destination keep the event.
    """
    logger.append_keys(function_request_id=context.aws_request_id)
    # Or two stacks of one account would add up.
    metrics.add_dimension("function_name", context.function_name)
    if is_batch(event):
        return _batch(event, context)
    message = memory.recall(context.aws_request_id, read_event(event))
    (settled,) = _settle([message], context)
    if settled.kept:
        memory.keep(context.aws_request_id, settled)
        raise KeptError("not every id could be settled or sent to the work queue; see the log lines of this request")
    memory.forget(context.aws_request_id)
    answer: dict[str, list[str]] = {}
    for item, verdict in settled.verdicts:
        given = item.session_id if isinstance(item, Request) else item.given
        answer.setdefault(verdict.outcome.value, []).extend([redact(given)] if isinstance(given, str) else [])
    return answer


def _batch(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    messages, unread = [], 0
    for record in event["Records"]:
        try:
            messages.append(read_record(record))
        except Exception:
            # Kept, because it is missing from `acknowledged` below.
            logger.exception("unexpected error while reading a record", extra={"message_id": record.get("messageId")})
            unread += 1
    settled = _settle(messages, context, unread)
    kept = {one.message.message_id for one in settled if one.kept}
    acknowledged = {one.message.message_id for one in settled} - kept

    def record_handler(record: SQSRecord) -> None:
        if record.message_id not in acknowledged:
            raise KeptError

    processor = BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False)
    with processor(event["Records"], record_handler, context):
        processor.process()
    return processor.response()


def _settle(messages: list[Message], context: LambdaContext, unread: int = 0) -> list[Settled]:
    settings = Settings.from_environment(os.environ)
    runtime = runtime_for(settings)
    keys = ApiKeys(runtime.fetch_secret, redact.remember)
    ids = sum(len(message.reading.items) for message in messages)
    deadline = Deadline(context.get_remaining_time_in_millis, ids)
    halt = _halt(runtime.reason_to_stop())
    bugs: list[Exception] = []

    def on_bug(error: Exception) -> None:
        bugs.append(error)
        logger.error("unexpected error", exc_info=error)

    calls = Calls(runtime.client, keys, redact, seconds_left=deadline.seconds_for_a_call, pace=pace, halt=halt)
    invocation = Invocation(
        calls,
        runtime,
        settings,
        allows_a_write=deadline.allows_a_write,
        request_id=context.aws_request_id,
        on_bug=on_bug,
        settled_before=memory.settled(context.aws_request_id),
    )
    settled = invocation.run(messages)
    report(settled, calls.latencies, logger, metrics, unexpected=unread + len(bugs), stopped=halt is not None)
    if settings.publish_outcomes:
        publish(settled, runtime.bus, logger, deadline.allows_an_event)
    return settled


def _halt(stopped: str | None) -> Verdict | None:
    """With the stop switch on, no call is made and everything is kept, looked at again as seldom as SQS allows."""
    if stopped is None:
        return None
    return Verdict(Outcome.RETRY, detail=redact(stopped), retry_after=MAX_DELAY_SECONDS, uncalled=True)
