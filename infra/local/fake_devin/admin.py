"""Steering the stand-in over HTTP, from another process: JSON under `/_fake/`, without authorisation.

GET    /_fake/health                {"status": "ok"}
POST   /_fake/sessions              {"session_ids": [...], and fields of Session} adds sessions
GET    /_fake/sessions              all of them
GET    /_fake/sessions/{id}         one
PATCH  /_fake/sessions/{id}         fields of Session; updated_at is now unless given
POST   /_fake/sessions/{id}/wake    running again, now
POST   /_fake/faults                a Rule: {"fault": {"kind": ...}, "session_id": ..., "times": ...}
GET    /_fake/faults                all rules
DELETE /_fake/faults                forgets them
PUT    /_fake/keys                  a list of keys, or null for any
PUT    /_fake/latency               {"low": seconds, "high": seconds}
PUT    /_fake/keep-alive            {"responses": number or null, "idle_seconds": number or null}
GET    /_fake/calls                 all calls so far
DELETE /_fake/calls                 forgets them

What makes no sense is answered 422, an unknown session 404, both with {"detail": "..."}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infra.local.fake_devin.answer import Answer, json_answer
from infra.local.fake_devin.faults import Fault
from infra.local.fake_devin.sessions import fields_from_json

if TYPE_CHECKING:
    from infra.local.fake_devin.server import FakeDevin

PREFIX = "/_fake/"
_ONE_SESSION = re.compile(r"sessions/(devin-[A-Za-z0-9_-]+)(/wake)?")


def answer(fake: FakeDevin, method: str, target: str, body: bytes) -> Answer:
    """The answer to a request under PREFIX, what it asks for done."""
    path = target.removeprefix(PREFIX)
    found = _ONE_SESSION.fullmatch(path)
    try:
        data = json.loads(body) if body else None
        if found:
            return json_answer(200, _one_session(fake, method + (found[2] or ""), found[1], data))
        if action := _ACTIONS.get((method, path)):
            return json_answer(200, action(fake, data))
    except KeyError as error:
        return json_answer(404 if found else 422, {"detail": f"there is no {error.args[0]}"})
    except (ValueError, TypeError, AttributeError) as error:
        return json_answer(422, {"detail": str(error)})
    return json_answer(404, {"detail": "Not Found"})


def _one_session(fake: FakeDevin, verb: str, session_id: str, data: Any) -> Any:
    match verb:
        case "GET":
            return fake.session(session_id).to_json()
        case "PATCH":
            return fake.update_session(session_id, **fields_from_json(data)).to_json()
        case "POST/wake":
            return fake.wake(session_id).to_json()
        case _:
            raise ValueError("a session can be read (GET), set (PATCH) and woken (POST …/wake)")


def _add_sessions(fake: FakeDevin, data: Any) -> Any:
    fields = fields_from_json({name: value for name, value in data.items() if name != "session_ids"})
    return [session.to_json() for session in fake.add_sessions(*data["session_ids"], **fields)]


def _script(fake: FakeDevin, data: Any) -> None:
    when = {name: value for name, value in data.items() if name != "fault"}
    fake.script(Fault.from_json(data["fault"]), **when)


_ACTIONS: dict[tuple[str, str], Callable[[FakeDevin, Any], Any]] = {
    ("GET", "health"): lambda _fake, _data: {"status": "ok"},
    ("POST", "sessions"): _add_sessions,
    ("GET", "sessions"): lambda fake, _data: [session.to_json() for session in fake.sessions()],
    ("POST", "faults"): _script,
    ("GET", "faults"): lambda fake, _data: [rule.to_json() for rule in fake.rules()],
    ("DELETE", "faults"): lambda fake, _data: fake.clear_faults(),
    ("PUT", "keys"): lambda fake, data: fake.set_keys(data),
    ("PUT", "latency"): lambda fake, data: fake.set_latency(**data),
    ("PUT", "keep-alive"): lambda fake, data: fake.set_keep_alive(**data),
    ("GET", "calls"): lambda fake, _data: [call.to_json() for call in fake.calls()],
    ("DELETE", "calls"): lambda fake, _data: fake.clear_calls(),
}
