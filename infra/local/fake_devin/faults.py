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

# Stands, in a scripted answer, for the value of the request's Authorization header.
AUTHORIZATION = "{authorization}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to go wrong, by `kind`. Raises ValueError for a combination that makes no sense.

    status, headers, body: the answer; without a status it is the API's own. Headers go out as they are, line breaks
    included. Text bodies are sent as UTF-8.
    effect: the call is carried out although it goes wrong (a session ends, the news is lost). Where any of the API's
    own answer is sent, the call is carried out in any case.
    delay: seconds before it begins. part: where it begins; `start` is before the first byte. framing: what
    ends the body, `chunked` for an endless one and `length` for others unless said.
    """

    kind: Kind = "answer"
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str = b""
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
        """`part`, or its default: an answer is cut off before its first byte, and dripped in its body."""
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
        body = body.replace(AUTHORIZATION.encode(), authorization.encode("latin-1", "replace"))
        headers = {name: value.replace(AUTHORIZATION, authorization) for name, value in self.headers.items()}
        return Answer(self.status, body, headers)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        """Raises ValueError or TypeError for anything that makes no fault."""
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a fault acts: on calls that fit all that is said here.

    session_id: as in the path. method: in capitals. operation: see Operation, ValueError for another.
    reused: whether the connection has carried a request before. times: how often it acts, None for no end.
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
    seen: Counter[tuple[str, str | None]] = field(default_factory=Counter, init=False, compare=False)

    def __post_init__(self) -> None:
        if self.operation is not None and self.operation not in get_args(Operation.__value__):
            raise ValueError(f"there is no operation {self.operation!r}")

    def fits(self, request: Request, *, reused: bool) -> bool:
        """Whether the rule is about such a call."""
        return (
            self.session_id in {None, request.session_id}
            and self.method in {None, request.method}
            and self.operation in {None, request.operation}
            and self.reused in {None, reused}
        )

    def draw(self, request: Request) -> bool:
        """Whether chance has the rule act on this call."""
        if self.probability >= 1:
            return True
        call = (request.method, request.session_id)
        self.seen[call] += 1
        draw = random.Random(f"{self.seed}/{call[0]}/{call[1]}/{self.seen[call]}")  # noqa: S311 - not a secret
        return draw.random() < self.probability


class Script:
    """The rules, in the order in which they were added; the first that fits and is not used up acts on a call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Each with how often it acted.
        self._rules: list[tuple[Rule, Counter[str]]] = []

    def add(self, rule: Rule) -> None:
        with self._lock:
            self._rules.append((rule, Counter()))

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def fault_for(self, request: Request, *, reused: bool) -> Fault | None:
        """The fault that acts on this call, which counts as acted; None if all goes well."""
        with self._lock:
            for rule, counts in self._rules:
                if rule.fits(request, reused=reused) and counts["acted"] != rule.times and rule.draw(request):
                    counts["acted"] += 1
                    return rule.fault
        return None


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


def huge(size: int, status: int = 200) -> Fault:
    """An answer of valid JSON, `size` bytes long (14 at least)."""
    return json_fault(status, {"detail": "x" * (size - 14)})


def gzip_bomb(size: int, status: int = 200) -> Fault:
    """An answer of about a thousandth of `size` bytes that unpacks to so many."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Fault(status=status, headers=headers, body=_zeros_packed(size))


def hostile_detail(status: int = 422) -> Fault:
    """A detail with line breaks, terminal escapes, a forged log line and text that runs backwards."""
    detail = 'no\r\n{"level":"INFO","message":"terminated"}\n\x1b[2J\x1b[31mred\x00\u2028\u202egnp.exe'
    return json_fault(status, {"detail": detail})


def json_fault(status: int, data: Any, headers: Mapping[str, str] | None = None) -> Fault:
    return Fault(status=status, headers={"Content-Type": "application/json", **(headers or {})}, body=json.dumps(data))


@lru_cache(maxsize=2)
def _zeros_packed(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    block = bytes(1 << 20)
    packed = [packer.compress(block[: min(len(block), size - done)]) for done in range(0, size, len(block))]
    return b"".join([*packed, packer.flush()])
