"""A function that ends abruptly, at any point between any two things that it does: nothing is lost, and no session
that ended before is a dead letter after what was not acknowledged has come again.

Every mix of fates in every shape of a small batch is stopped at every point, before and after each call of the API,
each write to SQS and each acknowledgement; then all is delivered until the queue is empty.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from devin.http import Reply, TransportError
from devin.throttle import Throttle
from terminate import handler
from tests.unit.bare import BareSqs, Inline, bare_environment, bare_runtime, ids_in
from tests.unit.world import Context

pytestmark = pytest.mark.thorough

# What becomes of an id, by the name that it has: see `_Api.delete`.
FATES = ("ends", "rejected", "busy", "lost", "slow", "forbidden", "invalid")
ALIVE = {"ends", "busy", "lost", "slow", "forbidden"}
# The queue's maxReceiveCount: whatever is received so often is moved to the dead letters unchanged.
MOST_RECEIVES = 5


class Killed(BaseException):
    """The function is no more. Nothing catches this, as nothing catches SIGKILL."""


@dataclass
class Points:
    """Counts the points at which an invocation may end, and ends it at the one that was chosen."""

    fatal: int | None = None
    passed: int = 0
    dead: bool = False

    def __call__(self) -> None:
        if self.dead or self.passed == self.fatal:
            self.dead = True
            raise Killed
        self.passed += 1


@dataclass
class _Api:
    """The API at the other end of a transport; a session's id begins with its fate."""

    point: Points
    deletes: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    def request(self, method: str, path: str, **_: object) -> Reply:
        session_id = path.rpartition("/")[2]
        self.point()
        try:
            return self.delete(session_id) if method == "DELETE" else self.get(session_id)
        finally:
            self.point()

    def delete(self, session_id: str) -> Reply:
        fate = session_id.split("-")[1]
        first = not self.deletes[session_id]
        self.deletes[session_id] += 1
        if first and fate == "busy":
            return Reply(503, {}, b"")
        if first and fate == "slow":
            return Reply(429, {"Retry-After": "60"}, b"")
        if first and fate == "forbidden":
            return Reply(403, {}, b"")
        if fate == "rejected" or self.ended[session_id]:
            return Reply(422, {}, b'{"detail": "no"}')
        self.ended[session_id] += 1
        if fate == "lost":
            raise TransportError("no whole response in time")
        return Reply(200, {}, b"")

    def get(self, session_id: str) -> Reply:
        status = "expired" if self.ended[session_id] else "working"
        return Reply(200, {}, json.dumps({"session_id": session_id, "status_enum": status}).encode())


class Run:
    """One batch, from its delivery to the last word on each id, with one abrupt end at most."""

    def __init__(self, patch: pytest.MonkeyPatch, bodies: Sequence[str], fatal: int | None) -> None:
        self.point = Points(fatal)
        self.api = _Api(self.point)
        self.sqs = BareSqs(self.point)
        for body in bodies:
            self.sqs.put(body)
        runtime = bare_runtime(self.api, self.sqs, Inline())
        patch.setattr(handler, "runtime_for", lambda _: runtime)
        self._patch = patch
        self.killed = False
        self.ended_before: set[str] = set()
        self.letters_before = 0

    def deliver(self, records: list[dict[str, Any]]) -> None:
        """As Lambda does: what is not reported is deleted, one message after the other."""
        # Time goes by between deliveries: whatever rest the API asked for is over.
        self._patch.setattr(handler, "throttle", Throttle())
        try:
            answered: Any = handler.lambda_handler({"Records": records}, Context())  # type: ignore[arg-type]
            kept = {item["itemIdentifier"] for item in answered["batchItemFailures"]}
            for record in records:
                if record["messageId"] not in kept:
                    self.sqs.delete(record["messageId"])
        except Killed:
            self.killed = True
            self.ended_before = set(+self.api.ended)
            self.letters_before = len(self.sqs.letters)
            self.point.fatal, self.point.dead = None, False

    def to_the_end(self, *, together: bool) -> None:
        """Deliver until there is nothing left, everything at once or each message by itself."""
        self.deliver(self.sqs.records())
        for _ in range(MOST_RECEIVES):
            records = self.sqs.records()
            for some in [records] if together else [[record] for record in records]:
                self.deliver(some)
        assert not self.sqs.work, "still in the queue after it would have been moved to the dead letters"

    def event_to_the_end(self, ids: Sequence[str]) -> None:
        """An event instead of a batch. Lambda repeats one whose function was killed, in a new execution environment,
        and says nothing of it."""
        try:
            handler.lambda_handler({"session_ids": list(ids)}, Context())  # type: ignore[arg-type]
        except Killed:
            self.killed = True
            self.ended_before = set(+self.api.ended)
            self.point.fatal, self.point.dead = None, False
            self._patch.setattr(handler, "throttle", Throttle())
            handler.lambda_handler({"session_ids": list(ids)}, Context())  # type: ignore[arg-type]
        self.to_the_end(together=True)

    def letters(self) -> Counter[str]:
        """How many dead letters there are of each id; each asks for one."""
        found: Counter[str] = Counter()
        for body, attributes in self.sqs.letters:
            given = ids_in(body)
            assert len(given) == 1
            assert attributes["reason"]["StringValue"] in {"rejected_422", "invalid_message"}
            found[given[0]] += 1
        return found


def named(fate: str, number: int) -> str:
    return f"invalid/{number}" if fate == "invalid" else f"devin-{fate}-{number}"


def many(*ids: str) -> str:
    return json.dumps({"session_ids": ids})


# How a batch may ask for the same ids: the bodies of its messages.
SHAPES: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "a message each": list,
    "all in one message": lambda ids: [many(*ids)],
    "one alone and all together": lambda ids: [ids[0], many(*ids)],
    "all together and one alone": lambda ids: [many(*ids), ids[-1]],
    "each of them twice": lambda ids: [*ids, *ids],
    "all of them twice": lambda ids: [many(*ids), many(*reversed(ids))],
}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    bare_environment(monkeypatch)
    monkeypatch.setattr(handler, "report", lambda *_, **__: None)


def assert_accounted(ids: Sequence[str], run: Run, *, most_letters: int) -> None:
    letters = run.letters()
    assert set(letters) <= set(ids)
    for one in ids:
        alive = not one.startswith("invalid") and one.split("-")[1] in ALIVE
        assert run.api.ended[one] == (1 if alive else 0), one
        if alive:
            assert not letters[one], f"{one} has ended"
        else:
            assert 1 <= letters[one] <= most_letters, one


def runs(mixes: Sequence[Sequence[str]], shapes: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    for mix, shape in itertools.product(mixes, shapes):
        ids = [named(fate, number) for number, fate in enumerate(mix)]
        yield ids, SHAPES[shape](ids)


def stopped_everywhere(
    patch: pytest.MonkeyPatch, mixes: Sequence[Sequence[str]], shape: str, *, together: bool
) -> Iterator[tuple[list[str], Run]]:
    """A run for each point of each batch at which its first invocation may end."""
    for ids, bodies in runs(mixes, [shape]):
        for fatal in itertools.count():
            run = Run(patch, bodies, fatal)
            run.to_the_end(together=together)
            if not run.killed:
                break
            yield ids, run


PAIRS = list(itertools.product(FATES, repeat=2))
TRIPLES = list(itertools.combinations_with_replacement(FATES, 3))


@pytest.mark.parametrize("shape", SHAPES)
def test_without_an_end_every_id_ends_once_or_is_one_dead_letter(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    for ids, bodies in runs([*PAIRS, *TRIPLES], [shape]):
        run = Run(monkeypatch, bodies, None)
        run.to_the_end(together=True)
        # What is no id cannot be told to be the same one.
        copies = sum(ids[0] in ids_in(body) for body in bodies) if ids[0].startswith("invalid") else 1
        letters = run.letters()
        assert letters[ids[0]] in {0, copies}
        assert_accounted(ids, run, most_letters=2)


@pytest.mark.fault(14)
@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
@pytest.mark.parametrize("shape", SHAPES)
def test_wherever_an_invocation_ends_every_id_ends_once_or_is_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch, shape: str, together: bool
) -> None:
    points = 0
    for ids, run in stopped_everywhere(monkeypatch, PAIRS, shape, together=together):
        points += 1
        assert_accounted(ids, run, most_letters=4)
        assert not run.ended_before & set(run.letters())
    assert points > 6 * len(PAIRS)


@pytest.mark.fault(14)
@pytest.mark.parametrize("shape", ["a message each", "all in one message"])
def test_wherever_a_larger_batch_ends_the_same_holds(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    for ids, run in stopped_everywhere(monkeypatch, TRIPLES, shape, together=False):
        assert_accounted(ids, run, most_letters=2)
        assert not run.ended_before & set(run.letters())


def test_wherever_an_event_ends_the_same_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    points = 0
    for mix in PAIRS:
        ids = [named(fate, number) for number, fate in enumerate(mix)]
        for fatal in itertools.count():
            run = Run(monkeypatch, [], fatal)
            run.event_to_the_end(ids)
            assert_accounted(ids, run, most_letters=4)
            assert not run.ended_before & set(run.letters())
            if not run.killed:
                break
            points += 1
    assert points > 4 * len(PAIRS)


@pytest.mark.parametrize("shape", ["a message each", "all in one message"])
def test_an_end_between_a_dead_letter_and_its_acknowledgement_makes_a_second_one(
    monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """SQS takes no two writes as one, so dead letters are at least once; and no more than once more for each end."""
    twice = 0
    for ids, run in stopped_everywhere(monkeypatch, [("rejected", "ends")], shape, together=True):
        (rejected, _) = ids
        letters = run.letters()[rejected]
        assert letters in {1, 2}
        assert (letters == 2) == (run.letters_before == 1 and letters > run.letters_before)
        twice += letters == 2
    assert twice
