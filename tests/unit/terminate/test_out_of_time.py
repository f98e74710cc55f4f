"""Much to do and a clock that ends the function: what was begun is settled before, whatever the API says.

Time is made up: a call, a write, a log line and an event take as long as they do in a function of 512 MB with ten
workers. When it is over, the function is killed, as Lambda does it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from devin.http import Reply
from eventbridge import Bus
from terminate import handler
from tests.unit.bare import BareSqs, Inline, bare_environment, bare_runtime, ids_in

pytestmark = pytest.mark.thorough

LIMIT_SECONDS = 60.0
WORKERS = 10
# Of one worker; what is done side by side costs a tenth of it.
CALL_SECONDS, WRITE_SECONDS = 0.1, 0.02
# With less than a third of a CPU, and one after the other.
READ_SECONDS, LOG_SECONDS, EVENTS_SECONDS = 0.0001, 0.0004, 0.02


class Killed(BaseException):
    """Lambda's limit was reached."""


@dataclass
class Clock:
    """The context that Lambda gives, and the time it tells."""

    aws_request_id: str = "a-request"
    function_name: str = "terminate"
    spent: float = 0.0

    def spend(self, seconds: float) -> None:
        self.spent += seconds
        if self.spent > LIMIT_SECONDS:
            raise Killed

    def get_remaining_time_in_millis(self) -> int:
        return int((LIMIT_SECONDS - self.spent) * 1000)


@dataclass
class Api:
    clock: Clock
    status: int
    deleted: Counter[str] = field(default_factory=Counter)

    def request(self, method: str, path: str, **_: object) -> Reply:
        assert method == "DELETE"
        self.clock.spend(CALL_SECONDS / WORKERS)
        self.deleted[path.rpartition("/")[2]] += 1
        return Reply(self.status, {}, b"")


@dataclass
class Events:
    """EventBridge's client."""

    clock: Clock
    taken: int = 0

    def put_events(self, *, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803 - as botocore calls it
        self.clock.spend(EVENTS_SECONDS)
        self.taken += len(Entries)
        return {"FailedEntryCount": 0, "Entries": [{} for _ in Entries]}


class World:
    def __init__(self, patch: pytest.MonkeyPatch, status: int) -> None:
        bare_environment(patch)
        self.clock = Clock()
        self.api = Api(self.clock, status)
        # Before and after each: half of it each time.
        self.sqs = BareSqs(lambda: self.clock.spend(WRITE_SECONDS / WORKERS / 2))
        self.events = Events(self.clock)
        runtime = replace(
            bare_runtime(self.api, self.sqs, Inline()),
            bus=Bus(lambda: self.events),  # type: ignore[arg-type, return-value]
        )
        patch.setattr(handler, "runtime_for", lambda _: runtime)
        patch.setattr(handler, "report", self._report)

    def _report(self, settled: Any, *_: object, **__: object) -> None:
        self.clock.spend(LOG_SECONDS * sum(len(one.results) for one in settled))

    def deliver(self, ids: list[str]) -> None:
        """One message with all of them, to the end of the invocation; what is acknowledged is gone."""
        self.sqs.put(json.dumps({"session_ids": ids}))
        records = self.sqs.records()
        self.clock.spend(READ_SECONDS * len(ids))
        answer: Any = handler.lambda_handler({"Records": records}, self.clock)  # type: ignore[arg-type]
        kept = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in kept:
                del self.sqs.work[record["messageId"]]

    def waiting(self) -> Counter[str]:
        return Counter(one for message in self.sqs.work.values() for one in ids_in(message.body))

    def letters(self) -> Counter[str]:
        return Counter(one for body, _ in self.sqs.letters for one in ids_in(body))


type Made = Callable[[int], World]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return lambda status: World(monkeypatch, status)


def named(number: int) -> list[str]:
    return [f"devin-{one:032x}" for one in range(number)]


@pytest.mark.parametrize("published", [False, True], ids=["", "published"])
@pytest.mark.parametrize("number", [3_000, 4_000, 6_000, 25_000])
@pytest.mark.parametrize("status", [200, 404])
def test_of_thousands_each_is_settled_once_before_the_time_is_over(
    made: Made, monkeypatch: pytest.MonkeyPatch, status: int, number: int, published: bool
) -> None:
    """25,000 ids are what a message of 1 MiB holds."""
    monkeypatch.setenv("PUBLISH_OUTCOMES", str(published).lower())
    world, ids = made(status), named(number)
    world.deliver(ids)
    done = world.letters() if status == 404 else world.api.deleted
    assert done
    assert done + world.waiting() == Counter(ids)
    assert bool(world.events.taken) is published


def test_what_was_called_and_could_not_be_written_is_handed_back(made: Made) -> None:
    """Of a slow SQS, not only of many ids."""
    world, ids = made(404), named(2_000)
    world.sqs.point = lambda: world.clock.spend(0.02)
    world.deliver(ids)
    assert world.letters() + world.waiting() == Counter(ids)
    assert 0 < world.letters().total() < world.api.deleted.total()


def test_an_api_that_fails_for_all_costs_one_delivery(made: Made) -> None:
    world, ids = made(503), named(25_000)
    world.deliver(ids)
    assert world.waiting() == Counter(ids)
    assert not world.letters()
