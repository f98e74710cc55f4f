"""What is delivered again, what is moved to the dead letters, and what is sent back from there."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from infra.local.fake_devin import Fault
from infra.local.fake_devin.faults import html_error, redirect
from tests.integration.conftest import Underway
from tests.integration.world import World, wait_for

LOST = Fault(kind="reset", effect=True)


def test_what_fails_twice_and_then_works_is_called_three_times(world: World) -> None:
    session_id = world.session("third-time", html_error(), html_error())
    world.send(session_id)
    assert world.story(session_id, "terminated") == ["retry", "retry", "terminated"]
    assert world.methods(session_id) == ["DELETE"] * 3
    assert [line["receive_count"] for line in world.lines(session_id)] == [1, 2, 3]
    assert world.exited(session_id)
    assert world.letters_about(session_id) == []


def test_an_answer_lost_after_its_effect_is_found_out(world: World) -> None:
    session_id = world.session("lost", LOST)
    world.send(session_id)
    # Over a connection that was kept alive the call is repeated at once, over a new one after a while.
    assert world.story(session_id, "already_exited") in (["already_exited"], ["retry", "already_exited"])
    assert world.methods(session_id) == ["DELETE", "DELETE", "GET"]
    assert world.exited(session_id)
    assert world.letters_about(session_id) == []


def test_neighbours_in_a_message_have_lives_of_their_own(world: World) -> None:
    good, other = world.session("neighbour"), world.session("neighbour")
    twice = world.session("neighbour-twice", html_error(), html_error())
    rejected = world.session("neighbour-rejected", Fault(status=422, body='{"detail": "no"}'))
    unusable = world.name("neighbour-") + "/../x"
    now = datetime.now(UTC).isoformat()
    ids = [good, twice, rejected, unusable, other, good]
    world.send(json.dumps({"session_ids": ids, "unless_updated_since": now}))

    assert world.story(twice, "terminated") == ["retry", "retry", "terminated"]
    assert [world.story(session_id, "terminated") for session_id in (good, other)] == [["terminated"]] * 2
    counts = {session_id: world.methods(session_id).count("DELETE") for session_id in (good, other, twice, rejected)}
    assert counts == {good: 1, other: 1, twice: 3, rejected: 1}
    assert [line["attempts"] for line in world.lines(twice)] == [1, 2, 3]
    for session_id in (rejected, unusable):
        letter = world.take_letter(session_id)
        assert json.loads(letter.body) == {"session_ids": [session_id], "unless_updated_since": now}
        if session_id == rejected:
            world.redrive(letter)
    assert world.story(rejected, "terminated") == ["rejected", "terminated"]
    assert world.letters_about(good) == world.letters_about(twice) == []


def envelope(inner: dict[str, object]) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "1", "Message": json.dumps({"detail": inner})})


@pytest.mark.fault(20)
def test_an_event_that_needs_another_try_gets_it_through_the_work_queue(world: World) -> None:
    later = world.session("event-later", html_error(503), html_error(503))
    good = world.session("event-now")
    world.put_event({"session_ids": [good, later]})
    assert world.story(later, "terminated") == ["retry", "retry", "terminated"]
    assert [line["source"] for line in world.lines(later)] == ["eventbridge"] * 3
    assert ["receive_count" in line for line in world.lines(later)] == [False, True, True]
    assert world.methods(good) == ["DELETE"]


@pytest.mark.fault(22)
def test_what_was_received_too_often_is_moved_unchanged_and_works_again(world: World, underway: Underway) -> None:
    poison = underway.poison

    letter = world.take_letter(poison)

    assert letter.body == underway.poison_body
    assert letter.attributes == {}, "SQS moved it; the function did not write it"
    assert world.methods(poison).count("DELETE") == 5
    assert set(world.outcomes(poison)) == {"retry"}
    assert not world.exited(poison)

    # By now the API is well again.
    world.redrive(letter)
    assert world.story(poison, "terminated")[-1] == "terminated"
    assert world.exited(poison)
    assert world.letters_about(poison) == []


@pytest.mark.fault(20, 21)
def test_an_invocation_that_cannot_keep_its_work_ends_in_the_failure_destination(quiet: World) -> None:
    """The emulator tries an asynchronous invocation three times, as Lambda does, only sooner."""
    good, failing = quiet.session("kept-good"), quiet.session("kept", *[html_error()] * 3)
    with quiet.without("Work", "sqs:SendMessage"):
        quiet.invoke_later({"session_ids": [good, failing]})
        letter = quiet.take_letter(failing)
    assert json.loads(letter.body)["requestPayload"] == {"session_ids": [good, failing]}
    assert not quiet.exited(failing)
    assert quiet.methods(failing) == ["DELETE"] * 3

    quiet.redrive(letter)

    assert quiet.story(failing, "terminated")[-1] == "terminated"
    quiet.wait_until_drained()
    assert quiet.exited(good)
    assert len([call for call in quiet.calls(good) if call.ended]) == 1
    assert quiet.letters_about(good) == []


def test_all_kinds_of_dead_letters_redriven_in_one_run_end_their_sessions(quiet: World) -> None:
    """One of every kind that the stack can write, and two that cannot become anything else."""
    no = Fault(status=422, body='{"detail": "no"}')
    plain, several, of_bus, direct = (
        quiet.session(f"letter-{kind}", no) for kind in ("plain", "several", "bus", "direct")
    )
    unknown = quiet.name("letter-unknown")
    conditional, redirected = quiet.session("letter-conditional", no), quiet.session("letter-redirected", redirect("/"))
    worn = quiet.session("letter-worn", html_error())
    unkept = quiet.session("letter-unkept", *[html_error()] * 3)
    unusable = [f'{{"session_id": "{quiet.name("letter-unusable")}/.."}}', f" {quiet.name('letter-unusable')}"]
    ending = [plain, several, of_bus, direct, unknown, conditional, redirected, worn, unkept]

    with quiet.most_receives(1):
        quiet.send(worn)
        quiet.wait_for_attempt(worn)
        wait_for(lambda: quiet.queued() == 0, "the move to the dead letters")
    with quiet.without("Work", "sqs:SendMessage"):
        quiet.invoke_later({"session_id": unkept})
        for body in (plain, unknown, redirected, *unusable):
            quiet.send(body)
        quiet.send(envelope({"session_ids": [quiet.session("letter-good"), several]}))
        quiet.send(json.dumps({"session_id": conditional, "unless_updated_since": datetime.now(UTC).isoformat()}))
        quiet.put_event({"session_id": of_bus})
        assert quiet.invoke({"session_id": direct}) == {"rejected": [direct]}
        letters = quiet.take_letters("devin-letter-", len(ending) + len(unusable))
    assert not any(map(quiet.exited, [one for one in ending if one != unknown]))

    # The causes are gone.
    quiet.stack.api.add_sessions(unknown)
    for letter in letters:
        quiet.redrive(letter)

    for session_id in ending:
        assert quiet.story(session_id, "terminated")[-1] == "terminated"
        assert len([call for call in quiet.calls(session_id) if call.ended]) == 1
    quiet.wait_until_drained()
    for body in unusable:
        assert quiet.take_letter(body).body == body
    assert quiet.letters_about("devin-letter-") == []
