"""Lambda function `sweep`: finds the sessions that match a policy, and enqueues them for `terminate`."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from devin.api_key import ApiKeys
from devin.client import DevinClient, Throttle
from eventbridge import BusError, publish
from redaction import Redactor, masked_errors
from runtime import Runtime, initialise, runtime_for
from settings import Settings
from sweep.policy import PolicyError, parse_policy
from sweep.selection import CapExceededError
from sweep.sweep import RESERVE_SECONDS, Sweep

redact = Redactor()
logger = Logger(
    service="sweep", json_serializer=lambda fields: redact(json.dumps(fields, default=str, separators=(",", ":")))
)
metrics = Metrics(namespace="DevinSessionCleanup", service="sweep")

initialise(os.environ)


# Dashboard and alarms use these names, behind `sweep_`.
METRICS = ("listed", "chosen", "kept", "enqueued", "announced", "refused", "failed", "stopped")


@masked_errors(redact)
def lambda_handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Carry out the policy that is the event, and answer with a report. Raises PolicyError before any call if the
    policy cannot be used, CapExceededError if more matches than it allows, and others if the sweep failed."""
    logger.append_keys(function_request_id=context.aws_request_id)
    # Two stacks of one account would add up without it.
    metrics.add_dimension("function_name", context.function_name)
    run = context.aws_request_id
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
        _count(stopped=1)
        return _publish(runtime, {"mode": "stopped", "run": run, "why": redact(stopped), "chosen": 0, "enqueued": 0})
    sweep = Sweep(
        run=run,
        runtime=runtime,
        client=DevinClient(
            runtime.transport,
            ApiKeys(runtime.fetch_key, redact.remember),
            Throttle(),
            redact,
            org_id=settings.devin_org_id,
            keep_viewable=settings.archive,
            seconds_left=lambda: max(context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS, 1.0),
        ),
        redact=redact,
        protect_tag=settings.protect_tag,
        remaining_seconds=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    try:
        report, announced = sweep.carry_out(policy, datetime.now(UTC))
    except CapExceededError as error:
        _refuse(error)
        _publish(runtime, {"mode": "refused", "run": run, "why": str(error), "enqueued": 0})
        raise
    except Exception:
        logger.exception("sweep failed")
        _count(failed=1)
        raise
    numbers = {name: report[name] for name in ("listed", "chosen", "enqueued", "announced")}
    _count(kept=sum(report["kept"].values()), **numbers)
    for one in announced:
        logger.info("announced", extra={"session_id": one.session_id, "updated_at": one.updated_at.isoformat()})
    return _publish(runtime, report)


def _refuse(error: PolicyError | CapExceededError) -> None:
    """The request itself is wrong: one error line without a traceback."""
    logger.error(str(error), extra={"refused": type(error).__name__})
    _count(refused=1)


def _publish(runtime: Runtime, report: dict[str, Any]) -> dict[str, Any]:
    """Log and publish a report, and return it."""
    logger.info("sweep completed", extra={"report": report})
    try:
        publish(runtime.events, "Devin Sweep Completed", [report])
    except BusError as error:
        # What was enqueued is enqueued: failing now would only have it enqueued again.
        logger.warning(str(error))
    return report


def _count(**numbers: int) -> None:
    """Publish what is not zero: a metric costs money in every hour in which it is published."""
    for name, number in numbers.items():
        if number:
            metrics.add_metric(f"sweep_{name}", MetricUnit.Count, number)
    if metrics.metric_set:
        metrics.flush_metrics()
