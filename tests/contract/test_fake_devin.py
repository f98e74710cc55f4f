"""The fake API keeps sessions, plays faults as scripted, and records what arrives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from infra.local.fake_devin import FakeDevin, Fault, Rule, faults, fingerprint
from infra.local.fake_devin.faults import Script
from infra.local.fake_devin.operations import read
from infra.local.fake_devin.sessions import ORG_ID
from tests.contract.caller import V1_KEY, V3_KEY, Caller

LONG_AGO = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ONE = "/v1/sessions/devin-a"
V3 = f"/v3/organizations/{ORG_ID}/sessions"
HEXADECIMAL = "0123456789abcdef" * 2


@pytest.fixture
def v1(api: FakeDevin) -> Iterator[Caller]:
    with Caller(api.url) as caller:
        yield caller


@pytest.fixture
def v3(api: FakeDevin) -> Iterator[Caller]:
    with Caller(api.url, V3_KEY) as caller:
        yield caller


def test_an_end_is_final_and_both_versions_show_it(api: FakeDevin, v1: Caller, v3: Caller) -> None:
    api.add_sessions("devin-a", created_at=LONG_AGO)

    assert v1.json("DELETE", ONE) == {"detail": "Session terminated successfully"}

    shown = v1.json("GET", ONE)
    assert (shown["status_enum"], datetime.fromisoformat(shown["created_at"])) == ("expired", LONG_AGO)
    assert datetime.fromisoformat(shown["updated_at"]) > LONG_AGO
    assert v3.json("GET", f"{V3}/devin-a")["status"] == "exit"
    assert v1.status("DELETE", ONE) == 422
    status, headers, body = v3.call("DELETE", f"{V3}/devin-a")
    assert (status, headers.get_content_type()) == (400, "application/problem+json")
    assert json.loads(body).items() >= {"title": "Bad Request", "detail": "Devin session already exited"}.items()


def test_archiving_puts_to_sleep_and_can_be_undone(api: FakeDevin, v3: Caller) -> None:
    api.add_sessions("devin-a")

    archived = v3.json("POST", f"{V3}/devin-a/archive")
    undone = v3.json("POST", f"{V3}/devin-a/unarchive")

    assert (archived["status"], archived["is_archived"], undone["is_archived"]) == ("suspended", True, False)
    ended = v3.json("DELETE", f"{V3}/devin-a?archive=true")
    assert (ended["status"], ended["is_archived"]) == ("exit", True)


@pytest.mark.parametrize(
    ("minutes", "detail", "shown"),
    [
        (29, "waiting_for_user", ("running", "waiting_for_user", "blocked")),
        (31, "waiting_for_user", ("suspended", "inactivity", "suspend_requested")),
        (31, "working", ("running", "working", "working")),
        (1, "finished", ("running", "finished", "finished")),
    ],
)
def test_an_idle_session_falls_asleep(api: FakeDevin, minutes: int, detail: str, shown: tuple[str, str, str]) -> None:
    api.add_sessions("devin-a", status_detail=detail, updated_at=datetime.now(UTC) - timedelta(minutes=minutes))

    session = api.session("devin-a")

    assert (session.status, session.status_detail, session.as_v1()["status_enum"]) == shown


def test_hexadecimal_ids_come_without_their_prefix_but_are_asked_for_with_it(api: FakeDevin, v3: Caller) -> None:
    api.add_sessions(f"devin-{HEXADECIMAL}")
    api.add_sessions("devin-child", parent_session_id=f"devin-{HEXADECIMAL}")

    shown = {item["session_id"]: item for item in v3.json("GET", V3)["items"]}

    assert shown.keys() == {HEXADECIMAL, "devin-child"}
    assert shown[HEXADECIMAL]["child_session_ids"] == ["devin-child"]
    assert shown["devin-child"]["parent_session_id"] == HEXADECIMAL
    assert v3.status("GET", f"{V3}/{HEXADECIMAL}") == 422


def aged(api: FakeDevin, number: int) -> None:
    """Sessions devin-0, devin-1, …, each an hour older than the one before."""
    for hours in range(number):
        created = datetime(2026, 6, 1, tzinfo=UTC) - timedelta(hours=hours)
        parity = "odd" if hours % 2 else "even"
        api.add_sessions(
            f"devin-{hours}",
            created_at=created,
            tags=(parity, "all"),
            user_email=f"{parity}@example.com",
            origin=parity,
        )


def test_a_session_that_no_longer_matches_moves_no_page_of_v3(api: FakeDevin, v3: Caller) -> None:
    aged(api, 5)
    api.add_sessions("devin-foreign", org_id="org-other")
    pages: list[dict[str, Any]] = [v3.json("GET", f"{V3}?first=2&tags=even")]
    api.update_session("devin-0", tags=("odd",))

    while pages[-1]["has_next_page"]:
        pages.append(v3.json("GET", f"{V3}?first=2&tags=even&after={pages[-1]['end_cursor']}"))

    assert [[item["session_id"] for item in page["items"]] for page in pages] == [["devin-0", "devin-2"], ["devin-4"]]


@pytest.mark.parametrize(
    ("path", "listed"),
    [
        ("/v1/sessions?limit=2&offset=1", [1, 2]),
        ("/v1/sessions?tags=odd&user_email=odd%40example.com", [1, 3]),
        (f"{V3}?session_ids=devin-1&session_ids=3", [1, 3]),
        (f"{V3}?origins=odd&category=bug", []),
        (f"{V3}?created_after={{1}}", [0, 1]),
        (f"{V3}?updated_after={{3}}&updated_before={{0}}&whatever=1", [1, 2, 3]),
        (f"{V3}?is_archived=true", []),
    ],
)
def test_listings_have_what_fits_all_filters(api: FakeDevin, path: str, listed: list[int]) -> None:
    aged(api, 4)
    times = [int(api.session(f"devin-{number}").created_at.timestamp()) for number in range(4)]
    with Caller(api.url, V3_KEY if "v3" in path else V1_KEY) as caller:
        page = caller.json("GET", path.format(*times))
    assert [item["session_id"] for item in page.get("items", page.get("sessions"))] == [f"devin-{n}" for n in listed]


def test_faults_act_in_their_order_and_as_often_as_asked(api: FakeDevin, v1: Caller) -> None:
    api.add_sessions("devin-a", "devin-b")
    api.script(faults.html_error(503), session_id="devin-a", times=2)
    api.script(Fault(status=500), method="DELETE", operation="terminate", times=1)
    api.script(Fault(status=418), operation="list")

    assert [v1.status("GET", ONE), v1.status("DELETE", ONE), v1.status("DELETE", ONE)] == [503, 503, 500]
    assert [v1.status("GET", "/v1/sessions"), v1.status("DELETE", "/v1/sessions/devin-b")] == [418, 200]
    api.clear_faults()
    assert v1.status("GET", "/v1/sessions") == 200


def test_chance_depends_on_the_seed_alone() -> None:
    ids = [f"devin-{number}" for number in range(500)]

    def failing(seed: int, order: list[str]) -> set[str]:
        script = Script()
        script.add(Rule(fault=Fault(status=500), probability=0.2, seed=seed))
        return {one for one in order if script.fault_for(read("DELETE", f"/v1/sessions/{one}"), reused=False)}

    assert failing(7, ids) == failing(7, ids[::-1]) != failing(8, ids)
    assert 70 < len(failing(7, ids)) < 130


def test_the_record_of_calls_keeps_no_key(api: FakeDevin, v1: Caller) -> None:
    api.add_sessions("devin-a")
    v1.call("DELETE", f"{ONE}?x=%41")
    v1.call("GET", "/v1/sessions?limit=3")
    with Caller(api.url, None) as caller:
        caller.call("GET", "//v1/sessions/../devin-a")

    assert [(call.method, call.path, call.operation, call.session_id, call.status) for call in api.calls()] == [
        ("DELETE", "/v1/sessions/devin-a?x=%41", "terminate", "devin-a", 200),
        ("GET", "/v1/sessions?limit=3", "list", None, 200),
        ("GET", "//v1/sessions/../devin-a", None, None, 404),
    ]
    assert [(call.authorised, call.reused, call.ended) for call in api.calls()] == [
        (True, False, True),
        (True, True, False),
        (False, False, False),
    ]
    assert [call.key for call in api.calls()] == [fingerprint(V1_KEY)] * 2 + [None]
    assert V1_KEY not in repr(api.calls())


def test_a_person_controls_it_over_http() -> None:
    command = [sys.executable, "-m", "infra.local.fake_devin"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        url = process.stdout.readline().rstrip("\n")

        def control(method: str, path: str, data: object = None) -> tuple[int, Any]:
            response = requests.request(method, f"{url}/_fake/{path}", json=data, timeout=5)
            return response.status_code, response.json()

        assert control("POST", "sessions", {"session_ids": ["devin-a"], "tags": ["x"]})[0] == 200
        assert control("POST", "faults", {"fault": {"status": 503}, "operation": "terminate", "times": 1})[0] == 200
        with Caller(url) as caller:
            assert [caller.status("DELETE", ONE), caller.status("DELETE", ONE)] == [503, 200]
        assert [session["status"] for session in control("GET", "sessions")[1]] == ["exit"]
        assert [call["status"] for call in control("GET", "calls")[1]] == [503, 200]
        assert control("POST", "sessions", {"session_ids": ["devin-b"], "colour": "red"})[0] == 422
        assert control("GET", "nothing")[0] == 404
        process.terminate()
        assert process.wait(10) == 0
