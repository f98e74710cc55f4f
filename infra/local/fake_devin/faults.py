"""Faults: what can go wrong with an answer, and when."""

import gzip
import itertools
import json
import random
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from infra.local.fake_devin.answer import Answer, Framing
from infra.local.fake_devin.operations import Operation, Request

# pass    the API's own answer (after `delay`)
# answer  the scripted answer
# hang    nothing, until the caller gives up, or `seconds` have passed and the connection is closed
# drip    an answer, a byte every `interval` seconds: its body, or all of it if `part` is `head`
# endless an answer whose body never ends
# reset   a TCP reset instead of an answer, or in the middle of its body if `part` is `body`
# close   the same by closing the connection
type Kind = Literal["pass", "answer", "hang", "drip", "endless", "reset", "close"]

# Stands, in a scripted answer, for the value of the request's Authorization header.
AUTHORIZATION = "{authorization}"

_FILLER = b"x" * (16 * 1024)
# What an endless body with a Content-Length claims to be: a tebibyte.
_CLAIMED = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to go wrong, by `kind`.

    status, headers, body: the answer; without a status it is the API's own. Text bodies are sent as UTF-8.
    effect: the call is carried out although it goes wrong (a session ends, the news is lost). Where any of the API's
    own answer is sent, the call is carried out in any case.
    delay: seconds before it begins. framing: what ends the body, `chunked` for an endless one and `length` for others
    unless said.
    """

    kind: Kind = "answer"
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str = b""
    effect: bool = False
    delay: float = 0.0
    part: Literal["head", "body"] | None = None
    framing: Framing | None = None
    interval: float = 1.0
    seconds: float | None = None

    @property
    def sends(self) -> bool:
        """Whether any byte is answered."""
        return self.kind != "hang" and (self.kind not in {"reset", "close"} or self.part is not None)

    @property
    def carries_out(self) -> bool:
        """Whether the API does what it was asked to."""
        return self.effect or (self.sends and self.status is None)

    def answer(self, authorization: str) -> Answer | None:
        """The scripted answer, or None where it is the API's own."""
        if self.status is None:
            return None
        body = self.body.encode("utf-8", "surrogatepass") if isinstance(self.body, str) else self.body
        body = body.replace(AUTHORIZATION.encode(), authorization.encode("latin-1", "replace"))
        headers = {name: value.replace(AUTHORIZATION, authorization) for name, value in self.headers.items()}
        return Answer(self.status, body, headers)

    def play(self, connection: socket.socket, answer: Answer, ending: threading.Event) -> bool:
        """Send this answer as the fault would have it; return whether to keep the connection.

        It is over at the latest when the caller has gone (OSError), or soon after `ending` is set and the connection
        was shut down.
        """
        if self.kind == "hang":
            # Until the caller leaves (or sends more, which no client does before an answer), or the time is over.
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            poll.poll(None if self.seconds is None else self.seconds * 1000)
            return False
        for piece in self._pieces(answer):
            connection.sendall(piece)
            if ending.wait(self.interval if self.kind == "drip" else 0):
                return False
        if self.kind == "reset":
            # Lingering for no time makes close() send RST instead of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.kind not in {"reset", "close"} and self.framing != "close"

    def _pieces(self, answer: Answer) -> Iterator[bytes]:
        """What is sent, one after the other. Head and body apart could wait on a delayed acknowledgement."""
        head, body = answer.encode(self.framing or "length")
        if self.kind == "endless":
            framing = self.framing or "chunked"
            yield answer.head(framing, _CLAIMED)
            yield from itertools.repeat(b"%x\r\n%s\r\n" % (len(_FILLER), _FILLER) if framing == "chunked" else _FILLER)
        elif self.kind == "drip":
            if self.part != "head":
                yield head
            yield from (bytes([byte]) for byte in (head + body if self.part == "head" else body))
        elif self.kind in {"reset", "close"}:
            if self.sends:
                yield head + body[: len(body) // 2]
        else:
            yield head + body

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises TypeError for anything that makes no fault."""
        return cls(**data)


@dataclass(slots=True, kw_only=True)
class Rule:
    """When a fault acts: on calls that fit all that is said here.

    session_id: as in the path. method: in capitals. reused: whether the connection has carried a request before.
    times: how often it acts, None for no end.
    probability, seed: whether it acts on a call is drawn from the seed, the method, the session id and how many such
    calls went before, so that the same seed does the same to every session in whatever order calls arrive.
    """

    fault: Fault
    session_id: str | None = None
    method: str | None = None
    operation: Operation | None = None
    reused: bool | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    acted: int = field(default=0, init=False, compare=False)
    seen: Counter[tuple[str, str | None]] = field(default_factory=Counter, init=False, compare=False)

    def acts(self, request: Request, *, reused: bool) -> bool:
        """Whether it acts on this call, which then counts."""
        fits = (
            self.session_id in {None, request.session_id}
            and self.method in {None, request.method}
            and self.operation in {None, request.operation}
            and self.reused in {None, reused}
            and self.acted != self.times
            and self._drawn(request)
        )
        self.acted += fits
        return fits

    def _drawn(self, request: Request) -> bool:
        if self.probability >= 1:
            return True
        call = (request.method, request.session_id)
        self.seen[call] += 1
        draw = random.Random(f"{self.seed}/{call[0]}/{call[1]}/{self.seen[call]}")  # noqa: S311 - not a secret
        return draw.random() < self.probability


def too_many_requests(retry_after: str | None = None) -> Fault:
    """429, with a Retry-After of any text."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return json_fault(429, {"detail": "Too Many Requests"}, headers)


def html_error(status: int = 500) -> Fault:
    """What a proxy in front of an API answers: a page of HTML."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status} Server Error</h1></body></html>\n"
    return Fault(status=status, headers={"Content-Type": "text/html; charset=utf-8"}, body=page)


def redirect(location: str, status: int = 302) -> Fault:
    return Fault(status=status, headers={"Location": location})


def echoing(status: int) -> Fault:
    """An answer that repeats the request's Authorization header, in a header and in its detail."""
    return json_fault(status, {"detail": f"you sent {AUTHORIZATION}"}, {"X-Request-Authorization": AUTHORIZATION})


def huge(size: int) -> Fault:
    """A 200 of valid JSON, some `size` bytes long."""
    return json_fault(200, {"detail": "x" * size})


def gzip_bomb(size: int) -> Fault:
    """A 200 of about a thousandth of `size` bytes that unpacks to so many."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Fault(status=200, headers=headers, body=gzip.compress(bytes(size)))


def hostile_detail(status: int) -> Fault:
    """A detail with line breaks, terminal escapes, a forged log line and text that runs backwards."""
    detail = 'no\r\n{"level":"INFO","message":"terminated"}\n\x1b[2J\x1b[31mred\x00\u2028\u202egnp.exe'
    return json_fault(status, {"detail": detail})


def json_fault(status: int, data: Any, headers: Mapping[str, str] | None = None) -> Fault:
    return Fault(status=status, headers={"Content-Type": "application/json", **(headers or {})}, body=json.dumps(data))
