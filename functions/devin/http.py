"""HTTP to one host, made safe: every call ends in bounded time and memory, and the key goes nowhere else."""

import errno
import http.client
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

import certifi
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
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) +([1-9][0-9]{2})(?: .*)?\s*")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}(?=[\s;])")
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
    """One whole response; `body` is cut at the bound the caller gave. `repeated`: the request was sent twice, and may
    have been carried out the first time. `too_large`: its body was not read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    repeated: bool = False
    too_large: bool = False


class _Incoming(io.RawIOBase):
    """What a socket receives until a point in time: a server that drips a byte a second never trips a timeout of each
    read."""

    def __init__(self, sock: socket.socket, give_up: float) -> None:
        super().__init__()
        self._sock = sock
        self._give_up = give_up

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._give_up - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


class _Raw(io.BytesIO):
    """The body of a response, as far as it is kept."""

    status: int
    headers: CaseInsensitiveDict[str]
    too_large = False


class _Adapter(BaseAdapter):
    """requests over one connection to one host. What its own adapter, urllib3 and http.client find out for each call,
    the proxy, the pool, cookies, retries, headers of e-mail, is known here, and is most of what a call costs them.

    `sock` is the connection, None before the first call and after it was closed; `may_be_stale` tells whether the last
    call used one that was kept alive and got no byte of a response.
    """

    def __init__(self, base_url: str, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._url = urlsplit(base_url)
        self._tls = tls
        self.sock: socket.socket | None = None
        self.may_be_stale = False
        self._used_at = 0.0

    def send(
        self, request: requests.PreparedRequest, *_: Any, timeout: Any = None, keep_bytes: int = 0, **__: Any
    ) -> requests.Response:
        """Send it and read the whole response within `timeout`, keeping `keep_bytes` of the body."""
        give_up = time.monotonic() + timeout
        # By the clock of the day: a monotonic one may stand still while Lambda freezes the environment.
        idle, self._used_at = time.time() - self._used_at, time.time()
        if self.sock is not None and (not 0 <= idle <= _MAX_IDLE_SECONDS or wait_for_read(self.sock, timeout=0)):
            self.close()  # it may be dead, the API has closed it, or there is data that belongs to no request
        self.may_be_stale = self.sock is not None
        lines = [f"{request.method} {request.path_url} HTTP/1.1", f"Host: {self._url.netloc}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        try:
            sock = self.sock or self._connect(min(_CONNECT_SECONDS, timeout))
            sock.settimeout(max(give_up - time.monotonic(), 0.001))
            sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
            incoming = io.BufferedReader(_Incoming(sock, give_up))
            self.may_be_stale = self.may_be_stale and not incoming.peek(1)
            raw, is_last = _response(incoming, keep_bytes)
        except BaseException:
            self.close()
            raise
        # More than was asked for belongs to no request; what TLS has unpacked, `wait_for_read` does not see.
        if is_last or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            self.close()
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


class Transport:
    """Calls one base address, each thread over a kept-alive connection of its own.

    The threads share one TLS context, the costly part of a new connection. No session of requests: what it adds are
    proxies, .netrc, cookies, redirects and a CA bundle from the environment, and none of them is wanted.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        # certifi's bundle, whatever the environment says about AWS.
        self._tls = tls.context(certifi.where()) if base_url.startswith("https:") else None
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
        # Not by `prepare`, which takes longer than all else requests does here: it checks for what cannot occur here.
        # Address, id and key were matched against allow-lists, and there is no body.
        request = requests.PreparedRequest()
        request.method = method
        request.url = self._base_url + path + (f"?{urlencode(params)}" if params else "")
        length = {} if method == "GET" else {"Content-Length": "0"}
        request.headers = CaseInsensitiveDict({**_HEADERS, **length, "Authorization": f"Bearer {key}"})
        if not hasattr(self._mine, "adapter"):
            self._mine.adapter = _Adapter(self._base_url, self._tls)
        adapter: _Adapter = self._mine.adapter
        repeated = False
        while True:
            try:
                timeout = max(give_up - time.monotonic(), 0.001)
                response = adapter.send(request, timeout=timeout, keep_bytes=keep_bytes)
                too_large = isinstance(response.raw, _Raw) and response.raw.too_large
                body = response.raw.read(keep_bytes)
                return Reply(response.status_code, response.headers, body, repeated, too_large)
            except (http.client.HTTPException, OSError) as error:
                if repeated or not adapter.may_be_stale or not _is_stale(error):
                    raise TransportError(_describe(error)) from None
                repeated = True


def _is_stale(error: BaseException) -> bool:
    """Whether the connection was closed, reset or dead. A call that got no answer in time may have arrived."""
    return not isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT


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


def _response(incoming: BinaryIO, keep_bytes: int) -> tuple[_Raw, bool]:
    """Read a whole response; also whether it is the last one over its connection."""
    while True:
        line = _STATUS_LINE.fullmatch(_line(incoming))
        if line is None or line[2] == b"101":
            raise http.client.BadStatusLine("")
        headers = _headers(incoming)
        # An interim response: the real one would else be read as that to the next call, for another session.
        if (status := int(line[2])) >= 200:
            break
    said = headers.get("Connection", "").lower()
    is_last = "close" in said if line[1] == b"1" else "keep-alive" not in said
    size, too_large = headers.get("Content-Length", ""), False
    if status in {204, 304}:
        pieces = _exactly(incoming, 0)
    elif headers.get("Transfer-Encoding", "").lower() == "chunked":
        pieces = _chunks(incoming)
    elif re.fullmatch("[0-9]{1,18}", size):
        # A size beyond the bound says all that is to be known.
        too_large = int(size) > _DRAIN_BYTES
        pieces, is_last = _exactly(incoming, 0 if too_large else int(size)), is_last or too_large
    else:
        pieces, is_last = iter(partial(incoming.read, _CHUNK_BYTES), b""), True
    kept, seen = bytearray(), 0
    for piece in pieces:
        kept += piece[: max(keep_bytes - len(kept), 0)]
        seen += len(piece)
        if seen > _DRAIN_BYTES:
            raise _EndlessBodyError
    raw = _Raw(kept)
    raw.status, raw.headers, raw.too_large = status, headers, too_large
    return raw, is_last


def _line(incoming: BinaryIO) -> bytes:
    line = incoming.readline(_LONGEST_LINE)
    if not line:
        raise ConnectionAbortedError
    if not line.endswith(b"\n"):
        raise http.client.IncompleteRead(b"")
    return line


def _headers(incoming: BinaryIO) -> CaseInsensitiveDict[str]:
    """Read headers, or trailers, up to the empty line."""
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict()
    for _ in range(_MOST_HEADERS):
        line = _line(incoming)
        if line in {b"\r\n", b"\n"}:
            return headers
        name, _, value = (part.strip() for part in line.decode("latin-1").partition(":"))
        # Others count only where they contradict: a response with two sizes may hide another one.
        if headers.setdefault(name, value) != value and name.lower() == "content-length":
            raise http.client.HTTPException("two sizes")
    raise http.client.HTTPException("too many headers")


def _exactly(incoming: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0:
        piece = incoming.read(min(size, _CHUNK_BYTES))
        if not piece:
            raise http.client.IncompleteRead(b"")
        size -= len(piece)
        yield piece


def _chunks(incoming: BinaryIO) -> Iterator[bytes]:
    while size := _CHUNK_SIZE.match(_line(incoming)):
        if int(size[0], 16) == 0:
            _headers(incoming)
            return
        yield from _exactly(incoming, int(size[0], 16))
        if _line(incoming).strip():
            raise http.client.HTTPException("a chunk is longer than it says")
    raise http.client.HTTPException("no size of a chunk")


def _connected(host: str, port: int, seconds: float) -> socket.socket:
    """A socket connected within so many seconds, the lookup of the host's name included, however many addresses it
    has."""
    give_up = time.monotonic() + seconds
    addresses = look_up(host, port, seconds)
    failure: OSError = TimeoutError()
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left = max(give_up - time.monotonic(), 0.001)
        try:
            # Fails if the machine has no such protocol, as one without IPv6.
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            for option, value in _SOCKET_OPTIONS:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            # Those that come after it get their share.
            sock.settimeout(left / (len(addresses) - number))
            sock.connect(address)
            sock.settimeout(left)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise _ConnectTimeoutError if isinstance(failure, TimeoutError) else failure
