"""A server that answers with scripted bytes."""

import socketserver
import ssl
from collections.abc import Callable, Iterable

from devin.http import Transport
from infra.local.faulty_server import AbruptServer


class RawServer(AbruptServer):
    """Gives these answers, one after the other, the last one again and again.

    An answer is bytes, or pieces that may never end. `keep_alive`: whether another request may follow on a connection.
    """

    def __init__(
        self,
        *answers: bytes | Callable[[], Iterable[bytes]],
        keep_alive: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answers = list(answers)
        self.keep_alive = keep_alive
        self.heads: list[str] = []
        super().__init__(0, _RawHandler, tls)
        self.transport = Transport(self.url)


class _RawHandler(socketserver.StreamRequestHandler):
    server: RawServer

    def handle(self) -> None:
        while head := self._head():
            self.server.heads.append(head)
            answer = self.server.answers[min(len(self.server.heads), len(self.server.answers)) - 1]
            for piece in [answer] if isinstance(answer, bytes) else answer():
                self.request.sendall(piece)
            if not self.server.keep_alive:
                break

    def _head(self) -> str:
        """The next request's head; empty once the client has gone."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return ""
            head += line
        return head.decode("latin-1")
