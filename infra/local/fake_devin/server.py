"""The fake itself: HTTP on a loopback address, a thread for each connection."""

from __future__ import annotations

import json
import random
import ssl
import threading
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from infra.local.fake_devin import operations
from infra.local.fake_devin.answer import Answer, json_answer
from infra.local.fake_devin.faults import Fault, Rule
from infra.local.fake_devin.sessions import Sessions
from infra.local.faulty_server import AbruptServer

_CONTROL = "/_fake/"
_NO_FAULT = Fault(kind="pass")


@dataclass(slots=True, kw_only=True)
class Call:
    """One request that arrived at the API.

    at: in UTC. path: as on the request line, with the query. reused: the connection had carried a request before.
    session_id: of the path, with percent escapes resolved. operation: see Operation; None for any other path. fault:
    the kind of fault that was played. ended: this very call ended the session. status: what was answered, or at least
    begun to be; None if nothing was, or not yet.
    """

    at: datetime
    method: str
    path: str
    reused: bool = False
    operation: str | None = None
    session_id: str | None = None
    authorised: bool = False
    fault: str | None = None
    ended: bool = False
    status: int | None = None


class FakeDevin(Sessions, AbruptServer):
    """A fake of the Devin API, running from `with FakeDevin() as api:` to the end of the block.

    keys: those that are valid; None for any that has its version's prefix (`cog_` opens v3 alone, every other one v1
    alone). certificate, private_key: PEM files; with them it speaks TLS.
    Everything else is set while it runs, here or, by a person, over HTTP: see `control`. Loopback only: who can reach
    it can also control it.
    """

    def __init__(
        self,
        *,
        keys: Collection[str] | None = None,
        certificate: Path | None = None,
        private_key: Path | None = None,
    ) -> None:
        Sessions.__init__(self)
        self._rules: list[Rule] = []
        self._drawing = threading.Lock()
        self._calls: list[Call] = []
        self._latency = (0.0, 0.0)
        self.set_keys(keys)
        tls = None
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate, private_key)
        AbruptServer.__init__(self, 0, _Handler, tls)

    def script(self, fault: Fault, **when: Any) -> None:
        """Lets a fault act on the calls that fit: see Rule. What was scripted first goes first."""
        self._rules.append(Rule(fault=fault, **when))

    def clear_faults(self) -> None:
        self._rules.clear()

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
        GET    /_fake/calls      all calls so far
        POST   /_fake/faults     a Rule: {"fault": {"status": 503}, "operation": "terminate", "times": 2}
        DELETE /_fake/faults     forgets them
        """
        done: Any = None
        try:
            match method, path:
                case "GET", "sessions":
                    done = [asdict(session) for session in self.sessions()]
                case "GET", "calls":
                    done = [asdict(call) for call in self.calls()]
                case "POST", "faults":
                    rule = json.loads(body)
                    self.script(Fault.from_json(rule.pop("fault")), **rule)
                case "DELETE", "faults":
                    self.clear_faults()
                case _:
                    return json_answer(404, {"detail": "Not Found"})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return json_answer(422, {"detail": str(error)})
        return Answer(200, json.dumps(done, default=datetime.isoformat).encode(), {"Content-Type": "application/json"})

    def serve(self, handler: _Handler, target: str, *, reused: bool) -> bool:
        """Answers one call, or does not, as scripted; returns whether to keep the connection."""
        call = Call(at=datetime.now(UTC), method=handler.command, path=target, reused=reused)
        self._calls.append(call)
        request = operations.read(handler.command, target)
        authorization = handler.headers.get("Authorization", "")
        with self._drawing:
            fault = next((rule.fault for rule in self._rules if rule.acts(request, reused=reused)), _NO_FAULT)
        call.operation, call.session_id = request.operation, request.session_id
        call.authorised = operations.authorises(authorization, request.version, self._keys)
        call.fault = None if fault == _NO_FAULT else fault.kind
        # What is asked for is done before the waiting: the time in which its outcome is lost on an impatient caller.
        own = Answer(200)
        if fault.carries_out:
            own = operations.perform(request, self, authorised=call.authorised)
            call.ended = own.ended
        answer = fault.answer(authorization) or own
        self.ending.wait(fault.delay + random.uniform(*self._latency))  # noqa: S311 - not a secret
        if fault.sends:
            call.status = answer.status
        return fault.play(handler.connection, answer, self.ending)


class _Handler(BaseHTTPRequestHandler):
    server: FakeDevin
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    served = False

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def answer(self) -> None:
        reused, self.served = self.served, True
        # As it was sent: `path` has one of several leading slashes.
        target = self.requestline.split()[1]
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if target.startswith(_CONTROL):
            answer = self.server.control(self.command, target.removeprefix(_CONTROL), body)
            self.connection.sendall(b"".join(answer.encode()))
        elif not self.server.serve(self, target, reused=reused):
            self.close_connection = True

    do_GET = do_DELETE = do_POST = do_PUT = do_PATCH = answer  # noqa: N815 - the base class calls them so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the record of calls says more, and holds no key."""
