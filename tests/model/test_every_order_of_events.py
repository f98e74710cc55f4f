"""All orders of events on a small scale keep the promises, and six mutations of the functions are found."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from queues import Outgoing
from terminate import apply as application
from terminate import plan
from terminate.outcomes import Look, classify
from tests.model.explore import CONDITION, BrokenPromiseError, Budget, Model, Queued, State, explore

A = "devin-a"
A_IF = json.dumps({"session_id": "devin-a", "unless_updated_since": CONDITION})
BOTH = json.dumps({"session_ids": ["devin-a", "devin-b"]})
BOTH_IF = json.dumps({"session_ids": ["devin-a", "devin-b"], "unless_updated_since": CONDITION})


def start(*bodies: str, environments: int = 1, **budget: int) -> State:
    queue = tuple(sorted(Queued(f"message {number}", body) for number, body in enumerate(bodies)))
    ids = ["devin-a", "devin-b"] if any("devin-b" in body for body in bodies) else ["devin-a"]
    return State(
        queue,
        sessions=tuple((name, False, False, False) for name in ids),
        environments=(None,) * environments,
        budget=Budget(**budget),
    )


SCENARIOS = {
    "an id and its condition, two environments": start(A, A_IF, environments=2, kills=1, oddities=1),
    "a condition and its id, everything fails once": start(A_IF, A, kills=1, failures=1, oddities=1),
    "two ids and one of them, everything fails once": start(BOTH, A, kills=1, failures=1, oddities=1),
    "two ids, three oddities, one failure": start(BOTH, failures=1, oddities=3),
    "two ids with a condition that wake up": start(BOTH_IF, kills=1, oddities=1, changes=2),
    "a redrive after everything": start(BOTH, kills=1, failures=1, oddities=1, redrives=1),
    "a sweep beside a person": start(A, environments=2, oddities=1, sweeps=1, changes=1),
    "the switch": start(BOTH, A_IF, failures=1, oddities=1, stops=2),
}


@pytest.mark.fault(14, 17)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_order_of_events_keeps_the_promises(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    states = explore(SCENARIOS[scenario], Model())
    with capsys.disabled():
        print(f"\n{scenario}: {states:,} states")  # noqa: T201
    assert states > 100


def _letters_first(plans: Any, queues: Any, request_id: str, has_time: Any) -> Any:
    done = list(plans)
    for number in application._write_letters(done, queues, request_id, has_time):
        done[number] = plan.keep_whole(done[number], "no dead letter", letters_written=False)
    application._requeue(done, range(len(done)), queues, letters_written=False)
    application._change_visibility(done, queues)
    return done


def _acknowledged(planned: Any, _: str, **__: Any) -> Any:
    return replace(planned, requeue=())


def _never_looked_into(answer: Any) -> Any:
    outcome, look = classify(answer)
    return outcome, Look.NEVER if look is Look.IF_IT_MAY_HAVE_ENDED else look


def _without_condition(message: Any, item: Any, result: Any, request_id: str) -> Outgoing:
    letter = _DEAD_LETTER(message, item, result, request_id)
    return Outgoing(json.dumps({"session_id": item.session_id}), letter.attributes)


def _without_attempts(message: Any, items: Any, delay: int) -> Any:
    return tuple(replace(one, attributes={"attempts": 0}) for one in _REQUEUED(message, items, delay))


_DEAD_LETTER, _REQUEUED = plan._dead_letter, plan.requeued
CONDITION_FIRST, WAKES = "a condition and its id, everything fails once", "two ids with a condition that wake up"
ODD, ALL_ONCE = "two ids, three oddities, one failure", "two ids and one of them, everything fails once"
MUTATIONS: dict[str, tuple[str, str, Callable[..., Any], str, str]] = {
    "dead letters before the requeue": ("apply", "apply", _letters_first, ODD, "two dead"),
    "de-duplication by id alone": ("plan", "_breadth", lambda _: 0, CONDITION_FIRST, "what is left has one"),
    "acknowledged after a failed write": ("apply", "keep_whole", _acknowledged, ODD, "is nowhere"),
    "a rejection not looked into on redelivery": ("termination", "classify", _never_looked_into, ALL_ONCE, "was tried"),
    "a condition dropped in a dead letter": ("plan", "_dead_letter", _without_condition, WAKES, "was lost on the way"),
    "a requeue without its attempts": ("plan", "requeued", _without_attempts, ALL_ONCE, "was tried before"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_found_by_the_shortest_way(
    mutation: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, name, mutated, scenario, promise = MUTATIONS[mutation]
    monkeypatch.setattr(f"terminate.{module}.{name}", mutated)
    with pytest.raises(BrokenPromiseError, match=promise) as broken:
        explore(SCENARIOS[scenario], Model())
    with capsys.disabled():
        print(f"\n{mutation}: {broken.value}")  # noqa: T201
    assert len(broken.value.trace) <= 12
