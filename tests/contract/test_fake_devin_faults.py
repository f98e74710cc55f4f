"""Scripted faults do on a real socket what they say."""

from __future__ import annotations

import gzip
import http.client
import json

import pytest

from infra.local.fake_devin import FakeDevin, Fault, Rule, faults
from infra.local.fake_devin.faults import Script
from infra.local.fake_devin.operations import read
from tests.contract.caller import V1_KEY, Caller

PATH = "/v1/sessions/devin-a"


@pytest.fixture(autouse=True)
def _one_session(api: FakeDevin) -> None:
    api.add_sessions("devin-a")


def call(api: FakeDevin, fault: Fault, path: str = PATH) -> tuple[int, http.client.HTTPMessage, bytes]:
    api.script(fault)
    with Caller(api.url) as caller:
        return caller.call("DELETE", path)


@pytest.mark.parametrize("retry_after", ["3", "Wed, 21 Oct 2026 07:28:00 GMT", "soon", "-1", "1e400", "", None])
def test_too_many_requests_with_any_retry_after(api: FakeDevin, retry_after: str | None) -> None:
    status, headers, body = call(api, faults.too_many_requests(retry_after))

    assert (status, headers["Retry-After"]) == (429, retry_after)
    assert "detail" in json.loads(body)
    assert not api.session("devin-a").exited


def test_an_error_in_html(api: FakeDevin) -> None:
    status, headers, body = call(api, faults.html_error(502))

    assert (status, headers.get_content_type()) == (502, "text/html")
    assert b"<h1>502" in body


def test_a_redirect(api: FakeDevin) -> None:
    status, headers, body = call(api, faults.redirect("https://elsewhere.example/"))

    assert (status, headers["Location"], body) == (302, "https://elsewhere.example/", b"")


def test_a_204_without_body_or_length(api: FakeDevin) -> None:
    status, headers, body = call(api, Fault(status=204, body="ignored", effect=True))

    assert (status, headers["Content-Length"], body) == (204, None, b"")
    assert api.session("devin-a").exited


@pytest.mark.parametrize("body", [b"not json", b"\xff\xfe\x00", '{"detail": "\udcff"}', b"", b"\x1f\x8b broken"])
def test_a_body_of_any_bytes_under_any_name(api: FakeDevin, body: bytes | str) -> None:
    headers = {"Content-Type": "application/json; charset=utf-16", "Content-Encoding": "br"}
    _, received, got = call(api, Fault(status=200, headers=headers, body=body))

    assert got == (body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body)
    assert {name: received[name] for name in headers} == headers


def test_a_huge_body_is_json_of_that_size(api: FakeDevin) -> None:
    _, _, body = call(api, faults.huge(3_000_000))

    assert len(body) == 3_000_000
    assert set(json.loads(body)["detail"]) == {"x"}


def test_a_gzip_bomb_is_small_and_unpacks_to_that_size(api: FakeDevin) -> None:
    _, headers, body = call(api, faults.gzip_bomb(20_000_001))

    assert headers["Content-Encoding"] == "gzip"
    assert len(body) < 25_000
    assert len(gzip.decompress(body)) == 20_000_001


def test_an_echo_of_the_key_that_the_record_does_not_repeat(api: FakeDevin) -> None:
    _, headers, body = call(api, faults.echoing(500))

    assert headers["X-Request-Authorization"] == f"Bearer {V1_KEY}"
    assert V1_KEY in json.loads(body)["detail"]
    assert V1_KEY not in repr(api.calls()) + repr(api.rules())


def test_a_detail_with_line_breaks_and_escapes(api: FakeDevin) -> None:
    _, _, body = call(api, faults.hostile_detail())

    assert {"\r", "\n", "\x1b", "\x00", "\u2028"} < set(json.loads(body)["detail"])


def test_headers_and_reason_go_out_as_they_are(api: FakeDevin) -> None:
    api.script(Fault(status=422, reason="\x1b[31mno", headers={"X-A": "1\r\nX-B: 2"}, framing="close"))
    with Caller(api.url) as caller:
        caller.send("DELETE", PATH)
        received = caller.received(10_000)

    assert received.startswith(b"HTTP/1.1 422 \x1b[31mno\r\n")
    assert received.endswith(b"\r\nX-A: 1\r\nX-B: 2\r\n\r\n")


def test_a_length_that_lies(api: FakeDevin) -> None:
    api.script(Fault(status=200, headers={"content-length": "5"}, body="{}", framing="close"))
    with Caller(api.url) as caller, pytest.raises(http.client.IncompleteRead):
        caller.call("DELETE", PATH)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_every_framing_carries_the_same_body(api: FakeDevin, framing: str) -> None:
    _, headers, body = call(api, Fault.from_json({"status": 200, "body": "some", "framing": framing}))

    told = {"length": ("4", None), "chunked": (None, "chunked"), "close": (None, None)}
    assert (headers["Content-Length"], headers["Transfer-Encoding"]) == told[framing]
    assert body == b"some"


def test_a_hang_answers_nothing_and_may_end_the_session(api: FakeDevin) -> None:
    api.script(Fault(kind="hang", effect=True))
    with Caller(api.url) as caller:
        caller.send("DELETE", PATH)
        caller.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.received(1)

    (call,) = api.calls()
    assert (call.status, call.fault, call.ended) == (None, "hang", True)
    assert api.session("devin-a").exited


def test_a_hang_for_some_time_ends_without_an_answer(api: FakeDevin) -> None:
    api.script(Fault(kind="hang", seconds=0.05))
    with Caller(api.url) as caller:
        caller.send("DELETE", PATH)
        assert caller.received(1) == b""

    assert not api.session("devin-a").exited


def test_a_drip_from_the_first_byte_on(api: FakeDevin) -> None:
    api.script(Fault(kind="drip", part="head", interval=60))
    with Caller(api.url) as caller:
        caller.send("DELETE", PATH)
        assert caller.socket.recv(100) == b"H"
        caller.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.received(1)

    assert api.session("devin-a").exited


def test_a_drip_of_the_body(api: FakeDevin) -> None:
    api.script(Fault(kind="drip", status=500, body="oh", interval=60))
    with Caller(api.url) as caller:
        caller.send("DELETE", PATH)
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += caller.received(1)
        caller.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.received(2)

    assert b"Content-Length: 2\r\n" in received
    assert not api.session("devin-a").exited


def test_a_drip_that_is_waited_for_is_a_whole_answer(api: FakeDevin) -> None:
    status, _, body = call(api, Fault(kind="drip", part="head", interval=0))

    assert (status, json.loads(body)) == (200, {"detail": "Session terminated successfully"})


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="endless"),
        Fault(kind="endless", framing="close"),
        Fault(kind="endless", framing="length"),
        Fault(kind="endless", part="head"),
    ],
)
def test_an_answer_without_end(api: FakeDevin, fault: Fault) -> None:
    api.script(fault)
    with Caller(api.url) as caller:
        caller.send("DELETE", PATH)
        received = caller.received(3_000_000)

    assert len(received) == 3_000_000
    assert (b"\r\n\r\n" in received) == (fault.part != "head")
    assert (b"Transfer-Encoding: chunked" in received) == (fault.framing is None)


def expected_before_the_cut(part: str | None) -> tuple[bool, bool]:
    """Whether anything arrives, and whether that includes the whole head."""
    return {None: (False, False), "start": (False, False), "head": (True, False), "body": (True, True)}[part]


@pytest.mark.parametrize("part", [None, "start", "head", "body"])
@pytest.mark.parametrize("kind", ["reset", "close"])
@pytest.mark.parametrize("effect", [False, True])
def test_an_answer_cut_off(api: FakeDevin, kind: str, part: str | None, effect: bool) -> None:
    fault = Fault.from_json({"kind": kind, "part": part, "effect": effect, "status": 200, "body": "12345678"})
    api.script(fault)
    received = b""
    with Caller(api.url) as caller:
        caller.send("DELETE", PATH)
        try:
            while piece := caller.socket.recv(4096):
                received += piece
            ended_by = "close"
        except ConnectionResetError:
            ended_by = "reset"

    assert ended_by == kind
    assert (bool(received), b"\r\n\r\n" in received) == expected_before_the_cut(part)
    assert received.endswith(b"1234") == (part == "body")
    (call,) = api.calls()
    assert call.status == (200 if received else None)
    assert call.ended == api.session("devin-a").exited == effect


def test_a_cut_in_the_apis_own_answer_is_a_call_carried_out(api: FakeDevin) -> None:
    with pytest.raises(http.client.IncompleteRead):
        call(api, Fault(kind="close", part="body"))

    assert api.session("devin-a").exited


def test_a_connection_that_went_stale(api: FakeDevin) -> None:
    api.script(Fault(kind="close"), reused=True, times=1)
    with Caller(api.url) as caller:
        assert caller.status("GET", PATH) == 200
        with pytest.raises(http.client.RemoteDisconnected):
            caller.call("GET", PATH)
    with Caller(api.url) as caller:
        assert [caller.status("GET", PATH), caller.status("GET", PATH)] == [200, 200]

    assert [(call.reused, call.fault) for call in api.calls()] == [
        (False, None),
        (True, "close"),
        (False, None),
        (True, None),
    ]


def test_connections_closed_after_some_responses_without_a_word(api: FakeDevin) -> None:
    api.set_keep_alive(responses=2)
    with Caller(api.url) as caller:
        answers = [caller.call("GET", PATH), caller.call("GET", PATH)]
        assert caller.received(1) == b""

    assert [(status, headers["Connection"]) for status, headers, _ in answers] == [(200, None)] * 2


def test_connections_closed_when_idle(api: FakeDevin) -> None:
    api.set_keep_alive(idle_seconds=0.05)
    with Caller(api.url) as caller:
        assert caller.status("GET", PATH) == 200
        assert caller.received(1) == b""


def test_a_delay_comes_after_the_effect_and_before_the_answer(api: FakeDevin) -> None:
    api.script(Fault(kind="pass", delay=60))
    with Caller(api.url) as caller:
        caller.send("DELETE", PATH)
        caller.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.received(1)

    (call,) = api.calls()
    assert (call.status, call.ended) == (None, True)


def test_a_short_delay_is_followed_by_the_apis_own_answer(api: FakeDevin) -> None:
    status, _, body = call(api, Fault(kind="pass", delay=0.05))

    assert (status, json.loads(body)) == (200, {"detail": "Session terminated successfully"})
    (recorded,) = api.calls()
    assert recorded.answered_at is not None
    assert (recorded.answered_at - recorded.at).total_seconds() >= 0.05


def test_faults_act_in_their_order_for_as_long_as_they_are_to(api: FakeDevin) -> None:
    api.add_sessions("devin-b")
    api.script(Fault(status=503), session_id="devin-a", times=2)
    api.script(Fault(status=500), session_id="devin-a", method="DELETE", times=1)
    api.script(Fault(status=418), operation="list")

    with Caller(api.url) as caller:
        assert caller.status("DELETE", "/v1/sessions/devin-b") == 200
        assert [caller.status("GET", PATH), caller.status("DELETE", PATH)] == [503, 503]
        assert [caller.status("GET", PATH), caller.status("DELETE", PATH)] == [200, 500]
        assert [caller.status("GET", "/v1/sessions") for _ in range(3)] == [418] * 3
        assert caller.status("DELETE", PATH) == 200
        api.clear_faults()
        assert caller.status("GET", "/v1/sessions") == 200


def outcome_of(script: Script, session_ids: list[str]) -> set[tuple[str, int]]:
    """Which calls go wrong, two for each id."""
    return {
        (session_id, number)
        for number in range(2)
        for session_id in session_ids
        if script.fault_for(read("DELETE", f"/v1/sessions/{session_id}"), reused=False)
    }


def scripted(seed: int) -> Script:
    script = Script()
    script.add(Rule(fault=Fault(status=500), probability=0.2, seed=seed))
    return script


def test_chance_is_the_seeds_whatever_the_order() -> None:
    ids = [f"devin-{number}" for number in range(500)]

    wrong = outcome_of(scripted(7), ids)

    assert wrong == outcome_of(scripted(7), ids[::-1])
    assert wrong != outcome_of(scripted(8), ids)
    assert 150 < len(wrong) < 250
    assert {number for _, number in wrong} == {0, 1}


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "hiccup"},
        {"kind": "answer"},
        {"kind": "hang", "status": 500},
        {"kind": "hang", "part": "body"},
        {"kind": "drip", "part": "start"},
        {"status": 200, "framing": "none"},
        {"status": 200, "colour": "red"},
        {"status": 200, "body_base64": "?"},
    ],
)
def test_what_is_no_fault_is_refused(data: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Fault.from_json(data)


@pytest.mark.parametrize("when", [{"times": 0}, {"probability": 2}, {"operation": "kill"}, {"sesion_id": "devin-a"}])
def test_what_is_no_rule_is_refused(when: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Rule.from_json({"fault": {"status": 500}, **when})


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="hang", seconds=3, effect=True),
        Fault(status=500, body=b"\xff\x00", headers={"X-A": "b"}, delay=0.5),
        Fault(kind="reset", part="head", status=200, body="text"),
        faults.echoing(500),
    ],
)
def test_a_rule_survives_its_json(fault: Fault) -> None:
    rule = Rule(fault=fault, session_id="devin-a", times=3, probability=0.5, seed=9)

    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule
