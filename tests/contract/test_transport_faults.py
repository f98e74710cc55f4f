"""Failures between the function and the API: a call ends in bounded time and memory, with a whole reply or with a
TransportError, and the key goes nowhere else."""

import errno
import gzip
import itertools
import socket
import ssl
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY, Mock
from urllib.parse import urlsplit

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devin import http
from devin.http import Reply, Transport, TransportError
from infra.local.fake_devin import FakeDevin, Fault, faults
from tests.contract.keys import V1_KEY
from tests.contract.raw_server import RawServer

PATH = "/v1/sessions/devin-a"
KEEP_BYTES = 100_000
# What a fault that would last for ever is cut short by. A machine may be so busy that not even the request is sent by
# then; where that would make a difference, a call is given PATIENT_SECONDS.
SHORT_SECONDS = 0.25
PATIENT_SECONDS = 1.0
# What no call may exceed, on however busy a machine.
BOUND_SECONDS = 10
ABOUT_BYTES = 48 * 1024 * 1024

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\n\r\n"


def call(transport: Transport, method: str = "DELETE", *, seconds: float = 5) -> Reply:
    """One call, which has to end before the bound in any case."""
    started = time.monotonic()
    try:
        return transport.request(method, PATH, key=V1_KEY, params=None, seconds=seconds, keep_bytes=KEEP_BYTES)
    finally:
        assert time.monotonic() - started < BOUND_SECONDS


def failure(transport: Transport, *, seconds: float = 5) -> str:
    """What is said of a call that has to fail."""
    with pytest.raises(TransportError) as raised:
        call(transport, seconds=seconds)
    return str(raised.value)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of an authority that is not trusted by default: its own certificate, and those it has signed."""
    ca = trustme.CA()
    past = datetime.now(UTC) - timedelta(days=1)
    pems = {
        "bundle": ca.cert_pem,
        "good": ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem,
        "expired": ca.issue_cert(
            "127.0.0.1", not_before=past - timedelta(days=9), not_after=past
        ).private_key_and_cert_chain_pem,
        "elsewhere": ca.issue_cert("api.devin.ai").private_key_and_cert_chain_pem,
    }
    directory = tmp_path_factory.mktemp("certificates")
    for name, pem in pems.items():
        pem.write_to_path(str(directory / name))
    return {name: directory / name for name in pems}


def trusting(url: str, authority: dict[str, Path]) -> Transport:
    """A transport that trusts this authority alone."""
    transport = Transport(url)
    # Its own context is shared by all transports of this process.
    transport._tls = ssl.create_default_context(cafile=authority["bundle"])
    return transport


@pytest.fixture
def api(api: FakeDevin) -> FakeDevin:
    """The stand-in of all contract tests, with one session."""
    api.add_sessions("devin-a")
    return api


@pytest.fixture
def transport(api: FakeDevin) -> Transport:
    return Transport(api.url)


@pytest.fixture
def unanswered() -> Iterator[str]:
    """Host and port that accept no connection: as many as may wait there are waiting already."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        for one in waiting:
            one.close()


# Connecting


def test_a_refused_connection() -> None:
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        assert failure(Transport(f"http://127.0.0.1:{bound_but_deaf.getsockname()[1]}")) == "connection refused"


def resolved_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, str]) -> None:
    """Every host has these addresses from now on: the family, and what stands before and after the colon."""

    def resolve(*args: object, **kwargs: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        del args, kwargs
        return [
            (family, socket.SOCK_STREAM, 0, "", (netloc.split(":")[0], int(netloc.split(":")[1])))
            for family, netloc in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.fault(5)
def test_addresses_that_do_not_answer_share_the_time_and_the_last_one_may_work(
    api: FakeDevin, unanswered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    netloc = urlsplit(api.url).netloc
    # The second one is of a protocol that this machine does not speak, as IPv6 where it is switched off.
    resolved_to(monkeypatch, (socket.AF_INET, unanswered), (socket.AF_UNSPEC, netloc), (socket.AF_INET, netloc))
    assert call(Transport("http://three.invalid"), seconds=PATIENT_SECONDS).status == 200
    resolved_to(monkeypatch, *[(socket.AF_INET, unanswered)] * 60)
    assert failure(Transport("http://many.invalid"), seconds=SHORT_SECONDS) == "no connection in time"


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "host name not found"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "the name server gives no answer"),
        (UnicodeError("label too long"), "host name not found"),
    ],
)
def test_a_name_server_that_fails_is_another_failure_than_an_unknown_name(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Mock(side_effect=error))
    assert failure(Transport("http://some.invalid")) == said


class SilentResolver:
    """Finds every name on this machine, but `quiet.invalid` not before it is released; `asked` are the names."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.released = threading.Event()
        self._real = socket.getaddrinfo

    def __call__(self, host: object, port: int, **options: Any) -> Any:
        self.asked.append(host)
        if host == "quiet.invalid":
            assert self.released.wait(BOUND_SECONDS * 3)
        return self._real("127.0.0.1", port, **options)

    def under_way(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "lookup"]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentResolver]:
    made = SilentResolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.released.set()
    for thread in made.under_way():
        thread.join(BOUND_SECONDS)


def named(api: FakeDevin, name: str) -> Transport:
    """A transport that knows the stand-in by this name."""
    return Transport(api.url.replace("127.0.0.1", name))


def test_a_silent_name_server_is_given_up_in_time_and_asked_again(api: FakeDevin, resolver: SilentResolver) -> None:
    transport = named(api, "quiet.invalid")
    assert failure(transport, seconds=SHORT_SECONDS) == "the name server gives no answer"
    resolver.released.set()
    assert call(transport, "GET").status == 200
    assert resolver.asked == ["quiet.invalid"] * 2


# TLS


@pytest.mark.fault(5)
@pytest.mark.parametrize(("certificate", "trusted"), [("good", False), ("expired", True), ("elsewhere", True)])
def test_a_certificate_that_cannot_be_verified_gets_no_request(
    authority: dict[str, Path], monkeypatch: pytest.MonkeyPatch, certificate: str, trusted: bool
) -> None:
    # The environment cannot add an authority.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(authority["bundle"]))
    with FakeDevin(certificate=authority[certificate]) as api:
        transport = trusting(api.url, authority) if trusted else Transport(api.url)
        assert failure(transport) == "TLS failure"
    assert api.calls() == []


def test_a_known_authority_is_trusted_and_the_connection_kept(
    authority: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    with FakeDevin(certificate=authority["good"]) as api:
        api.add_sessions("devin-a")
        transport = trusting(api.url, authority)
        assert [call(transport, "GET").status, call(transport).status] == [200, 200]
    assert [one.reused for one in api.calls()] == [False, True]


def test_a_server_without_tls(api: FakeDevin) -> None:
    assert failure(Transport(api.url.replace("http:", "https:"))) == "TLS failure"
    with RawServer(b"") as server:
        assert failure(Transport(server.url.replace("http:", "https:")), seconds=SHORT_SECONDS).endswith("in time")


# Answers cut short


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"Content-Length: 3\r\n\r\n{}", None),
        (CHUNKED + b"5\r\n{}", None),
        (CHUNKED + b"2\r\n{}\r\n", None),
        # Longer than it says: what is left of it would look like an empty body, which confirms an end.
        (CHUNKED + b'1\r\n {"status":"running"}\r\n0\r\n\r\n', None),
        (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", None),
        (b"HTTP/1.1 422 Unprocessable Entity\r\nContent-Ty", None),
        (b"", None),
        # Headers that make no sense do not change the body.
        (OK + b"Content-Type: application/json; charset=utf-16\r\n\r\n{\xff\xfe}", b"{\xff\xfe}"),
        (OK + b"Content-Type: \xff;;=charset\r\n\r\n\x00", b"\x00"),
        (OK + b"Content-Encoding: gzip, gzip\r\n\r\n{}", b"{}"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}", b"{}"),
        (OK + b"Content-Length: -1\r\n\r\n{}", b"{}"),
        # Nothing but identity is asked for, so nothing is unpacked.
        (GZIP + gzip.compress(b"{}"), gzip.compress(b"{}")),
    ],
)
def test_an_answer_is_a_whole_one_or_none(answer: bytes, body: bytes | None) -> None:
    with RawServer(answer) as server:
        if body is None:
            assert failure(server.transport)
        else:
            assert call(server.transport) == Reply(200, ANY, body)
        assert len(server.heads) == 1


@pytest.mark.fault(7)
def test_the_status_of_an_answer_counts_even_if_its_body_is_too_large_to_read() -> None:
    with RawServer(OK + b"Content-Length: 99999999999\r\n\r\n") as server:
        assert call(server.transport) == Reply(200, ANY, b"", too_large=True)


def test_after_a_failure_the_late_answer_is_not_taken_for_the_next_ones(api: FakeDevin, transport: Transport) -> None:
    api.script(Fault(status=503, delay=PATIENT_SECONDS * 2), times=1)

    assert failure(transport, seconds=PATIENT_SECONDS) == "no whole response in time"
    assert call(transport).status == 200
    assert [one.reused for one in api.calls()] == [False, False]


def test_an_answer_behind_another_in_one_tls_record_is_not_taken_for_the_next_ones(authority: dict[str, Path]) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority["good"])
    head = OK + b"Content-Length: 8000\r\n"
    whole = head + b"X: ".ljust(8192 - 8000 - len(head) - 4, b"x") + b"\r\n\r\n" + b" " * 8000
    with RawServer(whole + b"HTTP/1.1 500 No\r\n" + EMPTY, OK + EMPTY, keep_alive=True, tls=tls) as server:
        transport = trusting(server.url, authority)
        assert [call(transport).status for _ in range(2)] == [200, 200]


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_ones() -> None:
    with RawServer(
        b"HTTP/1.1 500 No\r\n" + EMPTY + OK + EMPTY, b"HTTP/1.1 404 No\r\n" + EMPTY, keep_alive=True
    ) as server:
        assert [call(server.transport).status, call(server.transport).status] == [500, 404]


# Answers without end


@pytest.mark.fault(6)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="hang"),
        Fault(kind="drip", part="head", interval=0.1),
        Fault(kind="drip", interval=0.1, status=200, body="x" * 500),
        Fault(kind="drip", interval=0.1, status=200, body="x" * 500, framing="chunked"),
    ],
)
def test_an_answer_that_is_too_slow_is_given_up(api: FakeDevin, transport: Transport, fault: Fault) -> None:
    api.script(fault)

    assert failure(transport, seconds=SHORT_SECONDS).endswith("in time")
    assert len(api.calls()) <= 1


def then_for_ever(beginning: bytes, piece: bytes) -> Callable[[], Iterable[bytes]]:
    return lambda: itertools.chain([beginning], itertools.repeat(piece * (65536 // len(piece))))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(then_for_ever(OK + b"\r\n", b"x"), id="body"),
        pytest.param(then_for_ever(CHUNKED, b"a\r\n0123456789\r\n"), id="chunks"),
        pytest.param(then_for_ever(CHUNKED + b"1;", b"x"), id="chunk extension"),
        pytest.param(then_for_ever(CHUNKED + b"-1\r\n", b"x"), id="chunk of negative size"),
        pytest.param(then_for_ever(CHUNKED + b"0\r\n", b"X-Filler: x\r\n"), id="trailers"),
        pytest.param(then_for_ever(OK, b"X-Filler: x\r\n"), id="headers"),
        pytest.param(then_for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim answers"),
        pytest.param(then_for_ever(GZIP, gzip.compress(b"x")), id="gzip"),
    ],
)
def test_an_endless_answer_is_given_up_in_bounded_memory(answer: Callable[[], Iterable[bytes]]) -> None:
    with RawServer(answer) as server:
        tracemalloc.start()
        try:
            assert failure(server.transport, seconds=SHORT_SECONDS)
            assert tracemalloc.get_traced_memory()[1] < ABOUT_BYTES
        finally:
            tracemalloc.stop()
        assert len(server.heads) <= 1


# Answers before the answer


def late(*pieces: bytes) -> Callable[[], Iterable[bytes]]:
    """The pieces with a moment between them, so that no two are read at once by chance."""

    def answer() -> Iterator[bytes]:
        for number, piece in enumerate(pieces):
            time.sleep(0.05 * number)
            yield piece

    return answer


@pytest.mark.parametrize("status", [100, 103])
def test_an_interim_answer_is_not_the_answer(status: int) -> None:
    """Taken for one, every later call over the connection would get the answer to the call before it."""
    interim = b"HTTP/1.1 %d Wait\r\nLink: </style.css>\r\n\r\n" % status
    rejected = b"HTTP/1.1 422 No\r\n" + EMPTY
    with RawServer(late(interim, interim, OK + EMPTY), rejected, late(interim, rejected), keep_alive=True) as server:
        assert [call(server.transport).status for _ in range(3)] == [200, 422, 422]


def test_an_answer_that_changes_the_protocol_is_none() -> None:
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"
    with RawServer(upgrade + OK + EMPTY, OK + EMPTY, keep_alive=True) as server:
        assert failure(server.transport) == "response cut short or garbled"
        assert call(server.transport).status == 200
        assert len(server.heads) == 2


# Bodies


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_of_a_large_body_the_beginning_is_kept_and_the_answer_is_whole(
    api: FakeDevin, transport: Transport, framing: str
) -> None:
    large = b'{"detail": "%s"}' % (b"x" * 3_000_000)
    api.script(Fault.from_json({"status": 200, "body": large.decode(), "framing": framing}), times=1)

    assert (reply := call(transport)).status == 200
    assert reply.body == large[:KEEP_BYTES]
    # Read to its end, so the connection is still good; unless it ended with the body.
    call(transport)
    assert [one.reused for one in api.calls()] == [False, framing != "close"]


# A hostile API


@pytest.mark.fault(2, 31)
@pytest.mark.parametrize("status", [301, 307])
def test_no_redirect_is_followed(api: FakeDevin, transport: Transport, status: int) -> None:
    with FakeDevin() as elsewhere:
        api.script(faults.redirect(elsewhere.url + PATH, status))

        assert call(transport).status == status

    assert elsewhere.calls() == []
    assert [one.method for one in api.calls()] == ["DELETE"]


def test_a_cookie_is_not_sent_back() -> None:
    cookie = b"Set-Cookie: session=1; Domain=127.0.0.1; Path=/\r\n"
    with RawServer(OK + cookie + EMPTY, keep_alive=True) as server:
        assert [call(server.transport).status for _ in range(2)] == [200, 200]
        assert ["cookie" in head.lower() for head in server.heads] == [False, False]


def test_proxies_and_netrc_of_the_environment_are_ignored(
    api: FakeDevin, transport: Transport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(netrc))
    with FakeDevin() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert call(transport).status == 200

    assert proxy.calls() == []
    assert [one.authorised for one in api.calls()] == [True]


_ECHO = b"Bearer " + V1_KEY.encode()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 " + _ECHO + b"\r\nX-Echo: " + _ECHO + b"\r\nContent-Length: 1000\r\n\r\n" + _ECHO,
        OK + b"Content-Length: " + _ECHO + b"1, 2, 3\r\nContent-Length: 4\r\n\r\n" + _ECHO,
        CHUNKED + _ECHO + b"\r\n" + _ECHO,
        OK + (b"X-Echo: " + _ECHO + b"\r\n") * 200 + EMPTY,
    ],
)
def test_an_api_that_repeats_the_key_does_not_get_it_into_the_failure(answer: bytes) -> None:
    with RawServer(answer) as server, pytest.raises(TransportError) as raised:
        call(server.transport)
    assert V1_KEY not in "".join(traceback.format_exception(raised.value)) + repr(raised.value)


_FRAGMENTS = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 500\r\n", b"Content-Length:", b"Transfer-Encoding: chunked\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Set-Cookie: a=b; expires=", b"Location: http://[\r\n", b"Connection: close\r\n"),
    *(b"\r\n", b"\r\n\r\n", b"\n", b": ", b" ", b",", b"-", b"-5\r\n", b"0\r\n", b"5", b"{}", b"\x00", b"\xff"),
    gzip.compress(b"{}"),
]


def test_any_bytes_are_an_answer_or_a_transport_error() -> None:
    with RawServer(b"") as server:

        @settings(max_examples=100, derandomize=True, deadline=None, database=None)
        @example(beginning=CHUNKED, fragments=[b"-5\r\n"])
        @given(
            beginning=st.sampled_from([b"", OK, CHUNKED, OK + b"\r\n"]),
            fragments=st.lists(st.sampled_from(_FRAGMENTS) | st.binary(max_size=10), max_size=12),
        )
        def answer(beginning: bytes, fragments: list[bytes]) -> None:
            server.answers = [beginning + b"".join(fragments)]
            try:
                reply = call(Transport(server.url))
            except TransportError:
                return
            assert 100 <= reply.status <= 999

        answer()
        assert len(server.heads) >= 100


# Kept-alive connections


def test_threads_keep_a_connection_each(api: FakeDevin, transport: Transport) -> None:
    api.set_latency(0.02)
    together = threading.Barrier(4, timeout=BOUND_SECONDS)

    def three_calls(_: int) -> list[int]:
        statuses = []
        for _ in range(3):
            together.wait()
            statuses.append(call(transport, "GET").status)
        return statuses

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(three_calls, range(4))) == [[200] * 3] * 4
    assert sorted(one.reused for one in api.calls()) == [False] * 4 + [True] * 8


@pytest.mark.parametrize("kind", ["reset", "close"])
def test_a_call_over_a_connection_that_went_stale_is_sent_again_once(
    api: FakeDevin, transport: Transport, kind: str
) -> None:
    api.script(Fault.from_json({"kind": kind}), reused=True)

    replies = [call(transport, "GET"), call(transport)]

    assert [(reply.status, reply.repeated) for reply in replies] == [(200, False), (200, True)]
    assert [(one.method, one.reused, one.status) for one in api.calls()] == [
        ("GET", False, 200),
        ("DELETE", True, None),
        ("DELETE", False, 200),
    ]


def test_the_second_sending_is_the_last(api: FakeDevin, transport: Transport) -> None:
    api.script(Fault(kind="reset"), method="DELETE")

    call(transport, "GET")

    assert failure(transport) == "connection closed by the API"
    assert [(one.method, one.reused) for one in api.calls()] == [("GET", False), ("DELETE", True), ("DELETE", False)]


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    api: FakeDevin, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have died without a word."""
    api.script(Fault(kind="hang"), reused=True)
    call(transport, "GET")
    later = time.time() + 60
    monkeypatch.setattr("devin.http.time", SimpleNamespace(monotonic=time.monotonic, time=lambda: later))

    assert call(transport, seconds=PATIENT_SECONDS).status == 200
    assert [(one.method, one.reused) for one in api.calls()] == [("GET", False), ("DELETE", False)]


def test_data_that_is_not_acknowledged_breaks_the_connection_in_seconds(transport: Transport) -> None:
    call(transport, "GET")
    sock = transport._mine.adapter.sock
    assert sock is not None
    timeout = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert 0 < timeout <= 5000

    # As the kernel then says it.
    dead = TimeoutError(errno.ETIMEDOUT, "Connection timed out")
    assert http._is_stale(dead)
    assert not http._is_stale(TimeoutError("timed out"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(kind="hang"), "no whole response in time"),
        (Fault(kind="close", part="body"), "response cut short or garbled"),
    ],
)
def test_a_call_that_a_kept_alive_connection_did_deliver_is_not_repeated(
    api: FakeDevin, transport: Transport, fault: Fault, said: str
) -> None:
    api.script(fault, reused=True)

    call(transport, "GET")

    assert failure(transport, seconds=PATIENT_SECONDS) == said
    assert [one.method for one in api.calls()] == ["GET", "DELETE"]
