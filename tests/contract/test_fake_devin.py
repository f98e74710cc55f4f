"""The fake API keeps sessions and plays faults as scripted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from infra.local.fake_devin import FakeDevin
from infra.local.fake_devin.sessions import ORG_ID
from tests.contract.keys import V1_KEY, V3_KEY

LONG_AGO = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ONE = "/v1/sessions/devin-a"
V3 = f"/v3/organizations/{ORG_ID}/sessions"


def call(url: str, method: str, target: str, key: str = V1_KEY, **options: Any) -> requests.Response:
    return requests.request(method, url + target, headers={"Authorization": f"Bearer {key}"}, timeout=5, **options)


def test_an_end_is_final_and_both_versions_show_it(api: FakeDevin) -> None:
    api.add_sessions("devin-a", created_at=LONG_AGO)

    assert call(api.url, "DELETE", ONE).json() == {"detail": "Session terminated successfully"}

    shown = call(api.url, "GET", ONE).json()
    assert (shown["status_enum"], datetime.fromisoformat(shown["created_at"])) == ("expired", LONG_AGO)
    assert datetime.fromisoformat(shown["updated_at"]) > LONG_AGO
    assert call(api.url, "GET", f"{V3}/devin-a", V3_KEY).json()["status"] == "exit"
    assert call(api.url, "DELETE", ONE).status_code == 422
    refused = call(api.url, "DELETE", f"{V3}/devin-a", V3_KEY)
    assert (refused.status_code, refused.headers["Content-Type"]) == (400, "application/problem+json")
    assert refused.json().items() >= {"title": "Bad Request", "detail": "Devin session already exited"}.items()


def test_an_idle_session_falls_asleep(api: FakeDevin) -> None:
    now = datetime.now(UTC)
    api.add_sessions("devin-a", status_detail="waiting_for_user", updated_at=now - timedelta(minutes=31))
    api.add_sessions("devin-waits", status_detail="waiting_for_user", updated_at=now - timedelta(minutes=29))
    api.add_sessions("devin-works", status_detail="working", updated_at=LONG_AGO)

    listed = call(api.url, "GET", V3, V3_KEY).json()["items"]
    assert {item["session_id"]: (item["status"], item["status_detail"]) for item in listed} == {
        "devin-a": ("suspended", "inactivity"),
        "devin-waits": ("running", "waiting_for_user"),
        "devin-works": ("running", "working"),
    }
    assert call(api.url, "GET", ONE).json()["status_enum"] == "suspend_requested"


def test_v3_shows_families_and_pull_requests(api: FakeDevin) -> None:
    parent, child = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    api.add_sessions(f"devin-{parent}")
    api.add_sessions(f"devin-{child}", parent_session_id=f"devin-{parent}", pull_request_states=("merged", None))

    listed = {item["session_id"]: item for item in call(api.url, "GET", V3, V3_KEY).json()["items"]}
    assert (listed[child]["parent_session_id"], listed[child]["child_session_ids"]) == (parent, None)
    assert [pull["pr_state"] for pull in listed[child]["pull_requests"]] == ["merged", None]
    shown = call(api.url, "GET", f"{V3}/devin-{parent}", V3_KEY).json()
    assert shown["child_session_ids"] == listed[parent]["child_session_ids"] == [child]


SECONDS = int(LONG_AGO.timestamp())
OLD, NEW = {"devin-old"}, {"devin-new"}


@pytest.mark.parametrize(
    ("query", "matching"),
    [
        ("session_ids=old", OLD),
        ("session_ids=old&session_ids=devin-new", OLD | NEW),
        ("tags=x", OLD),
        ("tags=x&tags=z", OLD | NEW),
        ("tags=", set()),
        *[(f"{name}=wanted", OLD) for name in ("playbook_id", "origins", "automation_ids", "category")],
        *[(f"{name}=wanted", OLD) for name in ("user_ids", "service_user_ids", "parent_session_id")],
        ("is_archived=true", NEW),
        ("is_archived=false", OLD),
        *[(f"{moment}_after={SECONDS}", OLD | NEW) for moment in ("created", "updated")],
        *[(f"{moment}_after={SECONDS + 1}", NEW) for moment in ("created", "updated")],
        *[(f"{moment}_before={SECONDS}", set()) for moment in ("created", "updated")],
        *[(f"{moment}_before={SECONDS + 1}", OLD) for moment in ("created", "updated")],
        (f"tags=x&created_after={SECONDS + 1}", set()),
        ("status=exit&user_email=nobody", OLD | NEW),
    ],
)
def test_v3_filters_its_list(api: FakeDevin, query: str, matching: set[str]) -> None:
    one_of_many = ("playbook_id", "origin", "automation_id", "category", "user_id", "service_user_id")
    wanted = dict.fromkeys((*one_of_many, "parent_session_id"), "wanted")
    api.add_sessions("devin-old", created_at=LONG_AGO, tags=("x", "y"), **wanted)
    api.add_sessions("devin-new", created_at=LONG_AGO + timedelta(seconds=1), tags=("z",), is_archived=True)

    page = call(api.url, "GET", f"{V3}?{query}", V3_KEY).json()
    assert ({item["session_id"] for item in page["items"]}, page["total"]) == (matching, len(matching))


@pytest.mark.parametrize(
    ("query", "matching"),
    [
        ("tags=x", {"devin-a"}),
        ("user_email=b@example.com", {"devin-b"}),
        ("tags=x&tags=y&origins=z", {"devin-a", "devin-b"}),
    ],
)
def test_v1_filters_its_list(api: FakeDevin, query: str, matching: set[str]) -> None:
    api.add_sessions("devin-a", tags=("x",), user_email="a@example.com")
    api.add_sessions("devin-b", tags=("y",), user_email="b@example.com")

    listed = call(api.url, "GET", f"/v1/sessions?{query}").json()["sessions"]
    assert {one["session_id"] for one in listed} == matching


def test_a_session_that_no_longer_matches_moves_no_page_of_v3(api: FakeDevin) -> None:
    for hours in range(5):
        created = LONG_AGO - timedelta(hours=hours)
        api.add_sessions(f"devin-{hours}", created_at=created, tags=("odd" if hours % 2 else "even",))
    listing = f"{V3}?first=2&tags=even"
    pages = [call(api.url, "GET", listing, V3_KEY).json()]
    for seen in ("devin-0", "devin-2"):
        api.update_session(seen, tags=("odd",))
    while pages[-1]["has_next_page"]:
        pages.append(call(api.url, "GET", f"{listing}&after={pages[-1]['end_cursor']}", V3_KEY).json())

    assert [[item["session_id"] for item in page["items"]] for page in pages] == [["devin-0", "devin-2"], ["devin-4"]]


def test_a_malformed_id_and_a_wrong_method_are_refused(api: FakeDevin) -> None:
    assert call(api.url, "GET", "/v1/sessions/a").json()["detail"][0]["loc"] == ["path", "session_id"]
    assert call(api.url, "DELETE", f"{V3}/devin-%2F", V3_KEY).json()["errors"][0]["loc"] == ["path", "devin_id"]
    refused = call(api.url, "PUT", ONE)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "DELETE, GET")


def test_a_person_controls_it_over_http(api: FakeDevin) -> None:
    def control(method: str, path: str, data: object = None) -> tuple[int, Any]:
        response = call(api.url, method, f"/_fake/{path}", json=data)
        return response.status_code, response.json()

    api.add_sessions("devin-a")
    assert control("POST", "faults", {"fault": {"status": 503}, "operation": "terminate", "times": 1})[0] == 200
    assert [call(api.url, "DELETE", ONE).status_code for _ in range(2)] == [503, 200]
    assert [session["status"] for session in control("GET", "sessions")[1]] == ["exit"]
    assert [call["status"] for call in control("GET", "calls")[1]] == [503, 200]
    assert control("POST", "faults", {"fault": {"colour": "red"}})[0] == 422
    assert control("GET", "nothing")[0] == 404
