"""The Devin API and AWS for the benchmark: one asyncio process that does as little as possible.

`python server.py [chain key]` listens on loopback, over TLS if it has a certificate, and prints its port. The first
segment of an API path is the status of every answer: `/200/v1/sessions/...`. `/counts` returns and clears the counts
of calls, and of the connections made, by AWS service. Only the standard library: it runs without an environment.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter
from typing import Any

_COUNTS: Counter[str] = Counter()
_BODIES = {
    200: b'{"detail":"Session terminated successfully"}',
    422: b'{"detail":[{"loc":["path","session_id"],"msg":"session has exited","type":"value_error"}]}',
}
_LIVE = b'{"session_id":"devin-bench","status_enum":"working","updated_at":"2026-01-02T08:00:00+00:00"}'


def _aws(operation: str, request: dict[str, Any]) -> dict[str, Any]:
    match operation:
        case "GetSecretValue":
            return {"ARN": "secret", "Name": "key", "VersionId": "1", "SecretString": "apk_bench-0123456789"}
        case "GetParameter":
            return {"Parameter": {"Name": request["Name"], "Type": "String", "Value": "go", "Version": 1}}
        case "SendMessage":
            return {"MessageId": "1", "MD5OfMessageBody": "0" * 32}
        case "SendMessageBatch":
            sent = [{"Id": entry["Id"], "MessageId": "1", "MD5OfMessageBody": "0" * 32} for entry in request["Entries"]]
            return {"Successful": sent, "Failed": []}
        case "ChangeMessageVisibilityBatch":
            return {"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]], "Failed": []}
        case _:
            return {}


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._known = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._received[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            whole = end + 4 + int(headers.get("content-length", "0"))
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            method, target, _ = first.split(" ", 2)
            self._answer(method, target, headers, body)

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        if target == "/counts":
            self._send(200, json.dumps(_COUNTS).encode())
            _COUNTS.clear()
            return
        service, _, operation = headers.get("x-amz-target", "api.").rpartition(".")
        if not self._known:
            self._known = True
            _COUNTS[f"connections {service}"] += 1
        _COUNTS[operation or method] += 1
        if operation:
            self._send(200, json.dumps(_aws(operation, json.loads(body))).encode())
        elif method == "GET":
            self._send(200, _LIVE)
        else:
            status = int(target.split("/", 2)[1])
            self._send(status, _BODIES[status])

    def _send(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def _serve(certificate: list[str]) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    loop = asyncio.get_running_loop()
    # Clients under valgrind take seconds for a handshake.
    patience = 300.0 if context else None
    server = await loop.create_server(
        Connection, "127.0.0.1", 0, ssl=context, backlog=512, ssl_handshake_timeout=patience
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    # Ends with its parent: then its standard input ends.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
