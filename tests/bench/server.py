"""The Devin API and AWS for the benchmark. The first segment of an API path is the status of every answer."""

import json
import ssl
from http.server import BaseHTTPRequestHandler
from typing import Any

from infra.local.certificate import Certificate
from infra.local.faulty_server import AbruptServer

_BODIES = {
    200: b'{"detail":"Session terminated successfully"}',
    422: b'{"detail":[{"loc":["path","session_id"],"msg":"session has exited","type":"value_error"}]}',
}
_SENT = {"MessageId": "1", "MD5OfMessageBody": "0" * 32}


def _aws(operation: str, request: dict[str, Any]) -> dict[str, Any]:
    match operation:
        case "GetSecretValue":
            return {"ARN": "secret", "Name": "key", "VersionId": "1", "SecretString": "apk_bench-0123456789"}
        case "GetParameter":
            return {"Parameter": {"Name": request["Name"], "Type": "String", "Value": "go", "Version": 1}}
        case "SendMessage":
            return _SENT
        case "SendMessageBatch":
            return {"Successful": [{"Id": entry["Id"], **_SENT} for entry in request["Entries"]], "Failed": []}
        case _:
            raise ValueError(f"no handler needs {operation}")


class Server(AbruptServer):
    """With a certificate it speaks TLS. `calls`: paths of the API; `connections`: the service that each was for."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        tls = None
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate.chain, certificate.key)
        self.calls: list[str] = []
        self.connections: list[str] = []
        super().__init__(0, _Handler, tls)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    known = False

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()

    def do_POST(self) -> None:
        service, _, operation = self.headers["X-Amz-Target"].rpartition(".")
        self._connected(service)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(200, json.dumps(_aws(operation, request)).encode())

    def do_DELETE(self) -> None:
        self._connected("api")
        self.server.calls.append(self.path)
        status = int(self.path.split("/")[1])
        self._answer(status, _BODIES[status])

    def _connected(self, service: str) -> None:
        if not self.known:
            self.known = True
            self.server.connections.append(service)

    def _answer(self, status: int, body: bytes) -> None:
        # By hand: `send_response` adds headers that every client would have to read.
        head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""
