"""Steering the stand-in over HTTP, from another process: JSON under `/_standin/`, without authorisation.

GET    /_standin/health                {"status": "ok"}
POST   /_standin/sessions              {"session_ids": [...], and fields of Session} adds sessions
GET    /_standin/sessions              all of them
GET    /_standin/sessions/{id}         one
PATCH  /_standin/sessions/{id}         fields of Session; updated_at is now unless given
POST   /_standin/sessions/{id}/wake    running again, now
POST   /_standin/faults                a Rule: {"fault": {"kind": ...}, "session_id": ..., "times": ...}
GET    /_standin/faults                all rules
DELETE /_standin/faults                forgets them
PUT    /_standin/keys                  a list of keys, or null for any
PUT    /_standin/latency               {"low": seconds, "high": seconds}
PUT    /_standin/keep-alive            {"responses": number or null, "idle_seconds": number or null}
GET    /_standin/calls                 all calls so far
DELETE /_standin/calls                 forgets them

What makes no sense is answered 422, an unknown session 404, both with {"detail": "..."}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infra.local.standin.answer import Answer, json_answer
from infra.local.standin.faults import Fault
from infra.local.standin.sessions import fields_from_json

if TYPE_CHECKING:
    from infra.local.standin.server import StandIn

PREFIX = "/_standin/"
_ONE_SESSION = re.compile(r"sessions/(devin-[A-Za-z0-9_-]+)(/wake)?")


def answer(standin: StandIn, method: str, target: str, body: bytes) -> Answer:
    """The answer to a request under PREFIX, what it asks for done."""
    path = target.removeprefix(PREFIX)
    found = _ONE_SESSION.fullmatch(path)
    try:
        data = json.loads(body) if body else None
        if found:
            return json_answer(200, _one_session(standin, method + (found[2] or ""), found[1], data))
        if action := _ACTIONS.get((method, path)):
            return json_answer(200, action(standin, data))
    except KeyError as error:
        return json_answer(404 if found else 422, {"detail": f"there is no {error.args[0]}"})
    except (ValueError, TypeError, AttributeError) as error:
        return json_answer(422, {"detail": str(error)})
    return json_answer(404, {"detail": "Not Found"})


def _one_session(standin: StandIn, verb: str, session_id: str, data: Any) -> Any:
    match verb:
        case "GET":
            return standin.session(session_id).to_json()
        case "PATCH":
            return standin.update_session(session_id, **fields_from_json(data)).to_json()
        case "POST/wake":
            return standin.wake(session_id).to_json()
        case _:
            raise ValueError("a session can be read (GET), set (PATCH) and woken (POST …/wake)")


def _add_sessions(standin: StandIn, data: Any) -> Any:
    fields = fields_from_json({name: value for name, value in data.items() if name != "session_ids"})
    return [session.to_json() for session in standin.add_sessions(*data["session_ids"], **fields)]


def _script(standin: StandIn, data: Any) -> None:
    when = {name: value for name, value in data.items() if name != "fault"}
    standin.script(Fault.from_json(data["fault"]), **when)


_ACTIONS: dict[tuple[str, str], Callable[[StandIn, Any], Any]] = {
    ("GET", "health"): lambda _standin, _data: {"status": "ok"},
    ("POST", "sessions"): _add_sessions,
    ("GET", "sessions"): lambda standin, _data: [session.to_json() for session in standin.sessions()],
    ("POST", "faults"): _script,
    ("GET", "faults"): lambda standin, _data: [rule.to_json() for rule in standin.rules()],
    ("DELETE", "faults"): lambda standin, _data: standin.clear_faults(),
    ("PUT", "keys"): lambda standin, data: standin.set_keys(data),
    ("PUT", "latency"): lambda standin, data: standin.set_latency(**data),
    ("PUT", "keep-alive"): lambda standin, data: standin.set_keep_alive(**data),
    ("GET", "calls"): lambda standin, _data: [call.to_json() for call in standin.calls()],
    ("DELETE", "calls"): lambda standin, _data: standin.clear_calls(),
}
