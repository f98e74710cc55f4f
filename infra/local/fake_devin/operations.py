"""The operations of the contract: which one a request means, and what the API answers. Pure apart from the sessions.

Where the contract documents no failure (v1 GET and lists), this answers what the same version answers to the same
mistake elsewhere: 401, 404 and 422 in v1; 403, 404 and 422 as RFC 9457 problems in v3. Lists are not filtered, because
the client asks for no filter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

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
    query: Mapping[str, str] = field(default_factory=dict)


class _RefusedError(Exception):
    """The API refuses the request with this answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def read(method: str, target: str) -> Request:
    """The request for this method and target (path and query, as on the request line)."""
    path, _, query = target.partition("?")
    for pattern, operation in _ROUTES.items():
        if found := re.fullmatch(pattern, f"{method} {path}"):
            parts = {name: unquote(value) for name, value in found.groupdict("").items()}
            version = 1 if path.startswith("/v1/") else 3
            values = dict(parse_qsl(query, keep_blank_values=True))
            return Request(method, version, operation, parts.get("org", ""), parts.get("id"), values)
    return Request(method)


def authorises(authorization: str, version: int, keys: frozenset[str] | None) -> bool:
    """Whether this header opens this version: its key is one of `keys` (None: any), and `cog_` keys are v3's alone."""
    scheme, _, key = authorization.partition(" ")
    known = scheme == "Bearer" and key != "" and (keys is None or key in keys)
    return known and key.startswith("cog_") == (version == 3)


def perform(request: Request, sessions: Sessions, *, authorised: bool) -> Answer:
    """What the API answers, the session changed if that is what was asked for and may be."""
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
        return json_answer(200, session.as_v3(), ended=ending)
    return json_answer(200, {"detail": "Session terminated successfully"} if ending else session.as_v1(), ended=ending)


def _terminate(request: Request, session: Session, sessions: Sessions) -> Session:
    archive = request.query.get("archive", "false").lower()
    if archive not in {"true", "false"}:
        raise _invalid(request, "query", "archive", "Not a boolean")
    if ended := sessions.terminate(session.session_id, archive=archive == "true"):
        return ended
    if request.version == 1:
        raise _invalid(request, "path", "session_id", "The session has exited already")
    raise _refusal(request, 400, "Devin session already exited")


def _list_v1(request: Request, sessions: Sessions) -> Answer:
    limit, offset = _integer(request, "limit", 100, 1, 1000), _integer(request, "offset", 0, 0, 10**9)
    return json_answer(200, {"sessions": [one.as_v1() for one in sessions.sessions()[offset : offset + limit]]})


def _list_v3(request: Request, sessions: Sessions) -> Answer:
    first, after = _integer(request, "first", 100, 1, 200), request.query.get("after")
    matching = [session for session in sessions.sessions() if session.org_id == request.org_id]
    ids = [session.session_id for session in matching]
    if after is not None and after not in ids:
        raise _invalid(request, "query", "after", "Not a cursor of this list")
    start = 0 if after is None else ids.index(after) + 1
    page = matching[start : start + first]
    return json_answer(
        200,
        {
            "items": [session.as_v3() for session in page],
            "end_cursor": page[-1].session_id if page else None,
            "has_next_page": start + first < len(matching),
            "total": len(matching),
        },
    )


def _session(request: Request, sessions: Sessions) -> Session:
    try:
        session = sessions.session(request.session_id or "")
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


def _integer(request: Request, name: str, default: int, minimum: int, maximum: int) -> int:
    text = request.query.get(name, str(default))
    # Not int() alone: it takes 1_0 and Arabic digits too.
    if not re.fullmatch(r"[0-9]{1,10}", text) or not minimum <= int(text) <= maximum:
        raise _invalid(request, "query", name, f"Not an integer from {minimum} to {maximum}")
    return int(text)
