"""What a sweep may end: the policy as its author writes it, and the judgement of one session, both pure."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from devin.session import Session

# No session younger than this is ever chosen, and no policy may ask for less: it covers a mistyped unit, clocks that
# are not quite together, and a session that is still being set up.
FLOOR = timedelta(hours=1)
_LONGEST = timedelta(days=3650)
# Well within the time for which announcements are remembered.
_LONGEST_NOTICE = timedelta(days=30)
_MOST_SESSIONS = 10_000
_PATTERN_CHARACTERS = 200
_TITLE_CHARACTERS = 1000
_DURATION = re.compile(
    r"P(?:(\d{1,4})W|(?:(\d{1,4})D)?(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?)", re.ASCII
)


class PolicyError(ValueError):
    """The policy cannot be used; the message names the key and says what it should hold."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Criteria, all of which must hold, and the limits of what may follow from them.

    A criterion that is None, or an empty tuple, is not asked for. `title_matches` is a shell-style pattern.
    """

    idle_for: timedelta | None = None
    older_than: timedelta | None = None
    statuses: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    exclude_users: tuple[str, ...] = ()
    title_matches: str | None = None
    has_pull_request: bool | None = None
    min_acus: float | None = None
    dry_run: bool = True
    max_sessions: int = 50
    max_share: float = 0.5
    notify_first: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a session is chosen, and why: every criterion it meets if it is, the first reason to keep it if not."""

    chosen: bool
    reasons: tuple[str, ...]


def parse_policy(given: object) -> Policy:
    """The policy in a parsed JSON value. Raises PolicyError for an unknown key, a value that is of another type or
    out of bounds, and a policy without any criterion, which would mean every session there is."""
    if not isinstance(given, dict):
        raise PolicyError("the policy should be a JSON object")
    unknown = sorted(str(key) for key in given.keys() - _READERS.keys())
    if unknown:
        raise PolicyError(f"{unknown[0][:50]!r} is no key of a policy; there are {', '.join(_READERS)}")
    values = {key: _READERS[key](key, value) for key, value in given.items()}
    if not values.keys() & CRITERIA.keys():
        raise PolicyError(f"the policy has no criterion and would end everything; give one of {', '.join(CRITERIA)}")
    return Policy(**values)


def fingerprint(policy: Policy) -> str:
    """The same for policies with the same criteria, whatever their limits."""
    criteria = [(name, getattr(policy, name)) for name in CRITERIA]
    return hashlib.sha256(repr(criteria).encode()).hexdigest()[:16]


def judge(policy: Policy, session: Session, now: datetime, protect_tag: str) -> Judgement:
    """Whether the policy chooses this session. `now` is aware.

    What protects comes first. A session about which the API does not say what a criterion needs to know is kept.
    """
    kept = _protection(session, now, protect_tag)
    if kept is not None:
        return Judgement(False, (kept,))
    reasons: list[str] = []
    for name, criterion in CRITERIA.items():
        wanted = getattr(policy, name)
        if wanted is None or wanted == ():
            continue
        holds, said = criterion(wanted, session, now)
        if not holds:
            return Judgement(False, (f"{name}: {'unknown' if holds is None else 'no'}",))
        reasons.append(f"{name}: {said}")
    return Judgement(True, tuple(reasons))


def _protection(session: Session, now: datetime, protect_tag: str) -> str | None:
    """Why it must live whatever the criteria say."""
    if session.session_id is None:
        return "no session id"
    if session.created_at is None or session.updated_at is None:
        return "no date"
    if session.updated_at > now or session.created_at > now:
        return "date in the future"
    if session.updated_at < session.created_at:
        return "updated before it was created"
    if now - session.created_at < FLOOR:
        return "younger than an hour"
    if session.status is None:
        return "no status"
    if session.tags is None:
        return "tags unknown"
    if protect_tag.casefold() in _folded(session.tags):
        return "protected by its tag"
    if session.exited:
        return "exited"
    return None


type Criterion = Callable[[Any, Session, datetime], tuple[bool | None, object]]
"""Of what the policy wants, a session, and now: whether it holds, None if that is unknown; and what is the case."""


def _idle_for(least: timedelta, session: Session, now: datetime) -> tuple[bool | None, object]:
    return (None, None) if session.updated_at is None else _at_least(now - session.updated_at, least)


def _older_than(least: timedelta, session: Session, now: datetime) -> tuple[bool | None, object]:
    return (None, None) if session.created_at is None else _at_least(now - session.created_at, least)


def _at_least(age: timedelta, least: timedelta) -> tuple[bool, timedelta]:
    return age >= least, timedelta(seconds=int(age.total_seconds()))


def _statuses(wanted: tuple[str, ...], session: Session, _: datetime) -> tuple[bool | None, object]:
    """v3 tells in the detail what v1 tells in the status, so either may be named."""
    known = [text for text in (session.status, session.status_detail) if text]
    return (bool(_folded(known) & _folded(wanted)) if known else None), " ".join(known)


def _tags(wanted: tuple[str, ...], session: Session, _: datetime) -> tuple[bool | None, object]:
    return _overlap(wanted, session.tags)


def _without_tags(unwanted: tuple[str, ...], session: Session, _: datetime) -> tuple[bool | None, object]:
    holds, _shared = _overlap(unwanted, session.tags)
    return (None if holds is None else not holds), "none of them"


def _users(wanted: tuple[str, ...], session: Session, _: datetime) -> tuple[bool | None, object]:
    return _overlap(wanted, session.users or None)


def _exclude_users(unwanted: tuple[str, ...], session: Session, now: datetime) -> tuple[bool | None, object]:
    holds, _user = _users(unwanted, session, now)
    return (None if holds is None else not holds), "none of them"


def _title_matches(pattern: str, session: Session, _: datetime) -> tuple[bool | None, object]:
    if session.title is None or len(session.title) > _TITLE_CHARACTERS:
        return None, None
    return fnmatch.fnmatchcase(session.title.casefold(), pattern.casefold()), "yes"


def _has_pull_request(wanted: bool, session: Session, _: datetime) -> tuple[bool | None, object]:
    return None if session.has_pull_request is None else session.has_pull_request == wanted, wanted


def _min_acus(least: float, session: Session, _: datetime) -> tuple[bool | None, object]:
    return None if session.acus is None else session.acus >= least, session.acus


CRITERIA: dict[str, Criterion] = {
    "idle_for": _idle_for,
    "older_than": _older_than,
    "statuses": _statuses,
    "tags": _tags,
    "without_tags": _without_tags,
    "users": _users,
    "exclude_users": _exclude_users,
    "title_matches": _title_matches,
    "has_pull_request": _has_pull_request,
    "min_acus": _min_acus,
}


def _overlap(wanted: tuple[str, ...], found: tuple[str, ...] | None) -> tuple[bool | None, object]:
    if found is None:
        return None, None
    shared = _folded(wanted) & _folded(found)
    return bool(shared), ", ".join(sorted(shared))


def _folded(texts: Iterable[str]) -> set[str]:
    return {text.casefold() for text in texts}


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PolicyError(f"{key} should be true or false")
    return value


def _texts(key: str, value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else []
    if not texts or not all(isinstance(text, str) and text and text == text.strip() for text in texts):
        raise PolicyError(f"{key} should be a list of at least one text, without spaces around it")
    return tuple(texts)


def _duration(key: str, value: object) -> timedelta:
    """ISO 8601, without years and months: they have no length."""
    example = "an ISO 8601 duration of weeks, days, hours, minutes and seconds, such as PT6H or P3D"
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not any(found.groups()):
        raise PolicyError(f"{key} should be {example}")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    duration = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not FLOOR <= duration <= _LONGEST:
        raise PolicyError(f"{key} should be at least an hour (PT1H) and at most ten years")
    return duration


def _notice(key: str, value: object) -> timedelta:
    notice = _duration(key, value)
    if notice > _LONGEST_NOTICE:
        raise PolicyError(f"{key} should be at most {_LONGEST_NOTICE.days} days")
    return notice


def _pattern(key: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _PATTERN_CHARACTERS:
        raise PolicyError(f"{key} should be a text of at most {_PATTERN_CHARACTERS} characters")
    if value.startswith("^") or value.endswith("$") or ".*" in value or "\\" in value:
        raise PolicyError(f"{key} is a shell-style pattern (* and ?), not a regular expression")
    if not value.strip("*? "):
        raise PolicyError(f"{key} would match every title")
    return value


def _number(key: str, value: object, *, above: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value <= most:
        raise PolicyError(f"{key} should be a number above {above:g} and at most {most:g}")
    return value


def _count(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_SESSIONS:
        raise PolicyError(f"{key} should be a whole number from 1 to {_MOST_SESSIONS}")
    return value


_READERS: dict[str, Callable[[str, object], Any]] = {
    "idle_for": _duration,
    "older_than": _duration,
    "statuses": _texts,
    "tags": _texts,
    "without_tags": _texts,
    "users": _texts,
    "exclude_users": _texts,
    "title_matches": _pattern,
    "has_pull_request": _boolean,
    "min_acus": lambda key, value: _number(key, value, above=0, most=1e6),
    "dry_run": _boolean,
    "max_sessions": _count,
    "max_share": lambda key, value: _number(key, value, above=0, most=1),
    "notify_first": _notice,
}
