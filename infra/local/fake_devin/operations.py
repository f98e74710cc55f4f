"""The operations of the contract: which one a request means, and what the API answers. Pure apart from the sessions.

Where the contract documents no failure (v1 GET and lists), this answers what the same version answers to the same
mistake elsewhere: 401, 404 and 422 in v1; 403, 404 and 422 as RFC 9457 problems in v3.
"""

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from math import inf
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

from infra.local.fake_devin.answer import Answer, json_answer
from infra.local.fake_devin.sessions import ORG_ID, Session, Sessions

type Operation = Literal["terminate", "get", "list", "archive", "unarchive", "self"]

_V3 = r"/v3/organizations/(?P<org>[^/]+)/sessions"
_EITHER = rf"(?:/v1/sessions|{_V3})"
_ID = r"/(?P<id>[^/]+)"
_ROUTES: dict[str, Operation] = {
    rf"DELETE {_EITHER}{_ID}": "terminate",
    rf"GET {_EITHER}{_ID}": "get",
    rf"GET {_EITHER}": "list",
    rf"POST {_V3}{_ID}/archive": "archive",
    rf"POST {_V3}{_ID}/unarchive": "unarchive",
    r"GET /v3/self": "self",
}
# Filters of each version's list, by the field of a session that has to be (or, of tags, to have) one of the values. The
# API does not say whether one tag is enough.
_FILTERS = {
    1: {"tags": "tags", "user_email": "user_email"},
    3: {
        "session_ids": "session_id",
        "tags": "tags",
        "playbook_id": "playbook_id",
        "origins": "origin",
        "automation_ids": "automation_id",
        "parent_session_id": "parent_session_id",
        "user_ids": "user_id",
        "service_user_ids": "service_user_id",
        "category": "category",
    },
}
_BOUNDS = {
    "created_after": ("created_at", operator.ge),
    "created_before": ("created_at", operator.lt),
    "updated_after": ("updated_at", operator.ge),
    "updated_before": ("updated_at", operator.lt),
}
_SELF = {
    "principal_type": "service_user",
    "service_user_id": "service-user-fake",
    "service_user_name": "Session cleanup",
    "org_id": ORG_ID,
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for; `version` is 0 and `operation` None if the contract does not have it."""

    method: str
    version: int = 0
    operation: Operation | None = None
    org_id: str = ""
    session_id: str | None = None
    query: Mapping[str, list[str]] = field(default_factory=dict)
    allow: str = ""


class _RefusedError(Exception):
    """The API refuses the request with this answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def read(method: str, target: str) -> Request:
    """The request for this method and target (path and query, as on the request line)."""
    path, _, query = target.partition("?")
    allowed = []
    for route, operation in _ROUTES.items():
        known, pattern = route.split()
        if found := re.fullmatch(pattern, path):
            if known != method:
                allowed.append(known)
                continue
            parts = {name: unquote(value) for name, value in found.groupdict("").items()}
            version = 1 if path.startswith("/v1/") else 3
            values = parse_qs(query, keep_blank_values=True)
            return Request(method, version, operation, parts.get("org", ""), parts.get("id"), values)
    return Request(method, allow=", ".join(allowed))


def authorises(authorization: str, version: int, keys: frozenset[str] | None) -> bool:
    """Whether this header opens this version: its key is one of `keys` (None: any), and `cog_` keys are v3's alone."""
    scheme, _, key = authorization.partition(" ")
    known = scheme == "Bearer" and key != "" and (keys is None or key in keys)
    return known and key.startswith("cog_") == (version == 3)


def perform(request: Request, sessions: Sessions, *, authorised: bool) -> Answer:
    """What the API answers, the session changed if that is what was asked for and may be."""
    if request.allow:
        headers = {"Content-Type": "application/json", "Allow": request.allow}
        return Answer(405, b'{"detail":"Method Not Allowed"}', headers)
    if request.operation is None:
        return json_answer(404, {"detail": "Not Found"})
    try:
        if not authorised:
            raise _refusal(request, 401 if request.version == 1 else 403, "Unauthorized")
        return _perform(request, sessions)
    except _RefusedError as refused:
        return refused.answer


def _perform(request: Request, sessions: Sessions) -> Answer:
    if request.operation == "self":
        return json_answer(200, _SELF)
    if request.operation == "list":
        return (_list_v1 if request.version == 1 else _list_v3)(request, sessions)
    session = _session(request, sessions)
    ending = request.operation == "terminate"
    if ending:
        session = _terminate(request, session, sessions)
    elif request.operation == "archive":
        session = sessions.archive(session.session_id)
    elif request.operation == "unarchive":
        session = sessions.update_session(session.session_id, is_archived=False)
    if request.version == 3:
        children = sessions.children().get(session.session_id, ())
        return json_answer(200, session.as_v3(children), ended=ending)
    return json_answer(200, {"detail": "Session terminated successfully"} if ending else session.as_v1(), ended=ending)


def _terminate(request: Request, session: Session, sessions: Sessions) -> Session:
    if ended := sessions.terminate(session.session_id, archive=_boolean(request, "archive") is True):
        return ended
    if request.version == 1:
        raise _invalid(request, "path", "session_id", "The session has exited already")
    raise _refusal(request, 400, "Devin session already exited")


def _list_v1(request: Request, sessions: Sessions) -> Answer:
    limit, offset = _integer(request, "limit", 100, 1, 1000), _integer(request, "offset", 0, 0, 10**9)
    matching = _matching(request, sessions.sessions())
    return json_answer(200, {"sessions": [one.as_v1() for one in matching[offset : offset + limit]]})


def _list_v3(request: Request, sessions: Sessions) -> Answer:
    first, after = _integer(request, "first", 100, 1, 200), request.query.get("after", [None])[-1]
    everything = [session for session in sessions.sessions() if session.org_id == request.org_id]
    ids = [session.session_id for session in everything]
    if after is not None and after not in ids:
        raise _invalid(request, "query", "after", "Not a cursor of this list")
    # The cursor is a place among all sessions, matching or not: a session that no longer matches moves no page.
    start = 0 if after is None else ids.index(after) + 1
    matching = _matching(request, everything[start:])
    page, children = matching[:first], sessions.children()
    return json_answer(
        200,
        {
            "items": [session.as_v3(children.get(session.session_id, ())) for session in page],
            "end_cursor": page[-1].session_id if page else None,
            "has_next_page": first < len(matching),
            "total": len(_matching(request, everything)),
        },
    )


def _matching(request: Request, listed: list[Session]) -> list[Session]:
    """Those that match all filters of the query."""
    for name, attribute in _FILTERS[request.version].items():
        if name in request.query:
            wanted = _bare(request.query[name])
            listed = [one for one in listed if wanted & _values(one, attribute)]
    if request.version == 1:
        return listed
    for name, (moment, within) in _BOUNDS.items():
        if name in request.query:
            bound = _integer(request, name, 0, -inf, inf)
            listed = [one for one in listed if within(int(getattr(one, moment).timestamp()), bound)]
    archived = _boolean(request, "is_archived")
    return [one for one in listed if archived in {None, one.is_archived}]


def _values(session: Session, attribute: str) -> set[str]:
    value = getattr(session, attribute) or ()
    return _bare(value if isinstance(value, tuple) else (value,))


def _bare(values: Iterable[str]) -> set[str]:
    """Session ids may go without their `devin-`."""
    return {value.removeprefix("devin-") for value in values}


def _session(request: Request, sessions: Sessions) -> Session:
    session_id = request.session_id or ""
    if not re.fullmatch(r"devin-[A-Za-z0-9_-]{1,122}", session_id):
        raise _invalid(request, "path", "session_id" if request.version == 1 else "devin_id", "Not a session id")
    try:
        session = sessions.session(session_id)
    except KeyError:
        raise _refusal(request, 404, "Session not found") from None
    if request.version == 3 and session.org_id != request.org_id:
        raise _refusal(request, 403, "The session does not belong to this organization.")
    return session


def _refusal(request: Request, status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> _RefusedError:
    if request.version == 1:
        return _RefusedError(json_answer(status, {"detail": errors or detail}))
    title = "Unprocessable Entity" if status == 422 else HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "errors": errors or []}
    return _RefusedError(json_answer(status, problem, content_type="application/problem+json"))


def _invalid(request: Request, place: str, name: str, message: str) -> _RefusedError:
    """A parameter does not validate."""
    errors = [{"loc": [place, name], "msg": message, "type": "value_error"}]
    return _refusal(request, 422, "Request validation failed", errors)


def _boolean(request: Request, name: str) -> bool | None:
    if name not in request.query:
        return None
    text = request.query[name][-1].lower()
    if text not in {"true", "false"}:
        raise _invalid(request, "query", name, "Not a boolean")
    return text == "true"


def _integer(request: Request, name: str, default: int, minimum: float, maximum: float) -> int:
    text = request.query.get(name, [str(default)])[-1]
    # Not int() alone: it takes 1_0 and Arabic digits too.
    if not re.fullmatch(r"-?[0-9]{1,100}", text) or not minimum <= int(text) <= maximum:
        raise _invalid(request, "query", name, f"Not an integer from {minimum} to {maximum}")
    return int(text)
