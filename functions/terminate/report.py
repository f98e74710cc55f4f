"""What operators see of an invocation: a log line for each id, a metric for each outcome."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import batched, takewhile
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from eventbridge import BusError, publish
from redaction import one_line
from terminate.messages import InvalidItem, Item, Request
from terminate.outcomes import UNEXPECTED_ERROR, Disposition, Outcome, Result
from terminate.plan import MessageResult

_API_LATENCY = "api_latency"
_STOPPED = "stopped"
# Ids that could not be tried, for another reason than the stop switch or a refused key: no key, a 429, no time.
_NOT_CALLED = "not_called"
# Unexpected exceptions: each kept an id or a message for another try.
UNEXPECTED = "unexpected_errors"
# Dashboard and alarms use these names.
METRICS = frozenset({*Outcome, _API_LATENCY, _STOPPED, _NOT_CALLED, UNEXPECTED})
# Items without a call that share a log line, so that one message of 80,000 is logged in time.
_IDS_PER_LINE = 500


def report(
    settled: Sequence[MessageResult], latencies: Sequence[float], logger: Logger, metrics: Metrics, *, stopped: bool
) -> None:
    """Log every id's outcome, and count outcomes and latencies (milliseconds). An id that several messages asked for
    has a line for each of them, but is counted once. `stopped`: the stop switch kept this invocation from acting."""
    counted: set[tuple[str, object]] = {(_STOPPED, None)} if stopped else set()
    for one in settled:
        for warning in one.warnings:
            logger.warning(warning, extra={"message_id": one.message.message_id})
        _log(one, logger)
        for item, result in one.results:
            subject = item.session_id if isinstance(item, Request) else id(item)
            counted.add((result.outcome.value, subject))
            if result.blocked and result.outcome is Outcome.RETRY and not stopped:
                counted.add((_NOT_CALLED, subject))
            if result.detail == UNEXPECTED_ERROR.detail:
                counted.add((UNEXPECTED, subject))
    for name, number in Counter(name for name, _ in counted).items():
        metrics.add_metric(name, MetricUnit.Count, number)
    for milliseconds in latencies:
        metrics.add_metric(_API_LATENCY, MetricUnit.Milliseconds, round(milliseconds, 1))
    if metrics.metric_set:
        metrics.flush_metrics()


def publish_outcomes(
    settled: Sequence[MessageResult], events: Callable[[], Any], logger: Logger, seconds_left: Callable[[], float]
) -> None:
    """Publish an event for every outcome, as far as there is time. A failing bus changes nothing for the sessions; an
    invocation that is killed while it publishes would repeat them."""
    details = (_fields(one, item, result) for one in settled for item, result in one.results)
    try:
        publish(events, "Devin Session Cleanup Outcome", takewhile(lambda _: seconds_left() > 0, details))
    except BusError as error:
        logger.warning(str(error))
    if seconds_left() <= 0:
        logger.warning("publishing events: not enough time left in this invocation for all of them")


def _log(settled: MessageResult, logger: Logger) -> None:
    together: dict[Result, list[Item]] = {}
    for item, result in settled.results:
        if len(settled.results) > _IDS_PER_LINE and (result.blocked or isinstance(item, InvalidItem)):
            together.setdefault(replace(result, duration_ms=None), []).append(item)
            continue
        log = logger.info if result.disposition is Disposition.DONE else logger.warning
        log(result.outcome.value, extra=_fields(settled, item, result))
    for result, items in together.items():
        for some in batched(items, _IDS_PER_LINE, strict=False):
            ids = [item.session_id for item in some if isinstance(item, Request)]
            shared = _fields(settled, None, result) | ({"session_ids": ids} if ids else {})
            logger.warning(result.outcome.value, extra=shared | {"items": len(some)})


def _fields(settled: MessageResult, item: Item | None, result: Result) -> dict[str, str | int]:
    message = settled.message
    fields = {
        "outcome": result.outcome.value,
        "session_id": item.session_id if isinstance(item, Request) else None,
        "http_status": result.http_status,
        "duration_ms": result.duration_ms,
        "source": message.source,
        "message_id": message.message_id,
        "receive_count": message.receive_count,
        "attempts": message.attempts,
        "session_status": result.session_status and one_line(result.session_status, 100),
        "retry_in_seconds": settled.delay_seconds if result.disposition is Disposition.RETRY else None,
        "detail": result.detail,
    }
    return {name: value for name, value in fields.items() if value is not None}
