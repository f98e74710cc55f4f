"""A session and a page of sessions, read from what the API answers in bounded memory."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from devin.session_id import InvalidSessionIdError, parse_session_id
from devin.version import V3, Version
from timestamps import parse_timestamp

# What is kept of an answer; one that is longer cannot be read. A session carries its messages, a page up to 200
# structured outputs. With these bounds, ten sessions at once take less than 256 MB, and a page less than 400 MB,
# whatever they hold (tests/unit/devin/test_session.py).
SESSION_BYTES = 4 * 1024 * 1024
PAGE_BYTES = 8 * 1024 * 1024
# Two bytes of nested arrays become 88 bytes of lists, four times as much as anything else.
_MAX_ARRAYS = 200_000
# Ten times what is asked for in v1, five times what is asked for in v3.
_MAX_ITEMS = 1000
# No status, title or user is longer. It bounds what a listing of thousands of sessions takes.
_MAX_TEXT = 1000
# Larger answers are parsed one at a time, and by one thread: the C library keeps freed memory for each thread.
_PARSED_IN_PARALLEL_BYTES = 256 * 1024
_PARSER = ThreadPoolExecutor(1, thread_name_prefix="parser")

# Devin was announced in March 2024.
_EARLIEST = datetime(2024, 1, 1, tzinfo=UTC)

# The only keys that are kept of any object.
_READ = frozenset({
    "acus_consumed", "automation_id", "category", "child_session_ids", "created_at", "end_cursor", "has_next_page",
    "is_archived", "items", "origin", "parent_session_id", "playbook_id", "pr_state", "pull_request", "pull_requests",
    "requesting_user_email", "service_user_id", "session_id", "sessions", "status", "status_detail", "status_enum",
    "tags", "title", "updated_at", "user_id",
})  # fmt: skip
# Stand for objects of which nothing is kept: a pull request is there or not, whatever is said of it.
_EMPTY: dict[str, Any] = {}
_NOT_EMPTY: dict[str, Any] = {"": None}


@dataclass(frozen=True, slots=True)
class Session:
    """What this project uses of a session. None stands for what the API did not say, or not readably.

    `tags` are empty where the API says null. `users` are e-mail addresses in v1, ids of users and service users in v3;
    empty if unknown. `child_session_ids` are those that can be read; `is_family_unknown` if one of them, or the parent,
    cannot. `is_archived` is also true for a value that is no boolean.
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
    users: tuple[str, ...] = ()
    origin: str | None = None
    playbook_id: str | None = None
    automation_id: str | None = None
    category: str | None = None
    has_pull_request: bool | None = None
    pull_request_states: tuple[str, ...] | None = None
    acus: float | None = None
    parent_session_id: str | None = None
    child_session_ids: tuple[str, ...] = ()
    is_family_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing, and the cursor of the one after it, None if the API knows of none. `can_archive`: the
    version of the API that listed it can archive sessions."""

    sessions: tuple[Session, ...]
    following: str | None
    can_archive: bool = False


def parse_session_body(body: bytes, version: Version) -> Session | None:
    """The session in an answer, None if it holds none that can be read."""
    fields = _fields(body)
    return None if fields is None else parse_session(fields, version)


def parse_page_body(body: bytes, version: Version, following: str | None) -> Page | None:
    """The page in an answer to a request with the cursor `following`, None if it holds none that can be read."""
    fields = _fields(body) or {}
    items = fields.get(version.items_field)
    if not isinstance(items, list) or len(items) > _MAX_ITEMS:
        return None
    try:
        after = version.page_after(following, fields, len(items))
    except ValueError:
        return None
    sessions = tuple(parse_session(item if isinstance(item, dict) else {}, version) for item in items)
    return Page(sessions, after, can_archive=version is V3)


def _fields(body: bytes, *, at_once: bool = False) -> dict[str, Any] | None:
    """What is read of the JSON object in the body, None if there is no object that can be read."""
    if len(body) > _PARSED_IN_PARALLEL_BYTES and not at_once:
        return _PARSER.submit(_fields, body, at_once=True).result()
    if body.count(b"[") > _MAX_ARRAYS:
        return None
    try:
        fields = json.loads(body, object_pairs_hook=_only_what_is_read)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _only_what_is_read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if key in _READ} or (_NOT_EMPTY if pairs else _EMPTY)


def parse_session(fields: dict[str, Any], version: Version) -> Session:
    status = next((text for name in version.status_fields if (text := _text(fields.get(name)))), None)
    pull_requests = fields.get(version.pull_request_field, ...)
    archived, tags = fields.get("is_archived"), fields.get("tags", ...)
    parent, children, is_family_unknown = _family(fields)
    return Session(
        session_id=_session_id(fields.get("session_id")),
        status=status,
        status_detail=_text(fields.get("status_detail")),
        exited=status is not None and status.lower() in version.exited,
        is_archived=None if archived is None else archived is not False,
        created_at=_moment(fields.get("created_at")),
        updated_at=_moment(fields.get("updated_at")),
        tags=() if tags is None else _texts(tags) if isinstance(tags, list) else None,
        title=_text(fields.get("title")),
        # Empty unless all can be read: the one that cannot might be excluded.
        users=_texts(one for name in version.user_fields if (one := fields.get(name)) is not None) or (),
        origin=_text(fields.get("origin")),
        playbook_id=_text(fields.get("playbook_id")),
        automation_id=_text(fields.get("automation_id")),
        category=_text(fields.get("category")),
        has_pull_request=None if pull_requests is ... else bool(pull_requests),
        pull_request_states=_pull_request_states(pull_requests),
        acus=_number(fields.get("acus_consumed")),
        parent_session_id=parent,
        child_session_ids=children,
        is_family_unknown=is_family_unknown,
    )


def _session_id(value: object) -> str | None:
    """v3 lists ids without the prefix that its paths need."""
    if not isinstance(value, str):
        return None
    try:
        return parse_session_id(value if value.startswith("devin-") else f"devin-{value}")
    except InvalidSessionIdError:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT else None


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _texts(values: Iterable[object]) -> tuple[str, ...] | None:
    texts = [_text(value) for value in values]
    return tuple(text for text in texts if text) if all(texts) else None


def _pull_request_states(value: object) -> tuple[str, ...] | None:
    items = value if isinstance(value, list) else [None] if value else []
    return _texts(item.get("pr_state") if isinstance(item, dict) else None for item in items)


def _family(fields: dict[str, Any]) -> tuple[str | None, tuple[str, ...], bool]:
    """Parent and children as far as they can be read, and whether any cannot."""
    parent, children = fields.get("parent_session_id"), fields.get("child_session_ids")
    parent_id = _session_id(parent)
    child_ids = [_session_id(child) for child in children] if isinstance(children, list) else [None]
    readable = (parent is None or parent_id) and (children is None or all(child_ids))
    return parent_id, tuple(child for child in child_ids if child), not readable


def _moment(value: object) -> datetime | None:
    """v1 has ISO 8601, v3 Unix seconds. A time before there were sessions stands for "unset"."""
    try:
        moment = parse_timestamp(value) if isinstance(value, str) else datetime.fromtimestamp(_number(value) or 0, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment >= _EARLIEST else None
