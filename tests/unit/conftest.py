"""Fixtures of the unit tests: no socket is opened, AWS and the API are in memory."""

import json
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import pytest_socket
import responses
from moto import mock_aws
from moto.backends import get_backend
from urllib3 import Retry

from devin.client import Throttle
from runtime import runtime_for
from sweep import handler as sweep_handler
from terminate import handler
from tests.unit.ops.world import Operator
from tests.unit.world import ORG_ID, SESSIONS, SWITCH, TABLE, V3_KEY, Api, Aws, World, client


@pytest.fixture(autouse=True)
def _no_sockets() -> Iterator[None]:
    pytest_socket.disable_socket()
    yield
    pytest_socket.enable_socket()


@pytest.fixture(scope="session")
def _moto() -> Iterator[Aws]:
    # Once for all tests: a second start would drop the service models that boto3 has read, a tenth of a second each.
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        with mock_aws():
            watching = Aws()
            session = boto3.Session()
            # Every client takes its handlers from its session when it is made.
            session.events.register("before-call", watching.before_call)  # type: ignore[arg-type]
            patch.setattr(boto3, "DEFAULT_SESSION", session)
            yield watching


@pytest.fixture
def aws(_moto: Aws) -> Aws:
    """Empty queues, secrets, parameters, tables and buses."""
    for service in ("sqs", "secretsmanager", "ssm", "dynamodb", "events"):
        get_backend(service).reset()
    _moto.forget()
    return _moto


@pytest.fixture
def api(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:  # noqa: ARG001 - moto uses `responses` first
    scripted = Api()
    # `responses` asks for it, as requests' own adapter has it.
    monkeypatch.setattr("devin.http._Adapter.max_retries", Retry(0, read=False), raising=False)
    with responses.RequestsMock(assert_all_requests_are_fired=False, target="devin.http._Adapter.send") as mock:
        for method in (responses.DELETE, responses.GET, responses.POST):
            mock.add_callback(method, SESSIONS, scripted.respond)
        yield scripted


class _Stdout:
    """Where `sys.stdout` points at the moment; the logger took hold of another one when it was imported."""

    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


def _client(service: str, *, config: Any) -> Any:
    return client(service, config.max_pool_connections)


@pytest.fixture
def world(api: Api, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(api, aws)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    # One worker, so that the order of calls is the order of ids; tests of concurrency ask for more.
    monkeypatch.setenv("MAX_WORKERS", "1")
    monkeypatch.setenv("ANNOUNCEMENTS_TABLE", TABLE)
    made.make_table()
    runtime_for.cache_clear()
    for stream_handler in (*handler.logger.handlers, *sweep_handler.logger.handlers):
        monkeypatch.setattr(stream_handler, "stream", _Stdout())
    monkeypatch.setattr("runtime.boto3", SimpleNamespace(client=_client))
    monkeypatch.setattr(sweep_handler, "datetime", SimpleNamespace(now=lambda _: made.now))
    monkeypatch.setattr(handler, "throttle", Throttle())
    made.aws.calls.clear()
    yield made
    runtime_for.cache_clear()
    # Powertools shares them between all that count in one process, where the functions have one each.
    sweep_handler.metrics.clear_metrics()


@pytest.fixture
def v3(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world with a key of v3, and an organisation."""
    world.secrets.put_secret_value(SecretId=world.secret, SecretString=V3_KEY)
    monkeypatch.setenv("DEVIN_ORG_ID", ORG_ID)
    return world


@pytest.fixture
def switch(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world with a stop switch, which says go and is read every time."""
    monkeypatch.setenv("STOP_SWITCH_PARAMETER", SWITCH)
    monkeypatch.setattr("stop_switch.SWITCH_CACHE_SECONDS", 0)
    world.switch("go")
    return world


@pytest.fixture
def table(world: World) -> World:
    """The world, in a test about its table."""
    return world


@pytest.fixture
def operator(world: World, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """The operator's command and its stack. Looks at queues do not wait."""
    monkeypatch.setattr("infra.ops.account.open_session", lambda *_: boto3.DEFAULT_SESSION)
    monkeypatch.setattr("infra.ops.dlq.WAIT_SECONDS", 0)
    monkeypatch.setattr("infra.ops.commands.dead_letters.PAUSES", (0, 0))
    for name in ("STACK_NAME", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    return Operator(world)


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person at the terminal can be asked."""
    monkeypatch.setattr("infra.ops.output.is_interactive", lambda: True)


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """The function's log lines so far, metrics apart; each has to be one line of JSON."""

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [line for line in found if "_aws" not in line]

    return lines


@pytest.fixture
def counted(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, float]]:
    """The metrics published so far, by name, added up; latencies apart."""

    def sums() -> dict[str, float]:
        blobs = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
        found: dict[str, float] = {}
        for blob in blobs:
            for metric in blob["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
                found[metric["Name"]] = found.get(metric["Name"], 0) + sum(blob[metric["Name"]])
        found.pop("api_latency", None)
        return found

    return sums
