"""A TCP server for tests of faults: connections end when and how a handler wants, and all of them with the server."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import sys
import threading
from typing import Any, Self

HOST = "127.0.0.1"


class AbruptServer(socketserver.ThreadingTCPServer):
    """Serves on a loopback address from `with` on, a thread for each connection, until the block is left.

    With `tls` the handler makes the handshake. `ending` is set when the block is left: handlers that wait wait for it.
    """

    request_queue_size = 256
    # Handlers end when their connections are shut down, so that they can be waited for.
    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, port: int, handler: type[socketserver.BaseRequestHandler], tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._open: set[socket.socket] = set()
        self.ending = threading.Event()
        super().__init__((HOST, port), handler)
        self.url = f"{'http' if tls is None else 'https'}://{HOST}:{self.server_address[1]}"

    def __enter__(self) -> Self:
        # How soon the loop sees that it is to end; connections are accepted at once all the same.
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.shutdown()
        self._thread.join()
        self.hang_up()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            # The handshake is left to the handler's thread: here a caller who is silent would keep all others out.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        # The inherited one sends a FIN first, and no reset could follow.
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
