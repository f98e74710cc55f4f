"""Fixtures of the unit tests: no socket is opened, AWS and the API are in memory."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_socket
import responses
from moto import mock_aws
from moto.backends import get_backend

from runtime import runtime_for
from terminate import handler
from tests.unit.world import API, Api, World


@pytest.fixture(autouse=True)
def _no_sockets() -> Iterator[None]:
    pytest_socket.disable_socket()
    yield
    pytest_socket.enable_socket()


@pytest.fixture(scope="session")
def _moto() -> Iterator[None]:
    # Once for all tests: starting it anew throws away the service models that boto3 has read, a tenth of a second each.
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        with mock_aws():
            yield


@pytest.fixture
def aws(_moto: None) -> None:
    """Empty queues and secrets."""
    for service in ("sqs", "secretsmanager"):
        get_backend(service).reset()


@pytest.fixture
def api(aws: None) -> Iterator[Api]:  # noqa: ARG001 - moto uses `responses` too, and whoever starts last is asked first
    scripted = Api()
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for method in (responses.DELETE, responses.GET):
            mock.add_callback(method, re.compile(re.escape(API) + r"/v1/sessions/devin-[\w-]+"), scripted.respond)
        yield scripted


class _Stdout:
    """Where `sys.stdout` points at the moment; the logger took hold of another one when it was imported."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


@pytest.fixture
def world(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(api)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    # One worker, so that the order of calls is the order of ids; tests of concurrency ask for more.
    monkeypatch.setenv("MAX_WORKERS", "1")
    runtime_for.cache_clear()
    for stream_handler in handler.logger.handlers:
        monkeypatch.setattr(stream_handler, "stream", _Stdout())
    yield made
    runtime_for.cache_clear()


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """The function's log lines so far, metrics apart; each has to be one line of JSON."""

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [line for line in found if "_aws" not in line]

    return lines
