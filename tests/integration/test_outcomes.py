"""Every row of the outcome table, from the message to where it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from infra.local.fake_devin import FakeDevin, Fault
from infra.local.fake_devin.faults import gzip_bomb, html_error, huge, redirect, too_many_requests
from infra.local.fake_devin.sessions import ORG_ID
from tests.integration.conftest import Underway
from tests.integration.world import World, wait_for

MEGABYTE = 1024 * 1024
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def conditional(session_id: str, since: str) -> str:
    return json.dumps({"session_id": session_id, "unless_updated_since": since})


def test_terminated(world: World) -> None:
    session_id = world.session("good")
    message_id = world.send(session_id)
    world.story(session_id, "terminated")
    assert world.exited(session_id)
    (line,) = world.lines(session_id)
    assert line["message"] == "terminated"
    assert line["message_id"] == message_id
    assert line["http_status"] == 200
    assert line["duration_ms"] >= 0
    assert line["level"] == "INFO"


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "answer",
    [Fault(status=200, body="<h1>Maintenance</h1>"), gzip_bomb(50 * MEGABYTE), huge(17 * MEGABYTE)],
    ids=["page", "bomb", "huge"],
)
def test_a_2xx_that_does_not_say_that_it_ended_the_session_is_looked_into(world: World, answer: Fault) -> None:
    session_id = world.session("odd", answer)
    world.send(session_id)
    assert world.story(session_id, "terminated") == ["retry", "terminated"]
    assert world.methods(session_id) == ["DELETE", "GET", "DELETE"]
    assert world.letters_about(session_id) == []


def test_a_session_that_moved_on_is_spared(world: World) -> None:
    session_id = world.session("awake", updated_at=datetime(2026, 3, 1, tzinfo=UTC), created_at=LONG_AGO)
    world.send(conditional(session_id, "2026-02-01T00:00:00Z"))
    assert world.story(session_id, "spared") == ["spared"]
    assert world.methods(session_id) == ["GET"]
    assert not world.exited(session_id)


def test_409_of_an_exited_session_is_its_end(world: World) -> None:
    session_id = world.session("conflict", Fault(status=409, body='{"detail": "exited"}'), status="exit")
    world.send(session_id)
    assert world.story(session_id, "already_exited") == ["already_exited"]
    assert world.methods(session_id) == ["DELETE", "GET"]
    assert world.letters_about(session_id) == []


@pytest.mark.fault(17)
def test_a_redelivered_rejection_of_an_exited_session_is_its_end(world: World) -> None:
    session_id = world.session("redelivered", Fault(status=502), status="exit")
    world.send(session_id)
    assert world.story(session_id, "already_exited") == ["retry", "already_exited"]
    assert world.methods(session_id) == ["DELETE", "DELETE", "GET"]
    assert world.letters_about(session_id) == []


@pytest.mark.fault(1, 2, 23)
@pytest.mark.parametrize("status", [422, 404, 304, 410])
def test_a_rejection_is_a_dead_letter_that_works_again_as_it_is(world: World, status: int) -> None:
    if status == 404:
        session_id = world.name("unknown")
    elif status == 422:
        session_id = world.session("exited", status="exit")
    else:
        session_id = world.session(f"rejected-{status}", Fault(status=status, body='{"detail": "no"}'))
    world.send(session_id)

    letter = world.take_letter(session_id)

    assert letter.body == session_id
    told = {name: letter.attributes[name] for name in ("reason", "http_status", "session_id", "source", "attempts")}
    assert told == {
        "reason": f"rejected_{status}",
        "http_status": str(status),
        "session_id": session_id,
        "source": "sqs",
        "attempts": "1",
    }
    assert datetime.fromisoformat(letter.attributes["failed_at"]).tzinfo is not None
    assert letter.attributes["request_id"]
    assert bool(letter.attributes.get("detail")) == (status != 304), "a 304 has no body that could say why"
    assert world.story(session_id, "rejected") == ["rejected"]

    # The cause is mended: the session is there, and runs.
    if status == 404:
        world.stack.api.add_sessions(session_id)
    world.stack.api.wake(session_id)
    world.redrive(letter)

    assert world.story(session_id, "terminated") == ["rejected", "terminated"]
    assert world.letters_about(session_id) == []


@pytest.mark.fault(2, 31)
def test_a_redirect_is_a_rejection_and_its_target_never_called(world: World) -> None:
    with FakeDevin() as elsewhere:
        ids = []
        for status in (302, 307):
            session_id = world.session(f"redirected-{status}")
            elsewhere.add_sessions(session_id)
            target = redirect(f"{elsewhere.url}/v1/sessions/{session_id}", status)
            world.stack.api.script(target, session_id=session_id, times=1)
            world.send(session_id)
            ids.append((session_id, status))
        for session_id, status in ids:
            assert world.take_letter(session_id).attributes["reason"] == f"rejected_{status}"
            assert not world.exited(session_id)
        assert elsewhere.calls() == []


@pytest.mark.fault(18, 30)
@pytest.mark.parametrize(
    "body",
    [
        "ID/../../v1/sessions",
        "ID-\u0430",
        '{"session_id": "ID", "unless_updated_sinse": "2026-01-01"}',
        '{"session_id": ' + "[" * 5000 + '"ID"',
    ],
    ids=["traversal", "alike", "typo", "deep"],
)
def test_an_unusable_message_is_a_dead_letter_and_never_on_the_wire(world: World, body: str) -> None:
    session_id = world.session("unusable")
    body = body.replace("ID", session_id)
    message_id = world.send(body)

    letter = world.take_letter(session_id)

    assert letter.body == body
    assert letter.attributes["reason"] == "invalid_message"
    assert letter.attributes["detail"]
    assert not {"http_status", "session_id"} & letter.attributes.keys()
    (line,) = world.wait_for_lines("message_id", message_id)
    assert line["outcome"] == "invalid"

    # It is no more usable the second time, and lost no more than the first.
    world.redrive(letter)
    assert world.take_letter(session_id).body == body
    assert [call.path for call in world.stack.api.calls() if session_id in call.path] == []


@pytest.mark.fault(10)
def test_403_is_one_ids_problem(world: World) -> None:
    forbidden = world.session("forbidden", Fault(status=403, body='{"detail": "Forbidden"}'))
    good = [world.session("allowed") for _ in range(3)]
    world.send(json.dumps({"session_ids": [forbidden, *good]}))
    assert world.story(forbidden, "terminated") == ["forbidden", "terminated"]
    for session_id in good:
        assert world.story(session_id, "terminated") == ["terminated"]
        assert world.methods(session_id) == ["DELETE"]
    assert world.letters_about(forbidden) == []


PASSING = [408, 500, 503]
BROKEN = [("reset", "start"), ("close", "head"), ("close", "body")]


@pytest.fixture(scope="module")
def unlucky(world: World) -> dict[object, str]:
    """Ids by what their first calls meet, sent at once so that they wait side by side."""
    ids: dict[object, str] = {status: world.session(f"passing-{status}", html_error(status)) for status in PASSING}
    for kind, part in BROKEN:
        # With a status of its own, so that the API does nothing for it. Twice, because the first time may be taken for
        # a connection that went stale, which is replaced at once.
        fault = Fault.from_json({"kind": kind, "part": part, "status": 200, "body": '{"detail": "done"}'})
        ids[kind, part] = world.session(f"broken-{kind}-{part}", fault, fault)
    for session_id in ids.values():
        world.send(session_id)
    return ids


@pytest.mark.fault(4)
@pytest.mark.parametrize("status", PASSING)
def test_what_may_pass_is_tried_again(world: World, unlucky: dict[object, str], status: int) -> None:
    session_id = unlucky[status]
    assert world.story(session_id, "terminated") == ["retry", "terminated"]
    first, second = world.lines(session_id)
    assert first["http_status"] == status
    assert first["retry_in_seconds"] >= 1
    assert (first["receive_count"], second["receive_count"]) == (1, 2)
    assert world.methods(session_id) == ["DELETE"] * 2
    assert world.letters_about(session_id) == []


@pytest.mark.fault(5)
@pytest.mark.parametrize(("kind", "part"), BROKEN)
def test_a_connection_that_breaks_is_tried_again(
    world: World, unlucky: dict[object, str], kind: str, part: str
) -> None:
    session_id = unlucky[kind, part]
    outcomes = world.story(session_id, "terminated")
    assert outcomes in (["retry", "terminated"], ["retry", "retry", "terminated"])
    assert world.methods(session_id) == ["DELETE"] * 3
    assert world.exited(session_id)


def test_a_retry_after_is_obeyed(world: World) -> None:
    session_id = world.session("patient", Fault(status=503, headers={"Retry-After": "3"}))
    world.send(session_id)
    assert world.story(session_id, "terminated") == ["retry", "terminated"]
    first, second = world.calls(session_id)
    assert world.lines(session_id)[0]["retry_in_seconds"] == 3
    # The emulator's clock and this one are the same; SQS counts from when the visibility timeout was set.
    assert (second.at - first.at).total_seconds() >= 3


@pytest.mark.fault(6)
def test_an_api_that_hangs_drips_or_never_ends_costs_bounded_time(world: World, underway: Underway) -> None:
    assert world.story(underway.hang, "terminated") == ["retry", "terminated"]
    assert world.lines(underway.hang)[0]["detail"] == "no whole response in time"

    assert world.story(underway.drip, "already_exited") == ["retry", "already_exited"]
    assert world.lines(underway.drip)[0]["detail"] == "no whole response in time"

    assert world.story(underway.endless, "already_exited") == ["retry", "already_exited"]
    assert world.lines(underway.endless)[0]["detail"] == "the response does not end"
    for session_id in (underway.hang, underway.drip):
        # Ten seconds for a call, and one call; the platform's limit of sixty had no part in it.
        assert 10_000 <= world.lines(session_id)[0]["duration_ms"] < 20_000
    for session_id in (underway.hang, underway.drip, underway.endless):
        assert world.exited(session_id)
        assert world.letters_about(session_id) == []


@pytest.mark.fault(3)
def test_429_brakes_its_invocation(quiet: World) -> None:
    braked, *others = (quiet.session("braked") for _ in range(30))
    quiet.stack.api.script(too_many_requests("2"), session_id=braked, times=1)
    for session_id in others:
        # So long that the first answer is the 429.
        quiet.stack.api.script(Fault(kind="pass", delay=0.5), session_id=session_id, times=1)
    quiet.send(json.dumps({"session_ids": [braked, *others]}))
    assert quiet.story(braked, "terminated") == ["retry", "terminated"]
    for session_id in others:
        quiet.story(session_id, "terminated")
        assert quiet.methods(session_id) == ["DELETE"]
    first = [quiet.lines(session_id)[0] for session_id in others]
    # Ten calls at once: the one that is told to slow down stops those that have not begun.
    not_called = [line for line in first if line["outcome"] == "retry"]
    assert len(not_called) >= 20
    assert all("slow down" in line["detail"] for line in not_called)
    assert all(line["retry_in_seconds"] >= 2 for line in not_called)
    assert quiet.letters_about(braked) == []


@pytest.mark.fault(8)
def test_a_rotated_key_is_read_anew_and_the_call_repeated(quiet: World) -> None:
    session_id = quiet.session("rotated")
    with quiet.api_key('{"service_key": "apk_user_rotated-fedcba98"}', "apk_user_rotated-fedcba98"):
        quiet.send(session_id)
        assert quiet.story(session_id, "terminated") == ["terminated"]
        assert [call.authorised for call in quiet.calls(session_id)] == [False, True]


@pytest.mark.fault(9)
def test_a_refused_key_is_kept_from_the_api_until_it_is_replaced(quiet: World) -> None:
    ids = [quiet.session("refused") for _ in range(4)]
    with quiet.api_key("apk_user_revoked-00112233", "apk_user_valid-44556677"):
        quiet.keys.add("apk_user_revoked-00112233")
        quiet.send(json.dumps({"session_ids": ids}))
        wait_for(
            lambda: all("unauthorized" in quiet.outcomes(session_id) for session_id in ids),
            "all refused",
            told=lambda: [quiet.lines(session_id) for session_id in ids],
        )
        assert not any(map(quiet.exited, ids))
        quiet.stack.put_api_key("apk_user_valid-44556677")
        for session_id in ids:
            assert set(quiet.story(session_id, "terminated")) == {"unauthorized", "terminated"}
            assert quiet.exited(session_id)
            assert quiet.letters_about(session_id) == []


@pytest.mark.fault(11)
def test_an_unusable_key_keeps_everything_and_says_what_to_store(quiet: World) -> None:
    session_id = quiet.session("newline")
    with quiet.api_key("apk_user_newline-8899aabb\n", "apk_user_mended-ccddeeff"):
        quiet.keys.add("apk_user_newline-8899aabb")
        quiet.send(session_id)
        quiet.wait_for_attempt(session_id)
        quiet.send(later := quiet.session("newline-later"))
        quiet.wait_for_attempt(later)
        quiet.stack.put_api_key("apk_user_mended-ccddeeff")
        for kept in (session_id, later):
            quiet.story(kept, "terminated")
            assert {line["outcome"] for line in quiet.lines(kept)} <= {"unauthorized", "retry", "terminated"}
            assert quiet.letters_about(kept) == []


def test_a_dry_run_ends_nothing(quiet: World) -> None:
    plain, awake, stale = (quiet.session(label, updated_at=LONG_AGO) for label in ("dry", "dry-awake", "dry-stale"))
    with quiet.environment(DRY_RUN="true"):
        answer = quiet.invoke({"session_ids": [awake, "devin-?"], "unless_updated_since": "2025-01-01T00:00:00Z"})
        assert answer == {"spared": [awake], "invalid": ["devin-?"]}
        quiet.send(plain)
        quiet.send(conditional(stale, "2026-02-01T00:00:00Z"))
        for session_id in (plain, stale):
            assert quiet.story(session_id, "would_terminate") == ["would_terminate"]
        quiet.wait_until_drained()
    assert quiet.take_letter("devin-?").attributes["reason"] == "invalid_message"
    assert [quiet.methods(session_id) for session_id in (plain, awake, stale)] == [[], ["GET"], ["GET"]]
    assert not any(map(quiet.exited, (plain, awake, stale)))


def test_version_3_of_the_api_by_the_keys_prefix(quiet: World) -> None:
    good, exited = quiet.session("v3"), quiet.session("v3-exited", status="exit")
    elsewhere = quiet.session("v3-elsewhere", org_id="org-other")
    key = "cog_service-0123456789abcdef"
    with (
        quiet.api_key(json.dumps({"api_key": key}), key),
        quiet.environment(DEVIN_ORG_ID="org-fake", ARCHIVE="true"),
    ):
        quiet.send(json.dumps({"session_ids": [good, exited, elsewhere]}))
        assert quiet.story(good, "terminated") == ["terminated"]
        assert quiet.story(exited, "already_exited") == ["already_exited"]
        quiet.wait_for_attempt(elsewhere)
        quiet.stack.api.update_session(elsewhere, org_id=ORG_ID)
        # Alone in its invocation it looks like a bad key; whether it gets there before the update is a matter of time.
        assert quiet.story(elsewhere, "terminated")[0] == "forbidden"
        assert set(quiet.outcomes(elsewhere)) <= {"forbidden", "unauthorized", "terminated"}
    assert quiet.stack.api.session(good).is_archived
    assert [call.path for call in quiet.calls(good)] == [f"/v3/organizations/{ORG_ID}/sessions/{good}?archive=true"]
