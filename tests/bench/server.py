"""The API and the AWS endpoint of the benchmark: one asyncio process that does as little as possible.

`python server.py [certificate key]` listens on loopback and prints its port. The first segment of a path says how the
API behaves, so that nothing has to be switched between two measurements:

    /fixed-100-0/…   every call takes 100 ms, none fails
    /tail-100-10/…   log-normal around 100 ms with a 99th percentile of 300 ms; 10 % fail, half with 500, half with 422
    /rate-100-50/…   every call takes 100 ms; 429 above 50 calls a second
    /list-10000/…    an organisation with so many sessions, in pages

What a call takes and whether it fails depends on its session id alone: every contender meets the same.
Only the standard library: it runs without an environment.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
import time
import zlib
from collections import Counter
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

SEED = 20260101
# ln 3 divided by the 99th percentile of the standard normal distribution: three times the median at the 99th.
SIGMA = 1.0986 / 2.3263
_DRAWS = 9973


@cache
def _factors() -> list[float]:
    draw = random.Random(SEED)
    return [draw.lognormvariate(0, SIGMA) for _ in range(_DRAWS)]


def number_of(session_id: str) -> int:
    """The number at the end of a benchmark's session id."""
    digits = session_id.rsplit("-", 1)[-1]
    return int(digits) if digits.isdigit() else zlib.crc32(session_id.encode())


def latency_of(kind: str, milliseconds: float, session_id: str) -> float:
    """Seconds that the API takes for a call about this session."""
    factor = _factors()[zlib.crc32(session_id.encode()) % _DRAWS] if kind == "tail" else 1.0
    return milliseconds * factor / 1000


def status_of(percent: int, session_id: str) -> int:
    """What the API answers: so many of a hundred sessions fail, by turns with 500 and 422."""
    number = number_of(session_id) % 100
    if not percent or number % (100 // percent):
        return 200
    return 500 if number % (200 // percent) else 422


class Bucket:
    """Lets so many calls a second pass, a tenth of a second's worth at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._most = max(rate / 10, 1.0)
        self._tokens, self._seen = self._most, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._tokens, self._seen = min(self._most, self._tokens + (now - self._seen) * self._rate), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


_BUCKETS: dict[str, Bucket] = {}
_COUNTS: Counter[str] = Counter()
_PHRASES = {200: "OK", 404: "Not Found", 422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Error"}


def _answer(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


_TERMINATED = _answer(200, b'{"detail":"Session terminated successfully"}')
_FAILED = {
    500: _answer(500, b'{"detail":"Internal Server Error"}'),
    422: _answer(422, b'{"detail":[{"loc":["path","session_id"],"msg":"session has exited","type":"value_error"}]}'),
    429: _answer(429, b'{"detail":"Too many requests"}', "Retry-After: 1\r\n"),
}


def _fields(number: int) -> dict[str, Any]:
    return {
        "session_id": f"devin-bench-{number:032d}",
        "title": f"Upgrade the dependencies of service {number}",
        "tags": ["nightly", f"team-{number % 17}"],
    }


@cache
def _page_of_v1(total: int, offset: int, limit: int) -> bytes:
    sessions = [
        _fields(number)
        | {
            "status": "Waiting for somebody",
            "status_enum": "blocked" if number % 2 else "working",
            "created_at": "2026-01-01T08:00:00.000000+00:00",
            "updated_at": "2026-01-02T08:00:00.000000+00:00",
            "snapshot_id": None,
            "playbook_id": None,
            "pull_request": {"url": f"https://github.com/example/service/pull/{number}"} if number % 3 else None,
            "requesting_user_email": f"person-{number % 40}@example.com",
        }
        for number in range(offset, min(offset + limit, total))
    ]
    return _answer(200, json.dumps({"sessions": sessions}).encode())


@cache
def _page_of_v3(total: int, start: int, first: int) -> bytes:
    end = min(start + first, total)
    items = [
        _fields(number)
        | {
            "org_id": "org-bench",
            "status": "running",
            "status_detail": "waiting_for_user" if number % 2 else "working",
            "created_at": 1767254400,
            "updated_at": 1767340800,
            "acus_consumed": 2.5,
            "url": f"https://app.devin.ai/sessions/{number}",
            "user_id": f"user-{number % 40}",
            "pull_requests": [],
        }
        for number in range(start, end)
    ]
    answer = {"items": items, "end_cursor": str(end), "has_next_page": end < total}
    return _answer(200, json.dumps(answer).encode())


def _page(total: int, path: str, query: str) -> bytes:
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    if path.startswith("/v1/"):
        return _page_of_v1(total, int(asked.get("offset", "0")), int(asked["limit"]))
    return _page_of_v3(total, int(asked.get("after", "0")), int(asked["first"]))


def _aws(operation: str, asked: dict[str, Any]) -> bytes:
    """What the functions and the peers ask of AWS, by the last part of the operation's name."""
    # The key chooses the version of the API.
    key = "cog_bench-0123456789" if asked.get("SecretId") == "key-of-v3" else "apk_bench-0123456789"
    answers: dict[str, dict[str, Any]] = {
        "GetSecretValue": {"ARN": "secret", "Name": "key", "VersionId": "1", "SecretString": key},
        "GetParameter": {"Parameter": {"Name": asked.get("Name"), "Type": "String", "Value": "go", "Version": 1}},
        "SendMessage": {"MessageId": "1", "MD5OfMessageBody": "0" * 32},
    }
    return _answer(200, json.dumps(answers.get(operation, {})).encode())


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1")
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
            whole = end + 4 + int(headers.get("content-length", "0"))
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            method, target, _ = head.split(" ", 2)
            self._handle(method, target, headers, body)

    def _handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        if method == "POST":
            # As it was written: the header's value was folded with the rest.
            folded = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
            operation = {name.lower(): name for name in _OPERATIONS}.get(folded, folded)
            _COUNTS[operation] += 1
            self._send(_aws(operation, json.loads(body or b"{}")))
            return
        url = urlsplit(target)
        _, behaviour, *rest = url.path.split("/", 2)
        path = "/" + "".join(rest)
        if behaviour == "counts":
            self._send(_answer(200, json.dumps(_COUNTS).encode()))
            _COUNTS.clear()
            return
        kind, *numbers = behaviour.split("-")
        _COUNTS[method] += 1
        if kind == "list":
            self._send(_page(int(numbers[0]), path, url.query))
            return
        session_id = path.rsplit("/", 1)[-1]
        status = self._status(behaviour, kind, int(numbers[1]), session_id)
        answer = _TERMINATED if status == 200 else _FAILED[status]
        seconds = 0.0 if status == 429 else latency_of(kind, float(numbers[0]), session_id)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._send, answer)
        else:
            self._send(answer)

    @staticmethod
    def _status(behaviour: str, kind: str, number: int, session_id: str) -> int:
        if kind != "rate":
            return status_of(number, session_id)
        bucket = _BUCKETS.setdefault(behaviour, Bucket(number))
        status = 200 if bucket.take() else 429
        _COUNTS[str(status)] += 1
        return status

    def _send(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


_OPERATIONS = ("GetSecretValue", "GetParameter", "SendMessage", "ChangeMessageVisibility", "PutEvents")


async def _serve(certificate: list[str]) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, ssl=context, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    # Ends with whoever started it: then its standard input ends.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
