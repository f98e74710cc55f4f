"""What operators see of an invocation: one line for each id, one metric for each outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from eventbridge import Bus, BusError
from redaction import one_line
from terminate.events import Item, Request
from terminate.invocation import Settled
from terminate.outcomes import Outcome, Then, Verdict, then

API_LATENCY = "api_latency"
STOPPED = "stopped"
# Exceptions that nobody expected: each kept an id or a message for another try.
UNEXPECTED = "unexpected_errors"
# Whatever is counted or measured here; dashboard and alarms are held to it.
METRICS = frozenset({*Outcome, API_LATENCY, STOPPED, UNEXPECTED})


def report(
    settled: Sequence[Settled],
    latencies: Sequence[float],
    logger: Logger,
    metrics: Metrics,
    *,
    unexpected: int,
    stopped: bool,
) -> None:
    """Log every id's outcome with what is known of it, and count outcomes and latencies (milliseconds).

    An id that several messages asked for has a line for each of them, but is counted once. `unexpected`: how many
    errors nobody expected. `stopped`: the stop switch kept this invocation from acting.
    """
    counted: set[tuple[Outcome, object]] = set()
    for one in settled:
        for warning in one.warnings:
            logger.warning(warning, extra={"message_id": one.message.message_id})
        for item, verdict in one.verdicts:
            _log(one, item, verdict, logger)
            counted.add((verdict.outcome, item.session_id if isinstance(item, Request) else id(item)))
    for outcome in Outcome:
        if number := sum(1 for other, _ in counted if other is outcome):
            metrics.add_metric(outcome.value, MetricUnit.Count, number)
    for milliseconds in latencies:
        metrics.add_metric(API_LATENCY, MetricUnit.Milliseconds, round(milliseconds, 1))
    if unexpected:
        metrics.add_metric(UNEXPECTED, MetricUnit.Count, unexpected)
    if stopped:
        metrics.add_metric(STOPPED, MetricUnit.Count, 1)
    if metrics.metric_set:
        metrics.flush_metrics()


def publish(settled: Sequence[Settled], bus: Bus, logger: Logger, there_is_time: Callable[[], bool]) -> None:
    """Tell the event bus of every outcome, as far as there is time. A bus that does not listen changes nothing for the
    sessions; an invocation that is killed while it talks would repeat them."""

    def details() -> Iterator[dict[str, str | int]]:
        for one in settled:
            for item, verdict in one.verdicts:
                if not there_is_time():
                    logger.warning("publishing events: not enough time left in this invocation for all of them")
                    return
                yield _fields(one, item, verdict)

    try:
        bus.publish("Devin Session Cleanup Outcome", details())
    except BusError as error:
        logger.warning(str(error))


def _log(settled: Settled, item: Item, verdict: Verdict, logger: Logger) -> None:
    log = logger.info if then(verdict.outcome) is Then.DONE else logger.warning
    log(verdict.outcome.value, extra=_fields(settled, item, verdict))


def _fields(settled: Settled, item: Item, verdict: Verdict) -> dict[str, str | int]:
    message = settled.message
    fields = {
        "outcome": verdict.outcome.value,
        "session_id": item.session_id if isinstance(item, Request) else None,
        "http_status": verdict.http_status,
        "duration_ms": verdict.duration_ms,
        "source": message.source,
        "message_id": message.message_id,
        "receive_count": message.receive_count,
        "attempts": message.attempts,
        "session_status": verdict.session_status and one_line(verdict.session_status, 100),
        "retry_in_seconds": settled.delay_seconds if then(verdict.outcome) is Then.TRY_AGAIN else None,
        "detail": verdict.detail,
    }
    return {name: value for name, value in fields.items() if value is not None}
