"""A caller of the API with nothing between it and the bytes on the wire."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

V1_KEY = "apk_user_fake-0123456789"
V3_KEY = "cog_fake-0123456789"


class Caller:
    """One connection to an API; whatever it waits for comes within 5 seconds or raises TimeoutError."""

    def __init__(self, url: str, key: str | None = V1_KEY, tls: ssl.SSLContext | None = None) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self.key = key
        self.socket = socket.create_connection((address.hostname, address.port or 443), timeout=5)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address.hostname)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, method: str, target: str) -> None:
        """Sends a request and waits for nothing."""
        authorization = "" if self.key is None else f"Authorization: Bearer {self.key}\r\n"
        self.socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: api.devin.ai\r\n{authorization}\r\n".encode())

    def call(self, method: str, target: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of the answer, without decoding. Raises as http.client does."""
        self.send(method, target)
        with http.client.HTTPResponse(self.socket, method=method) as response:
            response.begin()
            return response.status, response.headers, response.read()

    def json(self, method: str, target: str) -> Any:
        """The body of an answer that has to be a 200."""
        status, _, body = self.call(method, target)
        assert status == 200, body
        return json.loads(body)

    def status(self, method: str, target: str) -> int:
        """The answer's status."""
        return self.call(method, target)[0]

    def received(self, size: int) -> bytes:
        """The next bytes, so many or all up to the end of the connection. Raises OSError as sockets do."""
        received = b""
        while len(received) < size and (piece := self.socket.recv(size - len(received))):
            received += piece
        return received
