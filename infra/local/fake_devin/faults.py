"""Faults: what can go wrong with an answer, and the script that says with which."""

from __future__ import annotations

import json
import random
import threading
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, get_args

from infra.local.fake_devin.answer import Answer, Framing
from infra.local.fake_devin.operations import Operation, Request

# pass    the API's own answer (after `delay`)
# answer  the scripted answer
# hang    nothing, until the caller gives up, or `seconds` have passed and the connection is closed
# drip    an answer, a byte every `interval` seconds: from the first byte on, or its body alone
# endless an answer whose head or body never ends
# reset   an answer cut off by a TCP reset: before its first byte, in the middle of the head, or of the body
# close   the same by closing the connection
type Kind = Literal["pass", "answer", "hang", "drip", "endless", "reset", "close"]
type Part = Literal["start", "head", "body"]
_PARTS: dict[str, tuple[Part, ...]] = {
    **dict.fromkeys(("pass", "answer", "hang"), ()),
    **dict.fromkeys(("drip", "endless"), ("head", "body")),
    **dict.fromkeys(("reset", "close"), ("start", "head", "body")),
}

# Stands, in a fault that echoes, for the value of the request's Authorization header.
AUTHORIZATION = "{authorization}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to go wrong, by `kind`.

    status, reason, headers, body: the answer; without a status it is the API's own. Headers go out as they are, line
    breaks included. Text bodies are sent as UTF-8. echo: `{authorization}` in headers and body is replaced by the
    request's Authorization header, as a hostile or careless API might.
    effect: the call is carried out although it goes wrong (a session ends, the news is lost). Where any of the API's
    own answer is sent, the call is carried out in any case.
    delay: seconds before it begins. part: where it begins; `start` is before the first byte. framing: what
    ends the body, `chunked` for an endless one and `length` for others unless said.
    Raises ValueError if these do not make sense together.
    """

    kind: Kind = "answer"
    status: int | None = None
    reason: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str = b""
    echo: bool = False
    effect: bool = False
    delay: float = 0.0
    part: Part | None = None
    framing: Framing | None = None
    interval: float = 1.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _PARTS:
            raise ValueError(f"there is no fault {self.kind!r}")
        if self.part not in {None, *_PARTS[self.kind]}:
            raise ValueError(f"{self.kind} cannot begin at {self.part!r}")
        if self.kind in {"answer", "pass", "hang"} and (self.kind == "answer") != (self.status is not None):
            raise ValueError(f"{self.kind} {'needs a' if self.kind == 'answer' else 'takes no'} status")

    @property
    def begins(self) -> Part:
        """`part`, or what goes without saying: an answer is cut off before its first byte, and dripped in its body."""
        return self.part or ("start" if self.kind in {"reset", "close"} else "body")

    @property
    def sends(self) -> bool:
        """Whether any byte is answered."""
        return self.kind != "hang" and self.begins != "start"

    @property
    def carries_out(self) -> bool:
        """Whether the API does what it was asked to."""
        return self.effect or (self.sends and self.status is None)

    def answer(self, authorization: str) -> Answer | None:
        """The scripted answer, or None where it is the API's own."""
        if self.status is None:
            return None
        body = self.body.encode("utf-8", "surrogatepass") if isinstance(self.body, str) else self.body
        headers = dict(self.headers)
        if self.echo:
            body = body.replace(AUTHORIZATION.encode(), authorization.encode("latin-1", "replace"))
            headers = {name: value.replace(AUTHORIZATION, authorization) for name, value in headers.items()}
        return Answer(self.status, body, headers, self.reason)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        """Raises ValueError or TypeError for anything that makes no fault."""
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a fault acts: on calls that fit all that is said here.

    session_id: as in the path. method: in capitals. operation: see Operation.
    reused: whether the connection has carried a request before. times: how often it acts, None for no end.
    probability, seed: whether it acts on a call is drawn from the seed, the method, the session id and how many such
    calls went before, so that the same seed does the same to every session in whatever order calls arrive.
    Raises ValueError for what is none of these.
    """

    fault: Fault
    session_id: str | None = None
    method: str | None = None
    operation: Operation | None = None
    reused: bool | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.operation is not None and self.operation not in get_args(Operation.__value__):
            raise ValueError(f"there is no operation {self.operation!r}")
        if self.times is not None and self.times < 1:
            raise ValueError("times is a whole number from 1 on")
        if not 0 <= self.probability <= 1:
            raise ValueError("a probability is between 0 and 1")

    def fits(self, request: Request, *, reused: bool) -> bool:
        """Whether the rule is about such a call."""
        return (
            self.session_id in {None, request.session_id}
            and self.method in {None, request.method}
            and self.operation in {None, request.operation}
            and self.reused in {None, reused}
        )


@dataclass(slots=True)
class _Scripted:
    """A rule, how often it acted, and what it has seen."""

    rule: Rule
    acted: int = 0
    seen: Counter[tuple[str, str | None]] = field(default_factory=Counter)

    def draw(self, request: Request) -> bool:
        """Whether chance has the rule act on this call."""
        if self.rule.probability >= 1:
            return True
        call = (request.method, request.session_id)
        self.seen[call] += 1
        draw = random.Random(f"{self.rule.seed}/{call[0]}/{call[1]}/{self.seen[call]}")  # noqa: S311 - not a secret
        return draw.random() < self.rule.probability


class Script:
    """The rules, in the order in which they were added; the first that fits and is not used up acts on a call.

    Safe to share between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripted: list[_Scripted] = []

    def add(self, rule: Rule) -> None:
        """Adds a rule after the others."""
        with self._lock:
            self._scripted.append(_Scripted(rule))

    def clear(self) -> None:
        """Forgets all rules."""
        with self._lock:
            self._scripted.clear()

    def fault_for(self, request: Request, *, reused: bool) -> Fault | None:
        """The fault that acts on this call, which counts as acted; None if all goes well."""
        with self._lock:
            for one in self._scripted:
                if one.rule.fits(request, reused=reused) and one.acted != one.rule.times and one.draw(request):
                    one.acted += 1
                    return one.rule.fault
        return None


def too_many_requests(retry_after: str | None = None) -> Fault:
    """429, with a Retry-After of any text."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return _json_fault(429, {"detail": "Too Many Requests"}, headers)


def html_error(status: int = 500) -> Fault:
    """What a proxy in front of an API answers: a page of HTML."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status} Server Error</h1></body></html>\n"
    return Fault(status=status, headers={"Content-Type": "text/html; charset=utf-8"}, body=page)


def redirect(location: str, status: int = 302) -> Fault:
    """A redirect, without a body."""
    return Fault(status=status, headers={"Location": location})


def address_not_allowed() -> Fault:
    """What an enterprise's IP access list answers to other addresses, whatever the key. Its body is not known."""
    return _json_fault(401, {"detail": "Unauthorized"}, {})


def echoing(status: int) -> Fault:
    """An answer that repeats the request's Authorization header, in a header and in its detail."""
    fault = _json_fault(status, {"detail": f"you sent {AUTHORIZATION}"}, {"X-Request-Authorization": AUTHORIZATION})
    return Fault(status=status, headers=fault.headers, body=fault.body, echo=True)


def huge(size: int, status: int = 200) -> Fault:
    """An answer of valid JSON, `size` bytes long (14 at least)."""
    return Fault(
        status=status, headers={"Content-Type": "application/json"}, body=b'{"detail": "%s"}' % (b"x" * (size - 14))
    )


def gzip_bomb(size: int, status: int = 200) -> Fault:
    """An answer of about a thousandth of `size` bytes that unpacks to so many."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Fault(status=status, headers=headers, body=_zeros_packed(size))


def hostile_detail(status: int = 422) -> Fault:
    """A detail with line breaks, terminal escapes, a forged log line and text that runs backwards."""
    detail = 'no\r\n{"level":"INFO","message":"terminated"}\n\x1b[2J\x1b[31mred\x00\u2028\u202egnp.exe'
    return _json_fault(status, {"detail": detail}, {})


def _json_fault(status: int, data: Any, headers: Mapping[str, str]) -> Fault:
    return Fault(status=status, headers={"Content-Type": "application/json", **headers}, body=json.dumps(data))


@lru_cache(maxsize=2)
def _zeros_packed(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    block = bytes(1 << 20)
    packed = [packer.compress(block[: min(len(block), size - done)]) for done in range(0, size, len(block))]
    return b"".join([*packed, packer.flush()])
