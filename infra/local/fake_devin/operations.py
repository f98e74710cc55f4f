"""The operations of the contract: which one a request means, and what the API answers. Pure apart from the sessions.

Where the contract documents no failure (v1 GET and lists, v3 GET and list), this answers what the same version answers
to the same mistake elsewhere: 401, 404 and 422 in v1; 403, 404 and 422 as RFC 9457 problems in v3.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, unquote

from infra.local.fake_devin.answer import Answer, json_answer
from infra.local.fake_devin.sessions import Session, Sessions, is_session_id

type Operation = Literal["terminate", "get", "list"]

_ONE_V1 = re.compile(r"/v1/sessions/([^/]+)")
_ALL_V1 = re.compile(r"/v1/sessions")
_ONE_V3 = re.compile(r"/v3/organizations/([^/]+)/sessions/([^/]+)")
_ALL_V3 = re.compile(r"/v3/organizations/([^/]+)/sessions")

_TITLES = {403: "Forbidden", 404: "Not Found", 409: "Conflict", 422: "Unprocessable Entity"}
# The spellings that FastAPI, which the API's 422 gives away, reads as a boolean.
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), False),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for; `version` is 0 and `operation` None if no operation of the contract has its path."""

    method: str
    version: int = 0
    operation: Operation | None = None
    org_id: str = ""
    session_id: str | None = None
    query: str = ""
    allow: str = ""


class _InvalidError(Exception):
    """A parameter does not validate."""

    def __init__(self, place: str, name: str, message: str) -> None:
        super().__init__(message)
        self.place, self.name, self.message = place, name, message


def read(method: str, target: str) -> Request:
    """The request for this method and target (path and query, as on the request line)."""
    path, _, query = target.partition("?")
    one_operation: dict[str, Operation] = {"DELETE": "terminate", "GET": "get"}
    if found := _ONE_V1.fullmatch(path):
        operation, allow, version, org_id, session_id = one_operation.get(method), "DELETE, GET", 1, "", found[1]
    elif found := _ONE_V3.fullmatch(path):
        operation, allow, version, org_id, session_id = one_operation.get(method), "DELETE, GET", 3, found[1], found[2]
    elif found := _ALL_V1.fullmatch(path) or _ALL_V3.fullmatch(path):
        version = 1 if found.re is _ALL_V1 else 3
        org_id = unquote(found[1]) if version == 3 else ""
        return Request(method, version, "list" if method == "GET" else None, org_id, None, query, "GET")
    else:
        return Request(method)
    return Request(method, version, operation, unquote(org_id), unquote(session_id), query, allow)


def authorises(key: str | None, version: int, keys: frozenset[str] | None) -> bool:
    """Whether this key opens this version: one of `keys` (None: any), and `cog_` keys are v3's alone."""
    if not key:
        return False
    return (keys is None or key in keys) and key.startswith("cog_") == (version == 3)


def perform(request: Request, sessions: Sessions, *, authorised: bool) -> Answer:
    """What the API answers, the session ended if that is what was asked for and may be."""
    if not request.version:
        return json_answer(404, {"detail": "Not Found"})
    if request.operation is None:
        refusal = json_answer(405, {"detail": "Method Not Allowed"})
        return Answer(405, refusal.body, {**refusal.headers, "Allow": request.allow})
    if not authorised:
        if request.version == 1:
            return json_answer(401, {"detail": "Unauthorized"})
        return _problem(403, "The key does not give access to this organization.")
    try:
        return _OPERATIONS[request.version, request.operation](request, sessions)
    except _InvalidError as error:
        return _unprocessable(request.version, error)


def _terminate_v1(request: Request, sessions: Sessions) -> Answer:
    session = _session(request, sessions)
    if session is None:
        return json_answer(404, {"detail": "Session not found"})
    if sessions.terminate(session.session_id) is None:
        raise _InvalidError("path", "session_id", "The session has exited already")
    return json_answer(200, {"detail": "Session terminated successfully"}, ended=True)


def _get_v1(request: Request, sessions: Sessions) -> Answer:
    session = _session(request, sessions)
    if session is None:
        return json_answer(404, {"detail": "Session not found"})
    return json_answer(200, {**session.as_v1(), "messages": []})


def _list_v1(request: Request, sessions: Sessions) -> Answer:
    query = _Query(request.query)
    limit, offset = query.integer("limit", minimum=1), query.integer("offset", minimum=0)
    tags, user_email = query.texts("tags"), query.text("user_email")
    chosen = [
        session.as_v1()
        for session in sessions.all()
        if _tagged(session, tags) and user_email in {None, session.user_email}
    ]
    start = offset or 0
    return json_answer(200, {"sessions": chosen[start : start + (100 if limit is None else limit)]})


def _terminate_v3(request: Request, sessions: Sessions) -> Answer:
    archive = _Query(request.query).boolean("archive")
    session = _session(request, sessions)
    if refusal := _refusal_v3(session, request.org_id):
        return refusal
    assert session is not None  # noqa: S101 - else it was refused
    ended = sessions.terminate(session.session_id, archive=archive)
    if ended is None:
        return _problem(409, "The session has exited already.")
    return json_answer(200, ended.as_v3(), ended=True)


def _get_v3(request: Request, sessions: Sessions) -> Answer:
    session = _session(request, sessions)
    if refusal := _refusal_v3(session, request.org_id):
        return refusal
    assert session is not None  # noqa: S101 - else it was refused
    return json_answer(200, session.as_v3())


def _list_v3(request: Request, sessions: Sessions) -> Answer:
    query = _Query(request.query)
    first, after = query.integer("first", minimum=1, maximum=200), query.text("after")
    tags, wanted = query.texts("tags"), {name.removeprefix("devin-") for name in query.texts("session_ids")}
    bounds = {
        name: query.integer(name) for name in ("created_after", "created_before", "updated_after", "updated_before")
    }

    def chosen(session: Session) -> bool:
        if wanted and session.session_id.removeprefix("devin-") not in wanted:
            return False
        shown = {"created": int(session.created_at.timestamp()), "updated": int(session.updated_at.timestamp())}
        for name, bound in bounds.items():
            event, _, side = name.partition("_")
            if bound is not None and not (shown[event] > bound if side == "after" else shown[event] < bound):
                return False
        return session.org_id == request.org_id and _tagged(session, tags)

    everything = sessions.all()
    # The cursor is a place among all sessions, chosen or not: a session that no longer fits moves no page.
    start = 0 if after is None else _place(after, everything)
    matching = [session for session in everything[start:] if chosen(session)]
    page = matching[: first or 100]
    return json_answer(
        200,
        {
            "items": [session.as_v3() for session in page],
            "end_cursor": _cursor(page[-1]) if page else None,
            "has_next_page": len(matching) > len(page),
            "total": sum(map(chosen, everything)),
        },
    )


_OPERATIONS: dict[tuple[int, Operation], Callable[[Request, Sessions], Answer]] = {
    (1, "terminate"): _terminate_v1,
    (1, "get"): _get_v1,
    (1, "list"): _list_v1,
    (3, "terminate"): _terminate_v3,
    (3, "get"): _get_v3,
    (3, "list"): _list_v3,
}


def _session(request: Request, sessions: Sessions) -> Session | None:
    name = "session_id" if request.version == 1 else "devin_id"
    if request.session_id is None or not is_session_id(request.session_id):
        raise _InvalidError("path", name, "Not a session id")
    return sessions.get(request.session_id)


def _refusal_v3(session: Session | None, org_id: str) -> Answer | None:
    if session is None:
        return _problem(404, "There is no such session.")
    if session.org_id != org_id:
        return _problem(403, "The session does not belong to this organization.")
    return None


def _tagged(session: Session, tags: list[str]) -> bool:
    """Any of the tags. Undocumented; whoever relies on all of them being there has to look for himself."""
    return not tags or not set(tags).isdisjoint(session.tags or ())


def _cursor(session: Session) -> str:
    return base64.urlsafe_b64encode(session.session_id.encode()).decode()


def _place(cursor: str, everything: list[Session]) -> int:
    try:
        session_id = base64.urlsafe_b64decode(cursor).decode()
        return [session.session_id for session in everything].index(session_id) + 1
    except (binascii.Error, ValueError):
        raise _InvalidError("query", "after", "Not a cursor of this list") from None


def _problem(status: int, detail: str) -> Answer:
    problem = {"type": "about:blank", "title": _TITLES[status], "status": status, "detail": detail}
    return json_answer(status, problem, content_type="application/problem+json")


def _unprocessable(version: int, error: _InvalidError) -> Answer:
    if version == 3:
        return _problem(422, f"{error.place}.{error.name}: {error.message}")
    return json_answer(
        422, {"detail": [{"loc": [error.place, error.name], "msg": error.message, "type": "value_error"}]}
    )


class _Query:
    """A query string's parameters; its methods raise _InvalidError. Of a repeated one the last counts."""

    def __init__(self, query: str) -> None:
        self._values = parse_qs(query, keep_blank_values=True)

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
            raise _InvalidError("query", name, "Not an integer")
        number = int(text)
        if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
            raise _InvalidError("query", name, "Out of range")
        return number

    def boolean(self, name: str) -> bool:
        text = self.text(name)
        if text is not None and text.lower() not in _BOOLEANS:
            raise _InvalidError("query", name, "Not a boolean")
        return text is not None and _BOOLEANS[text.lower()]
