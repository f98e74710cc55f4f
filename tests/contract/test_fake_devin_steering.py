"""The stand-in is steered alike from its own process and from another, and records what arrives."""

from __future__ import annotations

import http.client
import inspect
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from infra.local.fake_devin import FakeDevin, FakeDevinAdmin, Fault, fingerprint
from tests.contract.caller import V1_KEY, V3_KEY, Caller

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["in this process", "over HTTP"])
def steer(request: pytest.FixtureRequest, api: FakeDevin) -> FakeDevin | FakeDevinAdmin:
    """The same stand-in at either end of its controls."""
    return api if request.param == "in this process" else FakeDevinAdmin(api.url)


def test_both_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, str]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: str(inspect.signature(method)) for name, method in found if not name.startswith("_")}

    remote, local = methods(FakeDevinAdmin), methods(FakeDevin)
    assert remote.items() <= local.items()
    # What the connections' threads call.
    assert local.keys() - remote.keys() == {"serve", "refuse"}


def test_sessions(steer: FakeDevin | FakeDevinAdmin) -> None:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    steer.add_sessions("devin-a", "devin-b", created_at=created, tags=("x", "y"), title="A title")
    steer.add_sessions("devin-c", tags=None)

    assert [session.session_id for session in steer.sessions()] == ["devin-c", "devin-b", "devin-a"]
    before = steer.session("devin-a")
    assert (before.created_at, before.updated_at, before.tags, before.title) == (
        created,
        created,
        ("x", "y"),
        "A title",
    )
    assert steer.session("devin-c").tags is None
    assert steer.update_session("devin-a", updated_at=created, status="suspended").updated_at == created
    woken = steer.wake("devin-a")
    assert (woken.status, woken.created_at) == ("running", created)
    assert woken.updated_at > created
    assert steer.session("devin-a") == woken


def test_what_makes_no_sense_about_sessions(steer: FakeDevin | FakeDevinAdmin) -> None:
    steer.add_sessions("devin-a")

    for unknown in (steer.session, steer.wake, steer.update_session):
        with pytest.raises(KeyError):
            unknown("devin-unknown")
    with pytest.raises(ValueError, match="exists already"):
        steer.add_sessions("devin-b", "devin-a")
    with pytest.raises(ValueError, match="no session id"):
        steer.add_sessions("devin-../b")
    with pytest.raises(ValueError, match="no status"):
        steer.update_session("devin-a", status="dead")
    with pytest.raises(ValueError, match="time zone"):
        steer.update_session("devin-a", updated_at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    assert [session.session_id for session in steer.sessions()] == ["devin-a"]


def test_faults(steer: FakeDevin | FakeDevinAdmin) -> None:
    steer.add_sessions("devin-a")
    steer.script(Fault(status=500, body=b"\xff"), session_id="devin-a", times=1)
    steer.script(Fault(status=503), operation="get")

    (first, second) = steer.rules()
    assert (first.fault.body, first.times, second.operation) == (b"\xff", 1, "get")
    with Caller(steer.url) as caller:
        assert caller.call("GET", "/v1/sessions/devin-a")[2] == b"\xff"
        assert caller.status("GET", "/v1/sessions/devin-a") == 503
        steer.clear_faults()
        assert caller.status("GET", "/v1/sessions/devin-a") == 200
    assert steer.rules() == []


def test_keys_that_rotate(steer: FakeDevin | FakeDevinAdmin) -> None:
    steer.add_sessions("devin-a")

    def statuses() -> list[int]:
        answers = []
        for key in (V1_KEY, "apk_new"):
            with Caller(steer.url, key) as caller:
                answers.append(caller.status("GET", "/v1/sessions/devin-a"))
        return answers

    assert statuses() == [200, 401]
    steer.set_keys([V1_KEY, "apk_new"])
    assert statuses() == [200, 200]
    steer.set_keys(["apk_new"])
    assert statuses() == [401, 200]
    steer.set_keys([])
    assert statuses() == [401, 401]
    steer.set_keys(None)
    assert statuses() == [200, 200]


@pytest.mark.parametrize("latency", [(0.1,), (0.1, 0.2)])
def test_latency(steer: FakeDevin | FakeDevinAdmin, latency: tuple[float, ...]) -> None:
    steer.set_latency(*latency)
    with Caller(steer.url) as caller:
        caller.call("GET", "/v1/sessions")

    (call,) = steer.calls()
    assert call.answered_at is not None
    assert (call.answered_at - call.at).total_seconds() >= 0.1


def test_keep_alive(steer: FakeDevin | FakeDevinAdmin) -> None:
    steer.set_keep_alive(responses=1)
    with Caller(steer.url) as caller:
        assert caller.status("GET", "/v1/sessions") == 200
        assert caller.received(1) == b""


def test_the_record_of_calls(steer: FakeDevin | FakeDevinAdmin) -> None:
    steer.add_sessions("devin-a")
    with Caller(steer.url) as caller:
        caller.call("DELETE", "/v1/sessions/devin-a?x=%41")
        caller.call("GET", "/v1/sessions?limit=3")
    with Caller(steer.url, "apk_wrong") as caller:
        caller.call("DELETE", "/v1/sessions/devin-%61")
    with Caller(steer.url, None) as caller:
        caller.call("GET", "//v1/sessions/../devin-a")

    calls = steer.calls()

    assert [(call.number, call.method, call.path, call.session_id, call.status) for call in calls] == [
        (0, "DELETE", "/v1/sessions/devin-a?x=%41", "devin-a", 200),
        (1, "GET", "/v1/sessions?limit=3", None, 200),
        (2, "DELETE", "/v1/sessions/devin-%61", "devin-a", 401),
        (3, "GET", "//v1/sessions/../devin-a", None, 404),
    ]
    assert [(call.operation, call.authorised, call.reused, call.ended) for call in calls] == [
        ("terminate", True, False, True),
        ("list", True, True, False),
        ("terminate", False, False, False),
        (None, False, False, False),
    ]
    assert [call.key for call in calls] == [fingerprint(V1_KEY)] * 2 + [fingerprint("apk_wrong"), None]
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert V1_KEY not in repr(calls)
    steer.clear_calls()
    assert steer.calls() == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"DELETE /v1/sessions/devin-a b HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\r\n\r\n", 400),
        (b"POST /v1/sessions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /v1/sessions HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 411),
    ],
)
def test_what_is_no_request_is_recorded_too(api: FakeDevin, sent: bytes, status: int) -> None:
    with Caller(api.url) as caller:
        caller.socket.sendall(sent)
        assert caller.received(1000)

    (call,) = api.calls()
    assert (call.method, call.path, call.status) == ("", sent.partition(b"\r\n")[0].decode("latin-1"), status)


def test_thousands_of_calls_from_many_threads_are_all_recorded(api: FakeDevin) -> None:
    ids = [f"devin-{number}" for number in range(2000)]
    api.add_sessions(*ids)

    def terminate(mine: list[str]) -> None:
        with Caller(api.url) as caller:
            for session_id in mine:
                caller.call("DELETE", f"/v1/sessions/{session_id}")

    callers = [threading.Thread(target=terminate, args=(ids[number::8],)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    calls = api.calls()
    assert [call.number for call in calls] == list(range(2000))
    assert {call.status for call in calls} == {200}
    assert sorted(call.session_id or "" for call in calls if call.ended) == sorted(ids)
    assert all(session.exited for session in api.sessions())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "health", None, 200),
        ("GET", "nothing", None, 404),
        ("PUT", "health", None, 404),
        ("POST", "faults", {"fault": {"kind": "hiccup"}}, 422),
        ("POST", "faults", {"fault": {"status": 500}, "sesion_id": "devin-a"}, 422),
        ("POST", "faults", {"session_id": "devin-a"}, 422),
        ("POST", "faults", [], 422),
        ("POST", "sessions", {"session_ids": ["devin-a"], "colour": "red"}, 422),
        ("POST", "sessions", {}, 422),
        ("PATCH", "sessions/devin-unknown", {}, 404),
        ("DELETE", "sessions/devin-unknown", None, 422),
        ("PUT", "latency", {"low": "soon"}, 422),
        ("PUT", "keep-alive", {"responses": "many"}, 422),
    ],
)
def test_steering_that_makes_no_sense(api: FakeDevin, method: str, path: str, body: object, status: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=5)
    connection.request(method, f"/_fake/{path}", None if body is None else json.dumps(body))
    response = connection.getresponse()
    answered = json.loads(response.read())
    connection.close()

    assert response.status == status
    assert answered == {"status": "ok"} if status == 200 else isinstance(answered["detail"], str)
    assert api.calls() == []


def test_the_end_does_not_wait_for_calls_under_way() -> None:
    with FakeDevin() as api:
        api.add_sessions("devin-hang", "devin-drip", "devin-endless", "devin-late")
        api.script(Fault(kind="hang"), session_id="devin-hang")
        api.script(Fault(kind="drip", interval=3600), session_id="devin-drip")
        api.script(Fault(kind="endless"), session_id="devin-endless")
        api.script(Fault(kind="pass", delay=3600), session_id="devin-late")
        callers = [Caller(api.url) for _ in range(6)]
        for caller, name in zip(callers, ["hang", "drip", "endless", "late"], strict=False):
            caller.send("DELETE", f"/v1/sessions/devin-{name}")
        # One is idle after a call, one has not called yet.
        callers[4].call("GET", "/v1/sessions")
        under_way: list[int | None] = []
        for _ in range(500):
            under_way = sorted((call.status for call in api.calls()), key=str)
            if under_way == [200, 200, 200, None, None]:
                break
            time.sleep(0.01)
    threads = [thread.name for thread in threading.enumerate() if "process_request" in thread.name]
    for caller in callers:
        caller.socket.close()

    assert under_way == [200, 200, 200, None, None]
    assert threads == []


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Path, Path]:
    """Files with the certificate (and its key) of 127.0.0.1, and of the authority that signed it."""
    authority = trustme.CA()
    server, bundle = tmp_path / "server.pem", tmp_path / "authority.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(server)
    authority.cert_pem.write_to_path(bundle)
    return server, bundle


def test_tls(certificates: tuple[Path, Path]) -> None:
    server, bundle = certificates
    trusting = ssl.create_default_context(cafile=bundle)
    with FakeDevin(keys=[V1_KEY], certificate=server) as api:
        # Someone who never begins the handshake is in nobody's way.
        with Caller(api.url), Caller(api.url, tls=trusting) as caller:
            admin = FakeDevinAdmin(api.url, ca_bundle=bundle)
            admin.add_sessions("devin-a")
            assert api.url.startswith("https://127.0.0.1:")
            assert caller.status("DELETE", "/v1/sessions/devin-a") == 200
            admin.script(Fault(kind="reset"))
            with pytest.raises(ConnectionResetError):
                caller.call("GET", "/v1/sessions/devin-a")
        with pytest.raises(ssl.SSLCertVerificationError):
            Caller(api.url, tls=ssl.create_default_context())
    assert [call.status for call in api.calls()] == [200, None]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "infra.local.fake_devin", "--port", "0", "--key", V1_KEY, "--key", V3_KEY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:  # noqa: S603 - our own
        yield started
        started.kill()


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGINT])
def test_a_process_of_its_own(process: subprocess.Popen[str], ends: signal.Signals) -> None:
    assert process.stdout is not None
    url = process.stdout.readline().rstrip("\n")
    admin = FakeDevinAdmin(url)
    admin.add_sessions("devin-a")
    admin.script(Fault(kind="hang"), operation="get")

    with Caller(url) as caller, Caller(url) as hanging:
        assert caller.status("DELETE", "/v1/sessions/devin-a") == 200
        hanging.send("GET", "/v1/sessions/devin-a")
        process.send_signal(ends)
        assert process.wait(10) == 0

    address = urlsplit(url)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", address.port or 0), timeout=5):
        pass
