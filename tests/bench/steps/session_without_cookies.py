"""Nor does it take cookies or follow redirects."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy

import requests

from tests.bench.steps import session_without_environment
from tests.bench.steps.loop import of_sessions


def make() -> requests.Session:
    session = session_without_environment.make()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return session


def send(session: requests.Session, address: str, key: str) -> requests.Response:
    return session.delete(address, headers={"Authorization": f"Bearer {key}"}, timeout=10, allow_redirects=False)


lambda_handler = of_sessions(make, send)
