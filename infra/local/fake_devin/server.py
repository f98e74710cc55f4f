"""The fake itself: HTTP on a loopback address, a thread for each connection."""

from __future__ import annotations

import hashlib
import json
import random
import ssl
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from infra.local.fake_devin import operations, wire
from infra.local.fake_devin.answer import Answer, json_answer
from infra.local.fake_devin.faults import Fault, Rule, Script
from infra.local.fake_devin.sessions import Session, Sessions
from infra.local.faulty_server import AbruptServer

_CONTROL = "/_fake/"
_NO_FAULT = Fault(kind="pass")


def fingerprint(key: str) -> str:
    """What the record keeps of a key: enough to tell keys apart, nothing to use one with."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@dataclass(slots=True, kw_only=True)
class Call:
    """One request that arrived at the API.

    at: in UTC. method, path: as on the request line, path with the query; of a line that made no sense, nothing and all
    of it. reused: the connection had carried a request before. session_id: of the path, with percent escapes resolved.
    operation: see Operation; None for any other path. key: the fingerprint of the key sent. fault: the kind of fault
    that was played. ended: this very call ended the session. status: what was answered, or at least begun to be; None
    if nothing was, or not yet.
    """

    at: datetime
    method: str
    path: str
    reused: bool = False
    operation: str | None = None
    session_id: str | None = None
    authorised: bool = False
    key: str | None = None
    fault: str | None = None
    ended: bool = False
    status: int | None = None


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
        self._calls: list[Call] = []
        self._latency = (0.0, 0.0)
        self.set_keys(keys)
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate, private_key)
        super().__init__(port, _Handler, tls)

    def add_sessions(self, *session_ids: str, **fields: Any) -> None:
        """New sessions with these fields: see Session. Raises ValueError for an id that is none or is taken."""
        self._sessions.add(session_ids, fields)

    def update_session(self, session_id: str, **fields: Any) -> None:
        """Sets fields of a session; it counts as updated now unless `updated_at` is among them."""
        self._sessions.update(session_id, **fields)

    def wake(self, session_id: str) -> None:
        """The session goes on working, now."""
        self._sessions.update(session_id, status="running", status_detail="working")

    def session(self, session_id: str) -> Session:
        """A session as it stands. Raises KeyError for an unknown id."""
        return self._sessions.get(session_id)

    def sessions(self) -> list[Session]:
        """All sessions, newest first."""
        return self._sessions.all()

    def script(self, fault: Fault, **when: Any) -> None:
        """Lets a fault act on the calls that fit: see Rule. What was scripted first goes first."""
        self._script.add(Rule(fault=fault, **when))

    def clear_faults(self) -> None:
        self._script.clear()

    def set_keys(self, keys: Collection[str] | None) -> None:
        """The keys that are valid from now on; None for any that has its version's prefix."""
        self._keys = None if keys is None else frozenset(keys)

    def set_latency(self, low: float, high: float | None = None) -> None:
        """Every call takes so many seconds from now on, or between so many and so many."""
        self._latency = (low, low if high is None else high)

    def calls(self) -> list[Call]:
        """All calls so far, in the order in which they arrived."""
        return list(self._calls)

    def clear_calls(self) -> None:
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
                    self.add_sessions(*data.pop("session_ids"), **data)
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

    def arrived(self, method: str, path: str, *, reused: bool, status: int | None = None) -> Call:
        """Records a request."""
        call = Call(at=datetime.now(UTC), method=method, path=path, reused=reused, status=status)
        self._calls.append(call)
        return call

    def serve(self, handler: _Handler, target: str, *, reused: bool) -> bool:
        """Answers one call, or does not, as scripted; returns whether to keep the connection."""
        call = self.arrived(handler.command, target, reused=reused)
        request = operations.read(handler.command, target)
        authorization = handler.headers.get("Authorization", "")
        scheme, _, key = authorization.partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else ""
        fault = self._script.fault_for(request, reused=reused) or _NO_FAULT
        call.operation, call.session_id = request.operation, request.session_id
        call.authorised = operations.authorises(key, request.version, self._keys)
        call.key = fingerprint(key) if key else None
        call.fault = None if fault == _NO_FAULT else fault.kind
        # What is asked for is done before the waiting: the time in which its outcome is lost on an impatient caller.
        own = Answer(200, b'{"detail": "scripted"}', {"Content-Type": "application/json"})
        if fault.carries_out:
            own = operations.perform(request, self._sessions, authorised=call.authorised)
            call.ended = own.ended
        answer = fault.answer(authorization) or own

        def begin() -> None:
            call.status = answer.status

        self.ending.wait(fault.delay + random.uniform(*self._latency))  # noqa: S311 - not a secret
        if fault.kind == "pass":
            begin()
            wire.send(handler.connection, answer, with_body=handler.command != "HEAD")
            return True
        return wire.play(fault, handler.connection, answer, begin, self.ending)


class _Handler(BaseHTTPRequestHandler):
    server: FakeDevin
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    served = False

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
        reused, self.served = self.served, True
        line = self.raw_requestline.decode("latin-1").rstrip("\r\n")
        if not self.parse_request():
            fake.arrived("", line, reused=reused, status=400)
            return
        # As it was sent: parse_request makes one of several leading slashes.
        target = line.split()[1]
        keep = not self.close_connection
        self.close_connection = True
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            fake.arrived("", line, reused=reused, status=411)
            wire.send(self.connection, json_answer(411, {"detail": "Length Required"}))
            return
        body = self.rfile.read(int(length))
        if target.startswith(_CONTROL):
            wire.send(self.connection, fake.control(self.command, target.removeprefix(_CONTROL), body))
        else:
            keep = fake.serve(self, target, reused=reused) and keep
        self.close_connection = not keep

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the record of calls says more, and holds no key."""
