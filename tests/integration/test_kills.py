"""SIGKILL at exact points: the proxy and the API hold a call where the function is to die."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from infra.local.fake_devin import Fault
from infra.local.fake_devin.faults import html_error
from tests.integration.faulty_aws import FaultyAws
from tests.integration.world import World, wait_for

SEND = "AmazonSQS.SendMessage"
NO = Fault(status=422, body='{"detail": "no"}')


def ends(world: World, session_id: str) -> int:
    """How many calls ended the session."""
    return len([call for call in world.calls(session_id) if call.ended])


@pytest.mark.fault(14)
def test_a_function_that_is_killed_at_any_point_loses_nothing(quiet: World, aws: FaultyAws) -> None:
    """Six invocations, one for each point, die at the same moment. The test delivers the messages, so that no timeout
    decides when they are redelivered."""
    work, dead = (
        f'/{url.rpartition("/")[2]}"' for url in (quiet.stack.work_queue_url, quiet.stack.dead_letter_queue_url)
    )
    uncalled, begun = quiet.session("killed-uncalled"), quiet.session("killed-begun", Fault(kind="hang"))
    ended = quiet.session("killed-ended", Fault(kind="pass", delay=600))
    unwritten, written = (quiet.session(f"killed-{label}", NO, NO) for label in ("unwritten", "written"))
    requeued = quiet.session("killed-requeued", html_error())
    before_letter, after_letter, after_requeue, all_done = done = [quiet.session("killed-done") for _ in range(4)]
    quiet.kill_workers()

    with quiet.stack.work_queue_held(), ThreadPoolExecutor(6) as executor, ExitStack() as points:
        records: list[dict[str, Any]] = []

        def deliver(body: object) -> None:
            records.append(quiet.received(json.dumps(body)))
            executor.submit(quiet.invoke_regardless, {"Records": records[-1:]})

        def reach(body: object, target: str, *about: str, passes_on: bool) -> None:
            held = points.enter_context(aws.holding(target, *about, passes_on=passes_on, times=1))
            deliver(body)
            wait_for(lambda: held.arrived, f"a held {target}")

        reach({"session_ids": [before_letter, unwritten]}, SEND, dead, unwritten, passes_on=False)
        reach({"session_ids": [after_letter, written]}, SEND, dead, written, passes_on=True)
        # The last that the function does, with nothing left to do but answer.
        reach({"session_id": all_done}, "AWSEvents.PutEvents", all_done, passes_on=False)
        deliver({"session_ids": [ended, begun]})
        wait_for(lambda: quiet.exited(ended) and quiet.calls(begun), "calls that are not answered")
        # A new process reads the switch before anything else.
        reach({"session_id": uncalled}, "AmazonSSM.GetParameter", passes_on=False)
        # Last, because `received` must not find in the queue what is sent here.
        reach({"session_ids": [after_requeue, requeued]}, SEND, work, requeued, passes_on=True)
        assert all(map(quiet.exited, done))
        assert quiet.calls(uncalled) == []
        assert quiet.kill_workers() >= 6
        for record in records:
            quiet.make_visible(record)

    ending = [*done, ended, begun, uncalled, requeued]
    wait_for(lambda: all(map(quiet.exited, ending)), "the end of every session that may end")
    wait_for(lambda: quiet.letters_about(unwritten), "the dead letter that was not written")
    quiet.wait_until_drained()

    assert [ends(quiet, session_id) for session_id in ending] == [1] * len(ending)
    assert quiet.methods(uncalled) == ["DELETE"]
    for session_id in (*done, ended):
        # Called once more, and the API's rejection looked into.
        assert quiet.methods(session_id) == ["DELETE", "DELETE", "GET"]
        assert quiet.story(session_id, "already_exited")[-1:] == ["already_exited"]
    # Its own message and the one that it came with both bring it, together or one after the other.
    assert quiet.methods(requeued)[:2] == ["DELETE"] * 2
    assert not [letter for one in ending for letter in quiet.letters_about(one)]

    # What was written and not acknowledged is written again: the one place where a dead letter comes twice.
    letters = [*quiet.take_letters(unwritten, 1), *quiet.take_letters(written, 2)]
    assert not any(map(quiet.exited, (unwritten, written)))
    for letter in letters:
        assert letter.attributes["reason"] == "rejected_422"
        quiet.redrive(letter)
    wait_for(lambda: all(map(quiet.exited, (unwritten, written))), "the end of what was dead")
    quiet.wait_until_drained()
    assert [ends(quiet, one) for one in (unwritten, written)] == [1, 1]
    assert quiet.letters_about(unwritten) == quiet.letters_about(written) == []


def enforce(world: World, tag: str) -> Any:
    """One sweep over the stale sessions with this tag."""
    return world.sweep({"idle_for": "PT6H", "tags": [tag], "max_share": 1, "dry_run": False})


@pytest.mark.fault(29)
def test_a_sweep_that_is_killed_half_way_and_repeated_ends_each_session_once(quiet: World, aws: FaultyAws) -> None:
    ids = [quiet.stale("sweep-killed") for _ in range(15)]
    with ThreadPoolExecutor(1) as executor, quiet.stack.work_queue_held():
        with aws.holding(SEND, "devin-sweep-killed-", passes_on=True, times=1) as held:
            killed = executor.submit(enforce, quiet, "sweep-killed")
            wait_for(lambda: held.arrived, "the first messages")
            quiet.kill_workers(quiet.stack.sweep_function_name)
            assert "errorMessage" in killed.result()
        assert quiet.queued() > 0
        assert enforce(quiet, "sweep-killed")["enqueued"] == len(ids)
    quiet.wait_until_drained()
    assert [ends(quiet, session_id) for session_id in ids] == [1] * len(ids)
    assert not [letter for session_id in ids for letter in quiet.letters_about(session_id)]
    assert enforce(quiet, "sweep-killed")["chosen"] == 0


@pytest.mark.fault(29)
def test_two_sweeps_at_the_same_time_end_each_session_once(quiet: World, aws: FaultyAws) -> None:
    ids = [quiet.stale("sweep-twice") for _ in range(4)]
    # The queue is worked off while they send: what one has sent may have ended before the other sends it.
    with (
        ThreadPoolExecutor(2) as executor,
        aws.holding(SEND, "devin-sweep-twice-", passes_on=False) as held,
    ):
        both = [executor.submit(enforce, quiet, "sweep-twice") for _ in range(2)]
        # Both have seen every session alive, and neither has sent anything.
        wait_for(lambda: held.arrived >= 2, "two sweeps about to send")
        assert quiet.queued() == 0
        held.release()
        assert [sweep.result()["enqueued"] for sweep in both] == [len(ids)] * 2
    wait_for(partial(all, map(quiet.exited, ids)), "the end of every session")
    quiet.wait_until_drained()
    assert [ends(quiet, session_id) for session_id in ids] == [1] * len(ids)
    for session_id in ids:
        assert sorted(quiet.outcomes(session_id)) in (["terminated", "terminated"], ["already_exited", "terminated"])
    assert not [letter for session_id in ids for letter in quiet.letters_about(session_id)]
