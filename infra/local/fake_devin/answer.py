"""An answer of the API, and its bytes on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Literal

# What ends a body: Content-Length, by the last chunk, or by closing the connection.
type Framing = Literal["length", "chunked", "close"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers and a body. `ended`: the call that it answers ended a session."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    ended: bool = False

    def head(self, framing: Framing, length: int) -> bytes:
        """Status line and headers, up to and with the empty line.

        The answer's own headers are sent as they are, line breaks included, and replace the usual ones of that name.
        """
        usual = {"Date": formatdate(usegmt=True)}
        # A 204 or a 304 has no body, so neither header: RFC 9110, 8.6.
        if self.status not in {204, 304}:
            usual |= {"length": {"Content-Length": str(length)}, "chunked": {"Transfer-Encoding": "chunked"}}.get(
                framing, {}
            )
        own = {name.lower() for name in self.headers}
        known = self.status in HTTPStatus.__members__.values()
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase if known else ''}"]
        lines += [f"{name}: {value}" for name, value in usual.items() if name.lower() not in own]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def encode(self, framing: Framing = "length") -> tuple[bytes, bytes]:
        """Head and body as they go over the wire."""
        body = b"" if self.status in {204, 304} else self.body
        head = self.head(framing, len(body))
        if framing == "chunked" and self.status not in {204, 304}:
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        return head, body


def json_answer(status: int, data: Any, *, content_type: str = "application/json", ended: bool = False) -> Answer:
    """An answer whose body is this data as JSON."""
    body = json.dumps(data, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": content_type}, ended)
