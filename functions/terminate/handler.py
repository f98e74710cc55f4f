"""Lambda function `terminate`: ends the sessions that a queue message, an event, a schedule or a caller names."""

import json
import os
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from devin.api_key import ApiKeys
from devin.client import Answer, DevinClient, NotCalled, Throttle
from redaction import Redactor, masked_errors
from retry import MAX_DELAY_SECONDS
from runtime import initialise, runtime_for
from settings import Settings
from table import remember_rejections
from terminate.apply import RedeliveryError, apply
from terminate.deadline import TABLE_SECONDS, Deadline
from terminate.messages import Message, Request, is_batch, parse_event, parse_record
from terminate.plan import MessageResult, plan_all, rejected_conditions
from terminate.report import UNEXPECTED, publish_outcomes, report
from terminate.termination import end_sessions

redact = Redactor()
# Last line of defence: whatever a line holds, a traceback included, the key is masked before it is printed.
logger = Logger(
    service="terminate", json_serializer=lambda fields: redact(json.dumps(fields, default=str, separators=(",", ":")))
)
metrics = Metrics(namespace="DevinSessionCleanup", service="terminate")
throttle = Throttle()

initialise(os.environ)


@masked_errors(redact)
def lambda_handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """End every session that the event asks for.

    For a batch of SQS records, answers with those to be delivered again (partial batch response). For anything else,
    answers with the ids by outcome, `{"terminated": ["devin-…"], …}`, and raises RedeliveryError if an id could be
    neither settled nor sent to the work queue, so that Lambda's own retries and failure destination keep the event.
    """
    logger.append_keys(function_request_id=context.aws_request_id)
    # Two stacks of one account would add up without it.
    metrics.add_dimension("function_name", context.function_name)
    if is_batch(event):
        messages, failed = [], []
        for record in event["Records"]:
            try:
                messages.append(parse_record(record))
            except Exception as error:  # noqa: BLE001 - one record's bug must not affect the others
                _on_bug(error, message_id=record.get("messageId"))
                metrics.add_metric(UNEXPECTED, MetricUnit.Count, 1)
                failed.append(record.get("messageId"))
        failed += [one.message.message_id for one in _settle(messages, context) if one.redeliver]
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
    (settled,) = _settle([parse_event(event)], context)
    if settled.redeliver:
        raise RedeliveryError("not every id could be settled or sent to the work queue; see this request's log lines")
    answer: dict[str, list[str]] = {}
    for item, result in settled.results:
        raw = item.session_id if isinstance(item, Request) else item.raw
        # Lambda's runtime client cannot post every text, a lone surrogate for instance.
        ids = [redact(raw).encode("ascii", "backslashreplace").decode()] if isinstance(raw, str) else []
        answer.setdefault(result.outcome.value, []).extend(ids)
    return answer


def _on_bug(error: Exception, **extra: object) -> None:
    logger.error("unexpected error", exc_info=error, extra=extra)


def _settle(messages: list[Message], context: LambdaContext) -> list[MessageResult]:
    settings = Settings.from_environment(os.environ)
    runtime = runtime_for(settings)
    deadline = Deadline(context.get_remaining_time_in_millis, sum(len(message.items) for message in messages))
    stop = None
    if (reason := runtime.reason_to_stop()) is not None:
        # No call is made, and everything waits as long as SQS allows.
        stop = Answer(detail=redact(reason), retry_after=MAX_DELAY_SECONDS, not_called=NotCalled.STOPPED)
    client = DevinClient(
        runtime.transport,
        ApiKeys(runtime.fetch_key, redact.remember),
        throttle,
        redact,
        org_id=settings.devin_org_id,
        keep_viewable=settings.archive,
        seconds_left=deadline.seconds_for_a_call,
        stop=stop,
    )
    results = end_sessions(messages, client, runtime.executor, settings, _on_bug)
    plans = plan_all(messages, results, settings.retry_base_seconds, _on_bug)
    settled = apply(plans, runtime.queues, context.aws_request_id, deadline.allows_a_write)
    report(settled, client.latencies, logger, metrics, stopped=stop is not None)
    rejected = rejected_conditions(settled)
    if runtime.table is not None and rejected and deadline.seconds_left() > TABLE_SECONDS:
        warning = remember_rejections(runtime.table, rejected, datetime.now(UTC))
        if warning is not None:
            logger.warning(warning)
    if settings.publish_outcomes:
        publish_outcomes(settled, runtime.events, logger, deadline.seconds_left)
    return settled
