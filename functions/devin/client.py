"""The Devin API: terminate, read and list sessions, in whichever version the key belongs to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from devin.api_key import ApiKeyError
from devin.http import Reply, Transport
from devin.session_id import InvalidSessionIdError, parse_session_id
from timestamps import parse_timestamp

# A session carries its messages, which nobody here reads but which have to be parsed to get past them.
_SESSION_BYTES = 8 * 1024 * 1024
# 200 sessions, some with long structured outputs.
_PAGE_BYTES = 16 * 1024 * 1024
# Devin was announced in March 2024.
_EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)
# Enough for any explanation of a refusal.
_DETAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Session:
    """What this project wants to know of a session; None stands for what the API did not say, or not readably.

    `tags` are empty where the API says null. `user` is an e-mail address in v1, a user id in v3. `acus` are v3's.
    """

    session_id: str | None = None
    status: str | None = None
    status_detail: str | None = None
    exited: bool = False
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


@dataclass(frozen=True, slots=True)
class _Version:
    """What differs between the versions of the API.

    `page_query` makes the query of a page from `following`; `page_after` finds the next `following` in an answer, and
    raises ValueError if the answer contradicts itself.
    """

    sessions_path: str
    status_fields: tuple[str, ...]
    exited: frozenset[str]
    user_field: str
    pull_request_field: str
    items_field: str
    page_query: Callable[[str | None], dict[str, str]]
    page_after: Callable[[str | None, dict[str, Any], int], str | None]
    bad_key_is_403: bool


def _offset_after(following: str | None, _: dict[str, Any], items: int) -> str | None:
    # A short page is not the last one for sure: the API may give fewer than were asked for.
    return str(int(following or 0) + items) if items else None


def _cursor_after(_: str | None, answer: dict[str, Any], __: int) -> str | None:
    more, cursor = answer.get("has_next_page"), answer.get("end_cursor")
    if more is None or more is False:
        return None
    if more is not True or not isinstance(cursor, str) or not cursor:
        raise ValueError("there may be more, but there is no way to it")
    return cursor


# Statuses: https://docs.devin.ai/api-reference/v1/sessions/retrieve-details-about-an-existing-session (status_enum may
# be null, then the free text in `status` is all there is) and
# https://docs.devin.ai/api-reference/v3/sessions/get-organizations-session. A status that is not in `exited` counts as
# alive: the price of a mistake is a dead letter, not a session forgotten.
_V1 = _Version(
    sessions_path="/v1/sessions",
    status_fields=("status_enum", "status"),
    exited=frozenset({"finished", "expired", "stopped", "exit", "exited", "terminated"}),
    user_field="requesting_user_email",
    pull_request_field="pull_request",
    items_field="sessions",
    page_query=lambda following: {"limit": "100", "offset": following or "0"},
    page_after=_offset_after,
    bad_key_is_403=False,
)
_V3 = _Version(
    sessions_path="/v3/organizations/{org_id}/sessions",
    status_fields=("status",),
    exited=frozenset({"exit"}),
    user_field="user_id",
    pull_request_field="pull_requests",
    items_field="items",
    page_query=lambda following: {"first": "200"} | ({} if following is None else {"after": following}),
    page_after=_cursor_after,
    bad_key_is_403=True,
)


class DevinClient:
    """Calls the API with the key and within the time given to each call; what an answer means is for others to say.

    Every method raises TransportError if no whole response arrived, and ApiKeyError if the key needs a setting that
    is missing. Session ids must come from `parse_session_id`.
    """

    def __init__(self, transport: Transport, *, org_id: str | None, archive: bool) -> None:
        self._transport = transport
        self._org_id = org_id
        self._archive = archive

    def terminate(self, session_id: str, *, key: str, seconds: float) -> Reply:
        """DELETE the session: it ends, and cannot be resumed."""
        version = _version_of(key)
        params = {"archive": "true"} if self._archive and version is _V3 else None
        path = f"{self._sessions_path(version)}/{session_id}"
        return self._transport.request(
            "DELETE", path, key=key, params=params, seconds=seconds, keep_bytes=_DETAIL_BYTES
        )

    def get(self, session_id: str, *, key: str, seconds: float) -> tuple[Reply, Session | None]:
        """GET the session; the session is None unless the answer is a 2xx that holds one."""
        version = _version_of(key)
        path = f"{self._sessions_path(version)}/{session_id}"
        reply = self._transport.request("GET", path, key=key, params=None, seconds=seconds, keep_bytes=_SESSION_BYTES)
        fields = _json(reply.body) if 200 <= reply.status < 300 else None
        return reply, _session(fields, version) if isinstance(fields, dict) else None

    def page(self, following: str | None, *, key: str, seconds: float) -> tuple[Reply, Page | None]:
        """GET a page of the organisation's sessions, the first one for None; the page is None unless the answer is a
        2xx that holds one."""
        version = _version_of(key)
        path, query = self._sessions_path(version), version.page_query(following)
        reply = self._transport.request("GET", path, key=key, params=query, seconds=seconds, keep_bytes=_PAGE_BYTES)
        fields = _json(reply.body) if 200 <= reply.status < 300 else None
        items = fields.get(version.items_field) if isinstance(fields, dict) else None
        if not isinstance(fields, dict) or not isinstance(items, list):
            return reply, None
        try:
            after = version.page_after(following, fields, len(items))
        except ValueError:
            return reply, None
        sessions = tuple(_session(item if isinstance(item, dict) else {}, version) for item in items)
        return reply, Page(sessions, after)

    def _sessions_path(self, version: _Version) -> str:
        if version is _V3 and self._org_id is None:
            raise ApiKeyError("a key that starts with cog_ needs the organisation's id; set DEVIN_ORG_ID")
        return version.sessions_path.format(org_id=self._org_id)


def error_detail(body: bytes) -> str | None:
    """What the API says of an error: FastAPI's `detail` (a text, or a list of complaints), a problem of RFC 9457, or,
    where it is neither, the text of the body itself. None for an empty body."""
    fields = _json(body)
    if isinstance(fields, dict):
        detail = fields.get("detail")
        if isinstance(detail, list):
            return "; ".join(_complaint(item) for item in detail) or None
        told = [text for text in (fields.get("title"), detail) if isinstance(text, str) and text]
        if told:
            return ": ".join(told)
    return body.decode("utf-8", "replace").strip() or None


def _complaint(item: object) -> str:
    if not isinstance(item, dict):
        return str(item)
    location, message = item.get("loc"), str(item.get("msg", ""))
    where = ".".join(str(part) for part in location) if isinstance(location, list) else ""
    return f"{where}: {message}" if where else message


def bad_key_is_403(key: str) -> bool:
    """Whether the version that the key belongs to answers 403 to a bad key, as it does to a session that is not the
    organisation's."""
    return _version_of(key).bad_key_is_403


def _version_of(key: str) -> _Version:
    return _V3 if key.startswith("cog_") else _V1


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _session(fields: dict[str, Any], version: _Version) -> Session:
    status = next((text for name in version.status_fields if (text := _text(fields.get(name)))), None)
    pull_request = fields.get(version.pull_request_field, ...)
    acus = fields.get("acus_consumed")
    return Session(
        session_id=_session_id(fields.get("session_id")),
        status=status,
        status_detail=_text(fields.get("status_detail")),
        exited=status is not None and status.lower() in version.exited,
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
