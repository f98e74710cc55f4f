"""A TCP server for tests of faults: connections end when and how a handler wants, and all of them with the server."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import sys
from typing import Any

HOST = "127.0.0.1"


class AbruptServer(socketserver.ThreadingTCPServer):
    """Listens on a loopback address, a thread for each connection; with `tls` the handler makes the handshake."""

    request_queue_size = 256
    # Handlers end when their connections are shut down, so that they can be waited for.
    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, port: int, handler: type[socketserver.BaseRequestHandler], tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._open: set[socket.socket] = set()
        super().__init__((HOST, port), handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            # The handshake is left to the handler's thread: here a caller who is silent would keep all others out.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        # The inherited one says goodbye first, with a FIN, and a reset would be none any more.
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        self._open.discard(request)
        request.close()

    def hang_up(self) -> None:
        """Ends all connections, whatever is being done with them."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                # Past the TLS layer, which another thread is using.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A caller who leaves, or is killed, is no error of ours.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
