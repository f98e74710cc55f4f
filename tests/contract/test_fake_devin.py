"""The fake API, as a person starts and controls it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from tests.contract.keys import V1_KEY

ONE = "/v1/sessions/devin-a"


def call(url: str, method: str, target: str, key: str = V1_KEY, **options: Any) -> requests.Response:
    return requests.request(method, url + target, headers={"Authorization": f"Bearer {key}"}, timeout=5, **options)


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
