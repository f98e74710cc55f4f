"""The dead letters of a stack: looked at without taking them away, and sent back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageAttributeValueTypeDef


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the dead-letter queue; `attributes` are texts, whatever their type in SQS."""

    body: str
    attributes: Mapping[str, str]
    raw_attributes: Mapping[str, Any]
    receipt_handle: str


def receive_all(sqs: SQSClient, queue_url: str, *, hidden_seconds: int) -> list[DeadLetter]:
    """Every message that the queue shows, which then stay hidden from others for so many seconds."""
    letters: list[DeadLetter] = []
    while True:
        answer = sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0,
            VisibilityTimeout=hidden_seconds,
            MessageAttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            return letters
        for message in messages:
            raw = message.get("MessageAttributes", {})
            texts = {name: value.get("StringValue", "") for name, value in raw.items()}
            letters.append(DeadLetter(message["Body"], texts, raw, message["ReceiptHandle"]))


def redrive(sqs: SQSClient, letter: DeadLetter, *, dead_letter_queue_url: str, work_queue_url: str) -> None:
    """Sends a dead letter back as it is, and only then takes it out: if this is cut short, it is in both queues."""
    attributes: dict[str, MessageAttributeValueTypeDef] = {
        name: {"DataType": value["DataType"], "StringValue": value["StringValue"]}
        for name, value in letter.raw_attributes.items()
    }
    sqs.send_message(QueueUrl=work_queue_url, MessageBody=letter.body, MessageAttributes=attributes)
    sqs.delete_message(QueueUrl=dead_letter_queue_url, ReceiptHandle=letter.receipt_handle)


def count(sqs: SQSClient, queue_url: str) -> int:
    """How many messages a queue holds: visible, hidden or delayed."""
    answer = sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=[
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ],
    )
    return sum(int(number) for number in answer["Attributes"].values())
