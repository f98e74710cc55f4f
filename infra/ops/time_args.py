"""Points in time as an operator writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from infra.ops.problems import UsageError
from timestamps import parse_timestamp

_FROM_NOW = re.compile(r"\+(?=\d)(?:(\d{1,3})d)?(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII)


def parse_time(text: str, now: datetime) -> datetime:
    """An ISO 8601 date and time with its zone, or +2h, +1d12h, +90m from now; in the future, in whole seconds UTC.

    Raises UsageError.
    """
    if found := _FROM_NOW.fullmatch(text):
        days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
        moment = now + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise UsageError(f"{text!r} is no time; write 2026-12-01T18:00:00+01:00, or +2h") from None
        if moment.tzinfo is None:
            # Whoever writes 18:00 means a clock on a wall, and this cannot know which.
            raise UsageError(f"{text!r} has no zone; add one, such as Z or +01:00")
    try:
        moment = moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise UsageError(f"{text!r} lies outside the years 1 to 9999 in UTC") from None
    if moment <= now:
        raise UsageError(f"{text!r} is over; it is {now:%Y-%m-%dT%H:%M:%SZ}")
    return moment


def parse_condition(text: str | None) -> datetime | None:
    """`unless_updated_since` as the functions read it: without a zone it is UTC. Raises UsageError."""
    if text is None:
        return None
    try:
        return parse_timestamp(text)
    except ValueError:
        raise UsageError(f"--unless-updated-since {text!r} is no ISO 8601 date and time") from None
