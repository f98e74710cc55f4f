"""v3 of the API, where it differs from v1: paths, archiving, errors, ids, dates, and how a bad key is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sweep.sweep import SweepError
from tests.unit.world import (
    DAYS,
    KEY,
    NO_ACCESS,
    NOW,
    ORG_ID,
    V3_KEY,
    World,
    answer,
    page_v3,
    problem,
    session,
    stale_v3,
)  # fmt: skip

Log = Callable[[], list[dict[str, Any]]]

SESSIONS = f"/v3/organizations/{ORG_ID}/sessions"
ENDS: dict[str, Any] = {"idle_for": "P1D", "max_share": 1, "dry_run": False}
EXITED = problem(409, "Conflict", "The session has exited already.")


def outcomes(log: Log) -> dict[str, str]:
    return {line["session_id"]: line["outcome"] for line in log() if "outcome" in line}


# Terminating -------------------------------------------------------------------------------------------------------


def test_the_path_names_the_organisation(v3: World) -> None:
    v3.send("devin-1")
    assert v3.deliver() == []
    assert v3.api.urls == [f"{SESSIONS}/devin-1"]
    assert v3.api.keys == [V3_KEY]


@pytest.mark.parametrize(("archive", "query"), [("true", "?archive=true"), ("false", ""), ("", "")])
def test_a_session_is_archived_if_that_is_set(
    v3: World, monkeypatch: pytest.MonkeyPatch, archive: str, query: str
) -> None:
    monkeypatch.setenv("ARCHIVE", archive)
    v3.api.have(stale_v3("devin-1"))
    v3.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-24T10:00:00Z"}')
    v3.deliver()
    assert v3.api.urls == [f"{SESSIONS}/devin-1", f"{SESSIONS}/devin-1{query}"]
    assert v3.api.deleted() == ["devin-1"]


def test_v1_knows_no_archive_and_no_organisation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE", "true")
    monkeypatch.setenv("DEVIN_ORG_ID", ORG_ID)
    world.send("devin-1")
    world.deliver()
    assert world.api.urls == ["/v1/sessions/devin-1"]


@pytest.mark.parametrize("key", ["apk_x-012345", "apk_user_x-012345", "012345-x", "COG_x-012345", "xcog_012345"])
def test_only_a_key_that_starts_with_cog_is_one_of_v3(v3: World, key: str) -> None:
    v3.secrets.put_secret_value(SecretId=v3.secret, SecretString=key)
    v3.send("devin-1")
    v3.deliver()
    assert v3.api.urls == ["/v1/sessions/devin-1"]


@pytest.mark.parametrize("name", ["api_key", "service_key", "token"])
def test_a_key_of_v3_may_be_in_json(v3: World, name: str) -> None:
    v3.secrets.put_secret_value(SecretId=v3.secret, SecretString=json.dumps({name: V3_KEY}))
    v3.send("devin-1")
    v3.deliver()
    assert v3.api.urls == [f"{SESSIONS}/devin-1"]


def test_an_id_without_prefix_is_called_with_it(v3: World) -> None:
    v3.send("0123456789abcdef0123456789abcdef")
    v3.deliver()
    assert v3.api.urls == [f"{SESSIONS}/devin-0123456789abcdef0123456789abcdef"]


@pytest.mark.parametrize(
    ("idle", "outcome"),
    [(2 * DAYS, "terminated"), (1 * DAYS, "terminated"), (DAYS / 86_400 * 86_399, "spared"), (0 * DAYS, "spared")],
)
def test_seconds_are_compared_with_the_condition(v3: World, log: Log, idle: Any, outcome: str) -> None:
    v3.api.have(stale_v3("devin-1", idle=idle))
    v3.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-23T11:00:00+01:00"}')
    v3.deliver()
    assert outcomes(log) == {"devin-1": outcome}


@pytest.mark.parametrize("updated_at", [None, "", True, 10**30, {}, float("nan")])
def test_without_a_date_no_session_is_ended(v3: World, log: Log, updated_at: object) -> None:
    v3.api.have(stale_v3("devin-1", updated_at=updated_at))
    v3.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-23T10:00:00Z"}')
    assert len(v3.deliver()) == 1
    assert outcomes(log) == {"devin-1": "retry"}
    assert v3.api.deleted() == []


# Errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason", "detail"),
    [
        (problem(404, "Not Found", "No such session."), "rejected_404", "Not Found: No such session."),
        (problem(422, "Unprocessable", "path.devin_id: no id"), "rejected_422", "Unprocessable: path.devin_id: no id"),
        (answer(422, {"detail": [{"loc": ["path", "devin_id"], "msg": "no id", "type": "t"}]}), "rejected_422",
         "path.devin_id: no id"),
        (answer(410, {"detail": "v3 is gone"}), "rejected_410", "v3 is gone"),
    ],
)  # fmt: skip
def test_an_error_becomes_a_dead_letter_that_says_what_it_says(v3: World, said: Any, reason: str, detail: str) -> None:
    v3.api.on("DELETE", "devin-1", said)
    v3.send("devin-1")
    assert v3.deliver() == []
    ((body, attributes),) = v3.dead_letters()
    assert (body, attributes["reason"], attributes["detail"]) == ("devin-1", reason, detail)


def test_409_of_an_exited_session_is_its_end(v3: World, log: Log) -> None:
    v3.api.on("DELETE", "devin-1", EXITED)
    v3.api.have(stale_v3("devin-1", status="exit", status_detail=None))
    v3.send("devin-1")
    assert v3.deliver() == []
    assert outcomes(log) == {"devin-1": "already_exited"}
    assert v3.api.urls == [f"{SESSIONS}/devin-1"] * 2
    assert v3.dead_letters() == []


@pytest.mark.parametrize("status", ["new", "creating", "claimed", "running", "error", "suspended", "resuming"])
def test_409_of_a_session_that_has_not_exited_is_a_rejection(v3: World, status: str) -> None:
    v3.api.on("DELETE", "devin-1", EXITED)
    v3.api.have(stale_v3("devin-1", status=status, status_detail="finished"))
    v3.send("devin-1")
    v3.deliver()
    ((_, attributes),) = v3.dead_letters()
    assert (attributes["reason"], attributes["session_status"]) == ("rejected_409", status)


# Keys --------------------------------------------------------------------------------------------------------------


def test_if_every_call_is_403_the_key_is_bad(v3: World, log: Log, counted: Callable[[], dict[str, float]]) -> None:
    v3.api.good_keys = set()
    v3.send("devin-1", "devin-2", "devin-3")
    event = v3.batch()
    assert len(v3.invoke(event)["batchItemFailures"]) == 3
    lines = log()
    assert [line["outcome"] for line in lines] == ["unauthorized"] * 3
    assert all("store a valid one" in line["detail"] for line in lines)
    v3.invoke(event)
    assert counted() == {"unauthorized": 3}
    assert v3.dead_letters() == []


def test_a_single_403_is_a_bad_key_too(v3: World, log: Log) -> None:
    v3.api.on("DELETE", "devin-1", NO_ACCESS)
    v3.api.on("LIST", "", NO_ACCESS)
    v3.send("devin-1")
    assert len(v3.deliver()) == 1
    assert outcomes(log) == {"devin-1": "unauthorized"}
    assert v3.queued() == (0, 1, 0)


@pytest.mark.parametrize("listed", [page_v3(), answer(503), answer(404)])
def test_a_single_403_of_a_key_that_can_list_is_about_the_session(v3: World, log: Log, listed: Any) -> None:
    v3.api.on("DELETE", "devin-1", NO_ACCESS)
    v3.api.on("LIST", "", listed)
    v3.send("devin-1")
    assert len(v3.deliver()) == 1
    assert outcomes(log) == {"devin-1": "forbidden"}
    assert v3.api.listed() == ["first=1"]


@pytest.mark.fault(10)
def test_if_some_calls_succeed_403_is_a_problem_of_its_id(v3: World, log: Log) -> None:
    v3.api.on("DELETE", "devin-2", problem(403, "Forbidden", "The session does not belong to this organization."))
    v3.send("devin-1", "devin-2", "devin-3")
    assert len(v3.deliver()) == 1
    assert outcomes(log) == {"devin-1": "terminated", "devin-2": "forbidden", "devin-3": "terminated"}


def test_an_id_that_comes_first_and_is_forbidden_does_not_stop_the_others(v3: World, log: Log) -> None:
    v3.api.on("DELETE", "devin-1", NO_ACCESS)
    v3.send('{"session_ids": ["devin-1", "devin-2"]}')
    v3.deliver()
    assert outcomes(log) == {"devin-1": "forbidden", "devin-2": "terminated"}


def test_a_session_that_may_be_read_but_not_ended_is_its_own_problem(v3: World, log: Log) -> None:
    v3.api.have(stale_v3("devin-1"))
    v3.api.on("DELETE", "devin-1", NO_ACCESS)
    v3.send('{"session_id": "devin-1", "unless_updated_since": "2026-11-24T10:00:00Z"}')
    v3.deliver()
    assert outcomes(log) == {"devin-1": "forbidden"}


def test_v1_tells_a_bad_key_by_401_so_403_is_an_ids_problem_there(world: World, log: Log) -> None:
    for number in range(3):
        world.api.on("DELETE", f"devin-{number}", answer(403, {"detail": "Forbidden"}))
    world.send("devin-0", "devin-1", "devin-2")
    assert len(world.deliver()) == 3
    assert set(outcomes(log).values()) == {"forbidden"}


def test_a_bad_key_is_read_anew_once(v3: World) -> None:
    v3.send("devin-0")
    v3.deliver()
    v3.api.good_keys = set()
    v3.aws.calls.clear()
    v3.send("devin-1", "devin-2", "devin-3")
    v3.deliver()
    assert v3.aws.names().count("secretsmanager.GetSecretValue") == 1


@pytest.mark.fault(49)
def test_a_401_names_the_access_list_too_and_messages_wait(v3: World, log: Log) -> None:
    """A key of version 3 is refused by 403; its enterprise's IP access list answers 401."""
    v3.api.on("DELETE", "devin-1", problem(401, "Unauthorized", "Your IP address is not allowed."))
    v3.send("devin-1")
    assert len(v3.deliver()) == 1
    (line,) = log()
    assert line["outcome"] == "unauthorized"
    assert "IP access list" in line["detail"]
    assert v3.dead_letters() == []


@pytest.mark.fault(8)
def test_a_rotated_key_is_read_anew(v3: World, log: Log) -> None:
    v3.send("devin-0")
    v3.deliver()
    v3.secrets.put_secret_value(SecretId=v3.secret, SecretString="cog_new-0123")
    v3.api.good_keys = {"cog_new-0123"}
    v3.send("devin-1", "devin-2")
    log()
    assert v3.deliver() == []
    assert v3.api.keys[1:] == [V3_KEY, "cog_new-0123", "cog_new-0123"]
    assert outcomes(log) == {"devin-1": "terminated", "devin-2": "terminated"}


def test_a_key_of_v1_is_replaced_by_one_of_v3_without_a_deployment(
    world: World, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setenv("DEVIN_ORG_ID", ORG_ID)
    world.send("devin-0")
    world.deliver()
    world.secrets.put_secret_value(SecretId=world.secret, SecretString=V3_KEY)
    world.api.good_keys = {V3_KEY}
    world.send("devin-1")
    log()
    assert world.deliver() == []
    assert world.api.urls[1:] == ["/v1/sessions/devin-1", f"{SESSIONS}/devin-1"]
    assert outcomes(log) == {"devin-1": "terminated"}


@pytest.mark.parametrize("key", [KEY, V3_KEY])
@pytest.mark.parametrize("spoilt", ["cog_spoilt\n", "", "{"])
def test_if_the_secret_is_unusable_by_the_time_of_a_403_everything_is_kept(
    v3: World, log: Log, key: str, spoilt: str
) -> None:
    v3.secrets.put_secret_value(SecretId=v3.secret, SecretString=key)
    v3.send("devin-0")
    v3.deliver()
    if spoilt:
        v3.secrets.put_secret_value(SecretId=v3.secret, SecretString=spoilt)
    else:
        v3.aws.fail("secretsmanager.GetSecretValue")
    v3.api.on("DELETE", "devin-1", NO_ACCESS)
    v3.send("devin-1")
    log()
    assert len(v3.deliver()) == 1
    assert outcomes(log)["devin-1"] in {"unauthorized", "forbidden", "retry"}


def test_without_an_organisation_everything_is_kept_and_the_variable_is_named(
    v3: World, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setenv("DEVIN_ORG_ID", "")
    v3.send("devin-1", '{"session_id": "devin-2", "unless_updated_since": "2026-11-24T10:00:00Z"}')
    assert len(v3.deliver()) == 2
    assert v3.api.calls == []
    assert v3.queued() == (0, 2, 0)
    lines = log()
    assert [line["outcome"] for line in lines] == ["retry"] * 2
    assert all("DEVIN_ORG_ID" in line["detail"] for line in lines)
    assert "canary" not in json.dumps(lines)


def test_without_an_organisation_nothing_can_be_swept(v3: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEVIN_ORG_ID")
    with pytest.raises(SweepError, match="DEVIN_ORG_ID"):
        v3.sweep(**ENDS)
    assert v3.api.calls == []


@pytest.mark.parametrize("org_id", ["org/../x", "org 1", "org-1?", "org-1#", "../", "órg", "o" * 129, "org%2f1", "."])
def test_an_organisation_cannot_be_a_path(v3: World, monkeypatch: pytest.MonkeyPatch, org_id: str) -> None:
    monkeypatch.setenv("DEVIN_ORG_ID", org_id)
    v3.send("devin-1")
    with pytest.raises(ValueError, match="DEVIN_ORG_ID"):
        v3.deliver()
    assert v3.api.calls == []


# Sweeping ----------------------------------------------------------------------------------------------------------


def ids(world: World) -> list[str]:
    return [body["session_id"] for body in world.enqueued()]


def test_a_listed_id_gets_its_prefix(v3: World) -> None:
    bare = "0123456789abcdef0123456789abcdef"
    v3.api.on("LIST", "", page_v3(stale_v3(bare), stale_v3("abc123def456"), stale_v3("devin-abc")))
    v3.sweep(**ENDS)
    assert ids(v3) == [f"devin-{bare}", "devin-abc", "devin-abc123def456"]


def test_an_id_is_one_session_with_and_without_its_prefix(v3: World) -> None:
    v3.api.on("LIST", "", page_v3(stale_v3("abc"), following="a"), page_v3(stale_v3("devin-abc", tags=["keep"])))
    report = v3.sweep(**ENDS)
    assert (report["listed"], report["kept"]) == (1, {"protected by its tag": 1})
    assert ids(v3) == []


@pytest.mark.parametrize(
    "session_id", ["../x", "a/b", "a b", "a%2f", "", "é", "a" * 123, "devin-", None, 7, True, ["a"]]
)
def test_what_is_no_id_is_left_alone(v3: World, session_id: object) -> None:
    v3.api.on("LIST", "", page_v3(stale_v3() | {"session_id": session_id}))
    assert v3.sweep(**ENDS)["kept"] == {"no session id": 1}
    assert ids(v3) == []


@pytest.mark.fault(24)
def test_what_is_swept_ends_but_for_the_session_that_woke_up(v3: World, log: Log) -> None:
    v3.api.have(stale_v3("one"), stale_v3("woke-up"), stale_v3("safe", tags=["keep"]))
    v3.sweep(**ENDS)
    v3.api.have(stale_v3("one"), stale_v3("woke-up", idle=0 * DAYS))
    log()
    assert v3.deliver() == []
    assert v3.api.deleted() == ["devin-one"]
    assert outcomes(log) == {"devin-one": "terminated", "devin-woke-up": "spared"}


@pytest.mark.parametrize(
    ("criterion", "chosen"),
    [
        ({"min_acus": 2.5}, True),
        ({"min_acus": 2.6}, False),
        ({"statuses": ["waiting_for_user"]}, True),
        ({"statuses": ["running"]}, True),
        ({"statuses": ["suspended"]}, False),
        ({"users": ["user-ann"]}, True),
        ({"users": ["ann@example.com"]}, False),
        ({"exclude_users": ["user-ann"]}, False),
        ({"has_pull_request": False}, True),
        ({"has_pull_request": True}, False),
        ({"tags": ["NIGHTLY"]}, True),
        ({"title_matches": "nightly *"}, True),
    ],
)
def test_criteria_go_by_the_names_of_v3(v3: World, criterion: dict[str, Any], *, chosen: bool) -> None:
    v3.api.have(stale_v3("devin-1"))
    v3.sweep(**ENDS | criterion)
    assert ids(v3) == (["devin-1"] if chosen else [])


@pytest.mark.parametrize(
    ("fields", "criterion", "reason"),
    [
        ({"status": "exit"}, {}, "exited"),
        ({"status": "exit"}, {"statuses": ["exit"]}, "exited"),
        ({"status": None}, {}, "no status"),
        ({"tags": ["Keep"]}, {}, "protected by its tag"),
        ({"tags": "keep"}, {}, "tags unknown"),
        ({"tags": [["keep"]]}, {}, "tags unknown"),
        ({"acus_consumed": None}, {"min_acus": 1}, "min_acus: unknown"),
        ({"acus_consumed": "2.5"}, {"min_acus": 1}, "min_acus: unknown"),
        ({"acus_consumed": True}, {"min_acus": 1}, "min_acus: unknown"),
        ({"user_id": None}, {"users": ["user-ann"]}, "users: unknown"),
        ({"user_id": None}, {"exclude_users": ["user-bob"]}, "exclude_users: unknown"),
        ({"title": None}, {"title_matches": "n*"}, "title_matches: unknown"),
    ],
)
def test_what_keeps_a_session_is_told(
    v3: World, fields: dict[str, Any], criterion: dict[str, Any], reason: str
) -> None:
    v3.api.have(stale_v3("devin-1", **fields))
    assert v3.sweep(**ENDS | criterion)["kept"] == {reason: 1}
    assert ids(v3) == []


@pytest.mark.parametrize("missing", ["tags", "status", "created_at", "updated_at", "session_id"])
def test_a_session_of_which_something_is_missing_is_kept(v3: World, missing: str) -> None:
    fields = stale_v3("devin-1")
    del fields[missing]
    v3.api.on("LIST", "", page_v3(fields))
    assert v3.sweep(**ENDS)["chosen"] == 0


def test_a_bad_key_fails_the_sweep(v3: World) -> None:
    v3.api.have(stale_v3("devin-1"))
    v3.api.good_keys = set()
    with pytest.raises(SweepError, match="Forbidden: The key does not give access"):
        v3.sweep(**ENDS)
    assert ids(v3) == []


def test_a_key_that_was_rotated_lists_on(v3: World) -> None:
    v3.api.have(*(stale_v3(f"devin-{number:03}", idle=(5 if number == 250 else 0) * DAYS) for number in range(300)))
    v3.sweep(**ENDS)
    ids(v3)
    v3.secrets.put_secret_value(SecretId=v3.secret, SecretString="cog_new-0123")
    v3.api.good_keys = {"cog_new-0123"}
    v3.api.keys.clear()
    assert v3.sweep(**ENDS)["listed"] == 300
    assert v3.api.keys == [V3_KEY, "cog_new-0123", "cog_new-0123"]


def test_a_date_of_v1_is_read_all_the_same(v3: World) -> None:
    v3.api.have(stale_v3("devin-1", updated_at=(NOW - 2 * DAYS).isoformat()))
    v3.sweep(**ENDS)
    assert v3.enqueued() == [{"session_id": "devin-1", "unless_updated_since": "2026-11-22T10:00:00+00:00"}]


def test_a_status_of_v1_says_nothing_about_a_session_of_v3(v3: World) -> None:
    v3.api.on("DELETE", "devin-1", EXITED)
    v3.api.on("GET", "devin-1", session("expired"))
    v3.send("devin-1")
    v3.deliver()
    assert [attributes["reason"] for _, attributes in v3.dead_letters()] == ["rejected_409"]
