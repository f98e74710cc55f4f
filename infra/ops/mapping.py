"""What Lambda invokes for the messages of the work queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.ops.deployment import Deployment

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

_GOING = {"Deleting"}


@dataclass(frozen=True, slots=True)
class EventSource:
    """The event source mapping of the work queue. `qualifier` is the alias or version that it invokes, if any;
    `reports_failures` whether Lambda listens to what the function says of single messages."""

    uuid: str
    state: str
    last_result: str | None
    function: str
    qualifier: str | None
    window_seconds: int
    reports_failures: bool

    @property
    def invokes(self) -> str:
        return f"{self.function}:{self.qualifier}" if self.qualifier else self.function


def mapping_of(lambda_: LambdaClient, deployment: Deployment) -> EventSource | None:
    """The mapping from the work queue to the stack's function, or to a version or an alias of it: listing by the
    function's name leaves those out. None if there is none."""
    function = deployment.output("TerminateFunctionName")
    found = []
    for page in lambda_.get_paginator("list_event_source_mappings").paginate(EventSourceArn=deployment.work_queue_arn):
        for mapping in page["EventSourceMappings"]:
            name, _, qualifier = mapping["FunctionArn"].partition(":function:")[2].partition(":")
            if name == function:
                found.append(
                    EventSource(
                        uuid=mapping["UUID"],
                        state=mapping["State"],
                        last_result=mapping.get("LastProcessingResult"),
                        function=name,
                        qualifier=qualifier or None,
                        window_seconds=mapping.get("MaximumBatchingWindowInSeconds") or 0,
                        reports_failures="ReportBatchItemFailures" in mapping.get("FunctionResponseTypes", []),
                    )
                )
    # A deployment that changes what is invoked leaves two for a while.
    return min(found, key=lambda one: one.state in _GOING, default=None)
