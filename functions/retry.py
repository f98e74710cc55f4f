"""When to try again: Retry-After and backoff, as pure functions of plain values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# SQS takes no DelaySeconds above 15 minutes; visibility timeouts use the same maximum.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
MAX_DELAY_SECONDS = 900


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, never negative and at most MAX_DELAY_SECONDS.

    Both forms of RFC 9110 10.2.3 are read: seconds and an HTTP date. None if it is absent or says neither.
    `now` is an aware datetime.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]+", text):
        # More than nine digits are over the cap whatever they are, and need not be converted.
        return float(MAX_DELAY_SECONDS) if len(text) > 9 else float(min(int(text), MAX_DELAY_SECONDS))
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(seconds, 0.0), float(MAX_DELAY_SECONDS))


def retry_delay(
    attempts: int, base_seconds: int, retry_after: float | None, uniform: Callable[[float, float], float]
) -> int:
    """Whole seconds, 1 to MAX_DELAY_SECONDS, until the next attempt.

    The longer of what the API asked for and an exponential backoff with full jitter: anything from zero to
    base_seconds * 2^(attempts - 1). Why full jitter:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    exponent = min(max(attempts, 1) - 1, 10)
    backoff = uniform(0.0, float(min(base_seconds * 2**exponent, MAX_DELAY_SECONDS)))
    return min(max(math.ceil(max(backoff, retry_after or 0.0)), 1), MAX_DELAY_SECONDS)
