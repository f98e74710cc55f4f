"""Publishes events to the default event bus."""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

_SOURCE = "devin-session-cleanup"
# https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
_MOST_ENTRIES = 10


class BusError(Exception):
    """An event was not taken; the message names EventBridge's error code."""


def publish(client: Callable[[], "EventBridgeClient"], detail_type: str, details: Iterable[Mapping[str, Any]]) -> None:
    """Publish an event for each detail to the account's default bus; raises BusError if any of them was not taken. The
    client is made when there is something to publish, which is rare."""
    for some in batched(details, _MOST_ENTRIES, strict=False):
        try:
            texts = [json.dumps(detail, default=str) for detail in some]
            answer = client().put_events(
                Entries=[{"Source": _SOURCE, "DetailType": detail_type, "Detail": text} for text in texts]
            )
        except (ClientError, BotoCoreError) as error:
            code = error.response["Error"].get("Code") if isinstance(error, ClientError) else type(error).__name__
            raise BusError(f"publishing events: {code}") from None
        if answer["FailedEntryCount"]:
            codes = {entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry}
            raise BusError(f"publishing events: {', '.join(sorted(codes))}")
