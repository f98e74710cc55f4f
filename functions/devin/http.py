"""HTTP to one host, made safe: every call ends in bounded time and memory, and the key goes nowhere else."""

from __future__ import annotations

import errno
import http.client
import io
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.util.wait import wait_for_read

import tls
from devin.dns import NameServerError, look_up

_CONNECT_SECONDS = 3.0
# A kept connection may have died without a word, behind a NAT gateway for instance. One that was idle for longer than
# load balancers usually keep one is not used again, and data that is not acknowledged for so long breaks it.
_MAX_IDLE_SECONDS = 50.0
_UNACKNOWLEDGED_MILLISECONDS = 3000
_SOCKET_OPTIONS = [(socket.TCP_NODELAY, 1)]
if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it, macOS does not
    _SOCKET_OPTIONS.append((socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MILLISECONDS))
# What is read of a body beyond what is kept, so that a merely large answer is still a whole one.
_DRAIN_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_MOST_HEADERS, _LONGEST_LINE = 100, 65536
# Without sessions, nobody else says `Connection`; some servers of HTTP/1.0 keep a connection only if asked to.
_HEADERS = {
    "User-Agent": "devin-session-cleanup",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "keep-alive",
}


class TransportError(Exception):
    """No whole response arrived; the message names the kind of failure and holds nothing of the request."""


class _EndlessBodyError(OSError):
    """The body went on past _DRAIN_BYTES."""


class _ConnectTimeoutError(TimeoutError):
    """No address of the host took the connection in time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole response; `body` is cut at the bound the caller gave, and empty if it is `unreadable`: far too large,
    or not in the encoding it claims. `repeated`: the request was sent twice, and may have been carried out the first
    time."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    repeated: bool = False
    unreadable: bool = False


class Transport:
    """Calls one base address, each thread over a kept-alive connection of its own.

    The threads share one TLS context, the costly part of a new connection. No session of requests: what it adds are
    proxies, .netrc, cookies, redirects and a CA bundle from the environment, and none of them is wanted.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._tls = tls.devin_context() if base_url.startswith("https:") else None
        self._mine = threading.local()

    def request(
        self, method: str, path: str, *, key: str, params: Mapping[str, str] | None, seconds: float, keep_bytes: int
    ) -> Reply:
        """Send one request and read its whole response within `seconds`, keeping `keep_bytes` of the body.

        A connection that went stale while it was kept alive is replaced at once and the request sent again, once:
        terminate and get are safe to repeat. Nothing else is repeated, redirects are not followed, Retry-After is not
        slept on. Raises TransportError if no whole response arrived.
        """
        give_up = time.monotonic() + seconds
        request = _prepared(method, self._base_url + path, params, key)
        repeated = False
        adapter = self._adapter()
        while True:
            try:
                with adapter.send(request, timeout=max(give_up - time.monotonic(), 0.001)) as response:
                    body = _read(response.raw, keep_bytes)
                    return Reply(response.status_code, response.headers, body or b"", repeated, body is None)
            except (http.client.HTTPException, OSError) as error:
                if repeated or not adapter.reused or not _is_stale(error):
                    raise TransportError(_describe(error)) from None
                repeated = True

    def _adapter(self) -> _Adapter:
        adapter: _Adapter | None = getattr(self._mine, "adapter", None)
        if adapter is None:
            adapter = self._mine.adapter = _Adapter(self._base_url, self._tls)
        return adapter


def _prepared(method: str, url: str, params: Mapping[str, str] | None, key: str) -> requests.PreparedRequest:
    """What `prepare` would make of it. That takes longer than all else requests does here, because it checks for
    what cannot occur here: address, id and key were matched against allow-lists, and there is no body."""
    request = requests.PreparedRequest()
    request.method = method
    request.url = f"{url}?{urlencode(params)}" if params else url
    length = {} if method == "GET" else {"Content-Length": "0"}
    request.headers = CaseInsensitiveDict({**_HEADERS, **length, "Authorization": f"Bearer {key}"})
    return request


def _read(raw: Any, keep_bytes: int) -> bytes | None:
    """The first keep_bytes of the body, None if it is unreadable; reads on to its end, or raises if that is farther
    than _DRAIN_BYTES."""
    kept, seen = bytearray(), 0
    if (raw.length_remaining or 0) > _DRAIN_BYTES:
        # Its size says that it is whole; it is not worth reading. Closing drops the connection.
        return None
    while chunk := raw.read(_CHUNK_BYTES):
        kept += chunk[: max(keep_bytes - len(kept), 0)]
        seen += len(chunk)
        if seen > _DRAIN_BYTES:
            raise _EndlessBodyError
    if raw.length_remaining:
        raise http.client.IncompleteRead(b"")
    if raw.headers.get("Content-Encoding", "identity").lower() in {"gzip", "deflate"}:
        try:
            # Not asked for, but some proxies compress all the same. Bounded: a kilobyte may unpack to a gigabyte.
            return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(bytes(kept), keep_bytes)
        except zlib.error:
            return None
    return bytes(kept)


def _is_stale(error: BaseException) -> bool:
    """Closed, reset or dead before a byte of the response: what a call sees over a connection that is stale."""
    return isinstance(error, (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)) or (
        isinstance(error, OSError) and error.errno == errno.ETIMEDOUT
    )


def _describe(error: BaseException) -> str:
    """The kind of failure in words. Not str(error): that may quote what the other side sent."""
    kinds: list[tuple[type[BaseException], str]] = [  # a class before those that it is derived from
        (_EndlessBodyError, "the response does not end"),
        (NameServerError, "the name server gives no answer"),
        (socket.gaierror, "host name not found"),
        (ConnectionRefusedError, "connection refused"),
        (ssl.SSLError, "TLS failure"),
        (_ConnectTimeoutError, "no connection in time"),
        (TimeoutError, "no whole response in time"),
        (ConnectionError, "connection closed by the API"),
        (http.client.HTTPException, "response cut short or garbled"),
    ]
    unknown = f"no usable response ({type(error).__name__})"
    return next((words for kind, words in kinds if isinstance(error, kind)), unknown)


class _Adapter(BaseAdapter):
    """requests over one connection to one host. What its own adapter and urllib3 find out for each call, the proxy, the
    pool, cookies, retries, is known here, and is most of what a call costs them.

    `sock` is the connection, None before the first call and after it was closed; `reused` tells whether the last call
    used one that was kept alive.
    """

    def __init__(self, base_url: str, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._url = urlsplit(base_url)
        self._tls = tls
        self.sock: socket.socket | None = None
        self.reused = False
        self._used_at = 0.0

    def send(self, request: requests.PreparedRequest, *_: Any, timeout: Any = None, **__: Any) -> requests.Response:
        """Send it and read the head of the response; the body is to be read from `raw`, and the response closed."""
        give_up = time.monotonic() + timeout
        # By the clock of the day: a monotonic one may stand still while Lambda freezes the environment.
        idle, self._used_at = time.time() - self._used_at, time.time()
        if self.sock is not None and (not 0 <= idle <= _MAX_IDLE_SECONDS or wait_for_read(self.sock, timeout=0)):
            self.close()  # it may be dead, the API has closed it, or there is data that belongs to no request
        self.reused = self.sock is not None
        sock = self.sock or self._connect(min(_CONNECT_SECONDS, timeout))
        sock.settimeout(max(give_up - time.monotonic(), 0.001))
        lines = [f"{request.method} {request.path_url} HTTP/1.1", f"Host: {self._url.netloc}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        raw = _Response(self, sock, request.method)
        try:
            sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
            raw.begin()
        except BaseException:
            raw.close()
            raise
        return self.build_response(request, raw)

    def build_response(self, request: requests.PreparedRequest, raw: Any) -> requests.Response:
        """Without what requests' own adapter adds: cookies, an encoding."""
        response = requests.Response()
        response.status_code = raw.status
        response.headers = raw.headers
        response.raw = raw
        response.request = request
        return response

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def __del__(self) -> None:
        # When the thread ends whose adapter this is.
        self.close()

    def _connect(self, seconds: float) -> socket.socket:
        host, port = self._url.hostname or "", self._url.port or (80 if self._tls is None else 443)
        sock = _connected(host, port, seconds)
        self.sock = sock if self._tls is None else self._tls.wrap_socket(sock, server_hostname=host)
        return self.sock


class _WholeResponseInTime(io.RawIOBase):
    """A socket's stream in which all reads together, not each of them, are bound by the socket's timeout."""

    def __init__(self, stream: io.RawIOBase, sock: socket.socket) -> None:
        super().__init__()
        self._stream = stream
        self._sock = sock
        self._begun = False
        self._give_up = time.monotonic() + (sock.gettimeout() or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._give_up - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        try:
            count = self._stream.readinto(buffer)
        except ConnectionResetError:
            if self._begun:
                # The call arrived: this is no stale connection, and must not look like one.
                raise ConnectionAbortedError("reset in mid-response") from None
            raise
        self._begun = True
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class _WholeLines(io.BufferedReader):
    """Takes the end of the stream for the end of a line only where a response may end: http.client would take a head
    that was cut off for a whole one."""

    _begun = False

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        full = line.endswith(b"\n") or (size is not None and 0 <= size <= len(line))
        if not full and (line or self._begun):
            raise http.client.IncompleteRead(line)
        self._begun = True
        return line


class _Response(http.client.HTTPResponse):
    """Without the email package's parser of headers, which takes as long as all else. `close` keeps the connection if
    another response can follow this one."""

    headers: CaseInsensitiveDict[str]  # type: ignore[assignment]

    def __init__(self, adapter: _Adapter, sock: socket.socket, method: str | None) -> None:
        super().__init__(sock, method=method)
        self._adapter = adapter
        # A server that drips a byte a second never trips a per-read timeout.
        self.fp = _WholeLines(_WholeResponseInTime(self.fp.detach(), sock))

    @property
    def length_remaining(self) -> int | None:
        return self.length

    def close(self) -> None:
        whole = self.isclosed()
        super().close()
        if not whole or self.will_close:
            self._adapter.close()

    def begin(self) -> None:
        version, self.status, self.reason = self._read_status()
        if not version.startswith("HTTP/1."):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if version == "HTTP/1.0" else 11
        self.headers = self.msg = _headers(self.fp)  # type: ignore[assignment]
        self.chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.chunk_left = None
        self.will_close = self._check_close()  # type: ignore[attr-defined]
        size = self.headers.get("Content-Length", "")
        self.length = int(size) if re.fullmatch("[0-9]{1,18}", size) and not self.chunked else None
        if self.status in {204, 304}:
            self.length = 0
        if not self.will_close and not self.chunked and self.length is None:
            self.will_close = True

    def _read_status(self) -> tuple[str, int, str]:
        # http.client knows 100 alone and takes any other interim answer for the answer: the real one would then be read
        # as that to the next call, for another session.
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == 101:
                raise http.client.BadStatusLine("a protocol that was not asked for")
            if not 100 <= status < 200:
                return version, status, reason
            _headers(self.fp)

    def _read_next_chunk_size(self) -> int:
        # http.client would take a negative size for "all there is", without a bound.
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise http.client.IncompleteRead(b"")
        return size


def _headers(lines: Any) -> CaseInsensitiveDict[str]:
    """Read the head up to its empty line. Raises HTTPException if it is longer than http.client would take."""
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    for _ in range(_MOST_HEADERS):
        line = lines.readline(_LONGEST_LINE + 1)
        if len(line) > _LONGEST_LINE:
            raise http.client.LineTooLong("header line")
        if line in {b"\r\n", b"\n", b""}:
            return headers
        name, _, value = (part.strip() for part in line.decode("latin-1").partition(":"))
        # Others count only where they contradict: a response with two sizes may hide another one.
        if headers.setdefault(name, value) != value and name.lower() == "content-length":
            raise http.client.HTTPException("two sizes")
    raise http.client.HTTPException("too many headers")


def _connected(host: str, port: int, seconds: float) -> socket.socket:
    """A socket connected within so many seconds, the lookup of the host's name included, however many addresses it
    has."""
    give_up = time.monotonic() + seconds
    addresses = look_up(host, port, seconds)
    failure: OSError = TimeoutError()
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left = give_up - time.monotonic()
        if left <= 0:
            break
        sock = None
        try:
            # Fails if the machine has no such protocol, as one without IPv6.
            sock = socket.socket(family, kind, protocol)
            for option, value in _SOCKET_OPTIONS:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            # Those that come after it get their share.
            sock.settimeout(left / (len(addresses) - number))
            sock.connect(address)
            sock.settimeout(left)
            return sock
        except OSError as error:
            if sock is not None:
                sock.close()
            failure = error
    raise _ConnectTimeoutError if isinstance(failure, TimeoutError) else failure
