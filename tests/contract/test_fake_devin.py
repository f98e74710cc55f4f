"""The fake API keeps sessions and plays faults as scripted."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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


def test_a_session_that_no_longer_matches_moves_no_page_of_v3(api: FakeDevin) -> None:
    for hours in range(5):
        created = LONG_AGO - timedelta(hours=hours)
        api.add_sessions(f"devin-{hours}", created_at=created, tags=("odd" if hours % 2 else "even",))
    listing = f"{V3}?first=2&tags=even"
    pages = [call(api.url, "GET", listing, V3_KEY).json()]
    api.update_session("devin-0", tags=("odd",))
    while pages[-1]["has_next_page"]:
        pages.append(call(api.url, "GET", f"{listing}&after={pages[-1]['end_cursor']}", V3_KEY).json())

    assert [[item["session_id"] for item in page["items"]] for page in pages] == [["devin-0", "devin-2"], ["devin-4"]]


def test_a_person_controls_it_over_http() -> None:
    command = [sys.executable, "-m", "infra.local.fake_devin"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        url = process.stdout.readline().rstrip("\n")

        def control(method: str, path: str, data: object = None) -> tuple[int, Any]:
            response = call(url, method, f"/_fake/{path}", json=data)
            return response.status_code, response.json()

        assert control("POST", "sessions", {"session_ids": ["devin-a"], "tags": ["x"]})[0] == 200
        assert control("POST", "faults", {"fault": {"status": 503}, "operation": "terminate", "times": 1})[0] == 200
        assert [call(url, "DELETE", ONE).status_code for _ in range(2)] == [503, 200]
        assert [session["status"] for session in control("GET", "sessions")[1]] == ["exit"]
        assert [call["status"] for call in control("GET", "calls")[1]] == [503, 200]
        assert control("POST", "sessions", {"session_ids": ["devin-b"], "colour": "red"})[0] == 422
        assert control("GET", "nothing")[0] == 404
        process.terminate()
        assert process.wait(10) == 0
