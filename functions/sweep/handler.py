"""Lambda function `sweep`: finds the sessions that a policy calls stale, and enqueues them for `terminate`."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from devin.api_key import ApiKeys
from eventbridge import BusError
from redaction import Redactor, masked_errors
from runtime import Runtime, initialise, runtime_for
from settings import Settings
from sweep.announcements import Announcements
from sweep.policy import Policy, PolicyError, fingerprint, parse_policy
from sweep.selection import CapExceededError
from sweep.sweep import Sweep, report

redact = Redactor()
logger = Logger(
    service="sweep", json_serializer=lambda fields: redact(json.dumps(fields, default=str, separators=(",", ":")))
)
metrics = Metrics(namespace="DevinSessionCleanup", service="sweep")

initialise(os.environ)


class Metric(StrEnum):
    """Whatever is counted here; dashboard and alarms are held to it."""

    LISTED = "sweep_listed"
    CHOSEN = "sweep_chosen"
    KEPT = "sweep_kept"
    ENQUEUED = "sweep_enqueued"
    ANNOUNCED = "sweep_announced"
    REFUSED = "sweep_refused"
    FAILED = "sweep_failed"
    STOPPED = "sweep_stopped"


@masked_errors(redact)
def lambda_handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Carry out the policy that is the event, and answer with a report (see `sweep.sweep.report`).

    Raises PolicyError before any call if the policy cannot be used, CapExceededError if it chooses more than it may,
    and others if the sweep could not be carried out: an invocation that failed is an alarm, a report is not.
    """
    logger.append_keys(function_request_id=context.aws_request_id)
    # Or two stacks of one account would add up.
    metrics.add_dimension("function_name", context.function_name)
    try:
        policy = parse_policy(event)
    except PolicyError as error:
        _refuse(error)
        raise
    settings = Settings.from_environment(os.environ)
    # A stack that ends nothing announces nothing and fills no queue either.
    policy = replace(policy, dry_run=policy.dry_run or settings.dry_run)
    runtime = runtime_for(settings)
    if stopped := runtime.reason_to_stop():
        _count(Metric.STOPPED, 1)
        metrics.flush_metrics()
        return _tell(runtime, {"mode": "stopped", "why": redact(stopped), "chosen": 0, "enqueued": 0})
    try:
        done = _sweep(settings, runtime, policy, context).run(policy, datetime.now(UTC))
    except CapExceededError as error:
        _refuse(error)
        _tell(runtime, {"mode": "refused", "why": str(error), "enqueued": 0})
        raise
    except Exception:
        logger.exception("sweep failed")
        _count(Metric.FAILED, 1)
        metrics.flush_metrics()
        raise
    for name, number in (
        (Metric.LISTED, done.selection.listed),
        (Metric.CHOSEN, len(done.selection.chosen)),
        (Metric.KEPT, done.selection.kept.total()),
        (Metric.ENQUEUED, done.enqueued),
        (Metric.ANNOUNCED, done.announced),
    ):
        _count(name, number)
    metrics.flush_metrics()
    for choice in done.plan.to_announce if done.announced else ():
        logger.info("announced", extra={"session_id": choice.session_id, "updated_at": choice.updated_at.isoformat()})
    return _tell(runtime, report(done, policy, redact))


def _sweep(settings: Settings, runtime: Runtime, policy: Policy, context: LambdaContext) -> Sweep:
    return Sweep(
        runtime,
        ApiKeys(runtime.fetch_secret, redact.remember),
        redact,
        announcements=_announcements(settings, runtime, policy),
        protect_tag=settings.protect_tag,
        remaining_seconds=lambda: context.get_remaining_time_in_millis() / 1000,
    )


def _announcements(settings: Settings, runtime: Runtime, policy: Policy) -> Announcements | None:
    if settings.announcements_table is None or policy.notify_first is None:
        return None
    return Announcements(runtime.dynamodb(), settings.announcements_table, fingerprint(policy))


def _refuse(error: PolicyError | CapExceededError) -> None:
    """Somebody asked for what must not be done: said plainly and loudly, without a traceback of ours."""
    logger.error(str(error), extra={"refused": type(error).__name__})
    _count(Metric.REFUSED, 1)
    metrics.flush_metrics()


def _tell(runtime: Runtime, said: dict[str, Any]) -> dict[str, Any]:
    """Log and publish a report, and return it."""
    logger.info("sweep completed", extra={"report": said})
    try:
        runtime.bus.publish("Devin Sweep Completed", [said])
    except BusError as error:
        # What was enqueued is enqueued: failing now would only have it enqueued again.
        logger.warning(str(error))
    return said


def _count(metric: Metric, number: int) -> None:
    metrics.add_metric(metric.value, MetricUnit.Count, number)
