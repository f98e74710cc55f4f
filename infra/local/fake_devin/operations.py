"""The operations of the contract: which one a request means, and what the API answers. Pure apart from the sessions.

Where the contract documents no failure (v1 GET and lists), this answers what the same version answers to the same
mistake elsewhere: 401, 404 and 422 in v1; 403, 404 and 422 as RFC 9457 problems in v3.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

from infra.local.fake_devin.answer import Answer, json_answer
from infra.local.fake_devin.sessions import ORG_ID, Session, Sessions, is_session_id

type Operation = Literal["terminate", "get", "list", "archive", "unarchive", "self"]

_V3 = r"/v3/organizations/(?P<org>[^/]+)/sessions"
_PATHS: list[tuple[re.Pattern[str], int, dict[str, Operation]]] = [
    (re.compile(r"/v1/sessions/(?P<id>[^/]+)"), 1, {"DELETE": "terminate", "GET": "get"}),
    (re.compile(r"/v1/sessions"), 1, {"GET": "list"}),
    (re.compile(_V3), 3, {"GET": "list"}),
    (re.compile(_V3 + r"/(?P<id>[^/]+)"), 3, {"DELETE": "terminate", "GET": "get"}),
    (re.compile(_V3 + r"/(?P<id>[^/]+)/archive"), 3, {"POST": "archive"}),
    (re.compile(_V3 + r"/(?P<id>[^/]+)/unarchive"), 3, {"POST": "unarchive"}),
    (re.compile(r"/v3/self"), 3, {"GET": "self"}),
]
# Filters of v3's list by the field of a session that they look at.
_FILTERS = {
    "session_ids": "session_id",
    "parent_session_id": "parent_session_id",
    "playbook_id": "playbook_id",
    "origins": "origin",
    "automation_ids": "automation_id",
    "category": "category",
    "user_ids": "user_id",
    "service_user_ids": "service_user_id",
}
_SELF = {
    "principal_type": "service_user",
    "service_user_id": "service-user-fake",
    "service_user_name": "Session cleanup",
    "org_id": ORG_ID,
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for; `version` is 0 and `operation` None if no operation of the contract has its path."""

    method: str
    path: str = ""
    query: str = ""
    version: int = 0
    operation: Operation | None = None
    org_id: str = ""
    session_id: str | None = None
    allow: str = ""


class _RefusedError(Exception):
    """The API refuses the request with this answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def read(method: str, target: str) -> Request:
    """The request for this method and target (path and query, as on the request line)."""
    path, _, query = target.partition("?")
    for pattern, version, operations in _PATHS:
        if found := pattern.fullmatch(path):
            parts = found.groupdict()
            session_id = unquote(parts["id"]) if "id" in parts else None
            operation, allow = operations.get(method), ", ".join(operations)
            return Request(method, path, query, version, operation, unquote(parts.get("org", "")), session_id, allow)
    return Request(method, path, query)


def authorises(key: str | None, version: int, keys: frozenset[str] | None) -> bool:
    """Whether this key opens this version: one of `keys` (None: any), and `cog_` keys are v3's alone."""
    if not key:
        return False
    return (keys is None or key in keys) and key.startswith("cog_") == (version == 3)


def perform(request: Request, sessions: Sessions, *, authorised: bool) -> Answer:
    """What the API answers, the session changed if that is what was asked for and may be."""
    if not request.version:
        return json_answer(404, {"detail": "Not Found"})
    if request.operation is None:
        refusal = json_answer(405, {"detail": "Method Not Allowed"})
        return Answer(405, refusal.body, {**refusal.headers, "Allow": request.allow})
    if not authorised:
        return json_answer(401, {"detail": "Unauthorized"}) if request.version == 1 else _problem(403, "Unauthorized")
    try:
        return _perform(request, sessions)
    except _RefusedError as refused:
        return refused.answer


def _perform(request: Request, sessions: Sessions) -> Answer:
    if request.operation == "self":
        return json_answer(200, _SELF)
    query = _Query(request)
    if request.operation == "list":
        return (_list_v1 if request.version == 1 else _list_v3)(request, query, sessions)
    archive = query.boolean("archive") is True
    session = _session(request, sessions)
    ending = request.operation == "terminate"
    if ending:
        ended = sessions.terminate(session.session_id, archive=archive)
        if ended is None and request.version == 1:
            raise _invalid(1, "path", "session_id", "The session has exited already")
        if ended is None:
            return _problem(400, "Devin session already exited")
        session = ended
    elif request.operation == "archive":
        session = sessions.archive(session.session_id)
    elif request.operation == "unarchive":
        session = sessions.update(session.session_id, is_archived=False)
    if request.version == 1:
        shown = {"detail": "Session terminated successfully"} if ending else {**session.as_v1(), "messages": []}
    else:
        shown = session.as_v3(sessions.children().get(session.session_id, ()))
    return json_answer(200, shown, ended=ending)


def _list_v1(_: Request, query: _Query, sessions: Sessions) -> Answer:
    limit, offset = query.integer("limit", minimum=1, maximum=1000), query.integer("offset", minimum=0)
    tags, user_email = query.texts("tags"), query.text("user_email")
    matched = [
        session.as_v1()
        for session in sessions.all()
        if _tagged(session, tags) and user_email in {None, session.user_email}
    ]
    start = offset or 0
    return json_answer(200, {"sessions": matched[start : start + (limit or 100)]})


def _list_v3(request: Request, query: _Query, sessions: Sessions) -> Answer:
    first, after = query.integer("first", minimum=1, maximum=200), query.text("after")
    everything = [session for session in sessions.all() if session.org_id == request.org_id]
    matches = _filter(query)
    # The cursor is a place among all sessions, matched or not: a session that no longer matches moves no page.
    start = 0 if after is None else _place(after, everything)
    matching = [session for session in everything[start:] if matches(session)]
    page = matching[: first or 100]
    children = sessions.children()
    return json_answer(
        200,
        {
            "items": [session.as_v3(children.get(session.session_id, ())) for session in page],
            "end_cursor": base64.urlsafe_b64encode(page[-1].session_id.encode()).decode() if page else None,
            "has_next_page": len(matching) > len(page),
            "total": sum(map(matches, everything)),
        },
    )


def _filter(query: _Query) -> Callable[[Session], bool]:
    """Whether a session matches all filters of v3's list. Lower bounds are inclusive, upper ones exclusive."""
    wanted = {field: _bare(query.texts(name)) for name, field in _FILTERS.items() if query.texts(name)}
    created = query.integer("created_after"), query.integer("created_before")
    updated = query.integer("updated_after"), query.integer("updated_before")
    tags, is_archived = query.texts("tags"), query.boolean("is_archived")

    def matches(session: Session) -> bool:
        return (
            all(_bare([getattr(session, field) or ""]) <= values for field, values in wanted.items())
            and _within(session.created_at, created)
            and _within(session.updated_at, updated)
            and is_archived in {None, session.is_archived}
            and _tagged(session, tags)
        )

    return matches


def _within(moment: datetime, bounds: tuple[int | None, int | None]) -> bool:
    low, high = bounds
    seconds = int(moment.timestamp())
    return (low is None or seconds >= low) and (high is None or seconds < high)


def _session(request: Request, sessions: Sessions) -> Session:
    if request.session_id is None or not is_session_id(request.session_id):
        name = "session_id" if request.version == 1 else "devin_id"
        raise _invalid(request.version, "path", name, "Not a session id")
    try:
        session = sessions.get(request.session_id)
    except KeyError:
        if request.version == 1:
            raise _RefusedError(json_answer(404, {"detail": "Session not found"})) from None
        raise _RefusedError(_problem(404, "There is no such session.")) from None
    if request.version == 3 and session.org_id != request.org_id:
        raise _RefusedError(_problem(403, "The session does not belong to this organization."))
    return session


def _bare(session_ids: list[str]) -> set[str]:
    return {session_id.removeprefix("devin-") for session_id in session_ids}


def _tagged(session: Session, tags: list[str]) -> bool:
    """Any of the tags. The API documents neither any nor all."""
    return not tags or not set(tags).isdisjoint(session.tags or ())


def _place(cursor: str, everything: list[Session]) -> int:
    try:
        session_id = base64.urlsafe_b64decode(cursor).decode()
        return [session.session_id for session in everything].index(session_id) + 1
    except (binascii.Error, ValueError):
        raise _invalid(3, "query", "after", "Not a cursor of this list") from None


def _problem(status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> Answer:
    title = "Unprocessable Entity" if status == 422 else HTTPStatus(status).phrase
    problem: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors is not None:
        problem["errors"] = errors
    return json_answer(status, problem, content_type="application/problem+json")


def _invalid(version: int, place: str, name: str, message: str) -> _RefusedError:
    """A parameter does not validate."""
    errors = [{"loc": [place, name], "msg": message, "type": "value_error"}]
    if version == 3:
        return _RefusedError(_problem(422, "Request validation failed", errors))
    return _RefusedError(json_answer(422, {"detail": errors}))


class _Query:
    """A query string's parameters; its methods raise _RefusedError. Of a repeated one the last counts."""

    def __init__(self, request: Request) -> None:
        self._version = request.version
        self._values = parse_qs(request.query, keep_blank_values=True)

    def texts(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        return self.texts(name)[-1] if self.texts(name) else None

    def integer(self, name: str, *, minimum: int | None = None, maximum: int | None = None) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        # Not int() alone: it takes 1_0 and Arabic digits too. The length keeps it clear of int()'s own limit.
        if not re.fullmatch(r"[+-]?[0-9]{1,400}", text):
            raise _invalid(self._version, "query", name, "Not an integer")
        number = int(text)
        if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
            raise _invalid(self._version, "query", name, "Out of range")
        return number

    def boolean(self, name: str) -> bool | None:
        text = self.text(name)
        if text is None:
            return None
        if text.lower() not in {"true", "false"}:
            raise _invalid(self._version, "query", name, "Not a boolean")
        return text.lower() == "true"
