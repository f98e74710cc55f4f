"""How many messages a queue holds, and in which state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True, slots=True)
class Depth:
    """SQS's own numbers, which are approximate."""

    waiting: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.waiting + self.in_flight + self.delayed


def depth_of(sqs: SQSClient, queue_url: str) -> Depth:
    total = "ApproximateNumberOfMessages"
    attributes: dict[str, str] = sqs.get_queue_attributes(  # type: ignore[assignment]
        QueueUrl=queue_url,
        AttributeNames=[total, f"{total}NotVisible", f"{total}Delayed"],  # type: ignore[list-item]
    )["Attributes"]
    return Depth(int(attributes[total]), int(attributes[f"{total}NotVisible"]), int(attributes[f"{total}Delayed"]))
