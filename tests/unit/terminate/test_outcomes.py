"""The outcome table: what an answer of the API means for a session and its message."""

import json
import traceback
from typing import Any
from unittest import mock

import pytest
import requests

from devin.api_key import ApiKeys
from devin.client import CALL_SECONDS, DevinClient, Throttle
from devin.http import Reply
from redaction import Redactor
from tests.in_memory import Function, ScriptedTransport, batch
from tests.unit.world import KEY, NOT_VALID, TERMINATED, Answer, Log, World, answer, problem, session, stale_v3

HTML = "<h1>Down for maintenance</h1>"
ALIVE, EXITED, ANOTHER = session("working"), session("expired"), session("expired", session_id="devin-2")
BUSY = answer(409, {"detail": "Devin session already exited"})
NO_DATA = answer(404, {"detail": "unknown"})
IF_UNCHANGED = '{"session_id": "devin-1", "unless_updated_since": "2026-11-02T00:00:00Z"}'

NOT_TERMINATED = [
    "Session could not be terminated",
    "Termination failed",
    "Session is not terminated",
    "Session archived",
]
UNCONFIRMED: list[object] = [HTML, [], {"session_id": "devin-2"}, "{", "\x00" * 100_000]

# Answer to the DELETE, answer to the GET that has to follow (None: no GET), outcome.
AT_FIRST: list[tuple[Answer | Exception, Answer | Exception | None, str]] = [
    (TERMINATED, None, "terminated"),
    (answer(200), None, "terminated"),
    (answer(202, {"session_id": "devin-1", "status": "exit"}), None, "terminated"),
    (answer(299, {"session_id": "1", "status": "exit"}), None, "terminated"),
    (answer(200, HTML), EXITED, "already_exited"),
    (answer(200, {"detail": "Try again"}), EXITED, "already_exited"),
    *((answer(200, {"detail": said}), ALIVE, "retry") for said in NOT_TERMINATED),
    *((answer(200, said), ALIVE, "retry") for said in UNCONFIRMED),
    *((answer(200, HTML), get, "retry") for get in (ANOTHER, answer(200, HTML), answer(404), answer(503))),
    *((answer(status), EXITED, "already_exited") for status in (400, 409)),
    *((answer(status), get, "rejected") for status in (400, 409) for get in (ALIVE, NO_DATA)),
    (BUSY, answer(503), "retry"),
    (BUSY, answer(429), "retry"),
    (BUSY, session("error"), "rejected"),
    (NOT_VALID, None, "rejected"),
    *((answer(status, "<p>no</p>", Location="/v1/sessions/devin-2"), None, "rejected") for status in (301, 307)),
    *((answer(status, "<p>no</p>"), None, "rejected") for status in (300, 402, 404, 405, 410, 451, 499)),
    (answer(403, {"detail": "Forbidden"}), None, "forbidden"),
    *((answer(status, HTML), None, "retry") for status in (408, 425, 429, 500, 502, 503, 504, 599)),
    (requests.ConnectionError("refused"), None, "retry"),
    (requests.ReadTimeout("slow"), None, "retry"),
    (requests.exceptions.SSLError("bad certificate"), None, "retry"),
]
REDELIVERED: list[tuple[Answer | Exception, Answer | Exception | None, str]] = [
    (NOT_VALID, EXITED, "already_exited"),
    (NOT_VALID, session("terminated"), "already_exited"),
    (NOT_VALID, ALIVE, "rejected"),
    (NOT_VALID, session("something new"), "rejected"),
    (NOT_VALID, NO_DATA, "rejected"),
    (NOT_VALID, answer(200, "no json"), "rejected"),
    (NOT_VALID, ANOTHER, "retry"),
    (NOT_VALID, answer(503), "retry"),
    (NOT_VALID, requests.ReadTimeout(), "retry"),
    *((answer(status), EXITED, "already_exited") for status in (302, 404, 410, 418)),
]


def check(
    world: World, log: Log, body: str, answers: tuple[Answer | Exception, Answer | Exception | None, str], receives: int
) -> None:
    said, shown, outcome = answers
    archive = "archive" in body
    world.api.on("POST" if archive else "DELETE", "devin-1", said)
    if shown is not None:
        world.api.on("GET", "devin-1", shown)
    world.send(body)
    kept = world.invoke(world.batch(receives=receives))["batchItemFailures"]
    (line,) = log()
    assert line["outcome"] == line["message"] == outcome
    assert [method for method, _ in world.api.calls] == ["POST" if archive else "DELETE", *(["GET"] if shown else [])]
    assert bool(kept) is (outcome in {"retry", "forbidden"})
    reasons = [attributes["reason"] for _, attributes in world.dead_letters()]
    assert reasons == ([f"rejected_{said[0]}"] if outcome == "rejected" and isinstance(said, tuple) else [])


@pytest.mark.fault(1, 2, 4, 5, 7, 50)
@pytest.mark.parametrize("answers", AT_FIRST)
def test_an_answer_to_a_first_delivery(world: World, log: Log, answers: Any) -> None:
    check(world, log, "devin-1", answers, 1)


@pytest.mark.fault(17)
@pytest.mark.parametrize("answers", REDELIVERED)
def test_the_rejection_of_a_redelivery_is_looked_into(world: World, log: Log, answers: Any) -> None:
    check(world, log, "devin-1", answers, 2)


PROBLEM = problem(400, "Bad Request", "no")


@pytest.mark.parametrize(
    "answers",
    [
        (answer(200, stale_v3("1", is_archived=True)), None, "archived"),
        (PROBLEM, answer(200, stale_v3("devin-1", status="exit")), "already_exited"),
        (PROBLEM, answer(200, stale_v3("devin-1", is_archived=True)), "archived"),
        (PROBLEM, answer(200, stale_v3("devin-1")), "rejected"),
        (answer(503), None, "retry"),
    ],
)
def test_an_answer_to_archiving(v3: World, log: Log, answers: Any) -> None:
    check(v3, log, '{"session_id": "devin-1", "action": "archive"}', answers, 1)
    assert v3.api.urls[0] == "/v3/organizations/org-abc123def456/sessions/devin-1/archive"
    assert v3.api.deleted() == []


def test_what_was_terminated_for_one_message_and_cannot_be_archived_for_another_is_no_dead_letter(
    v3: World, log: Log
) -> None:
    v3.api.on("POST", "devin-1", NOT_VALID)
    v3.api.on("GET", "devin-1", answer(200, stale_v3("devin-1", status="exit")))
    v3.send("devin-1", '{"session_id": "devin-1", "action": "archive"}')
    assert v3.deliver() == []
    assert sorted(line["outcome"] for line in log()) == ["already_exited", "terminated"]
    assert v3.dead_letters() == []


def test_a_key_of_version_1_cannot_archive(world: World) -> None:
    body = json.dumps({"session_id": "devin-1", "action": "archive"})
    world.send(body)
    assert world.deliver() == []
    ((kept, attributes),) = world.dead_letters()
    assert (kept, attributes["reason"]) == (body, "invalid_message")
    assert "cog_" in attributes["detail"]
    assert world.api.calls == []


@pytest.mark.parametrize("status", ["working", "expired"])
def test_the_rejection_of_a_session_that_was_read_before_is_looked_into(world: World, log: Log, status: str) -> None:
    world.api.on("GET", "devin-1", session(status))
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send(IF_UNCHANGED)
    assert world.deliver() == []
    assert [line["outcome"] for line in log()] == ["rejected" if status == "working" else "already_exited"]
    assert [letter["session_status"] for _, letter in world.dead_letters()] == (
        ["working"] if status == "working" else []
    )


@pytest.mark.parametrize("bodies", [(IF_UNCHANGED, "devin-1"), ("devin-1", IF_UNCHANGED)])
def test_a_request_without_a_condition_counts_whatever_others_ask_for(world: World, bodies: tuple[str, str]) -> None:
    world.api.on("GET", "devin-1", session(updated_at="2026-11-03T00:00:00Z", tags=["keep"]))
    world.send(*bodies)
    assert world.deliver() == []
    assert world.api.calls == [("DELETE", "devin-1")]


@pytest.mark.fault(1)
def test_a_dead_letter_says_why_and_the_log_what_happened(world: World, log: Log) -> None:
    world.api.on("DELETE", "devin-bad", NOT_VALID)
    world.api.on("GET", "devin-bad", session(session_id="devin-bad"))
    body = '{"session_id": "devin-bad", "unless_updated_since": "2026-11-02T00:00:00Z"}'
    world.send("devin-1", body)

    assert world.deliver() == []

    ((kept, attributes),) = world.dead_letters()
    assert kept == body
    assert attributes.pop("failed_at").endswith("+00:00")
    assert attributes == {
        "reason": "rejected_422",
        "http_status": "422",
        "detail": "path.session_id: session has exited",
        "session_id": "devin-bad",
        "session_status": "working",
        "source": "sqs",
        "request_id": "request-1",
        "attempts": "1",
    }
    line = next(line for line in log() if line["session_id"] == "devin-1")
    assert (line["outcome"], line["http_status"], line["source"]) == ("terminated", 200, "sqs")
    assert (line["receive_count"], line["attempts"], line["duration_ms"] >= 0) == (1, 1, True)
    assert line["message_id"]


def test_a_dry_run_terminates_and_archives_nothing(v3: World, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.setenv("DRY_RUN", "true")
    v3.api.have(stale_v3("devin-1"))
    v3.send(
        "devin-2", IF_UNCHANGED.replace("-02T", "-29T"), '{"session_id": "devin-3", "action": "archive"}', "nonsense"
    )
    assert v3.deliver() == []
    assert v3.api.calls == [("GET", "devin-1")]
    assert sorted(line["outcome"] for line in log()) == ["invalid", *["would_terminate"] * 3]


@pytest.mark.parametrize(("left", "given"), [(1.0, 1.0), (9.5, 9.5), (CALL_SECONDS, 10.0), (600.0, 10.0)])
def test_a_call_gets_what_is_left_and_ten_seconds_at_most(left: float, given: float) -> None:
    transport = mock.Mock(**{"request.return_value": Reply(200, {}, b"")})
    keys = ApiKeys(lambda _: "apk_made-up", lambda _: None)
    client = DevinClient(
        transport, keys, Throttle(), Redactor(), org_id=None, keep_viewable=False, seconds_left=lambda: left
    )
    client.terminate("devin-1")
    assert transport.request.call_args.kwargs["seconds"] == given


@pytest.mark.parametrize(("repeated", "outcome"), [(True, "already_exited"), (False, "rejected")])
def test_the_rejection_of_a_request_that_was_sent_twice_is_looked_into(repeated: bool, outcome: str) -> None:
    def api(method: str, _: str) -> Reply:
        shown = b'{"session_id": "devin-1", "status_enum": "expired"}'
        return Reply(422, {}, b"{}", repeated=repeated) if method == "DELETE" else Reply(200, {}, shown)

    function = Function(ScriptedTransport(api), KEY)
    function.invoke(batch({"body": "devin-1"}))
    assert [line["outcome"] for line in function.lines()] == [outcome]


def test_at_most_eleven_frames_lie_between_the_handler_and_the_call_that_cannot_be_undone() -> None:
    depths = []

    def api(*_: str) -> Reply:
        frames = [frame for frame in traceback.extract_stack() if "/functions/" in frame.filename]
        depths.append(len(frames))
        return Reply(200, {}, b"")

    Function(ScriptedTransport(api), KEY).invoke({"session_id": "devin-1"})
    # Behind them, the transport hands the request to its adapter, which sends it.
    assert max(depths) + 2 <= 11
