"""Timestamps: always aware and in UTC."""

import re
from datetime import UTC, datetime, timedelta

_DATE_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:Z|z|[+-]\d{2}:?\d{2}(?::?\d{2})?)?", re.ASCII
)
# Devin was announced in March 2024: an earlier condition is a mistake, a year read from milliseconds for instance.
_EARLIEST_CONDITION = datetime(2024, 1, 1, tzinfo=UTC)
# Clocks differ by seconds. A later time cannot mean "unless it was updated since I looked".
_CONDITION_SKEW = timedelta(minutes=5)


def parse_timestamp(text: str) -> datetime:
    """An ISO 8601 date and time, in UTC if it has no zone. Raises ValueError, also outside the years 1 to 9999."""
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999 in UTC") from None


def parse_condition(value: object, now: datetime) -> datetime:
    """`unless_updated_since`: a timestamp from 2024 to five minutes after `now` (aware), or ValueError.

    Basic formats (20261101T100000), week dates and plain numbers are refused: milliseconds would be read as a year.
    """
    try:
        condition = parse_timestamp(value if isinstance(value, str) and _DATE_TIME.fullmatch(value) else "")
    except ValueError:
        raise ValueError("unless_updated_since is not an ISO 8601 date and time such as 2026-11-01T10:00:00Z") from None
    if condition < _EARLIEST_CONDITION:
        raise ValueError("unless_updated_since lies before 2024")
    if condition > now + _CONDITION_SKEW:
        raise ValueError("unless_updated_since lies in the future")
    return condition
