"""What a sweep may end: the policy as its author writes it, and its evaluation for one session. Both are pure."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from comparison import all_as_seen, as_seen
from devin.session import Session

# No session younger than this ever matches, and no policy may ask for less: it covers a mistyped unit, clocks that are
# not quite together, and a session that is still being set up.
FLOOR = timedelta(hours=1)
_MAX_SESSIONS = 10_000
_MAX_PATTERN = 200
_DURATION = re.compile(
    r"P(?:(\d{1,4})W|(?:(\d{1,4})D)?(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?)", re.ASCII
)


class PolicyError(ValueError):
    """The policy cannot be used; the message names the key and says what it should hold."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Criteria by their keys, all of which must hold, what to do with the sessions that match, and the limits."""

    criteria: Mapping[str, Any]
    action: str = "terminate"
    dry_run: bool = True
    max_sessions: int = 50
    max_share: float = 0.5
    notify_first: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Whether a session matches, and why: every criterion if it does, else the first reason to keep it.

    `family_reason` is why its parents and children are kept as well: it is protected, in use, or to be left alone.
    """

    matched: bool
    reasons: tuple[str, ...]
    family_reason: str | None = None


def parse_policy(raw: object) -> Policy:
    """The policy in a parsed JSON value. Raises PolicyError for an unknown key, a value that is of another type or
    out of bounds, and a policy without any criterion, which would mean every session there is."""
    if not isinstance(raw, dict):
        raise PolicyError("the policy should be a JSON object")
    parsers = {name: parse for name, (parse, _) in CRITERIA.items()} | _LIMITS
    unknown = sorted(raw.keys() - parsers.keys())
    if unknown:
        raise PolicyError(f"{unknown[0][:50]!r} is no key of a policy; there are {', '.join(parsers)}")
    values = {key: parsers[key](key, value) for key, value in raw.items()}
    criteria = {name: values.pop(name) for name in CRITERIA if name in values}
    if not criteria:
        raise PolicyError(f"the policy has no criterion and would end everything; give one of {', '.join(CRITERIA)}")
    return Policy(criteria, **values)


def fingerprint(policy: Policy) -> str:
    """The same for policies that do the same to the same sessions, whatever their limits."""
    wanted = [*policy.criteria.items(), *([("action", policy.action)] if policy.action != "terminate" else [])]
    return hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]


def evaluate(policy: Policy, session: Session, now: datetime, protect_tag: str) -> Evaluation:
    """Whether the session matches the policy. `now` is aware.

    What protects comes first. A session about which the API does not say what a criterion needs to know is kept.
    """
    if session.session_id is None:
        return Evaluation(False, ("no session id",), "no session id")
    ended = "exited" if session.exited else "archived" if session.is_archived else None
    protection = _protection(session, now, protect_tag)
    checks = {name: CRITERIA[name][1](wanted, session, now) for name, wanted in policy.criteria.items()}
    unmet = {
        name: f"{name}: {'unknown' if holds is None else 'no'}" for name, (holds, _) in checks.items() if not holds
    }
    if reason := ended or protection or next(iter(unmet.values()), None):
        # The status of one that has ended does not matter any more, but it may have been in use lately.
        of_family = {"idle_for", "without_tags", "exclude_users"} | (set() if ended else {"statuses"})
        return Evaluation(
            False, (reason,), protection or next((why for name, why in unmet.items() if name in of_family), None)
        )
    return Evaluation(True, tuple(f"{name}: {found}" for name, (_, found) in checks.items()))


def _protection(session: Session, now: datetime, protect_tag: str) -> str | None:
    """Why the session is kept whatever the criteria say."""
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
    if as_seen(protect_tag) in all_as_seen(session.tags):
        return "protected by its tag"
    return "family unknown" if session.is_family_unknown else None


# Whether a criterion holds, None if that is unknown; and what was found.
type Check = tuple[bool | None, object]


def _at_least(since: datetime | None, least: timedelta, now: datetime) -> Check:
    if since is None:
        return None, None
    age = now - since
    return age >= least, timedelta(seconds=int(age.total_seconds()))


def _any_of(wanted: Iterable[str], found: Iterable[str | None]) -> Check:
    """For criteria that select: an exact match but for case."""
    known = {text.casefold() for text in found if text is not None}
    shared = {text.casefold() for text in wanted} & known
    return (bool(shared) if known else None), ", ".join(sorted(shared))


def _none_of(unwanted: Iterable[str], found: Iterable[str]) -> Check:
    """For criteria that protect: a lenient match, as people see the texts."""
    return not all_as_seen(unwanted) & all_as_seen(found), "none of them"


def _title(pattern: str, session: Session, _: datetime) -> Check:
    return None if session.title is None else fnmatchcase(session.title.casefold(), pattern.casefold()), "yes"


def _pull_requests(wanted: tuple[str, ...], session: Session, _: datetime) -> Check:
    """All of them, and at least one: an open one beside a merged one is work in progress."""
    if session.pull_request_states is None:
        return None, None
    found = {state.casefold() for state in session.pull_request_states}
    return bool(found) and found <= {state.casefold() for state in wanted}, ", ".join(sorted(found))


def _expect(what: str, is_valid: Callable[[Any], bool]) -> Callable[[str, Any], Any]:
    def parse(key: str, value: object) -> object:
        if not is_valid(value):
            raise PolicyError(f"{key} should be {what}")
        return value

    return parse


def _is_number(value: object, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most


def _texts(key: str, value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else []
    if not texts or not all(isinstance(text, str) and as_seen(text) and text == text.strip() for text in texts):
        raise PolicyError(f"{key} should be a list of at least one text, without spaces around it")
    return tuple(texts)


def _duration(key: str, value: object, *, most: timedelta = timedelta(days=3650)) -> timedelta:
    """ISO 8601, without years and months: they have no length."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not any(found.groups()):
        raise PolicyError(f"{key} should be an ISO 8601 duration of weeks to seconds, such as PT6H or P3D")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    duration = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not FLOOR <= duration <= most:
        raise PolicyError(f"{key} should be at least an hour (PT1H) and at most {most.days} days")
    return duration


def _pattern(key: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_PATTERN:
        raise PolicyError(f"{key} should be a text of at most {_MAX_PATTERN} characters")
    if value.startswith("^") or value.endswith("$") or ".*" in value or "\\" in value:
        raise PolicyError(f"{key} is a shell-style pattern (* and ?), not a regular expression")
    if "[" in value or "]" in value:
        # In a shell-style pattern "[WIP]" is a single letter of the three.
        instead = value.replace("[", "?").replace("]", "?")
        raise PolicyError(f'{key} takes no brackets; write ? in place of each, as in "{instead[:50]}"')
    if not value.strip("*? "):
        raise PolicyError(f"{key} would match every title")
    return value


_BOOLEAN = _expect("true or false", lambda value: isinstance(value, bool))
_AMOUNT = _expect("a number above 0 and at most 1,000,000", lambda value: _is_number(value, 1e6))

# For each criterion, how its value is parsed, and how it is evaluated.
CRITERIA: dict[str, tuple[Callable[[str, Any], Any], Callable[[Any, Session, datetime], Check]]] = {
    "idle_for": (_duration, lambda least, session, now: _at_least(session.updated_at, least, now)),
    "older_than": (_duration, lambda least, session, now: _at_least(session.created_at, least, now)),
    # v3 has in the detail what v1 has in the status, so either may be named.
    "statuses": (_texts, lambda wanted, session, _: _any_of(wanted, (session.status, session.status_detail))),
    "tags": (_texts, lambda wanted, session, _: _any_of(wanted, session.tags) if session.tags else (False, None)),
    "without_tags": (_texts, lambda unwanted, session, _: _none_of(unwanted, session.tags or ())),
    "users": (_texts, lambda wanted, session, _: _any_of(wanted, session.users)),
    "exclude_users": (
        _texts,
        lambda unwanted, session, _: _none_of(unwanted, session.users) if session.users else (None, None),
    ),
    "title_matches": (_pattern, _title),
    "origins": (_texts, lambda wanted, session, _: _any_of(wanted, (session.origin,))),
    "playbook_ids": (_texts, lambda wanted, session, _: _any_of(wanted, (session.playbook_id,))),
    "automation_ids": (_texts, lambda wanted, session, _: _any_of(wanted, (session.automation_id,))),
    "categories": (_texts, lambda wanted, session, _: _any_of(wanted, (session.category,))),
    "has_pull_request": (
        _BOOLEAN,
        lambda wanted, session, _: (
            None if session.has_pull_request is None else session.has_pull_request == wanted,
            wanted,
        ),
    ),
    "pull_request_states": (_texts, _pull_requests),
    "min_acus": (
        _AMOUNT,
        lambda least, session, _: (None if session.acus is None else session.acus >= least, session.acus),
    ),
}
_LIMITS: dict[str, Callable[[str, Any], Any]] = {
    "action": _expect("terminate or archive", lambda value: value in ("terminate", "archive")),
    "dry_run": _BOOLEAN,
    "max_sessions": _expect(
        f"a whole number from 1 to {_MAX_SESSIONS}",
        lambda value: isinstance(value, int) and _is_number(value, _MAX_SESSIONS),
    ),
    "max_share": _expect("a number above 0 and at most 1", lambda value: _is_number(value, 1)),
    # Well within the time for which notices are kept.
    "notify_first": partial(_duration, most=timedelta(days=30)),
}
