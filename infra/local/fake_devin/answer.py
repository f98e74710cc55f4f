"""An answer of the API, and its bytes on the wire."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
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
        """Status line and headers, up to and with the empty line. Headers go out as they are, line breaks included."""
        usual = {"length": {"Content-Length": str(length)}, "chunked": {"Transfer-Encoding": "chunked"}, "close": {}}
        headers = {"Date": formatdate(usegmt=True), **usual[framing], **self.headers}
        lines = [f"HTTP/1.1 {self.status} ", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace")

    def encode(self, framing: Framing = "length") -> tuple[bytes, bytes]:
        """Head and body as they go over the wire."""
        # A 304 has no body: RFC 9110, 15.4.5.
        body = b"" if self.status == 304 else self.body
        head = self.head(framing, len(body))
        if framing == "chunked":
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        return head, body


def json_answer(status: int, data: Any, *, content_type: str = "application/json", ended: bool = False) -> Answer:
    """An answer whose body is this data as JSON."""
    body = json.dumps(data, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": content_type}, ended)
