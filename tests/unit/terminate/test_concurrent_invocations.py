"""The same id in two invocations at once, each with a runtime of its own: one ends the session, the other finds out."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from devin.http import Reply
from devin.throttle import Throttle
from terminate import handler
from tests.unit.bare import BareSqs, Inline, bare_environment, bare_runtime, ids_in
from tests.unit.world import Context

BARE = "devin-1"
SINCE = '{"session_id": "devin-1", "unless_updated_since": "2026-11-02T00:00:00Z"}'
SEVERAL = '{"session_ids": ["devin-1", "devin-2"]}'


@dataclass
class Api:
    """Sessions that end once. The first calls of both invocations are under way at the same time."""

    updated_at: str = "2026-11-01T00:00:00Z"
    never: frozenset[str] = frozenset()
    ended: list[str] = field(default_factory=list)
    together: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=20))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _mine: threading.local = field(default_factory=threading.local)

    def request(self, method: str, path: str, **_: object) -> Reply:
        session_id = path.rpartition("/")[2]
        if not getattr(self._mine, method, False):
            setattr(self._mine, method, True)
            if method == "DELETE":
                self.together.wait()
        with self._lock:
            if method == "GET":
                status = "expired" if session_id in self.ended else "working"
                said = {"session_id": session_id, "status_enum": status, "updated_at": self.updated_at, "tags": []}
                return Reply(200, {}, json.dumps(said).encode())
            if session_id in self.ended or session_id in self.never:
                return Reply(422, {}, b'{"detail": "no"}')
            self.ended.append(session_id)
            return Reply(200, {}, b"")


@dataclass
class Side:
    """One of the two invocations, with queues of its own to look at afterwards."""

    sqs: BareSqs = field(default_factory=BareSqs)
    kept: list[str] = field(default_factory=list)

    def letters(self) -> list[str]:
        return [one for body, _ in self.sqs.letters for one in ids_in(body)]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Side, Side]]:
    bare_environment(monkeypatch)
    monkeypatch.setattr(handler, "report", lambda *_, **__: None)
    monkeypatch.setattr(handler, "throttle", Throttle())
    mine = threading.local()
    monkeypatch.setattr(handler, "runtime_for", lambda _: mine.runtime)

    def run(api: Api, *deliveries: tuple[str, int]) -> tuple[Side, Side]:
        def invoke(number: int) -> Side:
            body, receives = deliveries[number]
            side = Side()
            mine.runtime = bare_runtime(api, side.sqs, Inline())
            side.sqs.put(body)
            for message in side.sqs.work.values():
                message.receives = receives - 1
            context: Any = Context(request_id=f"request-{number}")
            answered: Any = handler.lambda_handler({"Records": side.sqs.records()}, context)
            side.kept = [item["itemIdentifier"] for item in answered["batchItemFailures"]]
            return side

        with ThreadPoolExecutor(2) as executor:
            one, other = executor.map(invoke, range(2))
        return one, other

    return run


@pytest.mark.parametrize("bodies", list(itertools.product([BARE, SEVERAL, SINCE], repeat=2)))
@pytest.mark.parametrize("receives", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_session_ends_once_and_is_one_dead_letter_at_most(
    at_once: Callable[..., tuple[Side, Side]], bodies: tuple[str, str], receives: tuple[int, int]
) -> None:
    api = Api()
    sides = at_once(api, *zip(bodies, receives, strict=True))
    assert sorted(api.ended) == sorted({one for body in bodies for one in ids_in(body)})
    assert [side.kept for side in sides] == [[], []]
    # Whoever comes first ends it; of the other's first delivery nothing tells that it is not the only one.
    assert len([one for side in sides for one in side.letters() if one == "devin-1"]) <= 1


@pytest.mark.parametrize("body", [BARE, SEVERAL])
def test_of_two_redeliveries_neither_is_a_dead_letter(at_once: Callable[..., tuple[Side, Side]], body: str) -> None:
    sides = at_once(Api(), (body, 2), (body, 3))
    assert [side.letters() for side in sides] == [[], []]


def test_a_message_delivered_twice_at_once_is_a_dead_letter_for_the_first_delivery_alone(
    at_once: Callable[..., tuple[Side, Side]],
) -> None:
    first, second = at_once(Api(), (BARE, 1), (BARE, 2))
    assert len(first.letters()) <= 1
    assert second.letters() == []


def test_what_is_rejected_in_both_is_a_dead_letter_of_each(at_once: Callable[..., tuple[Side, Side]]) -> None:
    api = Api(never=frozenset({"devin-1"}))
    sides = at_once(api, (BARE, 1), (BARE, 2))
    assert api.ended == []
    assert [side.letters() for side in sides] == [["devin-1"]] * 2


def test_a_session_that_moved_on_is_ended_only_for_the_one_that_asks_for_it_whatever(
    at_once: Callable[..., tuple[Side, Side]],
) -> None:
    api = Api(updated_at="2026-11-03T00:00:00Z")
    # One of them never gets as far as a DELETE.
    api.together = threading.Barrier(1)
    sides = at_once(api, (SINCE, 1), (BARE, 1))
    assert api.ended == ["devin-1"]
    assert [side.letters() for side in sides] == [[], []]
