"""The stand-in keeps sessions: what one call does, the others see, in either version."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.local.fake_devin import FakeDevin
from infra.local.fake_devin.operations import perform, read
from infra.local.fake_devin.sessions import ORG_ID, Sessions
from tests.contract.caller import V3_KEY, Caller

LONG_AGO = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
V3 = f"/v3/organizations/{ORG_ID}/sessions"


@pytest.fixture
def v1(api: FakeDevin) -> Iterator[Caller]:
    with Caller(api.url) as caller:
        yield caller


@pytest.fixture
def v3(api: FakeDevin) -> Iterator[Caller]:
    with Caller(api.url, V3_KEY) as caller:
        yield caller


def test_a_session_ended_in_v1_has_exited_in_both(api: FakeDevin, v1: Caller, v3: Caller) -> None:
    api.add_sessions("devin-a", created_at=LONG_AGO)

    assert v1.json("DELETE", "/v1/sessions/devin-a") == {"detail": "Session terminated successfully"}

    shown = v1.json("GET", "/v1/sessions/devin-a")
    assert shown["status_enum"] == "finished"
    assert datetime.fromisoformat(shown["created_at"]) == LONG_AGO
    assert datetime.fromisoformat(shown["updated_at"]) > LONG_AGO
    assert v3.json("GET", f"{V3}/devin-a")["status"] == "exit"
    assert v1.status("DELETE", "/v1/sessions/devin-a") == 422
    assert v3.status("DELETE", f"{V3}/devin-a") == 409


@pytest.mark.parametrize(("query", "archived"), [("", False), ("?archive=false", False), ("?archive=true", True)])
def test_a_session_ended_in_v3_is_archived_if_asked(
    api: FakeDevin, v1: Caller, v3: Caller, query: str, archived: bool
) -> None:
    api.add_sessions("devin-a", created_at=LONG_AGO)

    ended = v3.json("DELETE", f"{V3}/devin-a{query}")

    assert (ended["status"], ended["is_archived"]) == ("exit", archived)
    assert ended["updated_at"] > ended["created_at"] == int(LONG_AGO.timestamp())
    assert v1.json("GET", "/v1/sessions/devin-a")["status_enum"] == "finished"


def test_a_refused_call_changes_nothing(api: FakeDevin) -> None:
    (before,) = api.add_sessions("devin-a", org_id="org-other", created_at=LONG_AGO)

    with Caller(api.url, "apk_wrong") as caller:
        assert caller.status("DELETE", "/v1/sessions/devin-a") == 401
    with Caller(api.url, V3_KEY) as caller:
        assert caller.status("DELETE", f"{V3}/devin-a") == 403

    assert api.session("devin-a") == before


def test_a_session_that_wakes_was_updated(api: FakeDevin, v1: Caller) -> None:
    api.add_sessions("devin-a", status="suspended", status_detail="inactivity", created_at=LONG_AGO)
    assert v1.json("GET", "/v1/sessions/devin-a")["updated_at"] == LONG_AGO.isoformat()

    woken = api.wake("devin-a")

    shown = v1.json("GET", "/v1/sessions/devin-a")
    assert shown["status_enum"] == "working"
    assert datetime.fromisoformat(shown["updated_at"]) == woken.updated_at > LONG_AGO


def test_of_many_calls_at_once_one_ends_the_session(api: FakeDevin) -> None:
    api.add_sessions("devin-a")
    start = threading.Barrier(8)
    statuses: list[int] = []

    def terminate() -> None:
        with Caller(api.url) as caller:
            start.wait(5)
            statuses.append(caller.status("DELETE", "/v1/sessions/devin-a"))

    callers = [threading.Thread(target=terminate) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert Counter(statuses) == {200: 1, 422: 7}
    assert [call.status for call in api.calls() if call.ended] == [200]


def test_an_id_of_v3_may_come_without_its_prefix_but_is_asked_for_with_it(api: FakeDevin, v3: Caller) -> None:
    api.add_sessions("devin-a", bare_id=True)

    assert [item["session_id"] for item in v3.json("GET", V3)["items"]] == ["a"]
    assert v3.json("GET", f"{V3}/devin-a")["session_id"] == "a"
    assert v3.status("GET", f"{V3}/a") == 422


@pytest.mark.parametrize(
    "session_id",
    ["devin-", "devin", "a", "devin-a.b", "devin-%2e%2e", "devin-a%0d%0aX", "devin-%D0%B0", "devin-" + "a" * 123, ".."],
)
def test_what_is_no_id_is_no_valid_request(v1: Caller, session_id: str) -> None:
    assert v1.status("DELETE", f"/v1/sessions/{session_id}") == 422


def aged(api: FakeDevin, number: int) -> None:
    """Sessions devin-0, devin-1, …, each an hour older than the one before."""
    for hours in range(number):
        created = datetime(2026, 6, 1, tzinfo=UTC) - timedelta(hours=hours)
        tags = ("even", "all") if hours % 2 == 0 else ("odd", "all")
        api.add_sessions(f"devin-{hours}", created_at=created, tags=tags, user_email=f"{hours % 2}@example.com")


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("?limit=2", [0, 1]),
        ("?limit=2&offset=2", [2, 3]),
        ("?limit=2&offset=4", [4]),
        ("?offset=5", []),
        ("?tags=odd", [1, 3]),
        ("?tags=odd&tags=even&limit=4", [0, 1, 2, 3]),
        ("?tags=none", []),
        ("?user_email=1%40example.com", [1, 3]),
    ],
)
def test_v1_lists_by_offset(api: FakeDevin, v1: Caller, query: str, listed: list[int]) -> None:
    aged(api, 5)

    sessions = v1.json("GET", f"/v1/sessions{query}")["sessions"]

    assert [session["session_id"] for session in sessions] == [f"devin-{number}" for number in listed]


def test_v1_lists_a_hundred_unless_told_otherwise(api: FakeDevin, v1: Caller) -> None:
    api.add_sessions(*(f"devin-{number}" for number in range(101)))

    assert len(v1.json("GET", "/v1/sessions")["sessions"]) == 100
    assert len(v1.json("GET", "/v1/sessions?limit=1000")["sessions"]) == 101


def test_v3_lists_by_cursor_what_is_the_organisations(api: FakeDevin, v3: Caller) -> None:
    aged(api, 5)
    api.add_sessions("devin-foreign", org_id="org-other")

    pages: list[dict[str, Any]] = [v3.json("GET", f"{V3}?first=2")]
    while pages[-1]["has_next_page"]:
        pages.append(v3.json("GET", f"{V3}?first=2&after={pages[-1]['end_cursor']}"))

    ids = [[item["session_id"] for item in page["items"]] for page in pages]
    assert ids == [["devin-0", "devin-1"], ["devin-2", "devin-3"], ["devin-4"]]
    assert {page["total"] for page in pages} == {5}


def test_a_page_of_v3_does_not_shift_when_the_session_before_it_no_longer_fits(api: FakeDevin, v3: Caller) -> None:
    aged(api, 4)
    first = v3.json("GET", f"{V3}?first=1&tags=even")
    api.update_session("devin-0", tags=("odd",))

    second = v3.json("GET", f"{V3}?first=1&tags=even&after={first['end_cursor']}")

    assert [item["session_id"] for item in first["items"] + second["items"]] == ["devin-0", "devin-2"]


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("?session_ids=devin-1&session_ids=3", [1, 3]),
        ("?tags=odd", [1, 3]),
        ("?created_after={1}", [0]),
        ("?created_before={1}", [2, 3]),
        ("?updated_after={3}&updated_before={0}", [1, 2]),
        ("?created_before=0", []),
    ],
)
def test_v3_lists_what_fits_all_filters(api: FakeDevin, v3: Caller, query: str, listed: list[int]) -> None:
    aged(api, 4)
    instants = [int(api.session(f"devin-{number}").created_at.timestamp()) for number in range(4)]

    items = v3.json("GET", V3 + query.format(*instants))["items"]

    assert [item["session_id"] for item in items] == [f"devin-{number}" for number in listed]


@pytest.mark.parametrize("query", ["?first=0", "?first=201", "?first=x", "?after=x", "?created_after=soon"])
def test_v3_refuses_what_does_not_validate(v3: Caller, query: str) -> None:
    assert v3.status("GET", V3 + query) == 422


def test_time_is_the_clocks() -> None:
    sessions = Sessions(clock=lambda: LONG_AGO + timedelta(days=1))
    sessions.add(("devin-a",), {"created_at": LONG_AGO})

    answer = perform(read("DELETE", "/v1/sessions/devin-a"), sessions, authorised=True)

    assert answer.ended
    assert [session.updated_at for session in sessions.all()] == [LONG_AGO + timedelta(days=1)]
