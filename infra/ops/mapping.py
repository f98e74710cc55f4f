"""What Lambda invokes for the messages of the work queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.ops.deployment import Deployment

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


@dataclass(frozen=True, slots=True)
class EventSource:
    """The event source mapping of the work queue. `invokes` names the function, with the alias or version if there is
    one."""

    uuid: str
    state: str
    last_result: str | None
    invokes: str
    window_seconds: int
    reports_failures: bool


def mapping_of(lambda_: LambdaClient, deployment: Deployment) -> EventSource | None:
    """The mapping from the work queue to the stack's function, or to a version or an alias of it: listing by the
    function's name leaves those out."""
    function = deployment.output("TerminateFunctionName")
    found = []
    for page in lambda_.get_paginator("list_event_source_mappings").paginate(EventSourceArn=deployment.work_queue_arn):
        for mapping in page["EventSourceMappings"]:
            invokes = mapping["FunctionArn"].partition(":function:")[2]
            if invokes.partition(":")[0] == function:
                found.append(
                    EventSource(
                        uuid=mapping["UUID"],
                        state=mapping["State"],
                        last_result=mapping.get("LastProcessingResult"),
                        invokes=invokes,
                        window_seconds=mapping.get("MaximumBatchingWindowInSeconds") or 0,
                        reports_failures="ReportBatchItemFailures" in mapping.get("FunctionResponseTypes", []),
                    )
                )
    # A deployment that changes what is invoked leaves two for a while.
    return min(found, key=lambda one: one.state == "Deleting", default=None)
