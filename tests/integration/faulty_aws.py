"""AWS on a bad day: a proxy between the function and the emulator, which passes on what it is not told to spoil."""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from infra.local.certificate import Certificate
from infra.local.faulty_server import HOST, AbruptServer

# Well under every read timeout of the function, the shortest of which is a second.
_SIGN_OF_LIFE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class AwsFault:
    """What a request meets instead of its answer.

    answer: an error of AWS's, with `status` and `code`. reset: the connection is reset, the request not passed on.
    lose: it is passed on and carried out, then the connection is reset.
    """

    kind: Literal["answer", "reset", "lose"]
    status: int = 0
    code: str = ""


THROTTLED = AwsFault("answer", 400, "ThrottlingException")
# What SQS says in its own words.
REQUEST_THROTTLED = AwsFault("answer", 400, "RequestThrottled")
UNAVAILABLE = AwsFault("answer", 503, "ServiceUnavailable")
FAILED = AwsFault("answer", 500, "InternalFailure")
RESET = AwsFault("reset")
LOST = AwsFault("lose")


class Held:
    """Requests that wait at this point. Their callers are kept waiting, however short their patience, until `release`.

    passes_on: the point is after they were carried out, otherwise before they are passed on.
    """

    def __init__(self, *, passes_on: bool) -> None:
        self.passes_on = passes_on
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._arrived = 0

    @property
    def arrived(self) -> int:
        """How many requests have come to the point."""
        with self._lock:
            return self._arrived

    def arrive(self) -> None:
        with self._lock:
            self._arrived += 1

    def release(self) -> None:
        self.released.set()


@dataclass(frozen=True, slots=True)
class AwsRequest:
    """A request as it arrived: its target, such as `AmazonSQS.SendMessage`, and its body."""

    target: str
    body: str


@dataclass(eq=False, slots=True)
class _Rule:
    """`target` may be the beginning of one: `AmazonSQS.` is all of SQS. `about` are texts that the body holds."""

    what: AwsFault | Held
    target: str
    about: tuple[str, ...]
    times: int | None
    acted: int = field(default=0)

    def fits(self, request: AwsRequest) -> bool:
        return (
            self.acted != self.times
            and request.target.startswith(self.target)
            and all(text in request.body for text in self.about)
        )


class FaultyAws:
    """The proxy, running from `with FaultyAws(…) as aws:` to the end of the block.

    `upstream` is the emulator's address; the certificate has to be good for loopback.
    """

    def __init__(self, upstream: str, certificate: Certificate) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.trust = ssl.create_default_context(cafile=certificate.authority)
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._requests: list[AwsRequest] = []
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate.chain, certificate.key)
        self._server = _Server(self, tls)
        self.url = f"https://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="faulty-aws")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def variables(self, *services: str) -> dict[str, str]:
        """What leads an SDK's clients of these services here: SQS, SECRETS_MANAGER, SSM, EVENTBRIDGE."""
        return {f"AWS_ENDPOINT_URL_{service}": self.url for service in services}

    def requests(self, target: str, *about: str) -> list[AwsRequest]:
        """The requests so far with this target and these texts in their body, whatever became of them."""
        with self._lock:
            return [
                one
                for one in self._requests
                if one.target.startswith(target) and all(text in one.body for text in about)
            ]

    @contextmanager
    def meeting(self, fault: AwsFault, target: str, *about: str, times: int | None = None) -> Iterator[None]:
        """Lets requests with this target and these texts in their body meet a fault, the first so many if told."""
        with self._rule(_Rule(fault, target, about, times)):
            yield

    @contextmanager
    def holding(self, target: str, *about: str, passes_on: bool, times: int | None = None) -> Iterator[Held]:
        """Lets such requests wait until the block is left, or they are released before."""
        held = Held(passes_on=passes_on)
        with self._rule(_Rule(held, target, about, times)):
            try:
                yield held
            finally:
                held.release()

    @contextmanager
    def _rule(self, rule: _Rule) -> Iterator[None]:
        with self._lock:
            self._rules.append(rule)
        try:
            yield
        finally:
            with self._lock:
                self._rules.remove(rule)

    def met_by(self, request: AwsRequest) -> AwsFault | Held | None:
        """What a request that has arrived meets; the first rule that fits acts."""
        with self._lock:
            self._requests.append(request)
            for rule in self._rules:
                if rule.fits(request):
                    rule.acted += 1
                    return rule.what
        return None


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind((HOST, 0))
        yield bound_but_deaf.getsockname()[1]


class _Server(AbruptServer):
    def __init__(self, aws: FaultyAws, tls: ssl.SSLContext) -> None:
        self.aws = aws
        super().__init__(0, _Handler, tls)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.request.do_handshake()
        super().setup()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = AwsRequest(self.headers.get("X-Amz-Target", ""), body.decode())
        match self.server.aws.met_by(request):
            case None:
                self._send(*self._passed_on(body))
            case Held() as held:
                self._hold(held, body)
            case AwsFault(kind="answer", status=status, code=code):
                error = json.dumps({"__type": code, "message": "as a test would have it"}).encode()
                self._send(status, [("Content-Type", "application/x-amz-json-1.0")], error)
            case AwsFault(kind=kind):
                if kind == "lose":
                    self._passed_on(body)
                self._reset()

    def _hold(self, held: Held, body: bytes) -> None:
        """Keeps the caller waiting without tiring its patience: spaces before the status are as good as any number."""
        answer = self._passed_on(body) if held.passes_on else None
        self.wfile.write(b"HTTP/1.1")
        held.arrive()
        while not held.released.wait(_SIGN_OF_LIFE_SECONDS):
            self.wfile.write(b" ")
        if self._caller_has_left():
            # What a killed function asked for is not done after its death.
            raise ConnectionAbortedError
        self._send(*(answer or self._passed_on(body)), begun=True)

    def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the emulator answers. The request is as it was signed, its Host included."""
        aws = self.server.aws
        connection = http.client.HTTPSConnection(aws.upstream, timeout=60, context=aws.trust)
        try:
            connection.putrequest("POST", self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        dropped = {"connection", "content-length", "transfer-encoding"}
        return response.status, [pair for pair in response.getheaders() if pair[0].lower() not in dropped], content

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, *, begun: bool = False) -> None:
        lines = [f"{'' if begun else 'HTTP/1.1'} {status} Told"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += [f"Content-Length: {len(body)}", "", ""]
        self.wfile.write("\r\n".join(lines).encode("latin-1") + body)

    def _caller_has_left(self) -> bool:
        # Nobody says more before an answer, so whatever comes is the end.
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0))

    def _reset(self) -> None:
        self.close_connection = True
        # Lingering for no time makes close() send RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: what arrived is in `requests`."""
