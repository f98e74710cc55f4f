"""A `requests.Session` for each worker, as it comes."""

from __future__ import annotations

import requests

from tests.bench.steps.loop import of_sessions


def send(session: requests.Session, address: str, key: str) -> requests.Response:
    return session.delete(address, headers={"Authorization": f"Bearer {key}"}, timeout=10)


lambda_handler = of_sessions(requests.Session, send)
