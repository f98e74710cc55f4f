"""When to try again: Retry-After and backoff, as pure functions of plain values."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# SQS takes no DelaySeconds above 15 minutes; visibility timeouts use the same maximum.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
MAX_DELAY_SECONDS = 900


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, from 0 to MAX_DELAY_SECONDS; None if it cannot be read. It may hold
    seconds or an HTTP date (RFC 9110 10.2.3); `now` is aware."""
    if value is None:
        return None
    text = value.strip()
    try:
        if re.fullmatch(r"[0-9]+", text):
            seconds = float(text)
        else:
            moment = parsedate_to_datetime(text)
            seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(seconds, 0.0), float(MAX_DELAY_SECONDS))


def retry_delay(
    attempts: int, base_seconds: int, retry_after: float | None, uniform: Callable[[float, float], float]
) -> int:
    """Whole seconds, 1 to MAX_DELAY_SECONDS, until the next attempt: the longer of what the API asked for and a backoff
    with full jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/"""
    exponent = min(max(attempts, 1) - 1, 10)
    backoff = uniform(0.0, float(min(base_seconds * 2**exponent, MAX_DELAY_SECONDS)))
    return min(max(math.ceil(max(backoff, retry_after or 0.0)), 1), MAX_DELAY_SECONDS)
