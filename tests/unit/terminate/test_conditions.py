"""Requests with a condition, a sweep's for instance: what they spare, and what is no condition."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.world import DAYS, NOT_VALID, Log, World, answer, session, stale, stale_v3

SINCE = "2026-11-23T00:00:00Z"


def asks(session_id: str, **fields: Any) -> str:
    return json.dumps({"session_id": session_id, "unless_updated_since": SINCE} | fields)


SINCE_2_NOVEMBER = '{"session_id": "devin-1", "unless_updated_since": "2026-11-02T12:00:00+02:00"}'


@pytest.mark.fault(24, 28)
@pytest.mark.parametrize(
    ("updated_at", "outcome"),
    [
        ("2026-11-02T10:00:00.001Z", "spared"),
        ("2026-11-02T12:00:00", "spared"),
        ("2026-11-02T10:00:00Z", "terminated"),
        ("2026-11-02T09:59:59", "terminated"),
        ("2026-11-02T11:59:59+02:00", "terminated"),
        ("9999-12-31T23:59:59-01:00", "retry"),
        ("soon", "retry"),
    ],
)
def test_a_session_that_was_updated_later_is_spared(world: World, log: Log, updated_at: str, outcome: str) -> None:
    world.api.on("GET", "devin-1", session(updated_at=updated_at))
    world.send(SINCE_2_NOVEMBER)
    world.deliver()
    assert [line["outcome"] for line in log()] == [outcome]
    assert world.api.deleted() == (["devin-1"] if outcome == "terminated" else [])


@pytest.mark.parametrize(
    ("shown", "outcome"),
    [
        # The end of a session is an update too: perhaps an earlier attempt's, whose answer was lost.
        (session("expired", updated_at="2999-01-01T00:00:00Z"), "already_exited"),
        (answer(500), "retry"),
        (answer(200, "?"), "retry"),
        (answer(404, {"detail": "unknown"}), "rejected"),
        (session(tags=["keep"], session_id="devin-2"), "retry"),
        (session(session_id="devin-2"), "retry"),
        (session(session_id=""), "retry"),
        (session(tags="keep"), "retry"),
        (session(tags=[1]), "retry"),
        # Nor is one that has exited tried for ever.
        (session("expired", updated_at=""), "already_exited"),
    ],
)
@pytest.mark.fault(37)
def test_a_session_is_ended_only_if_it_can_be_read(world: World, log: Log, shown: Any, outcome: str) -> None:
    world.api.on("GET", "devin-1", shown)
    world.send(SINCE_2_NOVEMBER)
    world.deliver()
    assert [line["outcome"] for line in log()] == [outcome]
    assert world.api.deleted() == []


@pytest.mark.fault(14)
@pytest.mark.parametrize("later", [answer(404), answer(200, "?"), answer(429), answer(500), session("working")])
def test_a_session_that_was_read_as_exited_is_no_dead_letter_whatever_a_second_read_says(
    world: World, log: Log, later: Any
) -> None:
    world.api.on("GET", "devin-1", session("expired"), later)
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send(SINCE_2_NOVEMBER)
    assert world.deliver() == []
    assert [line["outcome"] for line in log()] == ["already_exited"]
    assert world.dead_letters() == []


@pytest.mark.parametrize(
    ("updated_at", "outcome"),
    [
        (stale_v3(idle=DAYS)["updated_at"], "terminated"),
        (stale_v3(idle=DAYS)["updated_at"] + 1, "spared"),
        (None, "retry"),
        ("", "retry"),
        (True, "retry"),
        (10**30, "retry"),
        (float("nan"), "retry"),
    ],
)
def test_v3_gives_seconds(v3: World, log: Log, updated_at: object, outcome: str) -> None:
    v3.api.have(stale_v3("devin-1", updated_at=updated_at))
    v3.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-23T11:00:00+01:00"}')
    v3.deliver()
    assert [line["outcome"] for line in log()] == [outcome]


@pytest.mark.fault(34, 35)
@pytest.mark.parametrize(
    ("tag", "protect_tag"),
    [
        *((tag, "") for tag in ("keep", "KEEP", "keep ", "\u00a0keep\u2003", "ke\u200bep", "ke\u00adep", "\uff4beep")),
        ("CAFÉ", "Café"),
        ("CAFÉ", "cafe\u0301"),
    ],
)
def test_a_session_that_is_tagged_after_the_sweep_is_spared(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Log, tag: str, protect_tag: str
) -> None:
    monkeypatch.setenv("PROTECT_TAG", protect_tag)
    world.api.have(stale("devin-1"))
    world.sweep(idle_for="P1D", max_share=1, dry_run=False)
    world.api.have(stale("devin-1", tags=["nightly", tag]))
    world.deliver()
    assert world.api.deleted() == []
    assert [line["outcome"] for line in log() if "outcome" in line] == ["spared"]


@pytest.mark.fault(50)
@pytest.mark.parametrize("fields", [{"tags": ["keep"]}, {"is_archived": True}])
@pytest.mark.parametrize("action", ["terminate", "archive"])
def test_v3_spares_what_is_tagged_or_archived(v3: World, fields: dict[str, Any], action: str) -> None:
    v3.api.have(stale_v3("devin-1", **fields))
    v3.send(asks("devin-1", action=action))
    assert v3.deliver() == []
    assert v3.api.calls == [("GET", "devin-1")]


@pytest.mark.fault(34)
def test_a_tag_that_comes_while_the_api_is_down_or_the_switch_is_on_spares(switch: World) -> None:
    switch.api.have(stale("devin-1"))
    switch.send(asks("devin-1"))
    switch.api.on("DELETE", "devin-1", answer(503), answer(200))
    event = switch.batch()
    assert switch.invoke(event)["batchItemFailures"]
    switch.switch("stop")
    assert switch.invoke(event)["batchItemFailures"]
    switch.switch("go")
    switch.api.have(stale("devin-1", tags=["keep"]))
    assert switch.invoke(event) == {"batchItemFailures": []}
    assert switch.api.deleted() == ["devin-1"], "the one before the tag"


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    "condition",
    [
        pytest.param((datetime.now(UTC) + timedelta(days=1)).isoformat(), id="tomorrow"),
        "2999-01-01T00:00:00Z",
        "2023-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z",
        "1764500000000",
        1764500000,
        "20261101T000000Z",
        "2026-W45-1T00:00:00Z",
        "2026-11-01",
        "2026-11-01x00:00:00",
        "",
        None,
        [],
        True,
    ],
)
def test_an_impossible_condition_is_an_invalid_message(world: World, condition: object) -> None:
    world.send(asks("devin-1", unless_updated_since=condition))
    assert world.deliver() == []
    ((body, attributes),) = world.dead_letters()
    assert body == asks("devin-1", unless_updated_since=condition)
    assert attributes["reason"] == "invalid_message"
    assert "unless_updated_since" in attributes["detail"]
    assert world.api.calls == []


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param((datetime.now(UTC) + timedelta(minutes=3)).isoformat(), id="in three minutes"),
        "2024-01-01T00:00:00Z",
        "2026-11-01 10:00",
        "2026-11-01T10:00:00.123456+02:00",
    ],
)
def test_a_condition_within_the_bounds_is_read(world: World, condition: str) -> None:
    world.api.have(stale("devin-1", updated_at="2024-01-01T00:00:00Z", created_at="2024-01-01T00:00:00Z"))
    world.send(asks("devin-1", unless_updated_since=condition))
    assert world.deliver() == []
    assert world.api.deleted() == ["devin-1"]


def order(since: str | None) -> str:
    return "devin-1" if since is None else asks("devin-1", unless_updated_since=since)


EARLY, LATE = "2026-11-22T00:00:00Z", "2026-11-24T00:00:00Z"


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("orders", "widest"),
    [((EARLY, None), None), ((None, EARLY), None), ((EARLY, LATE), LATE), ((LATE, EARLY), LATE)],
)
def test_of_two_rejected_requests_the_one_that_asks_for_more_is_the_dead_letter(
    world: World, orders: tuple[str | None, str | None], widest: str | None
) -> None:
    world.api.have(stale("devin-1", idle=timedelta(days=20)))
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.send(*map(order, orders))
    assert world.deliver() == []
    assert [body for body, _ in world.dead_letters()] == [order(widest)]


def test_a_table_that_cannot_be_written_changes_nothing_for_the_session(world: World, log: Log) -> None:
    world.api.have(stale("devin-1"))
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.aws.fail("dynamodb.BatchWriteItem")
    world.send(asks("devin-1"))
    assert world.deliver() == []
    assert len(world.dead_letters()) == 1
    assert any("table of notices and rejections" in line["message"] for line in log())


def test_a_requeued_request_still_names_its_sweep(switch: World) -> None:
    switch.api.have(stale("devin-1"))
    run = switch.sweep(idle_for="P1D", max_share=1, dry_run=False)["run"]
    switch.switch("stop")
    switch.invoke(switch.batch(receives=4))
    sent = [one["MessageAttributes"] for one in switch.requeued()]
    assert [one["sweep_run"]["StringValue"] for one in sent] == [run, run]
    assert [one["source"]["StringValue"] for one in sent] == ["sweep", "sweep"]


@pytest.mark.parametrize(("seconds", "remembered"), [(60, 1), (15, 0)])
def test_a_rejection_is_remembered_only_if_a_table_that_hangs_cannot_outlast_the_invocation(
    world: World, seconds: int, remembered: int
) -> None:
    world.api.on("GET", "devin-1", session(updated_at="2026-11-01T00:00:00Z"))
    world.api.on("DELETE", "devin-1", NOT_VALID)
    world.context.remaining_milliseconds = seconds * 1000
    world.send(asks("devin-1"))
    assert world.deliver() == []
    assert len(world.dead_letters()) == 1
    assert len(world.remembered()) == remembered
