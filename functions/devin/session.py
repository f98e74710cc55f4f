"""A session and a page of sessions, as the API describes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from devin.session_id import InvalidSessionIdError, parse_session_id
from devin.version import Version
from timestamps import parse_timestamp

# Devin was announced in March 2024.
_EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Session:
    """What this project wants to know of a session; None stands for what the API did not say, or not readably.

    `tags` are empty where the API says null. `user` is an e-mail address in v1, a user id in v3. `acus` are v3's.
    """

    session_id: str | None = None
    status: str | None = None
    status_detail: str | None = None
    exited: bool = False
    is_archived: bool | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    tags: tuple[str, ...] | None = None
    title: str | None = None
    user: str | None = None
    has_pull_request: bool | None = None
    acus: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing, and what to give to `page` for the one after it, None if the API knows of none."""

    sessions: tuple[Session, ...]
    following: str | None


def parse_session(fields: dict[str, Any], version: Version) -> Session:
    status = next((text for name in version.status_fields if (text := _text(fields.get(name)))), None)
    pull_request = fields.get(version.pull_request_field, ...)
    acus = fields.get("acus_consumed")
    return Session(
        session_id=_session_id(fields.get("session_id")),
        status=status,
        status_detail=_text(fields.get("status_detail")),
        exited=status is not None and status.lower() in version.exited,
        is_archived=fields.get("is_archived") is True,
        created_at=_moment(fields.get("created_at")),
        updated_at=_moment(fields.get("updated_at")),
        tags=_tags(fields.get("tags", ...)),
        title=_text(fields.get("title")),
        user=_text(fields.get(version.user_field)),
        has_pull_request=None if pull_request is ... else bool(pull_request),
        acus=acus if isinstance(acus, (int, float)) and not isinstance(acus, bool) else None,
    )


def _session_id(value: object) -> str | None:
    """v3 lists tell ids without the prefix that its paths need."""
    if not isinstance(value, str):
        return None
    try:
        return parse_session_id(value if value.startswith("devin-") else f"devin-{value}")
    except InvalidSessionIdError:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _tags(value: object) -> tuple[str, ...] | None:
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return tuple(value)
    return None


def _moment(value: object) -> datetime | None:
    """v1 tells ISO 8601, v3 Unix seconds. What lies before there was such a session stands for "unset"."""
    try:
        if isinstance(value, str):
            moment = parse_timestamp(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment >= _EARLIEST else None
