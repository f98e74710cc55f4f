"""The fake itself: HTTP on a loopback address, a thread for each connection."""

from __future__ import annotations

import json
import random
import ssl
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from infra.local.fake_devin import operations, wire
from infra.local.fake_devin.answer import Answer, json_answer
from infra.local.fake_devin.calls import Call, Calls, fingerprint
from infra.local.fake_devin.faults import Fault, Rule, Script
from infra.local.fake_devin.sessions import ORG_ID, Session, Sessions
from infra.local.faulty_server import AbruptServer

_CONTROL = "/_fake/"
_SERVICE_USER = {
    "principal_type": "service_user",
    "service_user_id": "service-user-fake",
    "service_user_name": "Session cleanup",
    "org_id": ORG_ID,
}


class FakeDevin(AbruptServer):
    """A fake of the Devin API, running from `with FakeDevin() as api:` to the end of the block.

    port: 0 for a free one. keys: those that are valid; None for any that has its version's prefix (`cog_` opens v3
    alone, every other one v1 alone). certificate, private_key: PEM files; with them it speaks TLS.
    Everything else is set while it runs, here or, by a person, over HTTP: see `_control`. Loopback only: who can reach
    it can also control it.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        keys: Collection[str] | None = None,
        certificate: Path | None = None,
        private_key: Path | None = None,
    ) -> None:
        self._sessions = Sessions()
        self._script = Script()
        self._calls = Calls()
        self._latency = (0.0, 0.0)
        self.responses_per_connection: int | None = None
        self.identity: Mapping[str, Any] = _SERVICE_USER
        self.set_keys(keys)
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate, private_key)
        super().__init__(port, _Handler, tls)

    def add_sessions(self, *session_ids: str, **fields: Any) -> list[Session]:
        """New sessions with these fields: see Session. Raises ValueError for an id that is none or is taken."""
        return self._sessions.add(session_ids, fields)

    def update_session(self, session_id: str, **fields: Any) -> Session:
        """Sets fields of a session; it counts as updated now unless `updated_at` is among them.

        Raises KeyError for an unknown id and ValueError for a field that is none.
        """
        return self._sessions.update(session_id, **fields)

    def wake(self, session_id: str) -> Session:
        """The session goes on working, now. Raises KeyError for an unknown id."""
        return self._sessions.update(session_id, status="running", status_detail="working")

    def session(self, session_id: str) -> Session:
        """A session as it stands. Raises KeyError for an unknown id."""
        session = self._sessions.get(session_id)
        if session is None:
            raise KeyError(session_id)
        return session

    def sessions(self) -> list[Session]:
        """All sessions, newest first."""
        return self._sessions.all()

    def set_sleep_after(self, idle: timedelta | None) -> None:
        """How long a session that waits for a person stays awake; None for ever."""
        self._sessions.sleeps_after = idle

    def script(self, fault: Fault, **when: Any) -> None:
        """Lets a fault act on the calls that fit: see Rule. What was scripted first goes first."""
        self._script.add(Rule(fault=fault, **when))

    def clear_faults(self) -> None:
        """From now on all goes well."""
        self._script.clear()

    def set_keys(self, keys: Collection[str] | None) -> None:
        """The keys that are valid from now on; None for any that has its version's prefix."""
        self._keys = None if keys is None else frozenset(keys)

    def set_latency(self, low: float, high: float | None = None) -> None:
        """Every call takes so many seconds from now on, or between so many and so many."""
        self._latency = (float(low), float(low if high is None else high))

    def set_keep_alive(self, responses: int | None = None) -> None:
        """Connections are closed, unannounced, after so many responses; None: never."""
        self.responses_per_connection = responses

    def calls(self) -> list[Call]:
        """All calls so far, in the order in which they arrived."""
        return self._calls.all()

    def clear_calls(self) -> None:
        """Forgets all calls so far."""
        self._calls.clear()

    def control(self, method: str, path: str, body: bytes) -> Answer:
        """What a person asks for, in JSON and without authorisation; 422 for what makes no sense.

        GET    /_fake/sessions   all of them
        POST   /_fake/sessions   {"session_ids": [...], and fields of Session} adds sessions
        GET    /_fake/calls      all calls so far
        POST   /_fake/faults     a Rule: {"fault": {"status": 503}, "operation": "terminate", "times": 2}
        DELETE /_fake/faults     forgets them
        """
        done: Any = None
        try:
            data = json.loads(body) if body else {}
            match method, path:
                case "GET", "sessions":
                    done = self.sessions()
                case "POST", "sessions":
                    for name in data.keys() & {"created_at", "updated_at"}:
                        data[name] = datetime.fromisoformat(data[name])
                    done = self.add_sessions(*data.pop("session_ids"), **data)
                case "GET", "calls":
                    done = self.calls()
                case "POST", "faults":
                    self.script(Fault.from_json(data.pop("fault")), **data)
                case "DELETE", "faults":
                    self.clear_faults()
                case _:
                    return json_answer(404, {"detail": "Not Found"})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return json_answer(422, {"detail": str(error)})
        shown = json.dumps(done and [asdict(one) for one in done], default=datetime.isoformat)
        return Answer(200, shown.encode(), {"Content-Type": "application/json"})

    def refuse(self, line: str, status: int, *, reused: bool) -> None:
        """Records a request that is no call: its line made no sense, or its body is of unknown length."""
        number = self._calls.arrived("", line, reused=reused)
        self._calls.answered(number, status)

    def serve(self, handler: _Handler, target: str, *, reused: bool) -> bool:
        """Answers one call, or does not, as scripted; returns whether to keep the connection."""
        number = self._calls.arrived(handler.command, target, reused=reused)
        request = operations.read(handler.command, target)
        authorization = handler.headers.get("Authorization", "")
        scheme, _, key = authorization.partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else ""
        authorised = operations.authorises(key, request.version, self._keys)
        fault = self._script.fault_for(request, reused=reused) or Fault(kind="pass")
        self._calls.note(
            number,
            operation=request.operation,
            session_id=request.session_id,
            authorised=authorised,
            key=fingerprint(key) if key else None,
            fault=None if fault == Fault(kind="pass") else fault.kind,
        )
        # What is asked for is done before the waiting: the time in which its outcome is lost on an impatient caller.
        own = Answer(200, b'{"detail": "scripted"}', {"Content-Type": "application/json"})
        if fault.carries_out:
            own = operations.perform(request, self._sessions, authorised=authorised, identity=self.identity)
            self._calls.note(number, ended=own.ended)
        answer = fault.answer(authorization) or own
        self.ending.wait(fault.delay + random.uniform(*self._latency))  # noqa: S311 - not a secret
        if fault.kind == "pass":
            self._calls.answered(number, answer.status)
            wire.send(handler.connection, answer, with_body=handler.command != "HEAD")
            return True
        return wire.play(
            fault, handler.connection, answer, lambda: self._calls.answered(number, answer.status), self.ending
        )


class _Handler(BaseHTTPRequestHandler):
    server: FakeDevin
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    served = 0

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def handle_one_request(self) -> None:
        fake = self.server
        self.close_connection = True
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            return
        reused, self.served = self.served > 0, self.served + 1
        line = self.raw_requestline.decode("latin-1").rstrip("\r\n")
        if not self.parse_request():
            fake.refuse(line, 400, reused=reused)
            return
        # As it was sent: parse_request makes one of several leading slashes.
        target = line.split()[1]
        keep = not self.close_connection
        self.close_connection = True
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            fake.refuse(line, 411, reused=reused)
            wire.send(self.connection, json_answer(411, {"detail": "Length Required"}))
            return
        body = self.rfile.read(int(length))
        if target.startswith(_CONTROL):
            wire.send(self.connection, fake.control(self.command, target.removeprefix(_CONTROL), body))
        else:
            keep = fake.serve(self, target, reused=reused) and keep
        most = fake.responses_per_connection
        self.close_connection = not keep or (most is not None and self.served >= most)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the record of calls says more, and holds no key."""
