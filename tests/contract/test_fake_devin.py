"""The fake API keeps sessions and plays faults as scripted."""

from datetime import UTC, datetime
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
