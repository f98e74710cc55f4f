"""Times as an operator writes them: always with a zone."""

import re
from datetime import UTC, datetime, timedelta

import timestamps
from infra.ops.problems import UsageError

_FROM_NOW = re.compile(r"\+(?=\d)(?:(\d{1,3})d)?(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII)


def parse_time(text: str, now: datetime) -> datetime:
    """A time from now on, in whole seconds UTC: ISO 8601, or +2h, +1d12h, +90m from now. Raises UsageError."""
    if found := _FROM_NOW.fullmatch(text):
        days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
        moment = now + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    else:
        moment = parse_instant(text, ", or +2h from now")
    moment = moment.replace(microsecond=0)
    if moment <= now:
        raise UsageError(f"{text!r} is over; it is {iso(now)}")
    return moment


def parse_condition(text: str | None, now: datetime) -> datetime | None:
    """`unless_updated_since` as the functions read it, with a zone. Raises UsageError."""
    if text is None:
        return None
    parse_instant(text)
    try:
        return timestamps.parse_condition(text, now)
    except ValueError as error:
        raise UsageError(f"--unless-updated-since {text!r}: {error}; it is {iso(now)}") from None


def parse_instant(text: str, also: str = "") -> datetime:
    """An ISO 8601 date and time with its zone, in UTC. Raises UsageError, which names what else is taken (`also`)."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time; write it as in 2026-12-01T18:00:00+01:00{also}") from None
    if moment.tzinfo is None:
        # 18:00 is a time on somebody's clock, and this cannot know whose.
        raise UsageError(f"{text!r} has no zone; write it as in 2026-12-01T18:00:00+01:00, or with Z for UTC{also}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{text!r} lies outside the years 1 to 9999 in UTC") from None


def iso(moment: datetime) -> str:
    """An instant as it is shown everywhere: in whole seconds UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
