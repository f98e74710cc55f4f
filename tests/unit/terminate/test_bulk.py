"""Much at once: everything is judged, nothing is lost, and memory is bounded by a multiple of what came in."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from devin.http import Reply
from terminate import handler
from tests.unit.bare import BareSqs, bare_environment, bare_runtime, ids_in
from tests.unit.world import Context

pytestmark = pytest.mark.thorough

KIB, MIB = 1024, 1024 * 1024
# For what does not grow with the input.
BASE_BYTES = MIB // 2


@dataclass
class Api:
    """Answers every DELETE with the same status, and counts them."""

    status: int = 200
    deleted: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def request(self, method: str, path: str, **_: object) -> Reply:
        assert method == "DELETE"
        with self._lock:
            self.deleted[path.rpartition("/")[2]] += 1
        return Reply(self.status, {}, b"")


@dataclass
class Function:
    """The function, a list for a queue, and how much memory it took at most, in bytes, if that is measured."""

    api: Api
    sqs: BareSqs
    measured: bool = False
    peak: int = 0

    def deliver(self, *bodies: str) -> list[str]:
        """Invoke it with a batch; the bodies of the records that it keeps."""
        for body in bodies:
            self.sqs.put(body)
        event = {"Records": self.sqs.records()}
        answered = self._invoke(event)
        return [self.sqs.work[item["itemIdentifier"]].body for item in answered["batchItemFailures"]]

    def invoke(self, payload: object) -> Any:
        return self._invoke(payload)

    def _invoke(self, event: object) -> Any:
        if not self.measured:
            return handler.lambda_handler(event, Context(600_000))  # type: ignore[arg-type]
        tracemalloc.start()
        try:
            answered = handler.lambda_handler(event, Context(600_000))  # type: ignore[arg-type]
            self.peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        return answered

    def letters(self) -> Counter[str]:
        return Counter(one for body, _ in self.sqs.letters for one in ids_in(body))


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    bare_environment(monkeypatch)
    made = Function(Api(), BareSqs())
    # Lines are written and forgotten, except by pytest.
    monkeypatch.setattr(handler, "report", lambda *_, **__: None)
    with ThreadPoolExecutor(4) as executor:
        runtime = bare_runtime(made.api, made.sqs, executor)
        monkeypatch.setattr(handler, "runtime_for", lambda _: runtime)
        yield made


def ids(number: int) -> list[str]:
    return [f"devin-{one:05}" for one in range(number)]


def padded(text: str, size: int) -> str:
    return text + " " * (size - len(text))


@pytest.mark.parametrize(("status", "kept"), [(200, 0), (422, 0), (503, 10_000)])
def test_ten_thousand_records_are_judged_one_by_one(function: Function, status: int, kept: int) -> None:
    function.api.status = status
    wanted = ids(10_000)
    assert len(function.deliver(*wanted)) == kept
    assert function.api.deleted == Counter(wanted)
    assert function.letters() == (Counter(wanted) if status == 422 else {})


@pytest.mark.fault(48)
@pytest.mark.parametrize("status", [200, 422, 503])
def test_twenty_thousand_ids_in_a_message_are_judged_one_by_one(function: Function, status: int) -> None:
    function.api.status = status
    wanted = ids(20_000)
    body = json.dumps({"session_ids": wanted})
    assert function.deliver(body) == ([body] if status == 503 else [])
    assert function.api.deleted == Counter(wanted)
    assert function.letters() == (Counter(wanted) if status == 422 else {})


@pytest.mark.parametrize(("status", "queue"), [(422, "dead"), (503, "work")], ids=["dead letters", "requeued"])
def test_writes_are_made_by_tens(function: Function, monkeypatch: pytest.MonkeyPatch, status: int, queue: str) -> None:
    sizes: list[int] = []
    send = function.sqs.send_message_batch

    def count(**given: Any) -> dict[str, Any]:
        if given["QueueUrl"] == queue:
            sizes.append(len(given["Entries"]))
        return send(**given)

    monkeypatch.setattr(function.sqs, "send_message_batch", count)
    function.api.status = status
    # With an id that is settled otherwise, or all that need another try would stay in their message.
    assert function.deliver(json.dumps({"session_ids": [*ids(25), "devin"]})) == []
    assert sizes == ([10, 10, 6] if queue == "dead" else [10, 10, 5])


@pytest.mark.parametrize("status", [200, 422, 503])
def test_memory_grows_by_some_kilobytes_for_each_id(function: Function, status: int) -> None:
    function.api.status = status
    function.measured = True
    function.deliver(*ids(1000), json.dumps({"session_ids": ids(2000)}))
    assert function.peak < BASE_BYTES + 3000 * 5 * KIB


def test_twenty_thousand_ids_of_an_event_go_back_in_a_hundred_messages(function: Function) -> None:
    function.api.status = 503
    wanted = ids(20_000)
    assert function.invoke({"session_ids": wanted}) == {"retry": wanted}
    sent = [message.body for message in function.sqs.work.values()]
    assert len(sent) <= 100
    assert Counter(one for body in sent for one in ids_in(body)) == Counter(wanted)


# A body of so many bytes, and whether it asks for the end of devin-1.
LARGE: dict[str, tuple[Callable[[int], str], bool]] = {
    "one id and blanks": (lambda size: padded('{"session_id": "devin-1"}', size), True),
    "one id again and again": (lambda size: json.dumps({"session_ids": ["devin-1"] * (size // 12 - 3)}), True),
    "one id in an event full of other things": (
        lambda size: json.dumps({"detail": {"session_id": "devin-1"}, "resources": ["x" * (size - 80)]}),
        True,
    ),
    "an id without end": (lambda size: "devin-" + "1" * (size - 6), False),
    "letters": (lambda size: "x" * size, False),
    "letters of several bytes": (lambda size: "é" * (size // 2), False),
    "an open text": (lambda size: '{"session_id": "' + "x" * (size - 16), False),
    "deep lists": (lambda size: '{"session_id": ' + "[" * (size - 15), False),
    "deep objects": (lambda size: '{"a":' * (size // 5), False),
    "deep and whole": (lambda size: '{"session_id": ' + "[" * (size // 2 - 8) + "]" * (size // 2 - 8) + "}", False),
    "a number": (lambda size: '{"session_id": ' + "1" * (size - 16) + "}", False),
    "escapes": (lambda size: '{"session_id": "' + "\\u0000" * (size // 6 - 3) + '"}', False),
}


@pytest.mark.parametrize("size", [256 * KIB, MIB], ids=["256 KiB", "1 MiB"])
@pytest.mark.parametrize(("made", "asks"), LARGE.values(), ids=LARGE)
def test_a_large_body_is_judged_in_bounded_memory(
    function: Function, made: Callable[[int], str], asks: bool, size: int
) -> None:
    function.measured = True
    body = made(size)
    assert size * 0.9 < len(body.encode()) <= size

    assert function.deliver(body) == []

    assert function.api.deleted == ({"devin-1": 1} if asks else {})
    assert [letter for letter, _ in function.sqs.letters] == ([] if asks else [body])
    assert function.peak < BASE_BYTES + 8 * size


def test_large_bodies_side_by_side_are_judged_each_for_itself(function: Function) -> None:
    function.measured = True
    bodies = [made(MIB) for made, _ in LARGE.values()]
    assert function.deliver(*bodies) == []
    assert function.api.deleted == {"devin-1": 1}
    assert Counter(letter for letter, _ in function.sqs.letters) == Counter(
        made(MIB) for made, asks in LARGE.values() if not asks
    )
    assert function.peak < BASE_BYTES + 2 * len(bodies) * MIB
