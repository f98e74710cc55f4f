"""Plans of chaos runs: the same for the same seed, complete, and fair to what the emulator cannot do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devin.session_id import InvalidSessionIdError, parse_session_id
from terminate.messages import InvalidItem, Request, parse_body, parse_event
from tests.chaos.__main__ import arguments
from tests.chaos.plan import (
    KINDS,
    LEAST_MESSAGES,
    TRIGGERS,
    Accept,
    AwaitCalls,
    Deny,
    Kill,
    Permit,
    Plan,
    Send,
    Store,
    Sweep,
    make_plan,
)
from tests.chaos.reconciler import named

ROOT = Path(__file__).parents[3]

plans = st.builds(
    make_plan,
    st.integers(0, 999_999),
    ids=st.integers(1, 400),
    seconds=st.floats(5, 400),
    kill_every=st.floats(1, 20),
)
few = settings(max_examples=50, deadline=None)


@few
@given(plans)
def test_every_id_is_asked_for_but_what_a_sweep_has_to_find(plan: Plan) -> None:
    asks = plan.asks()
    assert {one for one, kind in plan.subjects.items() if kind != "swept"} == asks.keys()
    assert {one for one, number in asks.items() if number > 1} <= set(plan.of_kind("runs"))
    sent = [timed.act.message for timed in plan.timeline if isinstance(timed.act, Send)]
    assert sorted(sent, key=repr) == sorted(plan.messages, key=repr), "each message is sent once"
    assert sum(isinstance(timed.act, Sweep) for timed in plan.timeline) == 1


@few
@given(plans)
def test_a_message_asks_for_its_ids_and_the_function_reads_it_so(plan: Plan) -> None:
    for message in plan.messages:
        assert named(message.text) == set(message.ids)
        reading = (
            parse_body(message.text)
            if message.trigger in {"queue", "schedule"}
            else parse_event(json.loads(message.text))
        )
        usable = {one for one in message.ids if plan.subjects[one] != "unusable"}
        assert {item.session_id for item in reading.items if isinstance(item, Request)} == usable
        assert any(isinstance(item, InvalidItem) for item in reading.items) == (usable != set(message.ids))
        awake = [one for one in message.ids if plan.subjects[one] == "awake"]
        assert all(item.unless_updated_since for item in reading.items if isinstance(item, Request) and awake)


@few
@given(plans)
def test_nobody_names_a_decoy(plan: Plan) -> None:
    assert plan.decoys
    assert not any(named(message.text) & plan.decoys.keys() for message in plan.messages)


@few
@given(plans)
def test_what_goes_by_the_bus_goes_in_a_calm_and_is_waited_for(plan: Plan) -> None:
    bus = {one for message in plan.messages if message.trigger == "bus" for one in message.ids}
    assert bus == {one for timed in plan.timeline if isinstance(timed.act, AwaitCalls) for one in timed.act.ids}
    for begin, end in plan.calm:
        acts = [timed.act for timed in plan.timeline if begin <= timed.at < end]
        assert not [act for act in acts if isinstance(act, Kill | Deny | Permit | Accept | Store)]
        sent = [index for index, act in enumerate(acts) if isinstance(act, Send) and act.message.trigger == "bus"]
        (wait,) = [index for index, act in enumerate(acts) if isinstance(act, AwaitCalls)]
        assert all(index < wait for index in sent)


@few
@given(plans)
def test_what_is_taken_away_comes_back_before_the_next_is_taken_and_the_newest_key_wins(plan: Plan) -> None:
    denied: list[str] = []
    accepted, stored = {0}, 0
    for timed in plan.timeline:
        match timed.act:
            case Deny(resource):
                assert not denied
                denied.append(resource)
            case Permit(resource):
                assert denied == [resource]
                denied.clear()
            case Accept(keys):
                accepted = set(keys)
            case Store(key):
                stored = key
            case _:
                pass
    assert not denied
    assert accepted == {stored}


@few
@given(st.integers(0, 999_999))
def test_the_same_seed_makes_the_same_plan_and_another_seed_another(seed: int) -> None:
    first, again, other = (make_plan(one, ids=50, seconds=30, kill_every=5) for one in (seed, seed, seed + 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("seconds", [10, 12.5])
def test_the_command_that_is_told_makes_the_same_plan(seconds: float) -> None:
    plan = make_plan(77, ids=60, seconds=seconds, kill_every=2.3)
    command = plan.replay.split()
    # What make would run, which is to say without what it needs first.
    # Not as a part of the make that these tests may run in.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    said = subprocess.run(  # noqa: S603
        [*command, "--dry-run"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True
    ).stdout
    _, _, given = said.replace("\\\n", " ").partition("-m tests.chaos ")
    wanted = arguments(given.split())
    assert make_plan(wanted.seed, ids=wanted.ids, seconds=wanted.seconds, kill_every=wanted.kill_every) == plan


@pytest.mark.parametrize("seed", range(20))
def test_unless_told_otherwise_there_are_more_than_a_thousand_messages(seed: int) -> None:
    wanted = arguments([])
    plan = make_plan(seed, ids=wanted.ids, seconds=wanted.seconds, kill_every=wanted.kill_every)
    assert sum(isinstance(timed.act, Send) for timed in plan.timeline) > LEAST_MESSAGES == 1000


def test_an_event_is_what_is_delivered_and_waited_for_by_nobody() -> None:
    plan = make_plan(3, ids=300, seconds=30, kill_every=5)
    events = [message for message in plan.messages if message.trigger in {"bus", "invoke later"}]
    assert {message.trigger for message in events} == {"bus", "invoke later"}
    assert plan.by_event() == {one for message in events for one in message.ids}
    # A schedule puts a message into the queue.
    assert not plan.by_event() & {
        one for message in plan.messages if message.trigger == "schedule" for one in message.ids
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_large_plan_has_some_of_everything(seed: int) -> None:
    plan = make_plan(seed, ids=3000, seconds=150, kill_every=6)
    assert set(plan.subjects.values()) == set(KINDS)
    assert {message.trigger for message in plan.messages} == set(TRIGGERS)
    assert set(plan.decoys.values()) == {"stranger", "protected", "busy"}
    assert max(plan.asks().values()) > 1
    acts = {type(timed.act) for timed in plan.timeline}
    assert acts >= {Kill, Accept, Store, Deny, Permit, AwaitCalls, Sweep}
    for one in plan.of_kind("runs"):
        assert parse_session_id(one) == one
    with pytest.raises(InvalidSessionIdError):
        parse_session_id(plan.of_kind("unusable")[0] + "/../x")
