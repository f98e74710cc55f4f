"""Nor does it take an address apart that was put together just before: the request comes prepared."""

from __future__ import annotations

import requests

from devin.http import _prepared
from tests.bench.steps.loop import of_sessions
from tests.bench.steps.session_without_cookies import make


def send(session: requests.Session, address: str, key: str) -> requests.Response:
    return session.send(_prepared("DELETE", address, None, key), timeout=10, allow_redirects=False)


lambda_handler = of_sessions(make, send)
