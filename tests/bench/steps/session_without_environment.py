"""The session looks for no proxies, .netrc or CA bundle in the environment."""

from __future__ import annotations

import requests

from tests.bench.steps.loop import of_sessions
from tests.bench.steps.session import send


def make() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


lambda_handler = of_sessions(make, send)
