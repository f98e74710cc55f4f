"""The stand-in itself: HTTP on a loopback address, a thread for each connection."""

from __future__ import annotations

import random
import socket
import ssl
import threading
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from infra.local.fake_devin import admin, operations, wire
from infra.local.fake_devin.answer import Answer, json_answer
from infra.local.fake_devin.calls import Call, Calls, fingerprint
from infra.local.fake_devin.faults import Conditions, Fault, Rule, Script
from infra.local.fake_devin.sessions import Fields, Session, Sessions
from infra.local.faulty_server import HOST, AbruptServer


class FakeDevin:
    """A stand-in of the Devin API, running from `with FakeDevin() as api:` to the end of the block.

    port: 0 for a free one. keys: those that are valid; None for any that has its version's prefix (`cog_` opens v3
    alone, every other one v1 alone). certificate, private_key: PEM files; with them it speaks TLS.
    Everything else is set while it runs, here or, from another process, with FakeDevinAdmin. Loopback only: who can
    reach it can also steer it.
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
        self.keep_alive: tuple[int | None, float | None] = (None, None)
        self.ending = threading.Event()
        self.set_keys(keys)
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate, private_key)
        self._server = _Server(self, port, tls)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{HOST}:{self._server.server_address[1]}"
        # How soon the loop sees that it is to end; connections are accepted at once all the same.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="fake")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def add_sessions(self, *session_ids: str, **fields: Unpack[Fields]) -> list[Session]:
        """New sessions with these fields: see Session. Raises ValueError for an id that is none or is taken."""
        return self._sessions.add(session_ids, fields)

    def update_session(self, session_id: str, **fields: Unpack[Fields]) -> Session:
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

    def script(self, fault: Fault, **when: Unpack[Conditions]) -> None:
        """Lets a fault act on the calls that fit: see Rule. What was scripted first goes first."""
        self._script.add(Rule(fault=fault, **when))

    def rules(self) -> list[Rule]:
        """All that was scripted, also what is used up."""
        return self._script.rules()

    def clear_faults(self) -> None:
        """From now on all goes well."""
        self._script.clear()

    def set_keys(self, keys: Collection[str] | None) -> None:
        """The keys that are valid from now on; None for any that has its version's prefix."""
        self._keys = None if keys is None else frozenset(keys)

    def set_latency(self, low: float, high: float | None = None) -> None:
        """Every call takes so many seconds from now on, or between so many and so many."""
        self._latency = (float(low), float(low if high is None else high))

    def set_keep_alive(self, responses: int | None = None, idle_seconds: float | None = None) -> None:
        """Connections are closed, unannounced, after so many responses or so long without a request; None: never.

        A connection that is idle already when this is set is not closed before its next request.
        """
        self.keep_alive = (responses and int(responses), idle_seconds and float(idle_seconds))

    def calls(self) -> list[Call]:
        """All calls so far, in the order in which they arrived."""
        return self._calls.all()

    def clear_calls(self) -> None:
        """Forgets the calls so far."""
        self._calls.clear()

    def refuse(self, line: str, status: int, *, reused: bool) -> None:
        """Records what was sent in place of a request."""
        self._calls.answered(self._calls.arrived("", line, reused=reused), status)

    def serve(self, connection: socket.socket, method: str, target: str, authorization: str, *, reused: bool) -> bool:
        """Answers one call, or does not, as scripted; returns whether to keep the connection."""
        number = self._calls.arrived(method, target, reused=reused)
        request = operations.read(method, target)
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
            own = operations.perform(request, self._sessions, authorised=authorised)
            self._calls.note(number, ended=own.ended)
        answer = fault.answer(authorization) or own
        self.ending.wait(fault.delay + random.uniform(*self._latency))  # noqa: S311 - not a secret
        if fault.kind == "pass":
            self._calls.answered(number, answer.status)
            wire.send(connection, answer, with_body=method != "HEAD")
            return True
        return wire.play(fault, connection, answer, lambda: self._calls.answered(number, answer.status), self.ending)


class _Server(AbruptServer):
    def __init__(self, fake: FakeDevin, port: int, tls: ssl.SSLContext | None) -> None:
        self.fake = fake
        super().__init__(port, _Handler, tls)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    served = 0

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def handle_one_request(self) -> None:
        fake = self.server.fake
        self.close_connection = True
        self.connection.settimeout(fake.keep_alive[1])
        try:
            self.raw_requestline = self.rfile.readline(65537)
        except TimeoutError:
            return
        self.connection.settimeout(None)
        if not self.raw_requestline:
            return
        reused, self.served = self.served > 0, self.served + 1
        line = self.raw_requestline.decode("latin-1").rstrip("\r\n")
        if not self.parse_request():
            fake.refuse(line, 400, reused=reused)
            return
        # As it was sent: parse_request makes one of several leading slashes.
        method, target = self.command, line.split()[1]
        keep = not self.close_connection
        self.close_connection = True
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            fake.refuse(line, 411, reused=reused)
            wire.send(self.connection, json_answer(411, {"detail": "Length Required"}))
            return
        body = self.rfile.read(int(length))
        if target.startswith(admin.PREFIX):
            wire.send(self.connection, admin.answer(fake, method, target, body))
        else:
            authorization = self.headers.get("Authorization", "")
            keep = fake.serve(self.connection, method, target, authorization, reused=reused) and keep
        responses = fake.keep_alive[0]
        self.close_connection = not keep or (responses is not None and self.served >= responses)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the record of calls says more, and holds no key."""
