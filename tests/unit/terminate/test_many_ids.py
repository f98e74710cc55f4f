"""Thousands of ids and large bodies: each id is settled and reported once, in bounded time and memory."""

import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from devin.http import Reply
from terminate import handler
from tests.in_memory import Function, MemorySqs, ScriptedTransport, batch, ids_of

pytestmark = pytest.mark.thorough

MIB = 1024 * 1024
# For what does not grow with the input.
BASE_BYTES = MIB // 2

# Seconds, in a function of 512 MB. What ten workers do side by side costs a tenth.
LIMIT, CALL, WRITE, EVENTS = 60.0, 0.1 / 10, 0.02 / 10, 0.02
READ_ID, LOG_ID = 0.0001, 0.0004


class KilledError(BaseException):
    """Lambda's time limit was reached."""


@dataclass
class Run:
    """An invocation with an API that answers every call with `status`. Every step takes the time it takes in Lambda."""

    status: int
    write: float = WRITE
    called: Counter[str] = field(default_factory=Counter)
    reported: Counter[str] = field(default_factory=Counter)
    events: int = 0

    def __post_init__(self) -> None:
        transport = ScriptedTransport(self._answer)
        self.function = Function(transport, "apk_made-up-0123", sqs=MemorySqs(lambda *_: self.spend(self.write)))
        self.function.bus = self  # type: ignore[assignment]

    def spend(self, seconds: float) -> None:
        self.function.milliseconds -= seconds * 1000
        if self.function.milliseconds < 0:
            raise KilledError

    def _answer(self, _: str, path: str) -> Reply:
        self.spend(CALL)
        self.called[path.rpartition("/")[2]] += 1
        return Reply(self.status, {}, b"")

    def put_events(self, *, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803 - as botocore calls it
        self.spend(EVENTS)
        self.events += len(Entries)
        return {"FailedEntryCount": 0, "Entries": [{} for _ in Entries]}

    def report(self, settled: Any, *_: object, **__: object) -> None:
        items = [item for one in settled for item, _ in one.results]
        self.spend(LOG_ID * len(items))
        self.reported.update(getattr(item, "session_id", "") for item in items)

    def deliver(self, *bodies: str, seconds: float = 1e9, published: bool = False) -> list[int]:
        """Invoke the function with these messages; the numbers of those that it keeps."""
        self.function.milliseconds = seconds * 1000
        event = batch(*({"body": body} for body in bodies))
        answer = self.function.invoke(event, PUBLISH_OUTCOMES=str(published).lower())
        return [int(item["itemIdentifier"].removeprefix("m-")) for item in answer["batchItemFailures"]]

    def letters(self) -> Counter[str]:
        return ids_of(self.function.written("dead"))

    def requeued(self) -> Counter[str]:
        return ids_of(self.function.written("work"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    def make(status: int, **options: Any) -> Run:
        made = Run(status, **options)
        monkeypatch.setattr(handler, "report", made.report)
        return made

    return make


type Make = Callable[..., Run]


def ids(number: int, digits: int = 5) -> list[str]:
    return [f"devin-{one:0{digits}}" for one in range(number)]


def several(wanted: list[str]) -> str:
    return json.dumps({"session_ids": wanted}, separators=(",", ":"))


@pytest.mark.fault(16)
@pytest.mark.parametrize(("status", "kept"), [(422, 0), (503, 10_000)])
def test_ten_thousand_records_are_settled_one_by_one(run: Make, status: int, kept: int) -> None:
    made, wanted = run(status), ids(10_000)
    assert len(made.deliver(*wanted)) == kept
    assert made.called == made.reported == Counter(wanted)
    assert made.letters() == (Counter(wanted) if status == 422 else {})


@pytest.mark.fault(48)
def test_a_message_of_80_000_ids_is_settled_and_reported_once(run: Make) -> None:
    made, wanted = run(200), [f"devin-{number:x}" for number in range(80_000)]
    assert made.deliver(several(wanted)) == []
    assert made.called == made.reported == Counter(wanted)


@pytest.mark.fault(48)
def test_thousands_of_invalid_ids_share_log_lines() -> None:
    function = Function(ScriptedTransport(lambda *_: Reply(200, {}, b"")), "apk_made-up-0123")
    assert (
        function.invoke(batch({"body": several([str(number) for number in range(2_000)])}))["batchItemFailures"] == []
    )
    assert len(function.written("dead")) == 2_000
    assert [(line["outcome"], line["items"]) for line in function.lines()] == [("invalid", 500)] * 4


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("number", "status", "published"),
    [(4_000, 200, True), (25_000, 404, False), (25_000, 503, False)],
)
def test_each_of_thousands_is_settled_before_the_time_is_over(
    run: Make, number: int, status: int, published: bool
) -> None:
    made, wanted = run(status), ids(number, 32)
    kept = made.deliver(several(wanted), seconds=LIMIT - READ_ID * number, published=published)
    done = {200: made.called, 404: made.letters(), 503: Counter[str]()}[status]
    assert bool(done) is (status != 503)
    assert done + (Counter(wanted) if kept else made.requeued()) == Counter(wanted)
    assert bool(made.events) is published


def test_what_could_not_be_written_in_time_is_requeued(run: Make) -> None:
    made, wanted = run(404, write=WRITE * 10), ids(2_000)
    assert made.deliver(several(wanted), seconds=LIMIT) == []
    assert made.letters() + made.requeued() == Counter(wanted)
    assert 0 < made.letters().total() < made.called.total()


def test_what_an_event_leaves_is_requeued_in_a_hundred_messages(run: Make) -> None:
    made, wanted = run(503), ids(5_000)
    assert made.function.invoke({"session_ids": wanted}) == {"retry": wanted}
    assert len(made.function.written("work")) == 100
    assert made.requeued() == Counter(wanted)


# Bodies of 1 MiB, and whether they ask for devin-1.
LARGE: dict[str, tuple[str, bool]] = {
    "one id and blanks": ('{"session_id": "devin-1"}' + " " * (MIB - 25), True),
    "one id again and again": (json.dumps({"session_ids": ["devin-1"] * (MIB // 12 - 3)}), True),
    "an event full of other things": (
        json.dumps({"detail": {"session_id": "devin-1"}, "resources": ["x" * (MIB - 80)]}),
        True,
    ),
    "letters of several bytes": ("é" * (MIB // 2), False),
    "an open text": ('{"session_id": "' + "x" * (MIB - 16), False),
    "deep lists": ('{"session_id": ' + "[" * (MIB // 2 - 8) + "]" * (MIB // 2 - 8) + "}", False),
    "a number": ('{"session_id": ' + "1" * (MIB - 16) + "}", False),
    "escapes": ('{"session_id": "' + "\\u0000" * (MIB // 6 - 3) + '"}', False),
}


@pytest.mark.fault(16)
@pytest.mark.parametrize(("body", "asks"), LARGE.values(), ids=LARGE)
def test_a_large_body_is_read_in_bounded_memory(run: Make, body: str, asks: bool) -> None:
    made = run(200)
    assert MIB * 0.9 < len(body.encode()) <= MIB
    tracemalloc.start()
    assert made.deliver(body) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.called == ({"devin-1": 1} if asks else {})
    assert [write.body for write in made.function.written("dead")] == ([] if asks else [body])
    assert peak < BASE_BYTES + 8 * MIB
